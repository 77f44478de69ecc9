"""Equal items of a batch cost one call, and each of them has its result."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from helpers import batch, until
from hypothesis import given
from hypothesis import strategies as st

from zenovay_async import Batch, NotFoundError, Zenovay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zenovay_async.sandbox import Sandbox


async def test_a_website_that_is_listed_twice_is_fetched_once(zenovay: Zenovay, sandbox: Sandbox) -> None:
    ids = sandbox.website_ids * 10
    async with zenovay.batch(ids, zenovay.heatmaps.pages) as results:
        found = [(result.item, result.value) async for result in results]
    assert Counter(item for item, _ in found) == Counter(ids)
    assert sandbox.count() == len(sandbox.website_ids)
    assert results.succeeded == len(ids)


async def test_a_long_list_with_few_distinct_items_costs_as_many_calls_as_these() -> None:
    fetched: list[int] = []

    async def fetch(item: int) -> int:
        fetched.append(item)
        return item

    async with batch([*range(2_000)] * 25, fetch, 8) as results:
        found = Counter([result.value async for result in results])
    assert found == dict.fromkeys(range(2_000), 25)
    assert sorted(fetched) == list(range(2_000))


@given(st.lists(st.integers(0, 5) | st.booleans() | st.floats(0, 2) | st.none()), st.integers(1, 5))
def test_each_item_of_a_list_has_a_result_and_equal_ones_share_a_call(items: list[Any], concurrency: int) -> None:
    fetched: list[Any] = []

    async def fetch(item: Any) -> Any:
        fetched.append(item)
        await asyncio.sleep(0)
        if item == 3:
            raise NotFoundError("no such website")
        return item

    async def run() -> tuple[list[Any], Batch[Any, Any]]:
        async with batch(items, fetch, concurrency) as results:
            return [result.item async for result in results], results

    done, made = asyncio.run(run())
    by_type = [(type(item), item) for item in items]
    assert Counter((type(item), item) for item in done) == Counter(by_type)
    assert Counter((type(item), item) for item in fetched) == Counter(set(by_type))
    assert (made.succeeded, made.failed) == (len(items) - items.count(3), items.count(3))


@pytest.mark.parametrize("items", [[[1], [1], [2]], [{"id": 1}, {"id": 1}, "a"], [([1],), ([1],), 1]])
async def test_items_that_cannot_be_hashed_are_each_fetched(items: list[Any]) -> None:
    fetched: list[Any] = []

    async def fetch(item: Any) -> None:
        fetched.append(item)

    async with batch(items, fetch, 1) as results:
        assert [result.item async for result in results] == items
    assert fetched == items


class Incomparable:
    """Equal to nothing: a comparison fails, as that of two arrays does."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ValueError("The truth value is ambiguous")


@pytest.mark.parametrize("lazy", [False, True])
async def test_items_that_cannot_be_compared_are_each_fetched(lazy: bool) -> None:  # noqa: FBT001 - a table's column
    items = [Incomparable() for _ in range(3)]

    async def fetch(_: Incomparable) -> None:
        await asyncio.sleep(0)

    async with batch(iter(items) if lazy else items, fetch) as results:
        assert {id(result.item) async for result in results if result.error is None} == set(map(id, items))


class Job(NamedTuple):
    limit: float


async def test_a_named_tuple_equals_one_of_the_same_types(zenovay: Zenovay) -> None:
    """As with other items, 1, 1.0 and True in it are not equal."""
    fetched: list[str] = []

    async def fetch(item: Job) -> None:
        fetched.append(repr(item))

    async with zenovay.batch([Job(limit) for limit in (1, 1.0, True, 1)], fetch) as results:
        assert len([result async for result in results]) == 4
    assert fetched == ["Job(limit=1)", "Job(limit=1.0)", "Job(limit=True)"]


async def test_an_item_added_to_the_list_later_is_fetched_as_well() -> None:
    """Also one that equals an item that is done, and with a list that had equal items before."""
    items, fetched = ["a", "b", "a"], list[str]()

    async def fetch(item: str) -> None:
        fetched.append(item)
        if item == "b":
            items.extend(["c", "a"])

    async with batch(items, fetch, 1) as results:
        assert sorted([result.item async for result in results]) == ["a", "a", "a", "b", "c"]
    assert fetched == ["a", "b", "c", "a"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_item_of_a_stream_that_equals_one_in_flight_shares_its_result(asynchronous: bool) -> None:  # noqa: FBT001 - a table's column
    """An equal item that comes later is fetched again, as not all results of an endless source can be kept."""
    items, fetched = ["a", "a", "b", "a", "c", "a"], list[str]()
    gates = {item: asyncio.Event() for item in items}

    async def source() -> AsyncIterator[str]:
        for item in items:
            yield item

    async def fetch(item: str) -> int:
        fetched.append(item)
        await gates[item].wait()
        return len(fetched)

    async with batch(source() if asynchronous else iter(items), fetch, 4) as results:
        await until(lambda: fetched == ["a", "b"])
        gates["a"].set()
        gates["b"].set()
        gates["c"].set()
        values = [result.value async for result in results if result.item == "a"]
    assert sorted(Counter(values).values()) == [1, 3]
    assert Counter(fetched) == {"a": 2, "b": 1, "c": 1}


async def test_a_consumer_that_is_slow_bounds_what_is_fetched_of_equal_items_too() -> None:
    fetched = 0

    async def fetch(_: int) -> None:
        nonlocal fetched
        fetched += 1

    async with batch([item // 2 for item in range(2000)], fetch, 2) as results:
        for _ in range(10):
            await anext(results)
        await asyncio.sleep(0.01)
        assert fetched <= 10 // 2 + 2 * 2 + 1


async def test_leaving_a_batch_with_equal_items_in_flight_leaves_nothing_behind() -> None:
    async with batch(itertools.repeat("x"), lambda _: asyncio.sleep(60)):
        await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_ranges_of_any_length_are_taken_one_by_one() -> None:
    async def fetch(item: int) -> int:
        return item

    async with batch(range(10**15), fetch) as results:
        assert (await anext(results)).error is None


class ProgressBar:
    """A progress bar around an iterator, as tqdm makes it: it has a length, and is iterated over once."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return 3

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Any:
        yield from self._items


async def test_an_iterator_inside_a_progress_bar_loses_no_item() -> None:
    async def fetch(item: int) -> int:
        return item

    async with batch(ProgressBar(iter([1, 2, 2])), fetch) as results:
        assert sorted([result.item async for result in results]) == [1, 2, 2]


async def test_the_values_of_a_mapping_are_a_collection() -> None:
    fetched: list[int] = []

    async def fetch(item: int) -> None:
        fetched.append(item)

    async with batch({"a": 1, "b": 1, "c": 2}.values(), fetch, concurrency=1) as results:
        assert [result.item async for result in results] == [1, 1, 2]
    assert fetched == [1, 2]
