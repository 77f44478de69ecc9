"""Whoever waits gets a turn, in order, however many others come, go or give up. Time is virtual."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import LoopTimeEventLoop, new_event_loop
from simulated_servers import Server

from zenovay_async import ClientClosedError, QuotaExceededError, RateLimitError
from zenovay_async._limits.window import RateLimiter, WindowLimiter
from zenovay_async.events import Event, RateLimited, RateLimitUpdated
from zenovay_async.sandbox.limits import make_limiter

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from zenovay_async.sandbox.limits import Kind

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


def hold_up(seconds: float) -> None:
    """Let time pass as if a callback kept the loop busy: all timers due by then come in one turn."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LoopTimeEventLoop)
    loop.setup_looptime(start=loop.time() + seconds)


async def spend(limiter: WindowLimiter, limit: int = 30) -> None:
    """Use up the window at once."""
    for used in range(1, limit + 1):
        permit = await limiter.acquire()
        limiter.finish(permit, status=200, limit=limit, remaining=limit - used)


async def refused(limiter: WindowLimiter, max_wait: float, cost: int = 1) -> float | None:
    """The wait that a refusal names; ``None`` where a permit was given."""
    try:
        await limiter.acquire(cost=cost, max_wait=max_wait)
    except RateLimitError as error:
        return error.retry_after
    return None


def idle(limiter: WindowLimiter) -> bool:
    """Nobody waits, nothing is on its way, no timer runs."""
    return not (limiter._direct or limiter._batch or limiter._timer or limiter._pacer.in_flight)


def run(main: Coroutine[Any, Any, None]) -> None:
    loop = new_event_loop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


async def test_a_wait_that_does_not_fit_fails_at_once_and_says_how_long_it_would_have_been() -> None:
    limiter = WindowLimiter(window=5.0)
    await spend(limiter)
    began = now()
    with pytest.raises(RateLimitError, match="does not fit its timeout; nothing was sent") as caught:
        await limiter.acquire(max_wait=1.0)
    assert now() - began < 0.02
    assert caught.value.retry_after == pytest.approx(5.01, abs=0.05)
    assert caught.value.attempts == 0
    assert idle(limiter)


async def test_a_wait_that_fits_is_waited_for() -> None:
    limiter = WindowLimiter(window=5.0)
    await spend(limiter)
    limiter.finish(await limiter.acquire(max_wait=6.0), status=200, limit=30, remaining=29)
    assert now() == pytest.approx(5.01)
    assert idle(limiter)


@pytest.mark.parametrize("cost", [1, 3])
async def test_where_the_server_says_that_nothing_is_left_a_wait_that_does_not_fit_fails_at_once(cost: int) -> None:
    limiter = WindowLimiter()
    limiter.finish(await limiter.acquire(), status=200, limit=30, remaining=0)
    began = now()
    with pytest.raises(RateLimitError) as caught:
        await limiter.acquire(cost=cost, max_wait=1.0)
    assert now() - began < 0.02
    await limiter.acquire(cost=cost)
    assert now() - began > 1
    assert caught.value.retry_after == pytest.approx(now() - began)


@pytest.mark.parametrize("remaining", [None, 0, 1])
@pytest.mark.parametrize("limit", [1, 2, 4])
async def test_a_call_that_costs_more_than_others_waits_its_real_time_and_is_not_refused_where_that_fits(
    limit: int, remaining: int | None
) -> None:
    async def used() -> WindowLimiter:
        limiter = WindowLimiter(limit=limit)
        limiter.finish(await limiter.acquire(cost=3), status=200, limit=60, remaining=remaining)
        return limiter

    began, patient = now(), await used()
    await patient.acquire(cost=3)
    real = now() - began
    assert 2 < real < 130
    began = now()
    assert await refused(await used(), real - 0.01, cost=3) == pytest.approx(real)
    assert now() == began
    assert await refused(await used(), real + 0.01, cost=3) is None
    assert now() - began == pytest.approx(real)


_HISTORY = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 7.0, 61.0]), st.integers(1, 3), st.sampled_from([None, 0, 1, 2, 5, "refused"])
    ),
    max_size=8,
)


@given(st.sampled_from([None, 1, 2, 5]), _HISTORY, st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_who_comes_alone_is_told_the_wait_that_it_would_really_have(
    limit: int | None, history: list[tuple[float, int, Any]], cost: int
) -> None:
    async def main() -> None:
        limiter = WindowLimiter(limit=limit, rng=random.Random(1))
        for pause, spent, told in history:
            await asyncio.sleep(pause)
            permit = await limiter.acquire(cost=spent)
            status, remaining = (429, None) if told == "refused" else (200, told)
            limiter.finish(permit, status=status, limit=8, remaining=remaining)
        began = now()
        told = await refused(limiter, 0.0, cost) or 0.0
        if told:
            assert now() == began
            await limiter.acquire(cost=cost)
        assert now() - began == pytest.approx(told, abs=0.001)

    run(main())


@pytest.mark.parametrize(
    ("limit", "tells", "served"),
    [(120, True, 100), (60, True, 60), (30, True, 30), (120, False, 100), (30, False, 30)],
)
async def test_a_crowd_that_comes_before_the_first_answer_is_served_as_far_as_that_allows_and_the_rest_hears_at_once(
    limit: int,
    tells: bool,  # noqa: FBT001 - a table's column
    served: int,
) -> None:
    limiter, left = WindowLimiter(), limit

    async def caller() -> bool | None:
        nonlocal left
        try:
            permit = await limiter.acquire(max_wait=30.0)
        except RateLimitError as error:
            return error.retry_after is not None and error.retry_after > 29 and now() == pytest.approx(0.2)
        await asyncio.sleep(0.2)
        left -= 1
        limiter.finish(permit, status=200, limit=limit, remaining=left if tells else None)
        return None

    ended = await asyncio.gather(*(caller() for _ in range(100)))
    assert ended.parse_count(None) == served
    assert ended.count(True) == 100 - served


_CROWD = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 2.0, 20.0]), st.integers(1, 3)), min_size=1, max_size=40)


@given(st.sampled_from(["fixed", "sliding"]), st.integers(3, 40), st.booleans(), _CROWD)
@settings(max_examples=150, deadline=None)
def test_nobody_is_refused_whose_wait_would_have_fit(
    kind: Kind,
    limit: int,
    tells: bool,  # noqa: FBT001 - drawn
    crowd: list[tuple[float, int]],
) -> None:
    async def waits(allowed: list[float] | None) -> list[float | None]:
        limiter, counter = WindowLimiter(rng=random.Random(1)), make_limiter(kind, limit, 60.0)

        async def call(number: int, cost: int, max_wait: float | None) -> float | None:
            began = now()
            try:
                permit = await limiter.acquire(cost=cost, max_wait=max_wait)
            except RateLimitError:
                return None
            waited = now() - began
            # No two answers at the same time: which of them comes first is for nobody to say.
            await asyncio.sleep(0.1 + number / 1000)
            admitted = [counter.admit(1000 + now()) for _ in range(min(cost, limit))]
            left, wait = counter.remaining(1000 + now()), counter.reset_after(1000 + now())
            await asyncio.sleep(0.1)
            told = left if tells else None
            status = 200 if all(admitted) else 429
            limiter.finish(permit, status=status, limit=limit, remaining=told, retry_after=float(int(wait) + 1))
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


async def test_who_waits_hears_at_once_when_a_429_makes_the_wait_too_long() -> None:
    limiter = WindowLimiter()
    first, second = await _two_permits(limiter)
    waiting = asyncio.create_task(_hold_all_and_wait(limiter, max_wait=70.0))
    await asyncio.sleep(1)
    limiter.finish(first, status=429, retry_after=600.0)
    with pytest.raises(RateLimitError) as caught:
        await waiting
    assert now() == pytest.approx(1)
    assert caught.value.retry_after == pytest.approx(600, abs=1)
    limiter.finish(second, status=200)


async def test_who_waits_hears_at_once_when_a_later_429_names_a_longer_time() -> None:
    limiter = WindowLimiter()
    first, second = await _two_permits(limiter)
    waiting = asyncio.create_task(_hold_all_and_wait(limiter, max_wait=70.0))
    patient = asyncio.create_task(_hold_all_and_wait(limiter, max_wait=700.0))
    await asyncio.sleep(1)
    limiter.finish(first, status=429, retry_after=1.0)
    limiter.finish(second, status=429, retry_after=600.0)
    with pytest.raises(RateLimitError) as caught:
        await waiting
    assert now() == pytest.approx(1)
    assert caught.value.retry_after == pytest.approx(600, abs=1)
    await patient
    assert now() == pytest.approx(601)


async def _two_permits(limiter: WindowLimiter) -> tuple[Any, Any]:
    limiter.finish(await limiter.acquire(), status=200, limit=3, remaining=2)
    return await limiter.acquire(), await limiter.acquire()


async def _hold_all_and_wait(limiter: WindowLimiter, *, max_wait: float) -> None:
    await limiter.acquire(max_wait=max_wait)


async def test_one_429_holds_back_every_caller_and_then_lets_one_go_first() -> None:
    limiter = WindowLimiter()
    events: list[Event] = []
    limiter._on_event = events.append
    permit = await limiter.acquire()
    turns: list[float] = []

    async def call() -> None:
        got = await limiter.acquire()
        turns.append(now())
        await asyncio.sleep(0.5)
        limiter.finish(got, status=200, limit=30, remaining=20)

    waiting = [asyncio.create_task(call()) for _ in range(5)]
    await asyncio.sleep(0.1)
    limiter.finish(permit, status=429, limit=30, remaining=0, retry_after=42.0)
    await asyncio.gather(*waiting)
    assert turns[0] == pytest.approx(42.1)
    assert all(turn >= 42.6 for turn in turns[1:])
    assert events == [RateLimited(42.0, stated=True)]


async def test_a_learnt_limit_is_told() -> None:
    events: list[Event] = []
    limiter = WindowLimiter(on_event=events.append)
    limiter.finish(await limiter.acquire(), status=200, limit=120, remaining=119)
    assert events == [RateLimitUpdated(30, 120)]


async def test_first_come_is_first_served() -> None:
    limiter = WindowLimiter(limit=2, window=1.0)
    order: list[int] = []

    async def call(number: int) -> None:
        permit = await limiter.acquire()
        order.append(number)
        limiter.finish(permit, status=200)

    await asyncio.gather(*(call(number) for number in range(9)))
    assert order == list(range(9))
    assert idle(limiter)


async def test_direct_calls_overtake_a_batch_which_still_moves() -> None:
    limiter = WindowLimiter(limit=1, window=1.0)
    order: list[str] = []

    async def call(kind: str) -> None:
        permit = await limiter.acquire(background=kind == "batch")
        order.append(kind)
        limiter.finish(permit, status=200)

    await call("first")
    batch = [asyncio.create_task(call("batch")) for _ in range(3)]
    await asyncio.sleep(0)
    direct = [asyncio.create_task(call("direct")) for _ in range(7)]
    await asyncio.gather(*batch, *direct)
    assert order[1:] == ["direct", "direct", "direct", "batch"] * 2 + ["direct", "batch"]


async def test_direct_calls_that_need_not_wait_do_not_starve_a_batch_that_needs_more() -> None:
    limiter = WindowLimiter(limit=4, window=1.0)
    order: list[str] = []

    async def call(kind: str, cost: int) -> None:
        permit = await limiter.acquire(cost=cost, background=kind == "batch")
        order.append(kind)
        limiter.finish(permit, status=200, limit=4, remaining=3)

    await call("direct", 1)
    await call("direct", 1)
    batch = asyncio.create_task(call("batch", 3))
    for _ in range(12):
        await asyncio.sleep(0.34)
        await call("direct", 1)
    await batch
    assert order.index("batch") == 5
    assert idle(limiter)


async def test_forty_who_give_up_do_not_stand_in_the_way_of_the_next_ten() -> None:
    server = Server("fixed", 50, 5.0)
    limiter = WindowLimiter(window=5.0)
    await server.run(limiter, 50, 64)
    leaving = [asyncio.create_task(limiter.acquire()) for _ in range(40)]
    await asyncio.sleep(0.7)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await asyncio.gather(*(server.until_allowed(limiter) for _ in range(10)))
    assert now() < 5.5
    assert idle(limiter)


async def test_a_crowd_that_queues_at_once_costs_each_of_it_the_same() -> None:
    async def crowd(callers: int) -> float:
        limiter = WindowLimiter()
        limiter.finish(await limiter.acquire(), status=200, limit=60, remaining=59)
        began = time.process_time()
        waiting = [asyncio.create_task(limiter.acquire(max_wait=1e9)) for _ in range(callers)]
        await asyncio.sleep(0)
        took = time.process_time() - began
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return took

    # Were each to count those before it, it would be 16 times as much.
    assert min([await crowd(8000) for _ in range(3)]) < 9 * min([await crowd(2000) for _ in range(3)])


async def test_a_caller_cancelled_in_the_moment_of_its_turn_gives_it_to_the_next() -> None:
    limiter = WindowLimiter(limit=1, window=10.0)
    permit = await limiter.acquire()
    one = asyncio.create_task(limiter.acquire())
    two = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.refund(permit)
    one.cancel()
    limiter.finish(await two, status=200)
    assert one.cancelled()
    assert now() == 0
    assert not limiter._pacer.in_flight


async def test_a_callers_own_timeout_is_obeyed() -> None:
    limiter = WindowLimiter(limit=1)
    await limiter.acquire()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await limiter.acquire()
    assert now() == 3
    assert not limiter._direct


@pytest.mark.parametrize("held", [0.11, 0.3])
async def test_a_permit_that_comes_in_the_same_turn_as_the_timeout_is_not_lost(held: float) -> None:
    limiter = WindowLimiter(window=1.0, limit=2)
    for _ in range(2):
        limiter.finish(await limiter.acquire(), status=200)
    free = limiter._pacer.ready_at(now())
    waiting = asyncio.create_task(limiter.acquire(max_wait=free - now() + 0.02))
    await asyncio.sleep(free - now() - 0.1)
    hold_up(held)
    limiter.finish(await waiting, status=200)
    assert idle(limiter)


async def test_a_timeout_in_the_moment_in_which_a_permit_is_given_back_leaves_nothing_behind() -> None:
    limiter = WindowLimiter(limit=1)
    permit = await limiter.acquire()
    longest = limiter.forecast(1)
    waiting = asyncio.create_task(limiter.acquire(max_wait=longest))
    asyncio.get_running_loop().call_at(longest, limiter.refund, permit)
    limiter.refund(await waiting)
    assert idle(limiter)


async def test_who_gives_up_makes_room_for_the_next_at_once() -> None:
    limiter = WindowLimiter(limit=3, window=1.0)
    kept = [await limiter.acquire()]
    limiter.finish(kept.pop(), status=200, limit=3, remaining=2)
    kept = [await limiter.acquire()]
    large = asyncio.create_task(limiter.acquire(cost=3, max_wait=5.0))
    await asyncio.sleep(2.0)
    small = asyncio.create_task(limiter.acquire())
    with pytest.raises(RateLimitError):
        await large
    await small
    assert now() == pytest.approx(5.0)


async def test_all_who_wait_can_be_let_go_with_an_error() -> None:
    limiter = WindowLimiter(limit=1)
    permit = await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire(background=odd)) for odd in (True, False)]
    await asyncio.sleep(0)
    limiter.fail_all(lambda: QuotaExceededError("The month is over"))
    for task in waiting:
        with pytest.raises(QuotaExceededError):
            await task
    limiter.finish(permit, status=200)
    assert idle(limiter)


async def test_the_forecast_is_what_it_then_takes() -> None:
    server = Server("fixed", 60, 60.0)
    limiter = WindowLimiter()
    await server.until_allowed(limiter)
    expected = limiter.forecast(299)
    began = now()
    await server.run(limiter, 299, 8)
    assert now() - began == pytest.approx(expected, rel=0.01)
    assert limiter.forecast(0) == 0.0


@pytest.mark.parametrize("n", [10, 60, 90, 150])
@pytest.mark.parametrize("kind", ["fixed", "sliding", "bucket"])
async def test_the_forecast_is_what_it_then_takes_where_no_answer_tells_what_is_left(kind: Kind, n: int) -> None:
    server = Server(kind, 60, 60.0, remaining=0.0)
    limiter = WindowLimiter()
    await server.until_allowed(limiter)
    expected = limiter.forecast(n)
    began = now()
    await server.run(limiter, n, 8)
    assert server.refused == 0
    assert now() - began == pytest.approx(expected, rel=0.02)


async def test_the_forecast_after_a_refusal_counts_on_the_pace_that_is_won_back() -> None:
    limiter = WindowLimiter()
    limiter.finish(await limiter.acquire(), status=200, limit=60)
    limiter.finish(await limiter.acquire(), status=429, retry_after=5.0)
    expected, began = limiter.forecast(20), now()
    for _ in range(20):
        limiter.finish(await limiter.acquire(), status=200, limit=60)
    assert now() - began == pytest.approx(expected, rel=0.02)


async def test_the_default_limiter_is_a_rate_limiter() -> None:
    assert isinstance(WindowLimiter(), RateLimiter)


def test_what_is_known_of_the_limit_survives_the_event_loop() -> None:
    limiter = WindowLimiter()
    found: list[Any] = []

    async def first() -> None:
        await spend(limiter, 60)
        await limiter.acquire()
        asyncio.ensure_future(limiter.acquire())  # noqa: RUF006 - left behind on purpose
        await asyncio.sleep(0)

    async def second() -> None:
        found.append(limiter.snapshot().limit)
        limiter.finish(await limiter.acquire(), status=200)

    with asyncio.Runner(loop_factory=new_event_loop) as runner, pytest.raises(TimeoutError):
        runner.run(asyncio.wait_for(first(), 5))
    run(second())
    assert found == [60]


def test_a_permit_of_an_event_loop_that_is_gone_counts_once() -> None:
    limiter = WindowLimiter(limit=2)
    kept: list[Any] = []

    async def first() -> None:
        kept.extend([await limiter.acquire(), await limiter.acquire(max_wait=5.0)])

    async def second() -> None:
        with pytest.raises(RateLimitError):
            await limiter.acquire(max_wait=5.0)
        limiter.finish(kept[0], status=None)
        limiter.refund(kept[1])
        assert idle(limiter)

    run(first())
    run(second())


async def test_callers_on_two_loops_at_once_are_refused_with_advice() -> None:
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
        st.tuples(st.sampled_from(["finish", "refuse", "refund", "lose"]), st.integers(0, 50)),
        st.tuples(st.sampled_from(["sleep", "hold up"]), st.sampled_from([0.0, 0.01, 0.7, 5.0, 61.0])),
        st.tuples(st.just("close")),
    ),
    max_size=60,
)


class Schedule:
    """Any number of callers in any order; every permit that was given is known, and so is every caller."""

    def __init__(self, limit: int) -> None:
        self.limiter = WindowLimiter(limit=limit)
        self.limit = limit
        self.held: list[tuple[Any, int]] = []
        self.callers: list[asyncio.Task[None]] = []
        self.order: dict[bool, list[int]] = {True: [], False: []}
        self.granted = 0

    async def call(self, number: int, cost: int, background: bool, max_wait: float | str | None) -> None:  # noqa: FBT001 - a schedule's row
        if isinstance(max_wait, str):
            max_wait = self.limiter.forecast(cost)
        try:
            permit = await self.limiter.acquire(cost=cost, max_wait=max_wait, background=background)
        except RateLimitError:
            return
        self.held.append((permit, min(cost, self.limit)))
        self.order[background].append(number)
        self.granted += 1

    async def do(self, action: tuple[Any, ...]) -> None:
        match action:
            case ("call", cost, background, max_wait):
                number = len(self.callers)
                self.callers.append(asyncio.create_task(self.call(number, cost, background, max_wait)))
            case ("cancel", which) if self.callers:
                self.callers[which % len(self.callers)].cancel()
            case ("finish" | "refuse" | "refund" | "lose" as end, which) if self.held:
                self.give_back(end, self.held.pop(which % len(self.held))[0])
            case ("sleep", seconds):
                await asyncio.sleep(seconds)
            case ("hold up", seconds):
                hold_up(seconds)
            case ("close",):
                self.limiter.fail_all(lambda: RateLimitError("closed"))
            case _:
                pass

    def give_back(self, end: str, permit: Any) -> None:
        if end == "refund":
            self.limiter.refund(permit)
        else:
            status = {"finish": 200, "refuse": 429, "lose": None}[end]
            self.limiter.finish(permit, status=status, retry_after=3.0 if end == "refuse" else None)

    def check(self) -> None:
        # A permit is held by a caller, or was given to one that has yet to wake: none is lost, none is doubled.
        waking = self.limiter._pacer.in_flight - sum(cost for _, cost in self.held)
        assert waking >= 0
        assert self.limiter._pacer.in_flight <= self.limit

    async def drain(self) -> None:
        """Everyone who is left gets a turn, and nothing is left behind."""
        for _ in range(2000):
            if not self.held and all(caller.done() for caller in self.callers):
                break
            while self.held:
                self.give_back("finish", self.held.pop()[0])
            await asyncio.sleep(1.0)
        assert all(caller.done() for caller in self.callers)
        assert idle(self.limiter)
        for numbers in self.order.values():
            assert numbers == sorted(numbers)


@given(st.integers(1, 5), ACTIONS)
@settings(max_examples=300, deadline=None)
def test_under_any_schedule_no_permit_is_lost_or_doubled_and_everyone_who_is_left_gets_a_turn(
    limit: int, actions: list[tuple[Any, ...]]
) -> None:
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
@settings(max_examples=100, deadline=None)
def test_nobody_waits_longer_because_others_gave_up(limit: int, callers: int, leaving: set[int], when: int) -> None:
    async def turns(*, with_leaving: bool) -> dict[int, float]:
        limiter = WindowLimiter(limit=limit)
        got: dict[int, float] = {}

        async def call(number: int) -> None:
            permit = await limiter.acquire(background=number % 3 == 0)
            got[number] = now()
            await asyncio.sleep(0.3)
            limiter.finish(permit, status=200)

        tasks = [asyncio.create_task(call(number)) for number in range(callers)]
        await asyncio.sleep(when * 10.0)
        for number in leaving if with_leaving else ():
            if number < callers and number not in got:
                tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return got

    found: list[dict[int, float]] = []

    async def main(*, with_leaving: bool) -> None:
        found.append(await turns(with_leaving=with_leaving))

    run(main(with_leaving=False))
    run(main(with_leaving=True))
    patient, fewer = found
    assert all(fewer[number] <= patient[number] + 1e-6 for number in fewer)
