"""A batch makes many calls, bounded in number; one failure never sinks another, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import traceback
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from helpers import batch, double
from hypothesis import given
from hypothesis import strategies as st

from zenovay_async import (
    APIConnectionError,
    AuthenticationError,
    Batch,
    BatchResult,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    Zenovay,
    ZenovayError,
)
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


async def collect(made: Batch[Any, Any]) -> list[BatchResult[Any, Any]]:
    async with made as results:
        return [result async for result in results]


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_many_websites_are_fetched_over_http(zenovay: Zenovay, sandbox: Sandbox) -> None:
    async with zenovay.batch(sandbox.website_ids, lambda site: zenovay.heatmaps.pages(site, limit=2)) as results:
        found = {result.item: result.value async for result in results if result.error is None}
    assert set(found) == set(sandbox.website_ids)
    assert all(len(value.pages) == 2 for value in found.values())


@given(st.lists(st.integers()), st.integers(1, 9))
def test_every_item_gives_exactly_one_result(items: list[int], concurrency: int) -> None:
    results = asyncio.run(collect(batch(items, double, concurrency)))
    assert sorted((result.item, result.value) for result in results) == sorted((item, item * 2) for item in items)


async def test_an_asynchronous_source_works_the_same() -> None:
    async def source() -> AsyncIterator[int]:
        for item in range(10):
            await asyncio.sleep(0)
            yield item

    assert {result.item for result in await collect(batch(source(), double))} == set(range(10))


async def test_results_arrive_as_calls_complete() -> None:
    gates = {item: asyncio.Event() for item in range(3)}

    async def fetch(item: int) -> int:
        await gates[item].wait()
        return item

    async with batch(range(3), fetch) as results:
        for item in (2, 0, 1):
            gates[item].set()
            assert (await anext(results)).item == item


async def test_no_more_calls_run_at_once_than_the_concurrency() -> None:
    running = highest = 0

    async def fetch(_: int) -> None:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0)
        running -= 1

    assert len(await collect(batch(range(50), fetch, concurrency=3))) == 50
    assert highest == 3


async def test_a_concurrency_without_bound_makes_no_more_workers_than_there_are_items() -> None:
    assert await collect(batch([], double, sys.maxsize)) == []
    made = batch([1, 2, 2, 3], double, sys.maxsize)
    async with made as results:
        assert repr(made) == "<Batch: 0 succeeded, 0 failed, 4 workers>"
        assert sorted([result.value async for result in results if result.error is None]) == [2, 4, 4, 6]


async def test_an_endless_source_is_read_only_as_results_are_taken() -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for taken in itertools.count(1):
            yield taken

    async with batch(source(), double, concurrency=2) as results:
        for _ in range(10):
            await anext(results)
        await asyncio.sleep(0.01)
        assert taken <= 10 + 2 * 2
    assert others() == set()


async def test_one_failure_does_not_sink_the_others() -> None:
    async def fetch(item: int) -> int:
        if item == 3:
            raise NotFoundError("No such website")
        if item == 4:
            raise KeyError("a slip in the caller's own function")
        return item

    results = {result.item: result for result in await collect(batch(range(6), fetch))}
    assert {item for item, result in results.items() if result.error} == {3, 4}
    assert isinstance(results[3].error, NotFoundError)
    assert isinstance(results[4].error, KeyError)


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("Bad key", status=401),
        QuotaExceededError("Quota exhausted", status=429),
        PermissionDeniedError("Free plan", status=403, code="API_PAID_PLAN_REQUIRED"),
    ],
)
async def test_a_fatal_error_stops_the_batch(error: ZenovayError) -> None:
    """An error that holds for every item stops the batch with that error."""
    started: list[int] = []
    cancelled: list[int] = []

    async def fetch(item: int) -> int:
        started.append(item)
        if item < 3:
            return item
        if item == 3:
            await asyncio.sleep(0.01)
            raise error
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    got: list[int] = []
    with pytest.raises(type(error)) as caught:
        async with batch(range(100), fetch, concurrency=4) as results:
            async for result in results:
                got.append(result.item)
    assert caught.value is error
    assert got == [0, 1, 2]
    assert started == [0, 1, 2, 3, 4, 5, 6]
    assert sorted(cancelled) == [4, 5, 6]
    assert others() == set()


async def test_a_batch_that_stops_at_the_reserve_yields_every_paid_result() -> None:
    """A batch that stops at the reserve yields every result that was paid for."""
    limiter = WindowLimiter()
    async with Sandbox(websites=1, latency=0.005, jitter=0.01) as sandbox:
        key = sandbox.add_key("small", monthly_limit=120)
        async with Zenovay(key, base_url=sandbox.url, quota_reserve=20, rate_limit=limiter, coalesce=False) as zenovay:
            # The first response states the quota.
            site = sandbox.website_ids[0]
            await zenovay.heatmaps.pages(site)
            done = 1
            with pytest.raises(QuotaExceededError, match="quota_reserve=20"):
                async with zenovay.batch(range(500), lambda _: zenovay.heatmaps.pages(site), concurrency=32) as results:
                    async for result in results:
                        assert result.error is None
                        done += 1
            assert done == sandbox.count()
            assert done == 100
            assert zenovay.quota.remaining == 20
            assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("given", [False, True], ids=["own limiter", "the caller's limiter"])
async def test_an_exhausted_quota_sends_no_request_of_those_that_wait(given: bool) -> None:  # noqa: FBT001 - a table's column
    """When the server says that the quota is exhausted, none of the callers that wait sends a request."""
    limiter = WindowLimiter()
    async with Sandbox(websites=1) as sandbox:
        sandbox.fault(Fault.monthly_limit())
        site = sandbox.website_ids[0]
        options: dict[str, Any] = {"rate_limit": limiter} if given else {}
        async with Zenovay(sandbox.api_key, base_url=sandbox.url, **options) as zenovay:
            with pytest.raises(QuotaExceededError):
                async with zenovay.batch(range(500), lambda _: zenovay.heatmaps.pages(site), concurrency=32) as results:
                    [result async for result in results]
            assert sandbox.count() == 1
            assert zenovay._budget.statistics().in_flight == 0
            assert limiter.statistics().in_flight == 0


class Unauthorized:
    """A server that rejects every key, and counts the requests.

    Args:
        before: Statuses of the first responses, instead of 401.
    """

    def __init__(self, *before: int) -> None:
        self.before = list(before)
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                status = self.before.pop(0) if self.before else 401
                await asyncio.sleep(0.01)
                extra = b"Retry-After: 0.05\r\n" if status == 429 else b""
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n%s\r\n{}" % (status, extra))
        writer.close()


@pytest.mark.parametrize("before", [[], [429]], ids=["before anything is known", "after a 429"])
async def test_a_rejected_key_sends_no_request_of_those_that_wait(before: list[int], unused_tcp_port: int) -> None:
    """After a key was rejected, no caller that gets a permit next sends another request."""
    unauthorized = Unauthorized(*before)
    server = await asyncio.start_server(unauthorized.serve, "127.0.0.1", unused_tcp_port)
    url, limiter = f"http://127.0.0.1:{unused_tcp_port}", WindowLimiter(window=5.0)
    async with Zenovay("zv_rejected", base_url=url, rate_limit=limiter) as zenovay:
        with pytest.raises(AuthenticationError):
            async with zenovay.batch(map(str, range(100)), zenovay.heatmaps.pages, concurrency=8) as results:
                async for _ in results:
                    pass
        await asyncio.sleep(0.05)
        assert limiter.statistics().in_flight == 0
    server.close()
    assert unauthorized.requests == 1 + len(before)


async def test_a_forbidden_website_is_the_failure_of_its_item() -> None:
    """A website that is off limits is the failure of one item, not of the batch."""

    async def fetch(_: int) -> None:
        raise PermissionDeniedError("Access denied to this website", status=403, code="FORBIDDEN")

    assert len(await collect(batch(range(5), fetch))) == 5


async def test_a_rejected_key_costs_no_more_than_the_calls_in_flight(sandbox: Sandbox) -> None:
    async with Zenovay("zv_wrong", base_url=sandbox.url) as zenovay:
        with pytest.raises(AuthenticationError):
            async with zenovay.batch(map(str, range(1000)), zenovay.heatmaps.pages, concurrency=4) as results:
                async for _ in results:
                    pass
    assert sandbox.count() <= 4


@pytest.mark.parametrize("how", ["break", "raise"])
async def test_leaving_early_cancels_what_is_in_flight(how: str) -> None:
    async def fetch(item: int) -> int:
        await asyncio.sleep(0 if item == 0 else 60)
        return item

    try:
        async with batch(itertools.count(), fetch) as results:
            async for _ in results:
                if how == "raise":
                    raise LookupError
                break
    except LookupError:
        pass
    assert others() == set()


@pytest.mark.parametrize("when", [0.0, 0.02, 0.2])
async def test_leaving_early_leaves_no_permit_behind(when: float) -> None:
    sandbox, limiter = Sandbox(websites=1, latency=0.02), WindowLimiter()
    async with (
        sandbox,
        Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=limiter, max_connections=4) as zenovay,
    ):
        site = sandbox.website_ids[0]
        async with zenovay.batch(itertools.count(), lambda _: zenovay.heatmaps.pages(site), concurrency=64):
            await asyncio.sleep(when)
        statistics = limiter.statistics()
        assert (statistics.in_flight, statistics.direct_waiting, statistics.background_waiting) == (0, 0, 0)
        assert zenovay._budget.statistics().in_flight == 0
        # The next calls find free slots, too.
        await asyncio.wait_for(asyncio.gather(*(zenovay.heatmaps.pages(site) for _ in range(4))), 5)


async def test_canceling_the_caller_cancels_the_batch() -> None:
    entered = asyncio.Event()

    async def run() -> None:
        async with batch(itertools.count(), lambda _: asyncio.sleep(60)) as results:
            entered.set()
            async for _ in results:
                pass

    task = asyncio.create_task(run())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert others() == set()


async def test_a_fetch_that_is_canceled_from_within_is_the_failure_of_its_item() -> None:
    async def fetch(item: int) -> int:
        if item == 1:
            raise asyncio.CancelledError
        return item

    results = await collect(batch(range(3), fetch))
    assert [result.item for result in results if result.error] == [1]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_error_of_the_source_is_raised_after_the_calls_in_flight(asynchronous: bool) -> None:  # noqa: FBT001 - a table's column
    """A source that raises surfaces as itself, after the calls in flight."""

    def source() -> Iterator[int]:
        yield from range(3)
        raise OSError("the disk is gone")

    async def slow_source() -> AsyncIterator[int]:
        for item in source():
            yield item

    got: list[int] = []
    with pytest.raises(OSError, match="the disk is gone"):
        async with batch(slow_source() if asynchronous else source(), double, concurrency=2) as results:
            async for result in results:
                got.append(result.item)
    assert sorted(got) == [0, 1, 2]
    assert others() == set()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_source_that_is_canceled_from_within_is_an_error(asynchronous: bool) -> None:  # noqa: FBT001 - a table's column
    """A source that is canceled from within is an error, and no item is lost in silence."""

    def source() -> Iterator[int]:
        yield from range(5)
        raise asyncio.CancelledError("somebody canceled what the source waits for")

    async def slow_source() -> AsyncIterator[int]:
        for item in source():
            yield item

    got: list[int] = []
    with pytest.raises(RuntimeError, match="source of items was canceled") as caught:
        async with batch(slow_source() if asynchronous else source(), double, concurrency=2) as results:
            async for result in results:
                got.append(result.item)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert sorted(got) == list(range(5))
    assert others() == set()


async def _broken(_: int) -> int:
    raise APIConnectionError("unplugged")


async def _rejected(_: int) -> int:
    raise AuthenticationError("Bad key", status=401)


@pytest.mark.parametrize("fetch", [double, _broken, _rejected])
@pytest.mark.parametrize("how", ["to the end", "break", "raise", "cancel"])
async def test_an_asynchronous_generator_is_closed_with_the_block(fetch: Callable[[int], Any], how: str) -> None:
    """An asynchronous generator has cleaned up when the block is left."""
    log: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            for item in itertools.count() if how != "to the end" else range(50):
                yield item
        finally:
            await asyncio.sleep(0)
            log.append("cleaned up")

    async def run() -> None:
        async with batch(source(), fetch) as results:
            async for _ in results:
                if how == "break":
                    break
                if how == "raise":
                    raise LookupError
                if how == "cancel":
                    await asyncio.sleep(60)

    task = asyncio.create_task(run())
    await asyncio.sleep(0.01)
    if how == "cancel":
        task.cancel()
    await asyncio.wait([task])
    assert log == ["cleaned up"]
    assert others() == set()


async def test_a_batch_is_used_in_async_with_and_once() -> None:
    made = batch([1], double)
    with pytest.raises(RuntimeError, match="async with"):
        await anext(made)
    await collect(made)
    with pytest.raises(RuntimeError, match="used once"):
        await collect(made)


@pytest.mark.parametrize(
    ("items", "concurrency", "match"),
    [
        ([1], 0, "concurrency=0"),
        ([1], 1.5, r"concurrency=1\.5"),
        ([1], True, "concurrency=True"),
        ("abc", 1, r"pass \['abc'\]"),
        (5, 1, "iterable"),
    ],
)
async def test_invalid_arguments_are_rejected_at_once(items: object, concurrency: Any, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match) as caught:
        batch(items, double, concurrency)
    # Error reporters show the variables of each frame, the unfinished batch among them.
    traceback.TracebackException.from_exception(caught.value, capture_locals=True)


async def test_a_hundred_thousand_items_take_no_more_memory_than_a_few() -> None:
    async def nothing(_: int) -> None:
        return None

    async def run(count: int) -> int:
        tracemalloc.reset_peak()
        async with batch(iter(range(count)), nothing, concurrency=50) as results:
            async for _ in results:
                pass
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        few, many = await run(1000), await run(100_000)
    finally:
        tracemalloc.stop()
    assert many - few < 1_000_000
