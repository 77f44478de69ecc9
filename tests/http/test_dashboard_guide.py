"""Every Python block of docs/dashboard.md runs, and does what the page says."""

from __future__ import annotations

import ast
import asyncio
import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from helpers import python_blocks

from zenovay_async import Cache
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from zenovay_async.sandbox import Sandbox

BLOCKS = python_blocks("dashboard.md")

VISITORS = 30
QUESTIONS = 2
"""Different calls of the page of one website."""


@pytest.fixture(autouse=True)
def _environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)


@pytest.fixture
def names(sandbox: Sandbox) -> dict[str, Any]:
    """What the page takes for granted."""
    return {"website_id": sandbox.website_ids[0], "website_ids": list(sandbox.website_ids)}


async def run(title: str, names: dict[str, Any]) -> None:
    """Run the blocks of a section as a notebook would."""
    for block in BLOCKS[title]:
        code = compile(block, f"docs/dashboard.md: {title}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        ran = eval(code, names)  # noqa: S307 - our own page
        if inspect.isawaitable(ran):
            await ran


@asynccontextmanager
async def visitors(app: Any) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://site") as client,
    ):
        yield client


async def load(client: httpx.AsyncClient, website_ids: list[str]) -> list[httpx.Response]:
    """All visitors load the pages of all websites at once."""
    return await asyncio.gather(
        *(client.get(f"/dashboard/{website_id}") for website_id in website_ids for _ in range(VISITORS))
    )


async def test_every_section_runs_after_the_ones_before(names: dict[str, Any]) -> None:
    for title in BLOCKS:
        await run(title, names)
    assert {"app", "zenovay", "report", "estimate"} <= names.keys()


async def test_visitors_at_once_cost_one_request_for_each_different_call(
    names: dict[str, Any], sandbox: Sandbox
) -> None:
    await run("Set it up", names)
    async with visitors(names["app"]) as client:
        pages = await load(client, names["website_ids"])
        assert {page.status_code for page in pages} == {200}
        assert sandbox.count() == QUESTIONS * len(names["website_ids"])
        assert await load(client, names["website_ids"])
        assert sandbox.count() == QUESTIONS * len(names["website_ids"])


async def test_pages_are_served_while_the_api_is_down(names: dict[str, Any], sandbox: Sandbox) -> None:
    await run("Set it up", names)
    # Stale as soon as it is there.
    names["cache"] = Cache(ttl=1e-6, stale=600)
    async with visitors(names["app"]) as client:
        await load(client, names["website_ids"])
        sandbox.fault(Fault.status(503))
        pages = await load(client, names["website_ids"])
    assert {page.status_code for page in pages} == {200}


async def test_the_controls_do_what_their_comments_say(names: dict[str, Any], sandbox: Sandbox) -> None:
    await run("Set it up", names)
    await run("Control", names)
    assert sandbox.count() == 1
    assert names["response"].from_cache
    assert names["response"].age > 0
    assert names["response"].attempts == 0
    stats = names["zenovay"].cache.stats
    assert (stats.hits, stats.misses, stats.entries) == (1, 1, 0)


async def test_fresh_items_of_a_batch_cost_nothing(names: dict[str, Any], sandbox: Sandbox) -> None:
    await run("Set it up", names)
    await run("Control", names)
    before, zenovay = sandbox.count(), names["zenovay"]
    for _ in range(2):
        async with zenovay.batch(names["website_ids"], zenovay.heatmaps.pages) as results:
            assert {result.error async for result in results} == {None}
    await run("Batches", names)
    assert sandbox.count() - before == len(names["website_ids"])
    assert (names["estimate"].requests, names["estimate"].cached) == (0, len(names["website_ids"]))
