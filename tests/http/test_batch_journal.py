"""A batch with a journal: what is done is not fetched again, and what was paid for is not lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import batch, examples
from hypothesis import given, settings
from hypothesis import strategies as st

from zenovay_async import (
    AuthenticationError,
    Batch,
    ConfigurationError,
    HeatmapPages,
    Journal,
    JournalError,
    NotFoundError,
    QuotaExceededError,
    Zenovay,
    ZenovayError,
)
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zenovay_async.sandbox import Sandbox


class Fetched:
    """A fetch that counts its items; those in ``fails`` fail."""

    def __init__(self, *fails: Any) -> None:
        self.items: list[Any] = []
        self.fails = set(fails)

    async def __call__(self, item: Any) -> Any:
        self.items.append(item)
        await asyncio.sleep(0)
        if item in self.fails:
            raise NotFoundError(f"no {item}")
        return item


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


async def test_a_later_run_replays_what_is_done_and_sends_no_request_for_it(
    zenovay: Zenovay, sandbox: Sandbox, path: Path
) -> None:
    ids = sandbox.website_ids
    async with zenovay.batch(ids, zenovay.heatmaps.pages, journal=Journal(path, result_type=HeatmapPages)) as results:
        first = {result.item: result.value async for result in results}
    sent = sandbox.count()
    async with zenovay.batch(ids, zenovay.heatmaps.pages, journal=Journal(path, result_type=HeatmapPages)) as results:
        found = [result async for result in results]
    assert sandbox.count() == sent == len(ids)
    assert {result.item: result.value for result in found} == first
    assert all(result.replayed for result in found)
    report = results.report
    assert (report.done, report.replayed, report.requests) == (len(ids), len(ids), 0)


async def test_without_a_result_type_a_later_run_skips_what_was_handled(path: Path) -> None:
    fetch = Fetched()
    for done, skipped in ((5, 0), (0, 5)):
        async with batch(range(5), fetch, journal=Journal(path)) as results:
            assert len([result async for result in results]) == done
        assert (results.report.done, results.report.skipped) == (done, skipped)
    assert sorted(fetch.items) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("keeps", [True, False])
async def test_failures_are_tried_again(path: Path, keeps: bool) -> None:  # noqa: FBT001 - from a table
    fetch = Fetched(2, 3)
    for fails in ({2, 3}, {3}, set[int]()):
        fetch.fails = fails
        async with batch(range(5), fetch, journal=Journal(path, result_type=int if keeps else None)) as results:
            found = [result async for result in results]
        assert {result.item for result in found if result.error is not None} == fails
    assert Counter(fetch.items) == {0: 1, 1: 1, 2: 2, 3: 3, 4: 1}


async def test_a_result_whose_handling_fails_is_not_done_without_a_result_type(path: Path) -> None:
    fetch = Fetched()
    handled: list[int] = []
    with pytest.raises(OSError, match="disk"):
        async with batch(range(5), fetch, concurrency=1, journal=Journal(path)) as results:
            async for result in results:
                if result.item == 2:
                    raise OSError("disk")
                handled.append(result.item)
    async with batch(range(5), fetch, journal=Journal(path)) as results:
        handled += [result.item async for result in results]
    assert sorted(handled) == [0, 1, 2, 3, 4]


async def test_a_result_that_was_handled_before_the_loop_was_left_is_done(path: Path) -> None:
    fetch = Fetched()
    async with batch(range(5), fetch, concurrency=1, journal=Journal(path)) as results:
        async for result in results:
            if result.item == 2:
                break
    async with batch(range(5), fetch, journal=Journal(path)) as results:
        assert sorted([result.item async for result in results]) == [3, 4]


async def test_several_consumers_each_record_what_they_handled(path: Path) -> None:
    blocked = asyncio.Event()

    async def consume(results: Any) -> None:
        async for result in results:
            if result.item == 0:
                await blocked.wait()

    with pytest.raises(ExceptionGroup):
        async with batch(range(6), Fetched(), journal=Journal(path)) as results, asyncio.TaskGroup() as tasks:
            consumers = [tasks.create_task(consume(results)) for _ in range(2)]
            await asyncio.wait(consumers, return_when=asyncio.FIRST_COMPLETED)
            raise OSError("disk")
    async with batch(range(6), Fetched(), journal=Journal(path)) as results:
        assert [result.item async for result in results] == [0]


async def test_results_that_are_each_awaited_in_a_task_are_done_once_the_next_is_asked_for(path: Path) -> None:
    """As asyncio.wait_for() does before Python 3.12, and who waits for other things as well."""
    handled: list[int] = []
    fetch = Fetched()
    with pytest.raises(OSError, match="disk"):
        async with batch(range(50), fetch, journal=Journal(path)) as results:
            while True:
                result = await asyncio.create_task(anext(results))
                if len(handled) == 30:
                    raise OSError("disk")
                handled.append(result.item)
    async with batch(range(50), fetch, journal=Journal(path)) as results:
        handled += [result.item async for result in results]
    assert sorted(handled) == list(range(50))
    assert results.report.skipped == 30


@pytest.mark.parametrize("how", ["fails", "is canceled", "goes on"])
async def test_what_another_task_did_not_handle_is_not_done_though_the_block_ends_well(path: Path, how: str) -> None:
    fetch, is_blocked, goes_on = Fetched(), asyncio.Event(), asyncio.Event()

    async def consume(results: Any) -> None:
        async for result in results:
            if result.item == 2:
                is_blocked.set()
                await goes_on.wait()
                if how == "fails":
                    raise OSError("disk")

    async with batch(range(5), fetch, 1, journal=Journal(path)) as results:
        consumer = asyncio.create_task(consume(results))
        await is_blocked.wait()
        if how != "goes on":
            goes_on.set()
            consumer.cancel() if how == "is canceled" else None
            await asyncio.wait({consumer})
    goes_on.set()
    assert [type(error) for error in await asyncio.gather(consumer, return_exceptions=True)] == [
        {"fails": OSError, "is canceled": asyncio.CancelledError, "goes on": type(None)}[how]
    ]
    async with batch(range(5), fetch, 1, journal=Journal(path)) as results:
        assert [result.item async for result in results] == [2, 3, 4]


async def test_an_item_that_fetch_changes_is_known_by_what_it_was(path: Path) -> None:
    fetched: list[int] = []

    async def fetch(row: dict[str, int]) -> dict[str, int]:
        fetched.append(row.pop("id"))
        return row

    for keeps in (True, False):
        journal = Journal(path.with_name(str(keeps)), result_type=dict if keeps else None)
        for _ in range(2):
            rows = [{"id": number} for number in range(5)]
            async with batch(rows, fetch, journal=journal, key=lambda row: str(row["id"])) as results:
                async for _ in results:
                    pass
    assert Counter(fetched) == dict.fromkeys(range(5), 2)


async def test_a_journal_is_closed_though_all_tasks_are_canceled_at_the_end(path: Path) -> None:
    """As asyncio.run() does after a second Ctrl-C."""
    is_closing = asyncio.Event()

    async def items() -> AsyncIterator[int]:
        try:
            for item in range(100):
                yield item
        finally:
            is_closing.set()
            await asyncio.Event().wait()

    async def run() -> None:
        async with batch(items(), Fetched(), 1, journal=Journal(path)) as results:
            async for result in results:
                if result.item == 3:
                    break

    running = asyncio.create_task(run())
    await is_closing.wait()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    with Journal(path) as journal:
        assert journal.done == 4


@pytest.mark.parametrize("how", ["ends", "is left", "fails", "stops", "meets a fault", "is not kept", "is canceled"])
async def test_a_batch_leaves_nothing_for_the_garbage_collector(path: Path, how: str) -> None:
    """Nor does any of its errors, once the caller has forgotten it."""
    zenovay = Zenovay("zv_test")

    async def fetch(item: int) -> Any:
        await asyncio.sleep(60 if how == "is canceled" else 0)
        if item == 1 and how in {"stops", "meets a fault"}:
            raise NotFoundError("no") if how == "stops" else AuthenticationError("no")
        return object() if how == "is not kept" else item

    async def run(number: int) -> None:
        journal = Journal(path.with_name(str(number)), result_type=int)
        with contextlib.suppress(ZenovayError, OSError):
            async with (
                asyncio.timeout(0 if how == "is canceled" else None),
                zenovay.batch(range(9), fetch, journal=journal, max_failures=0, on_progress=lambda _: None) as results,
            ):
                async for _ in results:
                    if how == "fails":
                        raise OSError("disk")
                    if how == "is left":
                        break

    await run(0)
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        await run(1)
        gc.collect()
        found = [each for each in gc.garbage if isinstance(each, (Batch, Journal, Zenovay, BaseException))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert found == []


async def test_a_month_that_ends_loses_nothing_that_was_paid_for(sandbox: Sandbox, path: Path) -> None:
    key = sandbox.add_key("small", monthly_limit=2)
    found: dict[str, Any] = {}
    ids = sandbox.website_ids
    for limit in (2, None):
        if limit is None:
            key = sandbox.api_key
        async with Zenovay(key, base_url=sandbox.url) as zenovay:
            journal = Journal(path, result_type=HeatmapPages)
            ends = pytest.raises(QuotaExceededError) if limit else contextlib.nullcontext()
            with ends:
                async with zenovay.batch(ids, zenovay.heatmaps.pages, concurrency=1, journal=journal) as results:
                    async for result in results:
                        found[result.item] = result.value
    assert set(found) == set(ids)
    # One was refused, as the month was over.
    assert sandbox.count() == len(ids) + 1


async def test_items_with_one_key_are_one(path: Path) -> None:
    fetch = Fetched()

    async def items() -> AsyncIterator[int]:
        for item in (1, 11, 21, 2):
            yield item

    def last_digit(item: int) -> str:
        return str(item % 10)

    async with batch(items(), fetch, journal=Journal(path, result_type=int), key=last_digit) as results:
        found = [(result.item, result.value) async for result in results]
    assert sorted(item for item, _ in found) == [1, 2, 11, 21]
    assert Counter(item % 10 for item in fetch.items) == {1: 1, 2: 1}


async def test_equal_items_of_a_list_are_fetched_once_and_replayed_for_each(path: Path) -> None:
    fetch = Fetched()
    for replayed in (False, True):
        async with batch(["a", "b", "a"], fetch, journal=Journal(path, result_type=str)) as results:
            found = [(result.item, result.value, result.replayed) async for result in results]
        assert sorted(found) == [("a", "a", replayed), ("a", "a", replayed), ("b", "b", replayed)]
    assert sorted(fetch.items) == ["a", "b"]


async def test_a_journal_of_another_run_fails_before_anything_is_fetched(path: Path) -> None:
    async with batch(range(3), Fetched(), journal=Journal(path, describes="pages limit=10")) as results:
        assert len([result async for result in results]) == 3
    fetch = Fetched()
    with pytest.raises(ConfigurationError, match=r"limit=10.*limit=20"):
        async with batch(range(3), fetch, journal=Journal(path, describes="pages limit=20")) as results:
            pass
    assert fetch.items == []


async def test_two_batches_of_a_program_may_share_a_journal(path: Path) -> None:
    journal = Journal(path, result_type=int)
    fetch = Fetched()
    async with batch(range(3), fetch, journal=journal) as first, batch(range(5), fetch, journal=journal) as second:
        assert len([result async for result in first]) == 3
        assert len([result async for result in second]) == 5
    assert Counter(fetch.items) == dict.fromkeys(range(5), 1) | {
        item: number for item, number in Counter(fetch.items).items() if number <= 2
    }
    with journal:
        assert journal.done == 5


@pytest.mark.parametrize("keeps", [True, False])
async def test_what_cannot_be_recorded_is_handed_out_and_the_batch_stops(
    path: Path,
    keeps: bool,  # noqa: FBT001 - from a table
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal, fetch, found = Journal(path, result_type=int if keeps else None), Fetched(), list[Any]()

    def fail(*_: object) -> None:
        raise JournalError("disk full")

    with pytest.raises(JournalError, match="disk full"):
        async with batch(range(1000), fetch, journal=journal) as results:
            async for result in results:
                found.append(result.item)
                if len(found) == 10:
                    monkeypatch.setattr(journal, "record_success", fail)
    assert sorted(found) == sorted(fetch.items)
    assert len(found) < 40


async def test_a_value_that_cannot_be_kept_is_handed_out_and_named(path: Path) -> None:
    async def fetch(_: int) -> Any:
        return object()

    with pytest.raises(ConfigurationError, match="object"):
        async with batch(range(10), fetch, concurrency=1, journal=Journal(path, result_type=dict)) as results:
            async for result in results:
                assert type(result.value) is object


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": repr}, "journal="),
        ({"key": "id"}, "key='id': expected a function"),
        ({"journal": "run.db"}, r"journal='run.db': expected a Journal, or None; pass Journal\('run.db'\)"),
        ({"journal": 3}, "journal=3: expected a Journal, or None$"),
        ({"max_failures": -1}, "max_failures=-1"),
        ({"max_failures": 1.5}, r"max_failures=1\.5"),
        ({"max_failures": True}, "max_failures=True"),
        ({"max_requests": 0}, "max_requests"),
        ({"on_progress": 3}, "on_progress=3"),
    ],
)
def test_invalid_options_fail_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        batch([1], Fetched(), **options)


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("key", [1, None, b"a", ["a"]])
async def test_a_key_that_is_no_text_is_named(path: Path, key: Any, keeps: bool) -> None:  # noqa: FBT001 - from a table
    fetch, journal = Fetched(), Journal(path, result_type=int if keeps else None)
    with pytest.raises(ConfigurationError, match=re.escape(f"key={key!r}: expected a str")):
        async with batch([1], fetch, journal=journal, key=lambda _: key) as results:
            assert [result async for result in results] == []
    assert fetch.items == []


async def test_a_batch_stops_at_a_fault_that_all_items_meet_and_goes_on_later(
    zenovay: Zenovay, sandbox: Sandbox, path: Path
) -> None:
    ids, found = sandbox.website_ids, set[str]()
    sandbox.fault(Fault.status(401, "Invalid API key", "INVALID_API_KEY"), times=1)
    for _ in range(2):
        with contextlib.suppress(Exception):
            async with zenovay.batch(ids, zenovay.heatmaps.pages, concurrency=1, journal=Journal(path)) as results:
                async for result in results:
                    found.add(result.item)
    assert found == set(ids)
    assert sandbox.count() == len(ids) + 1


@settings(max_examples=examples(200))
@given(
    items=st.lists(st.integers(0, 12), max_size=20),
    ends=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=5),
    concurrency=st.integers(1, 5),
    keeps=st.booleans(),
    is_lazy=st.booleans(),
)
def test_runs_that_end_anywhere_hand_out_each_item_and_fetch_none_again_that_is_done(
    items: list[int], ends: list[tuple[int, bool]], concurrency: int, *, keeps: bool, is_lazy: bool
) -> None:
    fetched: list[int] = []
    handled: list[int] = []

    async def fetch(item: int) -> int:
        fetched.append(item)
        for _ in range(item % 3):
            await asyncio.sleep(0)
        return item

    async def run(journal: Journal, end: int | None, *, fails: bool) -> None:
        source: Any = iter(items) if is_lazy else items
        async with batch(source, fetch, concurrency, journal=journal) as results:
            async for result in results:
                if len(handled) == end and fails:
                    raise OSError("disk")
                handled.append(result.item)
                if len(handled) == end:
                    break

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "run.db", result_type=int if keeps else None)
        for end, fails in ends:
            if keeps:
                handled.clear()
            with contextlib.suppress(OSError):
                asyncio.run(run(journal, end, fails=fails))
        if keeps:
            handled.clear()
        asyncio.run(run(journal, None, fails=False))
    assert set(handled) == set(items)
    # What was in flight, or was not handled, when a run ended.
    again = sum(Counter(fetched).values()) - len(set(fetched))
    assert again <= len(ends) * (concurrency if keeps else 3 * concurrency + 1)
