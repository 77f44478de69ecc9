"""Parquet: the documented types, also of no rows; no value is lost, and nothing is requested without pyarrow."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import FREE, IDS, PAGES, PER_WEBSITE, SINGLE, alike, freeze_sandbox
from endpoints import OPERATIONS

from zenovay_async import AnalyticsOverview, ConfigurationError, HeatmapPages, QueryAnswer, VisitorPage
from zenovay_async._tables.layout import column_types, layout_of
from zenovay_async.cli import main
from zenovay_async.cli.output import make_writer, plain_values
from zenovay_async.cli.view import View

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def arrow() -> Any:
    """The module ``pyarrow.parquet``, which has no types."""
    return pytest.importorskip("pyarrow.parquet", reason="pyarrow: pip install --group frames")


def written(arrow: Any, result_type: Any, *results: Any, key_name: str | None = None, view: View | None = None) -> Any:
    """The table in a file with these results, each of a website of its own."""
    data = io.BytesIO()
    file = io.TextIOWrapper(data, "utf-8")
    writer = make_writer("parquet", result_type, file, per_website=True, name="any", view=view or View())
    for number, result in enumerate(results):
        writer.add(f"w{number}", plain_values(result), key_name)
    writer.close()
    file.detach()
    return arrow.read_table(io.BytesIO(data.getvalue()))


def schema(table: Any) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


def pages(url: str, total: Any = 1, updated: Any = "2026-05-01T00:30:00+02:00") -> dict[str, Any]:
    return {"pages": [{"url": url, "total_interactions": total, "last_updated": updated}]}


def answer(*columns: str, rows: list[list[Any]]) -> dict[str, Any]:
    return {"results": {"columns": list(columns), "rows": rows}}


PAGE_TYPES = {
    "website_id": "string",
    "url": "string",
    "total_interactions": "int64",
    "last_updated": "timestamp[us, tz=UTC]",
}


def test_columns_have_the_documented_types_with_and_without_rows(arrow: Any) -> None:
    assert schema(written(arrow, HeatmapPages)) == PAGE_TYPES
    assert schema(written(arrow, HeatmapPages, HeatmapPages(pages=()))) == PAGE_TYPES
    table = written(arrow, HeatmapPages, pages("/\ud800", updated=None), pages("/b"))
    assert schema(table) == PAGE_TYPES
    assert table.to_pylist() == [
        {"website_id": "w0", "url": "/\ufffd", "total_interactions": 1, "last_updated": None},
        {
            "website_id": "w1",
            "url": "/b",
            "total_interactions": 1,
            "last_updated": datetime(2026, 4, 30, 22, 30, tzinfo=UTC),
        },
    ]
    visits = schema(written(arrow, VisitorPage))
    assert (visits["value_score"], visits["had_interaction"]) == ("double", "bool")


def test_days_are_dates(arrow: Any) -> None:
    day = {"date": "2026-05-01", "total_visitors": 1, "unique_visitors": 1, "page_views": None}
    table = written(arrow, AnalyticsOverview, {"daily_stats": [day]})
    assert table.to_pylist() == [{**day, "website_id": "w0", "date": date(2026, 5, 1)}]


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("total_interactions", 10**30, str(10**30)),
        ("last_updated", "0001-01-01T00:00:00+12:00", "0001-01-01T00:00:00+12:00"),
        ("last_updated", "soon", "soon"),
    ],
)
def test_a_column_with_a_value_that_does_not_fit_its_type_is_text(
    arrow: Any, column: str, value: Any, text: str
) -> None:
    page = {"url": "/", "total_interactions": 1, "last_updated": None, column: value}
    table = written(arrow, HeatmapPages, {"pages": [page]}, pages("/b", 1, None))
    assert table[column].to_pylist() == [text, "1" if column == "total_interactions" else None]


def test_columns_of_answers_are_inferred(arrow: Any) -> None:
    first = answer("source", "n", "share", "mixed", "nested", rows=[["a", 1, 0.5, "x", {"b": [1]}]])
    second = answer("n", "share", "mixed", "country", "key_name", rows=[[2, 1, 3, None, 0]])
    table = written(arrow, QueryAnswer, first, second)
    assert schema(table) == {
        "website_id": "string",
        "source": "string",
        "n": "int64",
        "share": "double",
        "mixed": "string",
        "nested": "string",
        "country": "string",
        "key_name_2": "int64",
    }
    assert table["mixed"].to_pylist() == ["x", "3"]
    assert table["nested"].to_pylist() == ['{"b":[1]}', None]


def test_the_name_of_a_key_comes_first(arrow: Any) -> None:
    table = written(arrow, HeatmapPages, pages("/a"), key_name="acme")
    assert table.column_names[0] == "key_name"
    assert table["key_name"].to_pylist() == ["acme"]


@pytest.mark.parametrize("command", [*PER_WEBSITE, *SINGLE])
def test_every_command_has_the_rows_of_its_csv(
    command: str, arrow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    freeze_sandbox(monkeypatch)
    arguments = [*command.split(), "--sandbox", "3"]
    assert main([*arguments, "--format", "csv"]) == 0
    titles, *rows = csv.reader(io.StringIO(capsys.readouterr().out, newline=""))
    path = tmp_path / "rows.parquet"
    assert main([*arguments, "--format", "parquet", "-o", str(path)]) == 0
    table = arrow.read_table(path)
    assert table.column_names == titles
    found = Counter(tuple(map(alike, row.values())) for row in table.to_pylist())
    assert found == Counter(tuple(map(alike, row)) for row in rows)


def test_columns_are_those_that_are_named_and_rows_are_sorted(arrow: Any) -> None:
    found = [pages("/a", 1), pages("/b", 3), pages("/c", None)]
    view = View(("url", "total_interactions"), "total_interactions", descending=True)
    table = written(arrow, HeatmapPages, *found, view=view)
    assert table.to_pydict() == {"url": ["/b", "/a", "/c"], "total_interactions": [3, 1, None]}
    assert written(arrow, HeatmapPages, view=view).column_names == ["url", "total_interactions"]


def test_an_answer_that_lacks_a_named_column_is_written_whole(arrow: Any) -> None:
    data = io.BytesIO()
    file = io.TextIOWrapper(data, "utf-8")
    writer = make_writer("parquet", QueryAnswer, file, per_website=True, name="query", view=View(("sauce",)))
    writer.add("a", answer("source", rows=[["google"]]))
    with pytest.raises(ConfigurationError, match="no result has this column; did you mean source"):
        writer.close()
    file.detach()
    assert arrow.read_table(io.BytesIO(data.getvalue())).to_pylist() == [{"website_id": "a", "source": "google"}]


def test_undocumented_fields_are_the_last_columns(arrow: Any) -> None:
    day = {"date": "2026-05-01", "total_visitors": 1, "unique_visitors": 1, "page_views": None}
    more = {**day, "extra": {"bounce_rate": 0.5, "tags": ["x"]}}
    table = written(arrow, AnalyticsOverview, {"daily_stats": [day]}, {"daily_stats": [more]})
    assert table.column_names[-2:] == ["extra.bounce_rate", "extra.tags"]
    assert table["extra.bounce_rate"].to_pylist() == [None, 0.5]
    assert table["extra.tags"].to_pylist() == [None, '["x"]']


def test_standard_output_takes_it_too(arrow: Any, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main([*PAGES, IDS[0], "--sandbox", "1", "--format", "parquet"]) == 0
    assert arrow.read_table(io.BytesIO(capfdbinary.readouterr().out)).num_rows > 1


def test_a_stream_for_text_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main([*PAGES, "--sandbox", "1", "--format", "parquet"]) == 2
    assert "--format parquet: not text, as a terminal shows it; needs -o FILE or a pipe" in capsys.readouterr().err


def test_without_pyarrow_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    arguments = ["--sandbox", "1", "--format", "parquet", "-o", str(tmp_path / "rows.parquet")]
    assert main([*PAGES, *arguments]) == 2
    assert "needs an extra: pip install 'zenovay-async[parquet]'" in capsys.readouterr().err
    assert main([*FREE[0].split(), *arguments]) == 2
    assert "--format parquet: this result has no documented columns; use ndjson or json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".".join(command.split()[:2]) for command in (*PER_WEBSITE, *SINGLE)])
def test_the_type_of_each_documented_column_is_known(name: str) -> None:
    result_type = OPERATIONS[name if name in OPERATIONS else name.partition(".")[0]].result
    layout = layout_of(result_type)
    assert layout is not None
    types = column_types(result_type)
    assert tuple(types) == layout.columns
    assert "json" not in types.values()
