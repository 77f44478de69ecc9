"""A batch that stops by itself: after too many failures, or requests; and what it says on the way."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from helpers import batch

from zenovay_async import BatchReport, BatchStoppedError, NotFoundError, Zenovay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zenovay_async.sandbox import Sandbox


def fetch_that_fails(*fails: int) -> Any:
    async def fetch(item: int) -> int:
        await asyncio.sleep(0)
        if item in fails:
            raise NotFoundError(f"no {item}")
        return item

    return fetch


@pytest.mark.parametrize(("bound", "failures"), [(0, 1), (2, 3), (0.1, 2), (0.25, 3)])
async def test_a_batch_stops_when_more_items_failed_than_allowed(bound: float, failures: int) -> None:
    found: list[Any] = []
    results = batch(range(10), fetch_that_fails(*range(10)), 1, max_failures=bound)
    with pytest.raises(BatchStoppedError, match=rf"after {failures} failures? \(max_failures={bound}\)") as caught:
        async with results:
            async for result in results:
                found.append(result)
    assert len(found) == failures
    assert caught.value.reason == "max_failures"
    assert caught.value.__cause__ is found[-1].error
    assert results.report.failed == {"NotFoundError": failures}


async def test_an_error_without_a_message_is_named_by_its_class() -> None:
    class UnreadableError(Exception):
        def __str__(self) -> str:
            raise ValueError

    async def fetch(item: Exception) -> None:
        raise item

    for error in (UnreadableError(), TimeoutError()):
        results = batch([error], fetch, max_failures=0)
        with pytest.raises(BatchStoppedError, match=f"the last one: {type(error).__name__}"):
            async with results:
                assert [result.error async for result in results] == [error]


async def test_as_many_failures_as_allowed_do_not_stop_a_batch() -> None:
    async with batch(range(10), fetch_that_fails(1, 2), max_failures=2) as results:
        assert len([result async for result in results]) == 10
    assert (results.succeeded, results.failed) == (8, 2)


async def test_the_first_failures_of_an_endless_source_are_no_large_share() -> None:
    def numbers() -> Iterator[int]:
        yield from range(200)

    async with batch(numbers(), fetch_that_fails(0, 1), 1, max_failures=0.1) as results:
        assert len([result async for result in results]) == 200
    with pytest.raises(BatchStoppedError, match="after 3 failures"):
        async with batch(numbers(), fetch_that_fails(0, 1, 2), 1, max_failures=0.1) as results:
            assert len([result async for result in results]) == 3


async def test_calls_in_flight_when_a_batch_stops_are_not_lost() -> None:
    started: list[int] = []

    async def fetch(item: int) -> int:
        started.append(item)
        await asyncio.sleep(0)
        if item == 3:
            raise NotFoundError("no 3")
        for _ in range(5):
            await asyncio.sleep(0)
        return item

    found: list[int] = []
    with pytest.raises(BatchStoppedError):
        async with batch(range(100), fetch, 4, max_failures=0) as results:
            async for result in results:
                found.append(result.item)
    assert sorted(found) == sorted(started)


async def test_a_batch_stops_before_it_takes_more_requests_than_allowed(zenovay: Zenovay, sandbox: Sandbox) -> None:
    found: list[Any] = []
    results = zenovay.batch(sandbox.website_ids, zenovay.heatmaps.pages, max_requests=2)
    with pytest.raises(BatchStoppedError, match=r"max_requests=2") as caught:
        async with results:
            async for result in results:
                found.append(result)
    assert caught.value.reason == "max_requests"
    assert [result.error for result in found] == [None, None]
    assert sandbox.count() == results.report.requests == 2


async def test_a_batch_in_a_batch_that_stops_is_the_failure_of_its_item(zenovay: Zenovay, sandbox: Sandbox) -> None:
    async def fetch(_: int) -> int:
        async with zenovay.batch(sandbox.website_ids, zenovay.heatmaps.pages, max_requests=1) as results:
            return len([result async for result in results])

    async with zenovay.batch(range(2), fetch, concurrency=1, max_requests=100) as results:
        errors = [type(result.error) async for result in results]
    assert errors == [BatchStoppedError, BatchStoppedError]


async def test_a_bound_holds_for_the_batches_inside_of_fetch(zenovay: Zenovay, sandbox: Sandbox) -> None:
    """Their requests are in the report of the outer one, too."""
    inner: list[BatchReport] = []

    async def fetch(_: int) -> int:
        results = zenovay.batch(sandbox.website_ids, zenovay.heatmaps.pages, concurrency=1, max_requests=3)
        try:
            async with results:
                return len([result async for result in results])
        finally:
            inner.append(results.report)

    outer = zenovay.batch(range(4), fetch, concurrency=1, max_requests=5)
    with pytest.raises(BatchStoppedError, match=r"after 5 requests \(max_requests=5\)"):
        async with outer:
            async for result in outer:
                assert result.value == 3
    assert [report.requests for report in inner] == [3, 2]
    assert sandbox.count() == outer.report.requests == 5
    assert outer.report.p50 is not None


@pytest.mark.looptime
async def test_the_progress_comes_once_a_second_and_at_the_end() -> None:
    reports: list[BatchReport] = []

    async def fetch(item: int) -> int:
        await asyncio.sleep(0.3)
        return item

    async with batch(range(10), fetch, 1, on_progress=reports.append) as results:
        assert reports == []
        async for _ in results:
            pass
    assert [report.done for report in reports] == [3, 6, 10] or [report.done for report in reports] == [3, 6, 9, 10]
    assert [report.ended is None for report in reports[:-1]] == [True] * (len(reports) - 1)
    assert reports[-1] == results.report
    assert reports[-1].ended is not None


@pytest.mark.looptime
async def test_the_progress_comes_while_nothing_is_done() -> None:
    reports: list[BatchReport] = []

    async def fetch(item: int) -> int:
        await asyncio.sleep(5.5)
        return item

    async with batch([1], fetch, on_progress=reports.append) as results:
        assert len([result async for result in results]) == 1
    assert [report.done for report in reports] == [0, 0, 0, 0, 0, 1]


@pytest.mark.looptime
async def test_a_listener_of_the_progress_that_fails_is_logged_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def listen(_: BatchReport) -> None:
        raise ValueError("no")

    async def fetch(item: int) -> int:
        await asyncio.sleep(1)
        return item

    with caplog.at_level(logging.ERROR, "zenovay_async"):
        async with batch([1, 2], fetch, 1, on_progress=listen) as results:
            assert len([result async for result in results]) == 2
    assert "on_progress failed" in caplog.text


async def test_a_listener_of_the_progress_that_turns_out_to_be_asynchronous_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def listen(_: BatchReport) -> None:
        raise AssertionError

    listener: Any = lambda report: listen(report)  # noqa: E731, PLW0108 - a plain function by its looks
    async with batch([1], fetch_that_fails(), on_progress=listener) as results:
        assert len([result async for result in results]) == 1
    assert "on_progress returned a coroutine" in caplog.text


async def test_a_report_is_there_before_a_batch_is_entered_and_goes_to_json() -> None:
    results = batch(range(3), fetch_that_fails(1))
    assert (results.report.done, results.report.ended) == (0, None)
    async with results:
        async for _ in results:
            pass
    report = results.report.to_dict()
    assert (report["done"], report["succeeded"], report["failed"]) == (3, 2, {"NotFoundError": 1})
    assert report["started"] <= report["ended"]
