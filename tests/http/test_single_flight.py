"""Equal calls that are made at one time are one request, whoever else of the callers leaves, fails or closes."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from helpers import unique_key, until

from zenovay_async import (
    APIConnectionError,
    ClientClosedError,
    NotFoundError,
    RateLimitError,
    ServerError,
    Zenovay,
    ZenovayError,
)
from zenovay_async._limits.window import WindowLimiter
from zenovay_async._session.flight import Caller, Flight
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from types import TracebackType

    from aiohttp import web


@pytest.fixture
async def zenovay(sandbox: Sandbox) -> AsyncIterator[Zenovay]:
    """A client that is not paced: before its first response, another one sends one request at a time."""
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as client:
        yield client


class Held:
    """A fault that holds requests until they are released.

    Attributes:
        arrived: Requests that came.
        released: To be set.
    """

    def __init__(self) -> None:
        self.arrived = 0
        self.released = asyncio.Event()
        self.fault = Fault("held", self._respond)

    async def _respond(self, _: web.Request) -> None:
        self.arrived += 1
        await self.released.wait()


def check_nothing_left(zenovay: Zenovay) -> None:
    """Check that no call left anything behind."""
    assert zenovay._budget.flights == {}
    assert zenovay._budget.statistics().in_flight == 0
    pool = zenovay._transport._pool
    assert pool is not None
    assert pool.slots.available == 100
    assert not pool.deadline_timer.pending
    coroutines: list[Any] = [task.get_coro() for task in asyncio.all_tasks()]
    left = [coroutine for coroutine in coroutines if "zenovay_async/_session" in coroutine.cr_code.co_filename]
    assert left == []


async def release(held: Held, requests: int = 1) -> None:
    """Let the requests that are held go on, once so many have come."""
    await until(lambda: held.arrived >= requests)
    held.released.set()


@pytest.mark.parametrize("seed", range(3))
async def test_the_last_of_a_thousand_gets_the_response_and_nothing_is_left(
    zenovay: Zenovay, sandbox: Sandbox, seed: int
) -> None:
    """The others are canceled at any moment: before the request leaves, and while it is in flight."""
    rng, held = random.Random(seed), Held()
    sandbox.fault(held.fault)
    site = sandbox.website_ids[0]
    tasks = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(1000)]
    last = rng.choice(tasks)
    others = [task for task in tasks if task is not last]
    rng.shuffle(others)
    for task in others[:500]:
        if rng.random() < 0.1:
            await asyncio.sleep(0)
        task.cancel()
    await until(lambda: held.arrived == 1)
    for task in others[500:]:
        if rng.random() < 0.1:
            await asyncio.sleep(0)
        task.cancel()
    ended = await asyncio.gather(*others, return_exceptions=True)
    assert all(isinstance(error, asyncio.CancelledError) for error in ended)
    assert not last.done()
    held.released.set()
    assert (await last).pages
    assert sandbox.count() == 1
    check_nothing_left(zenovay)


async def test_a_request_that_nobody_waits_for_is_canceled(zenovay: Zenovay, sandbox: Sandbox) -> None:
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    tasks = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(10)]
    await until(lambda: held.arrived == 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    check_nothing_left(zenovay)
    # The next call is a new one.
    call = asyncio.create_task(zenovay.heatmaps.pages(site))
    await release(held, 2)
    await call


@pytest.mark.parametrize("leaves", ["canceled", "timeout"])
async def test_a_caller_that_leaves_first_takes_nobody_with_it(zenovay: Zenovay, sandbox: Sandbox, leaves: str) -> None:
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    first = asyncio.create_task(zenovay.heatmaps.pages(site, timeout=30 if leaves == "canceled" else 0.05))
    await asyncio.sleep(0)
    others = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(5)]
    await until(lambda: held.arrived == 1)
    if leaves == "canceled":
        first.cancel()
    await asyncio.wait([first])
    held.released.set()
    assert all(report.pages for report in await asyncio.gather(*others))
    assert sandbox.count() == 1
    with pytest.raises(asyncio.CancelledError if leaves == "canceled" else ZenovayError):
        await first
    check_nothing_left(zenovay)


async def test_clients_of_one_key_share_a_request_and_those_of_two_keys_do_not(sandbox: Sandbox) -> None:
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    other_key = sandbox.add_key("zv_other")
    async with (
        Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as zenovay,
        Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None, timeout=20) as twin,
        Zenovay(other_key, base_url=sandbox.url, rate_limit=None) as stranger,
    ):
        clients = [zenovay, twin, zenovay.with_options(timeout=10), zenovay.with_options(auth="bearer"), stranger]
        calls = [asyncio.create_task(client.heatmaps.pages(site)) for client in clients]
        await release(held, 2)
        pages = await asyncio.gather(*calls)
    assert sandbox.count() == 2
    assert all(page == pages[0] for page in pages)


async def test_calls_that_differ_are_requests_of_their_own(zenovay: Zenovay, sandbox: Sandbox) -> None:
    """In the website, a parameter, the operation or the type of the result; and a POST is never shared."""
    held, (site, other, _) = Held(), sandbox.website_ids
    sandbox.fault(held.fault)
    calls: list[Awaitable[Any]] = [
        zenovay.heatmaps.pages(site),
        zenovay.heatmaps.pages(other),
        zenovay.heatmaps.pages(site, limit=3),
        zenovay.websites.get(site),
        zenovay.request("GET", f"heatmaps/{site}/pages"),
        zenovay.request("GET", f"heatmaps/{site}/pages", result_type=dict),
        zenovay.query(site, "How many?"),
        zenovay.query(site, "How many?"),
    ]
    made = [asyncio.ensure_future(call) for call in calls]
    await release(held, 8)
    await asyncio.gather(*made)
    assert sandbox.count() == 8
    check_nothing_left(zenovay)


async def test_calls_that_are_not_to_be_joined_are_requests_of_their_own(sandbox: Sandbox, zenovay: Zenovay) -> None:
    """Also a sibling's, and neither joins a call of a client whose calls are joined."""
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None, coalesce=False) as separate:
        clients = [zenovay, zenovay, separate, separate, zenovay.with_options(coalesce=False)]
        calls = [asyncio.create_task(client.heatmaps.pages(site)) for client in clients]
        await release(held, 4)
        await asyncio.gather(*calls)
    assert sandbox.count() == 4


async def test_one_call_after_another_is_a_request_each(zenovay: Zenovay, sandbox: Sandbox) -> None:
    for _ in range(3):
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert sandbox.count() == 3


async def test_plain_values_are_a_copy_for_each_caller(zenovay: Zenovay, sandbox: Sandbox) -> None:
    path = f"heatmaps/{sandbox.website_ids[0]}/pages"
    values = await asyncio.gather(*(zenovay.request("GET", path) for _ in range(5)))
    assert sandbox.count() == 1
    for value in values:
        assert value == values[0]
    values[0]["pages"].clear()
    for value in values[1:]:
        assert value["pages"]


def steps_of(error: BaseException) -> list[TracebackType]:
    """The steps of a traceback."""
    steps: list[TracebackType] = []
    step = error.__traceback__
    while step is not None:
        steps.append(step)
        step = step.tb_next
    return steps


@pytest.mark.parametrize(
    ("fault", "cls", "has_cause"),
    [
        (Fault.status(404), NotFoundError, False),
        (Fault.status(500), ServerError, False),
        (Fault.reset(), APIConnectionError, True),
    ],
)
async def test_each_caller_has_an_error_of_its_own(
    sandbox: Sandbox, fault: Fault, cls: type[ZenovayError], *, has_cause: bool
) -> None:
    sandbox.fault(fault)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None, max_attempts=1) as zenovay:
        calls = (zenovay.heatmaps.pages(sandbox.website_ids[0]) for _ in range(50))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        check_nothing_left(zenovay)
    found = [error for error in errors if isinstance(error, cls)]
    assert len({id(error) for error in found}) == 50
    assert len({str(error) for error in found}) == 1
    for error in found:
        assert error.operation == "heatmaps.pages"
        assert error.attempts >= 1
        assert (error.__cause__ is not None) is has_cause
    steps = [step for error in found for step in steps_of(error)]
    assert len({id(step) for step in steps}) == len(steps)
    assert max(len(steps_of(error)) for error in found) < 12


async def test_a_direct_call_that_joins_one_of_a_batch_does_not_wait_behind_the_batch() -> None:
    """It makes that call a direct one."""
    async with Sandbox(websites=30, rate_limit=None) as sandbox:
        options: dict[str, Any] = {"rate_limit": 2, "rate_limit_window": 0.4, "batch_headroom": 0}
        async with Zenovay(sandbox.api_key, base_url=sandbox.url, **options) as zenovay:
            ids = sandbox.website_ids
            async with zenovay.batch(ids, zenovay.heatmaps.pages, concurrency=30) as results:
                await anext(results)
                flights = zenovay._budget.flights
                await until(lambda: len(flights) > 20)
                joined = next(site for site in ids if any(site in str(key) for key in [*flights][-3:]))
                assert (await zenovay.heatmaps.pages(joined)).pages is not None
                assert sandbox.count() < 10
                paths = [request.path for request in sandbox.requests]
                assert paths.count(f"/heatmaps/{joined}/pages") == 1
                # The item that it belonged to has the result as well.
                async for result in results:
                    assert result.error is None
                    if result.item == joined:
                        break
        check_nothing_left_of_budget(zenovay)


def check_nothing_left_of_budget(zenovay: Zenovay) -> None:
    """Check that a client that was closed left nothing behind."""
    assert zenovay._budget.flights == {}
    assert zenovay._budget.statistics().in_flight == 0


@pytest.mark.parametrize("leads", [True, False], ids=["its call leads", "its call joined"])
async def test_a_client_that_closes_takes_no_call_of_another_client_with_it(sandbox: Sandbox, *, leads: bool) -> None:
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    closing = Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as zenovay:
        clients = [closing, zenovay] if leads else [zenovay, closing]
        calls = {client: asyncio.create_task(client.heatmaps.pages(site)) for client in clients}
        await until(lambda: held.arrived == 1)
        await closing.close()
        with pytest.raises(ClientClosedError):
            await calls[closing]
        await release(held, 2 if leads else 1)
        assert (await calls[zenovay]).pages
        check_nothing_left(zenovay)


async def test_a_closed_client_joins_no_call_of_another_client(sandbox: Sandbox) -> None:
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    closed = Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None)
    await closed.close()
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as zenovay:
        call = asyncio.create_task(zenovay.heatmaps.pages(site))
        await until(lambda: held.arrived == 1)
        with pytest.raises(ClientClosedError):
            await closed.heatmaps.pages(site)
        held.released.set()
        await call


async def test_a_client_that_closes_says_that_the_request_of_its_calls_was_sent(sandbox: Sandbox) -> None:
    """Also where another client sent it, and goes on."""
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    closing = Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as zenovay:
        first = asyncio.create_task(zenovay.heatmaps.pages(site))
        await until(lambda: held.arrived == 1)
        joined = asyncio.create_task(closing.heatmaps.pages(site))
        await until(lambda: zenovay.cache.stats.joined + closing.cache.stats.joined == 1)
        await closing.close()
        with pytest.raises(ClientClosedError) as caught:
            await joined
        assert caught.value.sent
        held.released.set()
        await first


async def test_a_call_that_joins_twice_counts_once(sandbox: Sandbox) -> None:
    """As the client closes that sent the request which it joined first."""
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    closing, *others = [Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) for _ in range(3)]
    calls = [asyncio.create_task(closing.heatmaps.pages(site))]
    await until(lambda: held.arrived == 1)
    calls += [asyncio.create_task(client.heatmaps.pages(site)) for client in others]
    await until(lambda: all(client.cache.stats.joined == 1 for client in others))
    await closing.close()
    await release(held, 2)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(one, ClientClosedError) for one in ended] == [True, False, False]
    assert sandbox.count() == 2
    assert [client.cache.stats.joined for client in others] == [1, 1]
    for client in others:
        await client.close()


@pytest.mark.parametrize("options", [{"rate_limit": 50}, {"coalesce": False}, {"max_attempts": 1}], ids=str)
async def test_an_invalidation_concerns_the_calls_of_every_client_of_the_key(
    zenovay: Zenovay, sandbox: Sandbox, options: dict[str, Any]
) -> None:
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    before = asyncio.create_task(zenovay.heatmaps.pages(site))
    await until(lambda: held.arrived == 1)
    zenovay.with_options(**options).cache.invalidate(website_id=site)
    after = asyncio.create_task(zenovay.heatmaps.pages(site))
    await release(held, 2)
    await asyncio.gather(before, after)
    assert sandbox.count() == 2


async def test_an_invalidation_concerns_the_calls_of_every_thread(zenovay: Zenovay, sandbox: Sandbox) -> None:
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    before = asyncio.create_task(zenovay.heatmaps.pages(site))
    await until(lambda: held.arrived == 1)

    async def invalidate() -> None:
        Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None).cache.clear()

    await asyncio.to_thread(asyncio.run, invalidate())
    after = asyncio.create_task(zenovay.heatmaps.pages(site))
    await release(held, 2)
    await asyncio.gather(before, after)
    assert sandbox.count() == 2


async def test_a_wait_for_a_permit_that_is_too_long_for_one_caller_fails_it_at_once(sandbox: Sandbox) -> None:
    """Whoever of them came first; the others wait."""
    site, other, _ = sandbox.website_ids
    options: dict[str, Any] = {"rate_limit": 2, "rate_limit_window": 0.5}
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, **options) as zenovay:
        for limit in (1, 2):
            await zenovay.heatmaps.pages(other, limit=limit)
        # Up to Python 3.11, a call does not wait for a permit yet as the others join it.
        timeouts = [0.2, 20.0, 0.1]
        calls = [asyncio.create_task(zenovay.heatmaps.pages(site, timeout=timeout)) for timeout in timeouts]
        done, pending = await asyncio.wait(calls, timeout=10, return_when=asyncio.FIRST_EXCEPTION)
        done |= {call for call in pending if call.done()}
        assert calls[1] not in done
        for call in (calls[0], calls[2]):
            with pytest.raises(RateLimitError, match="longer than its timeout"):
                await call
        assert not calls[1].done()
        assert (await calls[1]).pages
    assert sandbox.count() == 3


def flights_and_callers() -> list[Any]:
    """Those of all event loops of this process."""
    return [found for found in gc.get_objects() if isinstance(found, (Flight, Caller))]


async def test_errors_of_callers_are_freed_with_their_last_references(zenovay: Zenovay, sandbox: Sandbox) -> None:
    """No garbage collection is needed, also where the time of some is over and the others are canceled."""
    held, site = Held(), sandbox.website_ids[0]
    errors: list[weakref.ref[ZenovayError]] = []

    async def call(timeout: float) -> None:
        try:
            await zenovay.heatmaps.pages(site, timeout=timeout)
        except ZenovayError as error:
            errors.append(weakref.ref(error))

    sandbox.fault(held.fault)
    gc.collect()
    # An event loop of another test may have been closed with calls in flight.
    before = flights_and_callers()
    gc.disable()
    try:
        calls = [asyncio.create_task(call(timeout)) for timeout in (0.05, 0.06, 30, 30)]
        await until(lambda: len(errors) == 2)
        calls[2].cancel()
        calls[3].cancel()
        await asyncio.wait(calls)
        calls.clear()
        await asyncio.sleep(0.01)
        assert [error() for error in errors] == [None] * 2
        assert not [one for one in flights_and_callers() if not any(one is other for other in before)]
    finally:
        gc.enable()


@pytest.mark.parametrize("seed", range(3))
async def test_visitors_that_go_away_leave_the_pages_of_the_others_whole(
    zenovay: Zenovay, sandbox: Sandbox, seed: int
) -> None:
    """As a web framework does it, the task of a page is canceled as its visitor disconnects."""
    rng, held = random.Random(seed), Held()
    sandbox.fault(held.fault)

    async def show() -> int:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(zenovay.heatmaps.pages(site)) for site in sandbox.website_ids]
            calls.append(group.create_task(zenovay.heatmaps.pages(sandbox.website_ids[0])))
        return sum(len(call.result().pages) > 0 for call in calls)

    visits = [asyncio.create_task(show()) for _ in range(30)]
    await asyncio.sleep(0)
    leaving = rng.sample(visits, 20)
    for number, visit in enumerate(leaving):
        if number == 10:
            await until(lambda: held.arrived == 3)
        await asyncio.sleep(0)
        visit.cancel()
    held.released.set()
    shown = await asyncio.gather(*visits, return_exceptions=True)
    assert [page for page in shown if not isinstance(page, BaseException)] == [4] * 10
    assert sandbox.count() == 3
    check_nothing_left(zenovay)


async def test_callers_with_retries_share_them(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.status(500), times=2)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as zenovay:
        await asyncio.gather(*(zenovay.heatmaps.pages(sandbox.website_ids[0]) for _ in range(20)))
        assert sandbox.count() == 3
        check_nothing_left(zenovay)


async def test_each_event_loop_of_a_thread_makes_calls_of_its_own(sandbox: Sandbox) -> None:
    """Also after one that ended with calls in flight."""
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    loop = asyncio.get_running_loop()
    zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None)

    async def leave_calls() -> None:
        calls = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(5)]
        await until(lambda: held.arrived == 1)
        assert not any(call.done() for call in calls)

    async def call() -> None:
        calls = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(5)]
        await until(lambda: held.arrived == 2)
        loop.call_soon_threadsafe(held.released.set)
        await asyncio.gather(*calls)
        check_nothing_left(zenovay)

    def use() -> None:
        asyncio.run(leave_calls())
        asyncio.run(call())

    await asyncio.to_thread(use)
    assert sandbox.count() == 2


async def test_each_thread_makes_calls_of_its_own(sandbox: Sandbox) -> None:
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)

    async def call() -> None:
        async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as zenovay:
            await asyncio.gather(*(zenovay.heatmaps.pages(site) for _ in range(5)))
            check_nothing_left(zenovay)

    def use() -> None:
        asyncio.run(call())

    threads = [asyncio.create_task(asyncio.to_thread(use)) for _ in range(3)]
    own = asyncio.create_task(call())
    await release(held, 4)
    await asyncio.gather(own, *threads)
    assert sandbox.count() == 4


async def test_who_cancels_the_task_of_a_flight_cancels_no_caller(zenovay: Zenovay, sandbox: Sandbox) -> None:
    """As a framework may that cancels all tasks: each caller who is not canceled goes on, with one more request."""
    held, site = Held(), sandbox.website_ids[0]
    sandbox.fault(held.fault)
    calls = [asyncio.create_task(zenovay.heatmaps.pages(site, timeout=timeout)) for timeout in (20, None, 10)]
    await until(lambda: held.arrived == 1)
    (flight,) = zenovay._budget.flights.values()
    flight.task.cancel()
    await release(held, 2)
    assert len(await asyncio.gather(*calls)) == 3
    assert sandbox.count() == 2
    check_nothing_left(zenovay)


@pytest.mark.parametrize("joins", [False, True], ids=["alone", "joined"])
def test_an_interrupt_during_a_call_ends_the_program(joins: bool) -> None:  # noqa: FBT001 - a table's column
    """As Ctrl-C does that comes while Python runs the code of a call."""

    class Interrupted(WindowLimiter):
        def acquire_nowait(self, **_: Any) -> None:
            raise KeyboardInterrupt

    async def call() -> None:
        zenovay = Zenovay(unique_key(), base_url="http://127.0.0.1:9", rate_limit=Interrupted())
        await asyncio.wait([asyncio.create_task(zenovay.heatmaps.pages("x")) for _ in range(1 + joins)])

    loop = asyncio.new_event_loop()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(call())
    pending = asyncio.all_tasks(loop)
    while pending:
        pending.pop().cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    assert not asyncio.all_tasks(loop)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    # asyncio logs the interrupt that nobody retrieved when its task is collected: here, and not within another test.
    gc.collect()
