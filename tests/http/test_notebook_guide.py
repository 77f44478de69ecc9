"""Every Python block of docs/notebook.md runs, cell by cell, and does what the page says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import IDS, freeze_sandbox
from helpers import ROOT

from zenovay_async import HeatmapPage, HeatmapPages
from zenovay_async.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from zenovay_async.sandbox import Sandbox

PAGE = (ROOT / "docs" / "notebook.md").read_text(encoding="utf-8")
PARTS = re.split(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
ALL = [
    (title, cell)
    for title, text in zip(PARTS[1::2], PARTS[2::2], strict=True)
    for cell in re.findall(r"```python\n(.+?)```", text, re.DOTALL)
]
# These read files of the command line.
FILES = ("DuckDB", "polars and pandas")
CELLS = [(title, cell) for title, cell in ALL if title not in FILES]
FRAMES = ("pandas", "duckdb", "polars", "pyarrow")


async def run(cells: list[tuple[str, str]]) -> dict[str, Any]:
    """Run cells, one after another, as a notebook does; returns the names that they define."""
    names: dict[str, Any] = {}
    for title, cell in cells:
        code = compile(cell, f"docs/notebook.md: {title}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        done = eval(code, names)  # noqa: S307 - our own page
        if inspect.iscoroutine(done):
            await done
    return names


@pytest.fixture(autouse=True)
def _notebook(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    monkeypatch.chdir(tmp_path)


async def test_the_notebook_runs_from_its_first_cell_to_its_last(sandbox: Sandbox) -> None:
    for package in FRAMES:
        pytest.importorskip(package, reason=f"{package}: pip install --group frames")
    names = await run(CELLS)
    report = names["report"]
    for frame in ("pages", "in_pandas", "from_columns"):
        assert list(names[frame]["url"]) == report.columns()["url"]
    assert names["in_polars"].to_dicts() == names["in_arrow"].to_pylist() == report.rows()
    assert [row[0] for row in names["in_duckdb"]] == report.columns()["url"][:3]
    assert names["by_country"].sum() == 500
    assert set(names["top"]["website_id"]) <= set(sandbox.website_ids)
    await names["zenovay"].close()


async def test_cells_without_frames_run_without_their_packages(sandbox: Sandbox) -> None:
    plain = [(title, cell) for title, cell in CELLS if not re.search(r"\b(pd|pl|pa|duckdb)\b", cell)]
    assert len(plain) >= 4
    websites = [(title, cell.split("top = ")[0]) for title, cell in CELLS if title == "Many websites"][:1]
    names = await run([*plain[:1], *websites, *plain[1:]])
    assert set(names["table"].columns()["website_id"]) == set(sandbox.website_ids)
    requests = len(sandbox.requests)
    await run([cell for cell in plain if cell[0] in {"The first cell", "The same cell again"}][:2])
    assert len(sandbox.requests) == requests + 3


def test_one_line_of_a_result_is_that_of_the_page() -> None:
    pages = [HeatmapPage(url="/pricing", total_interactions=24_164), HeatmapPage(url="/", total_interactions=1)]
    assert repr(HeatmapPages(pages=(*pages, *pages * 49))) in PAGE


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of three websites in each format that the page reads, in the working directory; a fourth one failed."""
    for package in ("duckdb", "polars", "pyarrow"):
        pytest.importorskip(package, reason=f"{package}: pip install --group frames")
    freeze_sandbox(monkeypatch)
    for kind, name in (("parquet", "pages.parquet"), ("ndjson", "pages.ndjson"), ("sqlite", "zenovay.db")):
        assert main(["heatmaps", "pages", *IDS, "nobody", "--sandbox", "3", "--format", kind, "-o", name]) == 1


def run_section(title: str) -> dict[str, Any]:
    return asyncio.run(run([(found, cell) for found, cell in ALL if found == title]))


@pytest.mark.usefixtures("files")
def test_files_in_duckdb() -> None:
    names = run_section("DuckDB")
    rows = set(names["pages"].project("website_id, url, total_interactions").fetchall())
    assert len(rows) == len(names["pages"])
    assert set(names["top"].project("website_id, url").fetchall()) < {row[:2] for row in rows}
    kept = names["duckdb"].sql("from 'pages-by-duckdb.parquet' select website_id, url, total_interactions")
    assert set(kept.fetchall()) == rows


@pytest.mark.usefixtures("files")
def test_files_in_polars() -> None:
    names = run_section("polars and pandas")
    frames = [names[name].sort("website_id", "url") for name in ("from_parquet", "from_ndjson", "from_database")]
    assert set(frames[0]["website_id"]) == set(IDS)
    assert frames[0].schema == frames[1].schema == frames[2].schema
    assert all(frame.equals(frames[0]) for frame in frames)
