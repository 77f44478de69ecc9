"""A batch that stops, or whose block is left, waits for its workers, closes what is its own and loses no item."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from helpers import batch, double, until

from zenovay_async import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    QuotaExceededError,
    Zenovay,
    is_fatal,
)
from zenovay_async._session.background import Rejections
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_a_rejected_key_in_a_task_group_stops_the_batch(sandbox: Sandbox) -> None:
    """The error itself is raised, from the group that it was in."""
    async with Zenovay("zv_wrong", base_url=sandbox.url, rate_limit=None) as zenovay:

        async def fetch(site: str) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(zenovay.heatmaps.pages(site))
                group.create_task(zenovay.analytics.overview(site))

        with pytest.raises(AuthenticationError) as caught:
            async with zenovay.batch(map(str, range(100)), fetch, concurrency=4) as results:
                async for result in results:
                    pytest.fail(f"{result}")
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert caught.value.status == 401
    assert sandbox.count() <= 8


KEY = AuthenticationError("Bad key", status=401)


def raised_from(error: Exception, *causes: Exception) -> Exception:
    for effect, cause in itertools.pairwise((error, *causes)):
        effect.__cause__ = cause
    return error


IN_A_CIRCLE = ValueError()
raised_from(IN_A_CIRCLE, KeyError(), IN_A_CIRCLE)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KEY, True),
        (ExceptionGroup("", [ValueError(), KEY]), True),
        (ExceptionGroup("", [ValueError(), ExceptionGroup("", [KEY])]), True),
        (BaseExceptionGroup("", [asyncio.CancelledError(), KEY]), True),
        (ExceptionGroup("", [ValueError(), BadRequestError("no", status=400)]), False),
        (raised_from(ValueError(), KEY), True),
        (raised_from(ValueError(), KeyError(), ExceptionGroup("", [KEY])), True),
        (ExceptionGroup("", [raised_from(ValueError(), KEY)]), True),
        (raised_from(ExceptionGroup("", [ValueError()]), KEY), True),
        (raised_from(NotFoundError("No such website", status=404), KEY), False),
        (IN_A_CIRCLE, False),
    ],
)
async def test_a_fatal_error_is_found_in_any_group_and_under_any_other(error: BaseException, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """A fatal error stops the batch from within a group, or under an error that ``fetch`` raised from it."""

    async def fetch(_: int) -> None:
        raise error

    assert is_fatal(error) is expected
    started = batch(range(3), fetch)
    if expected:
        with pytest.raises(AuthenticationError, match="Bad key"):
            async with started as results:
                await anext(results)
    else:
        async with started as results:
            assert [result.error async for result in results] == [error] * 3


async def test_an_exit_in_a_group_is_raised_as_it_is() -> None:
    """What is no error, such as an exit, is not hidden by the errors beside it."""

    class Exit(BaseException):
        pass

    group = BaseExceptionGroup("", [Exit(), KEY])

    async def fetch(_: int) -> None:
        raise group

    with pytest.raises(BaseExceptionGroup) as caught:
        async with batch(range(3), fetch) as results:
            await anext(results)
    assert caught.value is group
    assert others() == set()


@pytest.mark.parametrize("cancellations", [1, 2, 5])
async def test_a_block_that_is_canceled_repeatedly_waits_for_its_workers(cancellations: int) -> None:
    """A block that is canceled repeatedly waits for workers and source that clean up, and is canceled afterwards."""
    log: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            for item in itertools.count():
                yield item
        finally:
            await asyncio.sleep(0.01)
            log.append("source closed")

    async def fetch(_: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            log.append("worker ended")

    async def run() -> None:
        try:
            async with batch(source(), fetch, concurrency=2) as results:
                await anext(results)
        finally:
            log.append("block left")

    task = asyncio.create_task(run())
    await asyncio.sleep(0.01)
    for _ in range(cancellations):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["worker ended", "worker ended", "source closed", "block left"]
    assert task.cancelling() == cancellations
    assert others() == set()


async def cancel_own_task(item: int) -> int:
    if item == 3:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
    return await double(item)


async def hold_timeout() -> AsyncIterator[int]:
    """Whoever took the first item is canceled, in the middle of its fetch."""
    async with asyncio.timeout(None) as timeout:
        yield 3
        timeout.reschedule(0)
        for item in itertools.count(4):
            yield item


@pytest.mark.parametrize(("how", "concurrency"), [("fetch", 1), ("fetch", 4), ("source", 4)])
async def test_an_item_whose_task_something_else_cancels_is_not_lost_in_silence(how: str, concurrency: int) -> None:
    """The batch ends with an error that says so, after the results that were complete."""

    async def slow_double(item: int) -> int:
        await asyncio.sleep(0.05 if item == 3 else 0)
        return item * 2

    items, fetch = (itertools.count(), cancel_own_task) if how == "fetch" else (hold_timeout(), slow_double)
    got: list[int] = []
    with pytest.raises(RuntimeError, match="canceled by something else"):
        async with asyncio.timeout(10), batch(items, fetch, concurrency) as results:
            async for result in results:
                got.append(result.item)
    assert 3 not in got
    assert not others()


async def test_a_timeout_around_a_batch_is_a_timeout_error_even_if_workers_clean_up() -> None:
    async def fetch(_: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            async with asyncio.timeout(0.02):
                async with batch(itertools.count(), fetch) as results:
                    await anext(results)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert others() == set()


async def test_a_fetch_that_ignores_its_cancellation_begins_no_other_item() -> None:
    started: list[int] = []

    async def fetch(item: int) -> int:
        started.append(item)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return item

    async with batch(itertools.count(), fetch, concurrency=3):
        await until(lambda: len(started) == 3)
    assert started == [0, 1, 2]
    assert others() == set()


async def test_an_iterator_made_for_the_batch_is_closed_and_one_of_the_callers_is_not() -> None:
    """An iterator that was made for the batch is closed; a stream, which is its own iterator, is the caller's."""
    log: list[str] = []

    class Listing:
        async def __aiter__(self) -> AsyncIterator[int]:
            try:
                for item in itertools.count():
                    yield item
            finally:
                log.append("listing closed")

    class Stream:
        def __init__(self) -> None:
            self.next = 0

        def __aiter__(self) -> Stream:
            return self

        async def __anext__(self) -> int:
            self.next += 1
            return self.next

        async def aclose(self) -> None:
            log.append("stream closed")

    stream = Stream()
    for items in (Listing(), stream):
        async with batch(items, double) as results:
            await anext(results)
    assert log == ["listing closed"]
    assert await anext(stream) > 1


@pytest.mark.parametrize("how", ["the reserve", "a rejected key", "the end of the block"])
async def test_a_stop_does_not_wait_for_a_quiet_source(how: str) -> None:
    """A stop does not wait for a quiet source, and the item that comes next is still in its queue."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    queue.put_nowait("a")
    queue.put_nowait("b")

    async def source() -> AsyncIterator[str]:
        while True:
            yield await queue.get()

    async def fetch(item: str) -> str:
        if item == "b" and how == "the reserve":
            raise QuotaExceededError("quota_reserve=1")
        if item == "b" and how == "a rejected key":
            raise KEY
        return item

    async def run() -> None:
        async with batch(source(), fetch) as results:
            assert (await anext(results)).item == "a"
            if how != "the end of the block":
                await anext(results)

    task = asyncio.create_task(run())
    await asyncio.wait([task], timeout=10)
    assert task.done()
    error = task.exception()
    assert (None if error is None else type(error)) == {
        "the reserve": QuotaExceededError,
        "a rejected key": AuthenticationError,
        "the end of the block": None,
    }[how]
    queue.put_nowait("c")
    assert queue.qsize() >= 1
    assert others() == set()


async def test_calls_in_flight_at_the_reserve_are_completed_while_the_source_is_quiet() -> None:
    entered = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "slow"
        yield "over"
        await asyncio.sleep(60)

    async def fetch(item: str) -> str:
        if item == "slow":
            await entered.wait()
            await asyncio.sleep(0)
            return item
        entered.set()
        raise QuotaExceededError("quota_reserve=1")

    got: list[str] = []
    with pytest.raises(QuotaExceededError):
        async with batch(source(), fetch) as results:
            async for result in results:
                got.append(result.item)
    assert got == ["slow"]


async def test_a_parameter_that_is_invalid_for_every_website_stops_the_batch(sandbox: Sandbox) -> None:
    """An identical 400 for several websites stops the batch: the results until then come first, and then that error."""
    sandbox.fault(Fault.status(400))
    failed = 0
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as zenovay:
        with pytest.raises(BadRequestError) as caught:
            async with zenovay.batch(map(str, range(2000)), zenovay.heatmaps.pages, concurrency=8) as results:
                async for result in results:
                    assert isinstance(result.error, BadRequestError)
                    failed += 1
    assert failed == 2
    assert sandbox.count() <= 3 + 8
    assert (caught.value.operation, caught.value.status, caught.value.attempts) == ("heatmaps.pages", 400, 1)
    assert not is_fatal(caught.value)


async def test_other_400s_in_between_hide_no_parameter_that_is_invalid_for_every_website(sandbox: Sandbox) -> None:
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as zenovay:

        async def fetch(item: int) -> None:
            sandbox.clear_faults()
            sandbox.fault(Fault.status(400, f"Invalid range ({item % 3})"))
            await zenovay.heatmaps.pages(str(item))

        with pytest.raises(BadRequestError, match=r"Invalid range \(0\)"):
            async with zenovay.batch(range(1000), fetch, concurrency=1) as results:
                assert [result.item async for result in results] == list(range(6))


async def test_a_400_that_is_not_the_same_for_every_website_is_a_failure_of_its_item(sandbox: Sandbox) -> None:
    """Other parameters, another website, or one that has succeeded: the batch goes on."""
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as zenovay:
        sandbox.fault(Fault.status(400))
        # Another query for each website.
        async with zenovay.batch(
            range(1, 9), lambda limit: zenovay.heatmaps.pages(f"x{limit}", limit=limit), concurrency=1
        ) as results:
            assert len([result async for result in results]) == 8
        # One website, again and again.
        async with zenovay.batch(range(8), lambda _: zenovay.heatmaps.pages("x"), concurrency=1) as results:
            assert len([result async for result in results]) == 8
        sandbox.clear_faults()

        async def fetch(item: str) -> None:
            if item in sandbox.website_ids:
                await zenovay.heatmaps.pages(item)
                sandbox.fault(Fault.status(400))
            else:
                await zenovay.heatmaps.pages(item)

        items = [sandbox.website_ids[0], *map(str, range(8))]
        async with zenovay.batch(items, fetch, concurrency=1) as fetched:
            assert [result.error is None async for result in fetched] == [True] + [False] * 8


async def test_several_calls_of_one_item_that_get_the_same_400_do_not_stop_the_batch(sandbox: Sandbox) -> None:
    """Each website has the same error for three paths; it takes three websites to tell that all would."""
    sandbox.fault(Fault.status(400))
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as zenovay:

        async def fetch(site: str) -> None:
            paths = [f"heatmaps/{site}/{name}" for name in ("a", "b", "c")]
            errors = await asyncio.gather(*(zenovay.request("GET", path) for path in paths), return_exceptions=True)
            raise ExceptionGroup("all", [error for error in errors if isinstance(error, Exception)])

        async with zenovay.batch(["x", "y"], fetch, concurrency=1) as results:
            assert [type(result.error) async for result in results] == [ExceptionGroup] * 2
        with pytest.raises(BadRequestError):
            async with zenovay.batch(["x", "y", "z"], fetch, concurrency=1) as results:
                assert [type(result.error) async for result in results] == [ExceptionGroup] * 2


def test_what_is_kept_of_errors_is_bounded_even_if_fetch_catches_them_all() -> None:
    rejections = Rejections()
    for item in range(10_000):
        assert rejections.reject("parameters", "reason", item=item, path=item) == (item >= 2)
        rejections.reject("parameters", f"reason {item}", item=item, path=item)
        rejections.accept(item)
    assert sum(map(len, rejections._rejected.values())) <= 256 + 3
    assert len(rejections._succeeded) <= 256


async def test_an_argument_that_is_invalid_for_every_website_stops_the_batch(zenovay: Zenovay) -> None:
    """An argument that is invalid for every website stops the batch; an ID that is invalid is a failure of its item."""
    with pytest.raises(ConfigurationError, match="limit=0"):
        async with zenovay.batch(map(str, range(100)), lambda site: zenovay.heatmaps.pages(site, limit=0)) as results:
            async for result in results:
                assert isinstance(result.error, ConfigurationError)
    async with zenovay.batch(["", " ", "  ", "\t", "\n"], zenovay.heatmaps.pages) as results:
        assert [type(result.error) async for result in results] == [ConfigurationError] * 5


async def test_a_task_that_outlives_its_fetch_makes_direct_calls(sandbox: Sandbox) -> None:
    """Tasks that ``fetch`` starts make background calls while it runs, and direct calls afterwards."""
    key = sandbox.add_key("small", monthly_limit=100)
    go, tasks = asyncio.Event(), list[asyncio.Task[Any]]()
    async with Zenovay(key, base_url=sandbox.url, quota_reserve=99) as zenovay:
        await zenovay.usage()

        async def refresh() -> None:
            await go.wait()
            await zenovay.heatmaps.pages(sandbox.website_ids[0])

        async def fetch(_: int) -> str:
            tasks.append(asyncio.create_task(refresh()))
            with pytest.raises(QuotaExceededError):
                await asyncio.create_task(zenovay.heatmaps.pages(sandbox.website_ids[0]))
            return "held to the reserve"

        async with zenovay.batch([1], fetch) as results:
            assert [result.value async for result in results] == ["held to the reserve"]
            go.set()
            await tasks[0]


async def test_calls_of_a_source_are_background_calls(sandbox: Sandbox) -> None:
    """A source that makes calls is a part of its batch."""
    key = sandbox.add_key("small", monthly_limit=100)
    async with Zenovay(key, base_url=sandbox.url, quota_reserve=99) as zenovay:
        await zenovay.usage()

        async def source() -> AsyncIterator[str]:
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
            yield "never"

        with pytest.raises(QuotaExceededError):
            async with zenovay.batch(source(), zenovay.heatmaps.pages) as results:
                await anext(results)
