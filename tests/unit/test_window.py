"""Every waiter gets a permit, in order, however many others come, are canceled or time out. Time is virtual."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import weakref
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from helpers import hold_up, now
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import new_event_loop
from simulated_servers import Server

from zenovay_async import ClientClosedError, QuotaExceededError, RateLimitError
from zenovay_async._limits.learned_limits import LOWEST_LIMIT
from zenovay_async._limits.queue import Statistics
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.events import Event, RateLimited, RateLimitUpdated
from zenovay_async.rate_limits import Outcome, OutcomeKind, Permit, RateLimit, RateLimiter
from zenovay_async.sandbox.limits import make_limiter

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from zenovay_async.sandbox.limits import LimiterKind

pytestmark = pytest.mark.looptime


def succeeded(limit: int | None = None, remaining: int | None = None) -> Outcome:
    return Outcome(kind="succeeded", limit=limit, remaining=remaining)


def rate_limited(retry_after: float | None = None, limit: int | None = None) -> Outcome:
    return Outcome(kind="rate_limited", limit=limit, retry_after=retry_after)


NO_RESPONSE = Outcome(kind="no_response")


async def spend(limiter: WindowLimiter, limit: int = 30) -> None:
    """Spend the window at once."""
    for used in range(1, limit + 1):
        permit = await limiter.acquire()
        permit.settle(succeeded(limit=limit, remaining=limit - used))


async def rejected(limiter: WindowLimiter, max_wait: float, cost: int = 1) -> float | None:
    """The wait that the error states; ``None`` if a permit was acquired."""
    try:
        await limiter.acquire(cost=cost, max_wait=max_wait)
    except RateLimitError as error:
        return error.retry_after
    return None


def idle(limiter: WindowLimiter) -> bool:
    """Nobody waits, nothing is in flight, no timer runs."""
    return limiter.statistics() == Statistics(0, 0, 0, None)


def run(main: Coroutine[Any, Any, None]) -> None:
    loop = new_event_loop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


async def test_hopeless_wait_fails_at_once() -> None:
    """A wait that does not fit fails at once, and the error states the expected wait."""
    limiter = WindowLimiter(window=5.0)
    await spend(limiter)
    began = now()
    with pytest.raises(RateLimitError, match=r"wait 5\.\d s, longer than its timeout; no request was sent") as caught:
        await limiter.acquire(max_wait=1.0)
    assert now() - began < 0.02
    assert caught.value.retry_after == pytest.approx(5.01, abs=0.05)
    assert caught.value.attempts == 0
    assert idle(limiter)


async def test_wait_that_fits() -> None:
    """A wait that fits is waited for."""
    limiter = WindowLimiter(window=5.0)
    await spend(limiter)
    (await limiter.acquire(max_wait=6.0)).settle(succeeded(limit=30, remaining=29))
    assert now() == pytest.approx(5.01)
    assert idle(limiter)


@pytest.mark.parametrize("cost", [1, 3])
async def test_hopeless_wait_when_the_server_is_empty(cost: int) -> None:
    """If the server says that nothing remains, a wait that does not fit fails at once."""
    limiter = WindowLimiter()
    (await limiter.acquire()).settle(succeeded(limit=30, remaining=0))
    began = now()
    with pytest.raises(RateLimitError) as caught:
        await limiter.acquire(cost=cost, max_wait=1.0)
    assert now() - began < 0.02
    await limiter.acquire(cost=cost)
    assert now() - began > 1
    assert caught.value.retry_after == pytest.approx(now() - began)


@pytest.mark.parametrize("remaining", [None, 0, 1])
@pytest.mark.parametrize("limit", [1, 2, 4])
async def test_stated_wait_of_a_costly_call_is_real(limit: int, remaining: int | None) -> None:
    """A call that costs more than others waits its real time, and is not rejected if that fits."""

    async def used() -> WindowLimiter:
        limiter = WindowLimiter(limit=limit)
        (await limiter.acquire(cost=3)).settle(succeeded(limit=60, remaining=remaining))
        return limiter

    began, patient = now(), await used()
    await patient.acquire(cost=3)
    real = now() - began
    assert 2 < real < 130
    began = now()
    assert await rejected(await used(), real - 0.01, cost=3) == pytest.approx(real)
    assert now() == began
    assert await rejected(await used(), real + 0.01, cost=3) is None
    assert now() - began == pytest.approx(real)


_HISTORY = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 7.0, 61.0]), st.integers(1, 3), st.sampled_from([None, 0, 1, 2, 5, "rate limited"])
    ),
    max_size=8,
)


@given(st.sampled_from([None, 1, 2, 5]), _HISTORY, st.integers(1, 3))
@settings(max_examples=200)
def test_stated_wait_of_a_single_caller_is_real(
    limit: int | None, history: list[tuple[float, int, Any]], cost: int
) -> None:
    """The error of a single caller states the wait that it would really have."""

    async def main() -> None:
        limiter = WindowLimiter(limit=limit, rng=random.Random(1))
        for pause, spent, stated in history:
            await asyncio.sleep(pause)
            permit = await limiter.acquire(cost=spent)
            permit.settle(rate_limited(limit=8) if stated == "rate limited" else succeeded(8, stated))
        began = now()
        stated_wait = await rejected(limiter, 0.0, cost) or 0.0
        if stated_wait:
            assert now() == began
            await limiter.acquire(cost=cost)
        assert now() - began == pytest.approx(stated_wait, abs=0.001)

    run(main())


@pytest.mark.parametrize(
    ("limit", "states_remaining", "served"),
    [(120, True, 100), (60, True, 60), (30, True, 30), (120, False, 100), (30, False, 30)],
)
async def test_crowd_before_the_first_response(
    limit: int,
    states_remaining: bool,  # noqa: FBT001 - a table's column
    served: int,
) -> None:
    """A crowd that comes before the first response is served as far as that allows, and the rest fails at once."""
    limiter, left = WindowLimiter(), limit

    async def caller() -> bool | None:
        nonlocal left
        try:
            permit = await limiter.acquire(max_wait=30.0)
        except RateLimitError as error:
            return error.retry_after is not None and error.retry_after > 29 and now() == pytest.approx(0.2)
        await asyncio.sleep(0.2)
        left -= 1
        permit.settle(succeeded(limit=limit, remaining=left if states_remaining else None))
        return None

    ended = await asyncio.gather(*(caller() for _ in range(100)))
    assert ended.count(None) == served
    assert ended.count(True) == 100 - served


_CROWD = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 2.0, 20.0]), st.integers(1, 3)), min_size=1, max_size=40)


@given(st.sampled_from(["fixed", "sliding"]), st.integers(3, 40), st.booleans(), _CROWD)
@settings(max_examples=150)
def test_no_caller_is_rejected_whose_wait_would_have_fit(
    kind: LimiterKind,
    limit: int,
    states_remaining: bool,  # noqa: FBT001 - drawn
    crowd: list[tuple[float, int]],
) -> None:
    """No caller is rejected whose wait would have fit."""

    async def waits(allowed: list[float] | None) -> list[float | None]:
        limiter, counter = WindowLimiter(rng=random.Random(1)), make_limiter(kind, limit, 60.0)

        async def call(number: int, cost: int, max_wait: float | None) -> float | None:
            began = now()
            try:
                permit = await limiter.acquire(cost=cost, max_wait=max_wait)
            except RateLimitError:
                return None
            waited = now() - began
            # No two responses at the same time, as their order would be arbitrary.
            await asyncio.sleep(0.1 + number / 1000)
            admitted = [counter.admit(1000 + now()) for _ in range(min(cost, limit))]
            left, wait = counter.remaining(1000 + now()), counter.reset_after(1000 + now())
            await asyncio.sleep(0.1)
            ok = succeeded(limit, left if states_remaining else None)
            permit.settle(ok if all(admitted) else rate_limited(float(int(wait) + 1), limit))
            return waited

        tasks: list[asyncio.Task[float | None]] = []
        for number, (pause, cost) in enumerate(crowd):
            await asyncio.sleep(pause)
            tasks.append(asyncio.create_task(call(number, cost, None if allowed is None else allowed[number] + 0.01)))
        return await asyncio.gather(*tasks)

    found: list[list[Any]] = []

    async def main() -> None:
        found.append(await waits(found[0] if found else None))

    run(main())
    run(main())
    patient, bounded = found
    assert bounded == pytest.approx(patient, abs=0.001)


async def test_429_that_makes_a_wait_hopeless() -> None:
    """A waiter fails at once when a 429 makes its wait too long."""
    limiter = WindowLimiter()
    first, second = await _two_permits(limiter)
    waiting = asyncio.create_task(_hold_all_and_wait(limiter, max_wait=50.0))
    await asyncio.sleep(1)
    first.settle(rate_limited(60.0))
    with pytest.raises(RateLimitError) as caught:
        await waiting
    assert now() == pytest.approx(1)
    assert caught.value.retry_after == pytest.approx(60, abs=1)
    second.settle(succeeded())


async def test_later_429_that_makes_a_wait_hopeless() -> None:
    """A waiter fails at once when a later 429 names a longer time."""
    limiter = WindowLimiter()
    first, second = await _two_permits(limiter)
    waiting = asyncio.create_task(_hold_all_and_wait(limiter, max_wait=50.0))
    patient = asyncio.create_task(_hold_all_and_wait(limiter, max_wait=700.0))
    await asyncio.sleep(1)
    first.settle(rate_limited(1.0))
    second.settle(rate_limited(60.0))
    with pytest.raises(RateLimitError) as caught:
        await waiting
    assert now() == pytest.approx(1)
    assert caught.value.retry_after == pytest.approx(60, abs=1)
    await patient
    assert now() == pytest.approx(61)


async def _two_permits(limiter: WindowLimiter) -> tuple[Permit, Permit]:
    (await limiter.acquire()).settle(succeeded(limit=3, remaining=2))
    return await limiter.acquire(), await limiter.acquire()


async def _hold_all_and_wait(limiter: WindowLimiter, *, max_wait: float) -> None:
    await limiter.acquire(max_wait=max_wait)


async def test_a_permit_in_a_reference_cycle_is_collected() -> None:
    """An event loop that ends in mid-call leaves such cycles, from the limiter over a caller's frame to its permit."""
    kept: list[Any] = []
    limiter = WindowLimiter(on_event=kept.append)
    kept.append(await limiter.acquire())
    gone = weakref.ref(limiter)
    del limiter, kept
    gc.collect()
    assert gone() is None


async def test_one_429_stops_all() -> None:
    """One 429 holds back every caller, and then lets one go first."""
    events: list[Event] = []
    limiter = WindowLimiter(on_event=events.append)
    permit = await limiter.acquire()
    starts: list[float] = []

    async def call() -> None:
        got = await limiter.acquire()
        starts.append(now())
        await asyncio.sleep(0.5)
        got.settle(succeeded(limit=30, remaining=20))

    waiting = [asyncio.create_task(call()) for _ in range(5)]
    await asyncio.sleep(0.1)
    permit.settle(Outcome(kind="rate_limited", limit=30, remaining=0, retry_after=42.0))
    await asyncio.gather(*waiting)
    assert starts[0] == pytest.approx(42.1)
    assert all(start >= 42.6 for start in starts[1:])
    assert events == [RateLimited(seconds=42.0, from_server=True)]


async def test_learned_limit_is_emitted() -> None:
    """A limit that a response states for the first time is emitted."""
    events: list[Event] = []
    limiter = WindowLimiter(on_event=events.append)
    (await limiter.acquire()).settle(succeeded(limit=120, remaining=119))
    assert events == [RateLimitUpdated(before=30, limit=120)]


@pytest.mark.parametrize(
    ("limit_window", "expected"),
    [(None, 50), (59.4, 50), (60.0, 50), (59.0, 50), (3600.0, LOWEST_LIMIT), (1.0, LOWEST_LIMIT)],
)
async def test_limit_of_another_window(limit_window: float | None, expected: int) -> None:
    """A limit that a response states for another window, as for an hour, is not that of a minute; nor what is left."""
    limiter = WindowLimiter(window=59.4)
    permit = await limiter.acquire()
    permit.settle(Outcome(kind="succeeded", limit=50, limit_window=limit_window, remaining=4))
    assert limiter.snapshot().limit == expected
    assert limiter.snapshot().remaining == (4 if expected == 50 else LOWEST_LIMIT - 1)


async def test_limit_of_a_window_rounded_up() -> None:
    """Servers state windows in whole seconds: one of 2 s is the client's of 1.2 s."""
    limiter = WindowLimiter(window=1.2)
    permit = await limiter.acquire()
    permit.settle(Outcome(kind="succeeded", limit=50, limit_window=2.0))
    assert limiter.snapshot().limit == 50


async def test_limit_that_429s_show_is_emitted() -> None:
    """A limit that 429s show to be lower than stated is emitted, and so is its return."""
    events: list[Event] = []
    server = Server("fixed", 12, 6.0, latency=0.02, remaining=0, lie=(30, None))
    limiter = WindowLimiter(window=6.0, on_event=events.append)
    await server.run(limiter, 60, 20)
    server.limiter = make_limiter("fixed", 30, 6.0)
    await server.run(limiter, 600, 20)
    changes = [(event.before, event.limit) for event in events if isinstance(event, RateLimitUpdated)]
    assert changes[0] == (30, 21)
    assert changes[-1][1] == 30
    assert all(before == limit for (_, limit), (before, _) in pairwise(changes))


async def test_time_longer_than_the_window_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A 429 that names a time longer than the window is a warning, and its event has the length of the pause."""
    events: list[Event] = []
    limiter = WindowLimiter(on_event=events.append)
    permit = await limiter.acquire()
    permit.settle(rate_limited(6000.0))
    assert events == [RateLimited(seconds=60.0, from_server=True)]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == "Rate limited for 6000 s, longer than the window of 60 s; trying again in 60 s"


async def test_jitter_of_a_429_without_a_time() -> None:
    """After a 429 that names no time, callers wait a random share of a fifteenth of the window."""
    for seed in range(20):
        events: list[Event] = []
        limiter = WindowLimiter(on_event=events.append, rng=random.Random(seed))
        (await limiter.acquire()).settle(rate_limited())
        assert events == [RateLimited(seconds=4.0 * random.Random(seed).random(), from_server=False)]


async def test_first_come_first_served() -> None:
    """First come, first served."""
    limiter = WindowLimiter(limit=2, window=1.0)
    order: list[int] = []

    async def call(number: int) -> None:
        permit = await limiter.acquire()
        order.append(number)
        permit.settle(succeeded())

    await asyncio.gather(*(call(number) for number in range(9)))
    assert order == list(range(9))
    assert idle(limiter)


async def test_direct_calls_overtake_background_calls() -> None:
    """Direct calls overtake background calls, which still move on."""
    limiter = WindowLimiter(limit=1, window=1.0)
    order: list[str] = []

    async def call(kind: str) -> None:
        permit = await limiter.acquire(background=kind == "background")
        order.append(kind)
        permit.settle(succeeded())

    await call("first")
    background = [asyncio.create_task(call("background")) for _ in range(3)]
    await asyncio.sleep(0)
    direct = [asyncio.create_task(call("direct")) for _ in range(7)]
    await asyncio.gather(*background, *direct)
    assert order[1:] == ["direct", "direct", "direct", "background"] * 2 + ["direct", "background"]


async def test_a_direct_call_does_not_wait_behind_a_batch_that_leaves_room() -> None:
    """A batch that waits to leave room for direct calls keeps none of them waiting, however many have overtaken it."""
    limiter = WindowLimiter()
    (await limiter.acquire(background=True)).settle(succeeded(limit=30, remaining=29))
    used = 1
    while (permit := limiter.acquire_nowait(background=True)) is not None:
        used += 1
        permit.settle(succeeded(limit=30, remaining=30 - used))
    assert 18 <= used <= 21
    waiting = asyncio.create_task(limiter.acquire(background=True))
    await asyncio.sleep(0)
    began = now()
    for left in range(29 - used, 22 - used, -1):
        (await limiter.acquire(max_wait=0.0)).settle(succeeded(limit=30, remaining=left))
    assert now() == began
    assert not waiting.done()
    (await waiting).refund()
    assert idle(limiter)


async def test_the_headroom_of_a_direct_call_says_nothing() -> None:
    """Headroom is what background calls leave; a direct call gets the last request of a window."""
    limiter = WindowLimiter(limit=3)
    for _ in range(3):
        (await limiter.acquire(headroom=2, max_wait=0.0)).settle(succeeded())
    assert await rejected(limiter, 1.0) == pytest.approx(60, abs=1)


async def test_costly_background_call_is_not_starved() -> None:
    """Direct calls that need not wait do not starve a background call that costs more."""
    limiter = WindowLimiter(limit=4, window=1.0)
    order: list[str] = []

    async def call(kind: str, cost: int) -> None:
        permit = await limiter.acquire(cost=cost, background=kind == "background")
        order.append(kind)
        permit.settle(succeeded(limit=4, remaining=3))

    await call("direct", 1)
    await call("direct", 1)
    background = asyncio.create_task(call("background", 3))
    for _ in range(12):
        await asyncio.sleep(0.34)
        await call("direct", 1)
    await background
    assert order.index("background") == 5
    assert idle(limiter)


async def test_canceled_waiters_do_not_delay_the_next() -> None:
    """Forty canceled waiters do not delay the next ten."""
    server = Server("fixed", 50, 5.0)
    limiter = WindowLimiter(window=5.0)
    await server.run(limiter, 50, 64)
    leaving = [asyncio.create_task(limiter.acquire()) for _ in range(40)]
    await asyncio.sleep(0.7)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await asyncio.gather(*(server.until_admitted(limiter) for _ in range(10)))
    assert now() < 5.5
    assert idle(limiter)


async def test_cost_of_queuing_does_not_grow_with_the_queue() -> None:
    """A crowd that queues at once costs each caller the same."""

    async def crowd(callers: int) -> int:
        """Calls of functions, which are the same on a slow machine."""
        limiter, calls = WindowLimiter(), [0]

        def count(*_: object) -> None:
            calls[0] += 1

        (await limiter.acquire()).settle(succeeded(limit=60, remaining=59))
        sys.setprofile(count)
        try:
            waiting = [asyncio.create_task(limiter.acquire(max_wait=1e9)) for _ in range(callers)]
            await asyncio.sleep(0)
        finally:
            sys.setprofile(None)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return calls[0]

    # Were each to count those before it, it would be 16 times as much.
    assert await crowd(800) < 6 * await crowd(200)


async def test_caller_canceled_with_its_permit_passes_it_on() -> None:
    """A caller canceled in the very moment in which it gets a permit passes it on to the next."""
    limiter = WindowLimiter(limit=1, window=10.0)
    permit = await limiter.acquire()
    one = asyncio.create_task(limiter.acquire())
    two = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    permit.refund()
    one.cancel()
    (await two).settle(succeeded())
    assert one.cancelled()
    assert now() == 0
    assert idle(limiter)


async def test_own_timeout_of_a_caller() -> None:
    """A caller's own timeout is obeyed."""
    limiter = WindowLimiter(limit=1)
    await limiter.acquire()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await limiter.acquire()
    assert now() == 3
    assert limiter.statistics().direct_waiting == 0


@pytest.mark.parametrize("held", [0.11, 0.3])
async def test_permit_at_the_moment_of_the_timeout(held: float) -> None:
    """A permit that becomes due in the same moment as the timeout is not lost."""
    limiter = WindowLimiter(window=1.0, limit=2)
    for _ in range(2):
        (await limiter.acquire()).settle(succeeded())
    wait = limiter.snapshot().reset_after
    waiting = asyncio.create_task(limiter.acquire(max_wait=wait + 0.02))
    await asyncio.sleep(wait - 0.1)
    hold_up(held)
    (await waiting).settle(succeeded())
    assert idle(limiter)


async def test_timeout_at_the_moment_of_a_refund() -> None:
    """A timeout in the moment in which a permit is refunded leaves nothing behind."""
    limiter = WindowLimiter(limit=1)
    permit = await limiter.acquire()
    longest = limiter.forecast(1)
    waiting = asyncio.create_task(limiter.acquire(max_wait=longest))
    asyncio.get_running_loop().call_at(longest, permit.refund)
    (await waiting).refund()
    assert idle(limiter)


async def test_expired_waiter_makes_room_at_once() -> None:
    """A waiter whose timeout ends makes room for the next at once."""
    limiter = WindowLimiter(limit=3, window=1.0)
    kept = [await limiter.acquire()]
    kept.pop().settle(succeeded(limit=3, remaining=2))
    kept = [await limiter.acquire()]
    large = asyncio.create_task(limiter.acquire(cost=3, max_wait=5.0))
    await asyncio.sleep(2.0)
    small = asyncio.create_task(limiter.acquire())
    with pytest.raises(RateLimitError):
        await large
    await small
    assert now() == pytest.approx(5.0)


async def test_fail_waiters() -> None:
    """All waiters can be made to fail at once."""
    limiter = WindowLimiter(limit=1)
    permit = await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire(background=odd)) for odd in (True, False)]
    await asyncio.sleep(0)
    limiter.fail_waiters(lambda: QuotaExceededError("Monthly quota exhausted"))
    for task in waiting:
        with pytest.raises(QuotaExceededError):
            await task
    permit.settle(succeeded())
    assert idle(limiter)


async def test_forecast() -> None:
    """The forecast is what it then takes."""
    server = Server("fixed", 60, 60.0)
    limiter = WindowLimiter()
    await server.until_admitted(limiter)
    expected = limiter.forecast(299)
    began = now()
    await server.run(limiter, 299, 8)
    assert now() - began == pytest.approx(expected, rel=0.01)
    assert limiter.forecast(0) == 0.0


@pytest.mark.parametrize("n", [10, 60, 90, 150])
@pytest.mark.parametrize("kind", ["fixed", "sliding", "bucket"])
async def test_forecast_without_remaining(kind: LimiterKind, n: int) -> None:
    """The forecast is what it then takes where no response states what remains."""
    server = Server(kind, 60, 60.0, remaining=0.0)
    limiter = WindowLimiter()
    await server.until_admitted(limiter)
    expected = limiter.forecast(n)
    began = now()
    await server.run(limiter, n, 8)
    assert server.rate_limited == 0
    assert now() - began == pytest.approx(expected, rel=0.02)


async def test_forecast_after_a_429() -> None:
    """The forecast after a 429 counts on the pace that is regained."""
    limiter = WindowLimiter()
    (await limiter.acquire()).settle(succeeded(limit=60))
    (await limiter.acquire()).settle(rate_limited(5.0))
    expected, began = limiter.forecast(20), now()
    for _ in range(20):
        (await limiter.acquire()).settle(succeeded(limit=60))
    assert now() - began == pytest.approx(expected, rel=0.02)


async def test_window_limiter_is_a_rate_limiter() -> None:
    """The default limiter keeps to the public protocol, and so do its permits."""
    limiter: RateLimiter = WindowLimiter()
    assert isinstance(limiter, RateLimiter)
    permit: Permit = await limiter.acquire(background=True)
    permit.settle(succeeded(30, 29))
    another = limiter.acquire_nowait(background=True)
    assert another is not None
    another.refund()
    await limiter.aclose()
    await limiter.aclose()
    assert limiter.snapshot().remaining == 29


@pytest.mark.parametrize("first", ["settle", "refund"])
@pytest.mark.parametrize("second", ["settle", "refund"])
async def test_permit_is_returned_once(first: str, second: str) -> None:
    """A second settle or refund is an error, and the permit counts once."""
    limiter = WindowLimiter(limit=2)
    permit = await limiter.acquire()

    def give(how: str) -> None:
        permit.refund() if how == "refund" else permit.settle(succeeded())

    give(first)
    before = limiter.snapshot()
    with pytest.raises(RuntimeError, match="settle or refund each permit exactly once"):
        give(second)
    assert limiter.snapshot() == before
    assert idle(limiter)


@pytest.mark.parametrize(
    ("kind", "same_as"),
    [("failed", "succeeded"), ("quota_exhausted", "no_response"), ("unsent", None)],
)
async def test_outcomes(kind: OutcomeKind, same_as: OutcomeKind | None) -> None:
    """A failure is a response like any other, an exhausted quota says nothing of the rate, the unsent is free."""

    async def then(end: OutcomeKind | None) -> tuple[RateLimit, float]:
        limiter = WindowLimiter(limit=40)
        (await limiter.acquire()).settle(succeeded(30, 20))
        permit = await limiter.acquire()
        if end is None:
            permit.refund()
        else:
            permit.settle(Outcome(kind=end, limit=25, remaining=7))
        assert idle(limiter)
        return limiter.snapshot(), limiter.forecast(30)

    assert await then(kind) == await then(same_as)


async def test_statistics() -> None:
    """The statistics count permits in flight and waiters, and state when the timer fires next."""
    limiter = WindowLimiter(limit=3)
    permit = await limiter.acquire(cost=2)
    permit.settle(succeeded(3, 1))
    permit = await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire(cost=3, background=odd)) for odd in (True, False, True)]
    await asyncio.sleep(0)
    assert limiter.statistics() == Statistics(1, 1, 2, None)
    permit.settle(succeeded(3, 0))
    statistics = limiter.statistics()
    assert (statistics.in_flight, statistics.direct_waiting, statistics.background_waiting) == (0, 1, 2)
    assert statistics.next_wakeup == pytest.approx(60.12)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert idle(limiter)


def test_limit_survives_the_event_loop() -> None:
    """What is known of the limit survives the event loop."""
    limiter = WindowLimiter()
    found: list[Any] = []

    async def first() -> None:
        await spend(limiter, 60)
        await limiter.acquire()
        asyncio.ensure_future(limiter.acquire())  # noqa: RUF006 - left behind on purpose
        await asyncio.sleep(0)

    async def second() -> None:
        found.append(limiter.snapshot().limit)
        (await limiter.acquire()).settle(succeeded())

    with asyncio.Runner(loop_factory=new_event_loop) as runner, pytest.raises(TimeoutError):
        runner.run(asyncio.wait_for(first(), 5))
    run(second())
    assert found == [60]


def test_permit_of_a_closed_event_loop_counts_once() -> None:
    """A permit of a closed event loop counts once."""
    limiter = WindowLimiter(limit=2)
    kept: list[Permit] = []

    async def first() -> None:
        kept.extend([await limiter.acquire(), await limiter.acquire(max_wait=5.0)])

    async def second() -> None:
        with pytest.raises(RateLimitError):
            await limiter.acquire(max_wait=5.0)
        kept[0].settle(NO_RESPONSE)
        kept[1].refund()
        assert idle(limiter)

    run(first())
    run(second())


async def test_two_event_loops_at_once() -> None:
    """Callers on two event loops at once get an error with advice."""
    limiter = WindowLimiter(limit=1)
    await limiter.acquire()
    waiting = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    with pytest.raises(ClientClosedError, match="a client in each thread"):
        await asyncio.to_thread(asyncio.run, limiter.acquire())
    waiting.cancel()


ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("call"), st.integers(1, 3), st.booleans(), st.sampled_from([None, 0.5, 5.0, 60.2, "just fits"])
        ),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.sampled_from(["succeed", "rate limit", "refund", "lose"]), st.integers(0, 50)),
        st.tuples(st.sampled_from(["sleep", "hold up"]), st.sampled_from([0.0, 0.01, 0.7, 5.0, 61.0])),
        st.tuples(st.just("close")),
    ),
    max_size=60,
)


class Schedule:
    """Carries out any number of callers' steps in any order, and keeps every caller and permit."""

    def __init__(self, limit: int) -> None:
        self.limiter = WindowLimiter(limit=limit)
        self.limit = limit
        self.held: list[tuple[Permit, int]] = []
        self.callers: list[asyncio.Task[None]] = []
        self.order: dict[bool, list[int]] = {True: [], False: []}
        self.acquired = 0

    async def call(self, number: int, cost: int, background: bool, max_wait: float | str | None) -> None:  # noqa: FBT001 - a schedule's row
        if isinstance(max_wait, str):
            max_wait = self.limiter.forecast(cost)
        try:
            permit = await self.limiter.acquire(cost=cost, max_wait=max_wait, background=background)
        except RateLimitError:
            return
        self.held.append((permit, min(cost, self.limit)))
        self.order[background].append(number)
        self.acquired += 1

    async def do(self, action: tuple[Any, ...]) -> None:
        match action:
            case ("call", cost, background, max_wait):
                number = len(self.callers)
                self.callers.append(asyncio.create_task(self.call(number, cost, background, max_wait)))
            case ("cancel", which) if self.callers:
                self.callers[which % len(self.callers)].cancel()
            case ("succeed" | "rate limit" | "refund" | "lose" as end, which) if self.held:
                self.end(end, self.held.pop(which % len(self.held))[0])
            case ("sleep", seconds):
                await asyncio.sleep(seconds)
            case ("hold up", seconds):
                hold_up(seconds)
            case ("close",):
                self.limiter.fail_waiters(lambda: RateLimitError("closed"))
            case _:
                pass

    def end(self, how: str, permit: Permit) -> None:
        if how == "refund":
            permit.refund()
        else:
            permit.settle({"succeed": succeeded(), "rate limit": rate_limited(3.0), "lose": NO_RESPONSE}[how])

    def check(self) -> None:
        # A permit is held by a caller, or by one that has yet to wake: none is lost, none is doubled.
        in_flight = self.limiter.statistics().in_flight
        assert in_flight >= sum(cost for _, cost in self.held)
        assert in_flight <= self.limit

    async def drain(self) -> None:
        """Everyone who is left gets a permit, and nothing is left behind."""
        for _ in range(2000):
            if not self.held and all(caller.done() for caller in self.callers):
                break
            while self.held:
                self.end("succeed", self.held.pop()[0])
            await asyncio.sleep(1.0)
        assert all(caller.done() for caller in self.callers)
        assert idle(self.limiter)
        for numbers in self.order.values():
            assert numbers == sorted(numbers)


@given(st.integers(1, 5), ACTIONS)
@settings(max_examples=300)
def test_any_schedule(limit: int, actions: list[tuple[Any, ...]]) -> None:
    """Under any schedule no permit is lost or doubled, and every caller that is left gets one."""

    async def main() -> None:
        schedule = Schedule(limit)
        for action in actions:
            await schedule.do(action)
            schedule.check()
            await asyncio.sleep(0)
            schedule.check()
        await schedule.drain()

    run(main())


@given(st.integers(1, 4), st.integers(0, 12), st.sets(st.integers(0, 11)), st.integers(0, 11))
@settings(max_examples=100)
def test_no_caller_waits_longer_because_others_leave(limit: int, callers: int, leaving: set[int], when: int) -> None:
    """No caller waits longer because others are canceled."""

    async def starts(*, with_leaving: bool) -> dict[int, float]:
        limiter = WindowLimiter(limit=limit)
        got: dict[int, float] = {}

        async def call(number: int) -> None:
            permit = await limiter.acquire(background=number % 3 == 0)
            got[number] = now()
            await asyncio.sleep(0.3)
            permit.settle(succeeded())

        tasks = [asyncio.create_task(call(number)) for number in range(callers)]
        await asyncio.sleep(when * 10.0)
        for number in leaving if with_leaving else ():
            if number < callers and number not in got:
                tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return got

    found: list[dict[int, float]] = []

    async def main(*, with_leaving: bool) -> None:
        found.append(await starts(with_leaving=with_leaving))

    run(main(with_leaving=False))
    run(main(with_leaving=True))
    patient, fewer = found
    assert all(fewer[number] <= patient[number] + 1e-6 for number in fewer)
