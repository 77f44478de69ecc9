"""A paged list: one page when awaited, every item once when iterated over."""

from __future__ import annotations

import asyncio
import re
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pytest
from aioresponses import CallbackResult
from endpoints import OPERATIONS, PAGED, documented_values
from helpers import make_client

from zenovay_async import ConfigurationError, Visitor, VisitorPage, Zenovay, ZenovayError
from zenovay_async._protocol.auth import DEFAULT_BASE_URL
from zenovay_async.resources import paging

if TYPE_CHECKING:
    from aioresponses import aioresponses
    from yarl import URL

    from zenovay_async.sandbox import Sandbox


class Server:
    """A list behind the visitors' endpoint, newest first, that may change between two calls."""

    def __init__(self, canned: aioresponses, items: list[int], *, pagination: bool = True) -> None:
        self.items = items
        self.requests: list[dict[str, str]] = []
        self.before_each: list[int] = []
        self.always_more = False
        self.honors_offset = True
        self._pagination = pagination
        url = f"{DEFAULT_BASE_URL}/analytics/x/visitors"
        canned.get(re.compile(f"^{re.escape(url)}"), callback=self._respond, repeat=True)

    def _respond(self, url: URL, **_: Any) -> CallbackResult:
        if self.requests:
            self.items[:0] = self.before_each
            self.before_each = []
        self.requests.append(dict(url.query))
        limit, offset = int(url.query.get("limit", "100")), int(url.query.get("offset", "0"))
        start = offset if self.honors_offset else 0
        shown = self.items[start : start + limit]
        more = self.always_more or not self.honors_offset or offset + limit < len(self.items)
        data: dict[str, Any] = {"visitors": [{"id": str(item)} for item in shown]}
        if self._pagination:
            data["pagination"] = {"limit": limit, "offset": offset, "has_more": more}
        return CallbackResult(payload={"success": True, "data": data})


def ids(visitors: list[Visitor]) -> list[int]:
    return [int(visitor.id) for visitor in visitors]


async def test_awaited_it_is_one_page(zenovay: Zenovay, sandbox: Sandbox) -> None:
    page = await zenovay.analytics.visitors(sandbox.website_ids[0], limit=5)
    assert isinstance(page, VisitorPage)
    assert len(page.visitors) == 5
    assert page.pagination is not None
    assert page.pagination.has_more
    assert sandbox.count() == 1


async def test_iterated_over_it_is_every_item_once(zenovay: Zenovay, sandbox: Sandbox) -> None:
    site = sandbox.website_ids[0]
    visitors = [visitor async for visitor in zenovay.analytics.visitors(site, range="24h", limit=50)]
    assert len({visitor.id for visitor in visitors}) == len(visitors)
    overview = await zenovay.analytics.overview(site, range="24h")
    assert len(visitors) == overview.summary.total_visitors


@pytest.mark.parametrize("name", PAGED)
async def test_every_paged_list_is_iterated_over(zenovay: Zenovay, sandbox: Sandbox, name: str) -> None:
    site = sandbox.website_ids[0]
    method = attrgetter(name)(zenovay)
    # Items of a week are few in some lists.
    ranges = [value for argument, value in documented_values(OPERATIONS[name]) if argument == "range"]
    options = {"range": "90d"} if "90d" in ranges else {}
    at_once = [item.id async for item in method(site, **options).take(400)]
    in_small_pages = [item.id async for item in method(site, limit=7, **options).take(400)]
    assert in_small_pages == at_once
    assert len(set(at_once)) == len(at_once) > 7


async def test_iterating_requests_the_largest_pages(canned: aioresponses) -> None:
    """Each page costs one request, whatever its size."""
    server = Server(canned, list(range(2500)))
    async with make_client() as zenovay:
        visitors = [visitor async for visitor in zenovay.analytics.visitors("x")]
    assert ids(visitors) == list(range(2500))
    assert [request["limit"] for request in server.requests] == ["1000"] * 3


async def test_a_page_is_requested_when_its_first_item_is_wanted(canned: aioresponses) -> None:
    server = Server(canned, list(range(10)))
    async with make_client() as zenovay:
        found = aiter(zenovay.analytics.visitors("x", limit=3))
        assert server.requests == []
        for _ in range(3):
            await anext(found)
        assert len(server.requests) == 1
        await anext(found)
        assert len(server.requests) == 2


async def test_take_ends_after_n_items_and_requests_no_more(canned: aioresponses) -> None:
    server = Server(canned, list(range(100)))
    async with make_client() as zenovay:
        assert ids([visitor async for visitor in zenovay.analytics.visitors("x").take(5)]) == [0, 1, 2, 3, 4]
        assert ids([visitor async for visitor in zenovay.analytics.visitors("x", limit=3, offset=1).take(4)]) == [
            1,
            2,
            3,
            4,
        ]
    assert [request["limit"] for request in server.requests] == ["5", "3", "3"]


@pytest.mark.parametrize(
    ("limit", "wanted", "sizes"), [(None, 50, [50]), (None, 2500, [1000, 1000, 500]), (30, 50, [30, 20]), (30, 5, [5])]
)
async def test_pages_end_after_the_items_to_take_too(
    canned: aioresponses, limit: int | None, wanted: int, sizes: list[int]
) -> None:
    server = Server(canned, list(range(12_748)))
    async with make_client() as zenovay:
        pages = [list(page) async for page in zenovay.analytics.visitors("x", limit=limit).take(wanted).pages()]
    assert [len(page) for page in pages] == sizes
    assert [visitor for page in pages for visitor in ids(page)] == list(range(wanted))
    assert len(server.requests) == len(sizes)


@pytest.mark.parametrize(("limit", "wanted", "sent"), [(None, 5, "5"), (3, 5, "3"), (50, 5, "5"), (None, 5000, "1000")])
async def test_one_page_has_no_more_items_than_are_to_be_taken(
    canned: aioresponses, limit: int | None, wanted: int, sent: str
) -> None:
    server = Server(canned, list(range(2000)))
    async with make_client() as zenovay:
        page = await zenovay.analytics.visitors("x", limit=limit).take(wanted)
        task = await asyncio.create_task(zenovay.analytics.visitors("x", limit=limit).take(wanted))
    assert len(page.visitors) == len(task.visitors) == int(sent)
    assert server.requests == [{"limit": sent}] * 2


async def test_take_may_span_more_than_a_thousand_pages(canned: aioresponses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MAX_PAGES", 4)
    Server(canned, list(range(100)))
    async with make_client() as zenovay:
        visitors = [visitor async for visitor in zenovay.analytics.visitors("x", limit=5).take(30)]
    assert ids(visitors) == list(range(30))


@pytest.mark.parametrize("count", [0, 1, 5, 6, 11])
async def test_without_a_pagination_object_a_short_page_is_the_last(canned: aioresponses, count: int) -> None:
    server = Server(canned, list(range(count)), pagination=False)
    async with make_client() as zenovay:
        visitors = [visitor async for visitor in zenovay.analytics.visitors("x", limit=5)]
    assert ids(visitors) == list(range(count))
    assert len(server.requests) == count // 5 + 1


async def test_items_pushed_onto_the_next_page_come_once(canned: aioresponses) -> None:
    server = Server(canned, list(range(10, 22)))
    server.before_each = [7, 8, 9]
    async with make_client() as zenovay:
        visitors = [visitor async for visitor in zenovay.analytics.visitors("x", limit=5)]
    assert ids(visitors) == list(range(10, 22))


@pytest.mark.parametrize("pagination", [True, False])
async def test_items_behind_a_whole_page_of_new_items_still_come(canned: aioresponses, pagination: bool) -> None:  # noqa: FBT001 - a table's column
    server = Server(canned, list(range(10, 22)), pagination=pagination)
    server.before_each = [5, 6, 7, 8, 9]
    async with make_client() as zenovay:
        visitors = [visitor async for visitor in zenovay.analytics.visitors("x", limit=5)]
    assert ids(visitors) == list(range(10, 22))
    assert len(server.requests) == 4


async def test_an_empty_page_ends_the_list(canned: aioresponses) -> None:
    """Whatever the server says of there being more."""
    server = Server(canned, [])
    server.always_more = True
    async with make_client() as zenovay:
        assert [visitor async for visitor in zenovay.analytics.visitors("x", limit=5)] == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("wanted", [None, 50])
async def test_a_server_that_ignores_the_offset_gets_two_further_requests(
    canned: aioresponses, wanted: int | None
) -> None:
    server = Server(canned, list(range(5)))
    server.honors_offset = False
    async with make_client() as zenovay:
        visitors = zenovay.analytics.visitors("x", limit=5)
        pages = [ids(list(page)) async for page in (visitors if wanted is None else visitors.take(wanted)).pages()]
    assert pages == [[0, 1, 2, 3, 4]]
    assert len(server.requests) == 1 + 2


async def test_an_endless_list_is_an_error_that_suggests_take(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MAX_PAGES", 4)
    Server(canned, list(range(100)))
    seen: list[Visitor] = []
    async with make_client() as zenovay:
        with pytest.raises(ZenovayError, match="take"):
            async for visitor in zenovay.analytics.visitors("x", limit=5):
                seen.append(visitor)
    assert len(seen) == 20


async def test_one_page_runs_as_a_task_that_can_be_canceled(zenovay: Zenovay, sandbox: Sandbox) -> None:
    site = sandbox.website_ids[0]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(zenovay.analytics.visitors(site, limit=2)) for _ in range(3)]
    assert [len(task.result().visitors) for task in tasks] == [2, 2, 2]
    task = asyncio.create_task(zenovay.analytics.visitors(site))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_pages_of_many_websites_go_through_a_batch(zenovay: Zenovay, sandbox: Sandbox) -> None:
    async with zenovay.batch(sandbox.website_ids, zenovay.replays.sessions) as results:
        sizes = [len(result.value.sessions) async for result in results if result.error is None]
    assert sizes == [50, 50, 50]


def test_a_list_that_was_forgotten_is_warned_of_as_a_coroutine_is() -> None:
    """An await that is forgotten would look like a list without items."""
    zenovay = Zenovay("zv_1")
    with pytest.warns(RuntimeWarning, match=r"analytics\.visitors was neither awaited nor iterated over"):
        zenovay.analytics.visitors("x")
    with pytest.warns(RuntimeWarning, match=r"insights\.list was neither awaited nor iterated over"):
        zenovay.insights.list("x").take(5)
    with pytest.raises(ConfigurationError):
        zenovay.analytics.visitors("x", limit=0)
    zenovay.analytics.visitors("x").close()
