"""Every Python block of docs/sharing.md runs, and its store keeps what it says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest
from helpers import ROOT

from zenovay_async.rate_limits import Store, StoreWrite

if TYPE_CHECKING:
    from pathlib import Path

    from zenovay_async.sandbox import Sandbox

BLOCKS = re.findall(r"```python\n(.+?)```", (ROOT / "docs" / "sharing.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
async def guide(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The names that the blocks define, run one after another as in a notebook."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        ran = eval(compile(block, "sharing.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307 - our own
        if inspect.isawaitable(ran):
            await ran
    return names


async def test_every_block_runs(guide: dict[str, Any]) -> None:
    assert {"app", "nightly", "on_event", "SQLiteStore"} <= guide.keys()


async def test_the_task_fetches_each_website(guide: dict[str, Any], sandbox: Sandbox) -> None:
    reports = await asyncio.to_thread(guide["nightly"], sandbox.website_ids)
    assert len(reports) == len(sandbox.website_ids)


async def test_the_store_keeps_each_change_of_many_writers(guide: dict[str, Any]) -> None:
    stores: list[Store] = [guide["SQLiteStore"]("counts.db") for _ in range(3)]

    def count(value: bytes | None, _: float) -> StoreWrite:
        return StoreWrite(str(int(value or b"0") + 1).encode())

    await asyncio.gather(
        *(store.update("a", count) for store in stores for _ in range(5)), stores[0].update("b", count)
    )
    found: list[bytes | None] = []
    for name in ("a", "b"):
        await stores[0].update(name, lambda value, _: found.append(value))
    assert found == [b"15", b"1"]
