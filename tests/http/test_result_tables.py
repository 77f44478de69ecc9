"""Many results as one table: those of a batch, and the pages of a list."""

from __future__ import annotations

import asyncio
import copy
import pickle
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from helpers import batch

from zenovay_async import (
    BatchTable,
    ConfigurationError,
    HeatmapPage,
    HeatmapPages,
    Journal,
    NotFoundError,
    QueryAnswer,
    QueryResults,
    QuotaExceededError,
    VisitorPage,
    Zenovay,
)
from zenovay_async.sandbox import Fault
from zenovay_async.tables import Table

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from zenovay_async.sandbox import Sandbox


def pages(*urls: str) -> HeatmapPages:
    return HeatmapPages(pages=tuple(HeatmapPage(url=url, total_interactions=1) for url in urls))


async def slowest_first(item: int) -> HeatmapPages:
    await asyncio.sleep((10 - item) / 1000)
    return pages(f"/{item}")


async def table_of(items: Any, fetch: Any, **options: Any) -> BatchTable[Any]:
    async with batch(items, fetch) as results:
        return await results.table(**options)


async def test_the_table_of_a_batch_has_the_rows_of_all_websites(zenovay: Zenovay, sandbox: Sandbox) -> None:
    async with zenovay.batch(sandbox.website_ids, zenovay.heatmaps.pages) as results:
        table = await results.table()
    expected = [
        {"website_id": site, **row}
        for site in sandbox.website_ids
        for row in (await zenovay.heatmaps.pages(site)).rows()
    ]
    assert table.rows() == expected
    assert len(table) == len(expected)
    assert list(table.columns()) == ["website_id", "url", "total_interactions", "last_updated"]
    assert isinstance(table, Table)
    assert table.failures == ()


async def test_an_overview_has_one_column_for_the_website(zenovay: Zenovay, sandbox: Sandbox) -> None:
    async with zenovay.batch(sandbox.website_ids, zenovay.analytics.overview) as results:
        table = await results.table()
    assert list(table.columns())[:2] == ["website_id", "date"]
    assert set(table.columns()["website_id"]) == {*sandbox.website_ids}


async def test_results_of_a_single_row_are_a_table_of_a_row_for_each(zenovay: Zenovay, sandbox: Sandbox) -> None:
    async with zenovay.batch(sandbox.website_ids, zenovay.websites.get) as results:
        table = await results.table()
    assert table.columns()["id"] == table.columns()["website_id"] == sandbox.website_ids
    assert repr(table) == "BatchTable(rows: 3, items: 3)"


async def test_failures_are_kept_beside_the_rows(zenovay: Zenovay, sandbox: Sandbox) -> None:
    async with zenovay.batch([*sandbox.website_ids, "nope"], zenovay.heatmaps.pages) as results:
        table = await results.table()
    (failure,) = table.failures
    assert failure.item == "nope"
    assert isinstance(failure.error, NotFoundError)
    assert "nope" not in table.columns()["website_id"]


async def test_a_table_without_a_success_is_the_error_of_its_first_item(zenovay: Zenovay) -> None:
    async with zenovay.batch(["nope", "neither"], zenovay.heatmaps.pages) as results:
        with pytest.raises(NotFoundError, match="nope"):
            await results.table()
    assert results.report.failed == {"NotFoundError": 2}


async def test_a_table_of_no_items_has_no_rows() -> None:
    table = await table_of([], slowest_first)
    assert table.rows() == []
    assert table.columns() == {"website_id": []}


@pytest.mark.looptime
async def test_rows_are_in_the_order_of_the_items_of_a_collection() -> None:
    items = [3, 1, 2, 3, 1]
    assert (await table_of(items, slowest_first)).columns()["website_id"] == items
    assert (await table_of({3: 0, 1: 0}.keys(), slowest_first)).columns()["website_id"] == [3, 1]
    unhashable = [[3], [1]]
    assert (await table_of(unhashable, lambda item: slowest_first(item[0]))).columns()["website_id"] == unhashable


@pytest.mark.looptime
async def test_rows_of_any_other_iterable_are_in_the_order_of_completion() -> None:
    async def items() -> AsyncGenerator[int, None]:
        for item in (1, 9):
            yield item

    async with aclosing(items()) as source:
        assert (await table_of(source, slowest_first)).columns()["website_id"] == [9, 1]
    assert (await table_of(iter([1, 9]), slowest_first)).columns()["website_id"] == [9, 1]


async def test_results_that_were_iterated_over_are_not_in_the_table() -> None:
    async with batch([1, 2], slowest_first, concurrency=1) as results:
        first = await anext(results)
        table = await results.table()
    assert first.item == 1
    assert table.columns()["website_id"] == [2]


async def test_the_column_of_the_item_has_the_name_that_is_given_and_no_value_is_lost() -> None:
    table = await table_of([1], slowest_first, item="url")
    assert table.rows() == [{"url": 1, "url_2": "/1", "total_interactions": 1, "last_updated": None}]
    assert table._column_types()["url_2"] == "text"

    async def fetch(_: int) -> QueryAnswer:
        return QueryAnswer(results=QueryResults(columns=("a", "a_2"), rows=((1, 2),)))

    assert (await table_of([5], fetch, item="a")).rows() == [{"a": 5, "a_3": 1, "a_2": 2}]
    with pytest.raises(ConfigurationError, match="item"):
        await table_of([1], slowest_first, item="")


async def test_results_of_several_types_are_one_table() -> None:
    async def fetch(item: int) -> Any:
        return pages("/") if item else VisitorPage(visitors=())

    table = await table_of([1, 0], fetch)
    assert table.columns()["url"] == ["/"]
    assert table._column_types()["visited_at"] == "time"


async def test_results_that_are_no_list_are_an_error_that_says_what_to_fetch() -> None:
    async def fetch(_: int) -> list[int]:
        return [1]

    with pytest.raises(ConfigurationError, match=r"fetch returned a list; .* HeatmapPages.*\.table\(\)"):
        await table_of([1], fetch)


async def test_what_was_paid_for_is_in_a_table_after_the_error_that_ended_the_batch(
    zenovay: Zenovay, sandbox: Sandbox
) -> None:
    async def fetch(site: str) -> HeatmapPages:
        if site == sandbox.website_ids[-1]:
            sandbox.fault(Fault.monthly_limit())
        return await zenovay.heatmaps.pages(site)

    async with zenovay.batch(sandbox.website_ids, fetch, concurrency=1) as results:
        with pytest.raises(QuotaExceededError):
            await results.table()
        table = await results.table()
    assert set(table.columns()["website_id"]) == {*sandbox.website_ids[:-1]}
    assert (await results.table()).rows() == table.rows()


async def test_a_batch_that_ends_with_its_first_item_has_an_empty_table(zenovay: Zenovay, sandbox: Sandbox) -> None:
    sandbox.fault(Fault.monthly_limit())
    async with zenovay.batch(sandbox.website_ids, zenovay.heatmaps.pages) as results:
        with pytest.raises(QuotaExceededError):
            await results.table()
    assert (await results.table()).rows() == []


async def test_a_table_of_a_batch_whose_block_has_ended_is_an_error_and_not_empty(
    zenovay: Zenovay, sandbox: Sandbox
) -> None:
    async with zenovay.batch(sandbox.website_ids, zenovay.heatmaps.pages) as results:
        pass
    with pytest.raises(RuntimeError, match=r"call table\(\) inside its block"):
        await results.table()


async def test_results_of_an_earlier_run_are_in_the_table(zenovay: Zenovay, sandbox: Sandbox, tmp_path: Path) -> None:
    found: list[Any] = []
    replayed: list[int] = []
    for _ in range(2):
        journal = Journal(tmp_path / "run.db", result_type=HeatmapPages)
        async with zenovay.batch(sandbox.website_ids, zenovay.heatmaps.pages, journal=journal) as results:
            found.append((await results.table()).rows())
            replayed.append(results.report.replayed)
    assert found[0] == found[1] != []
    assert replayed == [0, 3]


async def test_a_journal_without_results_makes_no_table(zenovay: Zenovay, tmp_path: Path) -> None:
    async with zenovay.batch(["x"], zenovay.heatmaps.pages, journal=Journal(tmp_path / "run.db")) as results:
        with pytest.raises(ConfigurationError, match="result_type"):
            await results.table()


async def test_a_table_of_a_batch_pickles() -> None:
    table = await table_of([1, 2], slowest_first)
    for twin in (pickle.loads(pickle.dumps(table)), copy.deepcopy(table)):  # noqa: S301 - our own
        assert twin.rows() == table.rows()
        assert twin.failures == ()


async def test_a_list_in_pages_is_one_table_of_all_items(zenovay: Zenovay, sandbox: Sandbox) -> None:
    site = sandbox.website_ids[0]
    table = await zenovay.analytics.visitors(site).take(150).table()
    assert isinstance(table, VisitorPage)
    assert len(table) == len({row["id"] for row in table}) == 150
    assert table.pagination is None
    for listed in (zenovay.replays.sessions(site), zenovay.insights.list(site), zenovay.anomalies.list(site)):
        assert len(await listed.table()) == len([item async for item in listed])


async def test_an_empty_list_in_pages_is_an_empty_table(zenovay: Zenovay, sandbox: Sandbox) -> None:
    table = await zenovay.analytics.visitors(sandbox.website_ids[0], offset=10**6).table()
    assert table.rows() == []
    assert "visited_at" in table.columns()


async def test_lists_in_pages_of_many_websites_are_one_table(zenovay: Zenovay, sandbox: Sandbox) -> None:
    def visitors(site: str, n: int) -> Any:
        return zenovay.analytics.visitors(site).take(n).table()

    async with zenovay.batch(sandbox.website_ids, partial(visitors, n=3)) as results:
        table = await results.table()
    assert table.columns()["website_id"] == [site for site in sandbox.website_ids for _ in range(3)]
