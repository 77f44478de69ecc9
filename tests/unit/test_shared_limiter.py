"""Processes that share a store keep to one limit, whatever becomes of the store or of them. Time is virtual."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from helpers import examples, hold_up, now, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import new_event_loop
from simulated_servers import KINDS, Server
from simulated_store import Place, SimulatedStore

from zenovay_async import QuotaExceededError, RateLimitError, SharedBudgetBack, SharedBudgetLost
from zenovay_async._limits.outage_gate import OutageGate
from zenovay_async._limits.quota import QuotaGuard
from zenovay_async._limits.retry_budget import RetryBudget
from zenovay_async._limits.sharing.exchange import Exchange
from zenovay_async._limits.sharing.limiter import SharedLimiter
from zenovay_async._limits.sharing.state import SharedState
from zenovay_async.events import Event, RateLimited, RateLimitUpdated
from zenovay_async.rate_limits import Outcome, RateLimiter, UsageHeaders

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from zenovay_async.sandbox.limits import LimiterKind

pytestmark = pytest.mark.looptime

WINDOW = 3.0
REACH = pytest.mark.parametrize("round_trip", [0.0, 0.0005], ids=["file", "Redis"])


class Members:
    """Limiters of several processes, and all that they emit."""

    def __init__(
        self,
        count: int,
        *,
        round_trip: float = 0.0,
        window: float = WINDOW,
        limit: int | None = None,
        rings: bool = True,
    ) -> None:
        self.place = Place()
        self.stores = [SimulatedStore(self.place, round_trip, seed, rings=rings) for seed in range(count)]
        self.events: list[list[Event]] = [[] for _ in range(count)]
        self.limiters = [
            SharedLimiter(
                store, "key", limit=limit, window=window, on_event=events.append, rng=random.Random(10 + number)
            )
            for number, (store, events) in enumerate(zip(self.stores, self.events, strict=True))
        ]

    def __getitem__(self, number: int) -> SharedLimiter:
        return self.limiters[number]

    async def close(self) -> None:
        for limiter in self.limiters:
            await limiter.aclose()

    def kinds(self, number: int) -> list[type[Event]]:
        return [type(event) for event in self.events[number]]


def succeeded(limit: int = 30, remaining: int | None = None) -> Outcome:
    return Outcome(kind="succeeded", limit=limit, remaining=remaining)


async def run_all(server: Server, limiters: Sequence[RateLimiter], calls: Sequence[int]) -> list[float]:
    """Make calls of several processes at once; returns when each has ended."""

    async def run(limiter: RateLimiter, count: int) -> float:
        await server.run(limiter, count, 8)
        return now()

    return await asyncio.gather(*(run(limiter, count) for limiter, count in zip(limiters, calls, strict=True)))


@REACH
@pytest.mark.parametrize("states_remaining", sample([1.0, 0.0]))
@pytest.mark.parametrize("kind", KINDS)
async def test_four_processes_are_as_fast_as_one_and_never_rate_limited(
    kind: LimiterKind, states_remaining: float, round_trip: float
) -> None:
    """Four equal processes take the time of one, end together, and get no 429."""
    alone = Server(kind, 30, WINDOW, latency=0.02, jitter=0.01, remaining=states_remaining)
    one = Members(1, round_trip=round_trip)
    took_alone = max(await run_all(alone, one.limiters, [160])) - 0.0
    server = Server(kind, 30, WINDOW, latency=0.02, jitter=0.01, remaining=states_remaining)
    members, began = Members(4, round_trip=round_trip), now()
    ends = await run_all(server, members.limiters, [40] * 4)
    assert server.rate_limited == 0
    assert max(ends) - began < took_alone * 1.06
    assert max(ends) - min(ends) < 1.0
    await members.close()
    await one.close()


@REACH
async def test_a_store_without_rings_is_shared_evenly_too(round_trip: float) -> None:
    """Who cannot be woken early keeps its share until it looks, so that nobody takes each burst alone."""
    server = Server("fixed", 30, 60.0, latency=0.2, jitter=0.1)
    members = Members(4, round_trip=round_trip, window=60.0, rings=False)
    ends = await run_all(server, members.limiters, [15] * 4)
    assert server.rate_limited == 0
    assert max(ends) - min(ends) < 10.0
    assert max(ends) < 90.0
    await members.close()


@REACH
async def test_one_busy_process_among_idle_ones_gets_the_whole_rate(round_trip: float) -> None:
    """Light processes do not wait, and the heavy one gets what they leave."""
    server = Server("sliding", 30, WINDOW, latency=0.02, jitter=0.01)
    members = Members(4, round_trip=round_trip)
    ends = await run_all(server, members.limiters, [144, 6, 5, 5])
    assert server.rate_limited == 0
    assert max(ends) < 16.0
    assert max(ends[1:]) < 1.0
    await members.close()


@REACH
@pytest.mark.parametrize("states_remaining", [1.0, 0.0])
async def test_few_operations_of_the_store_for_each_request(states_remaining: float, round_trip: float) -> None:
    """Waiting is no polling: the store is used at most three times for each request of four processes."""
    server = Server("sliding", 30, WINDOW, latency=0.02, jitter=0.01, remaining=states_remaining)
    members = Members(4, round_trip=round_trip)
    await run_all(server, members.limiters, [40] * 4)
    assert members.place.operations < 3 * server.admitted
    await members.close()


async def test_one_update_for_a_burst() -> None:
    """All who wait in one process get their permits by one update."""
    members = Members(1)
    (await members[0].acquire()).settle(succeeded(remaining=29))
    await asyncio.sleep(0)
    before = members.place.operations
    permits = await asyncio.gather(*(members[0].acquire() for _ in range(20)))
    assert members.place.operations - before <= 2
    for permit in permits:
        permit.refund()
    await members.close()


@REACH
async def test_direct_calls_overtake_the_batches_of_other_processes(round_trip: float) -> None:
    """A direct call waits for one request or two, however many background calls wait in other processes."""
    server = Server("sliding", 30, WINDOW, latency=0.02, jitter=0.01, remaining=0.0)
    members = Members(4, round_trip=round_trip)

    async def without_end(limiter: RateLimiter) -> None:
        while True:
            await server.until_admitted(limiter, background=True)

    batches = [asyncio.create_task(without_end(limiter)) for limiter in members.limiters[1:] for _ in range(8)]
    await asyncio.sleep(2 * WINDOW)
    waits: list[float] = []
    for _ in range(20):
        began = now()
        (await members[0].acquire()).settle(succeeded())
        waits.append(now() - began)
        await asyncio.sleep(0.3)
    assert max(waits) < 0.35
    for task in batches:
        task.cancel()
    await asyncio.gather(*batches, return_exceptions=True)
    await members.close()


@REACH
async def test_one_429_pauses_all_processes(round_trip: float) -> None:
    """A 429 of one process stops the others too, and all are told."""
    members = Members(2, round_trip=round_trip, window=60.0)
    (await members[0].acquire()).settle(succeeded(remaining=29))
    (await members[1].acquire()).settle(succeeded(remaining=28))
    permit = await members[0].acquire()
    permit.settle(Outcome(kind="rate_limited", retry_after=20.0))
    await asyncio.sleep(0.1)
    began = now()
    (await members[1].acquire()).settle(succeeded(remaining=20))
    assert 19.5 < now() - began < 20.1
    await asyncio.sleep(0.1)
    for number in range(2):
        pauses = [event for event in members.events[number] if isinstance(event, RateLimited)]
        assert [(round(event.seconds), event.from_server) for event in pauses] == [(20, True)]
    await members.close()


@REACH
async def test_what_one_process_learns_of_the_limit_holds_for_all(round_trip: float) -> None:
    """The limit that a response states to one process is that of the others, without a request of theirs."""
    members = Members(2, round_trip=round_trip, window=60.0)
    (await members[0].acquire()).settle(succeeded(limit=120, remaining=119))
    await asyncio.sleep(0.1)
    permits = await asyncio.gather(*(members[1].acquire() for _ in range(100)))
    assert now() < 1.0
    assert members[1].snapshot().limit == 120
    assert RateLimitUpdated(before=30, limit=120) in members.events[0]
    for permit in permits:
        permit.refund()
    await members.close()


@REACH
async def test_what_a_response_stated_shows_at_once(round_trip: float) -> None:
    """Right after a call, ``zenovay.rate_limit`` and ``estimate`` know what its response stated."""
    members = Members(1, round_trip=round_trip, window=60.0)
    permit = await members[0].acquire()
    permit.settle(succeeded(limit=120, remaining=119))
    limit = members[0].snapshot()
    assert (limit.limit, limit.remaining, limit.learned) == (120, 119, True)
    assert members[0].forecast(119) == 0.0
    await members.close()


@REACH
async def test_what_another_process_has_in_flight_counts_for_the_reserve(round_trip: float) -> None:
    """Batches of several processes together leave ``quota_reserve``, as what any of them has in flight is counted."""
    members = Members(2, round_trip=round_trip)
    quotas = [QuotaGuard(), QuotaGuard()]
    for limiter, quota in zip(members.limiters, quotas, strict=True):
        limiter.exchange = Exchange(
            quota, OutageGate(lambda _: None), RetryBudget(), limiter.request_update, lambda: None
        )
    permit = await members[0].acquire()
    quotas[0].update(UsageHeaders(monthly=90, limit=100))
    permit.settle(succeeded(remaining=29))
    held = [await members[0].acquire() for _ in range(5)]
    (await members[1].acquire()).refund()
    quotas[1].check(1, reserve=4)
    with pytest.raises(QuotaExceededError, match="10 requests of the monthly quota remain, 5 of them in flight"):
        quotas[1].check(1, reserve=5)
    for permit in held:
        permit.refund()
    await asyncio.sleep(0.1)
    (await members[1].acquire()).refund()
    quotas[1].check(1, reserve=9)
    await members.close()


@REACH
async def test_a_wait_behind_other_processes_that_does_not_fit_fails_at_once(round_trip: float) -> None:
    """Whoever would wait too long, as others spent the window, learns so at once, with the expected wait."""
    members = Members(2, round_trip=round_trip, window=60.0)
    for used in range(30):
        (await members[0].acquire()).settle(succeeded(remaining=29 - used))
    began = now()
    with pytest.raises(RateLimitError, match=r"longer than its timeout; no request was sent") as caught:
        await members[1].acquire(max_wait=5.0)
    assert now() - began < 0.1
    assert caught.value.retry_after == pytest.approx(60.0, abs=1.0)
    assert members[1].statistics().direct_waiting == 0
    await members.close()


@REACH
async def test_permits_of_a_killed_process_lapse(round_trip: float) -> None:
    """What a killed process held ends by itself after a window, and nobody waits for its callers."""
    server = Server("sliding", 30, WINDOW, latency=0.02, jitter=0.01)
    members = Members(4, round_trip=round_trip)
    doomed = asyncio.create_task(server.run(members[0], 60, 8))
    ends = asyncio.create_task(run_all(server, members.limiters[1:], [60] * 3))
    await asyncio.sleep(WINDOW + 0.03)
    members.stores[0].kill()
    doomed.cancel()
    assert max(await ends) < (server.admitted + 30) / 30 * WINDOW
    assert server.rate_limited == 0
    for limiter in members.limiters[1:]:
        await limiter.aclose()


@REACH
@pytest.mark.parametrize(("kind", "is_emptied"), [*((kind, True) for kind in sample(KINDS)), ("sliding", False)])
async def test_a_store_that_is_lost_for_a_while(kind: LimiterKind, is_emptied: bool, round_trip: float) -> None:  # noqa: FBT001 - a table's column
    """While the store is lost, each process goes on with its share, and afterwards together, without a burst."""
    server = Server(kind, 30, WINDOW, latency=0.02, jitter=0.01)
    members = Members(4, round_trip=round_trip)
    ends = asyncio.create_task(run_all(server, members.limiters, [80] * 4))
    await asyncio.sleep(5.0)
    members.place.is_down = True
    before = dict(members.place.values)
    await asyncio.sleep(12.0)
    members.place.is_down = False
    members.place.values = {} if is_emptied else before
    await ends
    assert server.rate_limited <= 3
    for number in range(4):
        kinds = [kind for kind in members.kinds(number) if kind in {SharedBudgetLost, SharedBudgetBack}]
        assert kinds == [SharedBudgetLost, SharedBudgetBack]
    lost = next(event for event in members.events[0] if isinstance(event, SharedBudgetLost))
    assert (lost.members, lost.limit, lost.reason) == (4, 7, "the place is down")
    await members.close()


@REACH
async def test_a_store_that_is_lost_from_the_start(round_trip: float) -> None:
    """Nothing is known of other processes then, so four are assumed; no caller fails."""
    server = Server("sliding", 30, WINDOW, latency=0.02, jitter=0.01)
    members = Members(4, round_trip=round_trip)
    members.place.is_down = True
    ends = asyncio.create_task(run_all(server, members.limiters, [40] * 4))
    await asyncio.sleep(8.0)
    members.place.is_down = False
    await ends
    assert server.rate_limited == 0
    await members.close()


async def test_the_share_of_a_limit_that_was_not_known_when_the_store_was_lost() -> None:
    """A process that never saw the store sends a quarter of the limit that the server states, not of the default."""
    members = Members(1)
    members.place.is_down = True
    (await members[0].acquire()).settle(succeeded(limit=120, remaining=119))
    await asyncio.sleep(0.1)
    assert members[0].snapshot().limit == 30
    assert [type(event) for event in members.events[0]] == [SharedBudgetLost, RateLimitUpdated]
    assert members.events[0][1] == RateLimitUpdated(before=7, limit=30)
    (await members[0].acquire()).settle(succeeded(limit=60, remaining=50))
    await asyncio.sleep(0.1)
    assert members[0].snapshot().limit == 30
    await members.close()


@REACH
async def test_a_store_that_is_emptied_gets_back_what_is_known(round_trip: float) -> None:
    """Whoever comes first writes the state that it saw last; requests are counted once."""
    server = Server("sliding", 30, WINDOW, latency=0.02, jitter=0.01)
    members = Members(4, round_trip=round_trip)
    ends = asyncio.create_task(run_all(server, members.limiters, [40] * 4))
    for _ in range(3):
        await asyncio.sleep(2.6)
        members.place.values.clear()
    await ends
    assert server.rate_limited <= 1
    assert not any(SharedBudgetLost in members.kinds(number) for number in range(4))
    await members.close()


@REACH
@pytest.mark.parametrize("garbage", [b"", b"\x00", b"not msgpack", b"\x95\x02\x00\x00\x00\x00"])
async def test_garbage_in_the_store_is_no_state(garbage: bytes, round_trip: float) -> None:
    """A value that is none, or of another version, is replaced; no caller notices."""
    members = Members(1, round_trip=round_trip)
    members.place.values["key"] = garbage
    (await members[0].acquire()).settle(succeeded(remaining=29))
    await members.close()
    assert members.place.values["key"] != garbage


@REACH
@pytest.mark.parametrize("jump", [-4000.0, -30.0, 30.0, 86400.0])
async def test_a_clock_of_the_store_that_jumps(jump: float, round_trip: float) -> None:
    """After a jump of the store's clock the log counts as sent just now: no burst, and no wait without end."""
    server = Server("sliding", 30, WINDOW, latency=0.02, jitter=0.01)
    members = Members(2, round_trip=round_trip)
    ends = asyncio.create_task(run_all(server, members.limiters, [60] * 2))
    await asyncio.sleep(5.0)
    members.place.ahead += jump
    assert max(await ends) < 12 + 3 * WINDOW
    assert server.rate_limited == 0
    await members.close()


async def test_a_process_that_is_held_up_is_passed_over() -> None:
    """A process that does not look for its permits lets the others have them soon."""
    server = Server("sliding", 30, WINDOW, latency=0.02, jitter=0.01)
    members = Members(3)
    ends = asyncio.create_task(run_all(server, members.limiters[1:], [60, 60]))
    waiting = [asyncio.create_task(members[0].acquire()) for _ in range(8)]
    await asyncio.sleep(0.01)
    members.stores[0].kill()
    assert max(await ends) < 4.5 * WINDOW
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await members[1].aclose()
    await members[2].aclose()


@REACH
async def test_a_canceled_caller_returns_its_permit(round_trip: float) -> None:
    """Whoever is canceled while it waits, or just got its permit, leaves nothing behind in any process."""
    members = Members(2, round_trip=round_trip, limit=2, window=60.0)
    (await members[0].acquire()).settle(succeeded(remaining=29))
    await asyncio.sleep(0.1)
    for pause in (0.0, 0.0003, 0.0006, 0.001):
        task = asyncio.create_task(members[0].acquire())
        await asyncio.sleep(pause)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await task).refund()
    began = now()
    permit = await members[1].acquire()
    assert now() - began < 1.0
    permit.refund()
    await members.close()


@REACH
async def test_waiters_can_be_made_to_fail(round_trip: float) -> None:
    """All callers of this process fail at once; those of others wait on."""
    members = Members(2, round_trip=round_trip, limit=1, window=60.0)
    (await members[0].acquire()).settle(succeeded(remaining=29))
    mine, others = (asyncio.create_task(members[number].acquire()) for number in range(2))
    await asyncio.sleep(0.1)
    members[0].fail_waiters(lambda: QuotaExceededError("Monthly quota exhausted"))
    with pytest.raises(QuotaExceededError):
        await mine
    (await others).settle(succeeded(remaining=29))
    await members.close()


@REACH
async def test_a_closed_limiter_opens_again(round_trip: float) -> None:
    """A limiter that was closed goes on where it was with the next call."""
    members = Members(1, round_trip=round_trip, window=60.0)
    for used in range(30):
        (await members[0].acquire()).settle(succeeded(remaining=29 - used))
    await members.close()
    assert members.place.listeners == {}
    with pytest.raises(RateLimitError):
        await members[0].acquire(max_wait=5.0)
    await members.close()


@REACH
async def test_closing_while_others_of_the_process_wait_harms_nobody(round_trip: float) -> None:
    """A client that closes writes what is pending; one that shares its limiter waits on."""
    members = Members(1, round_trip=round_trip, limit=1, window=60.0)
    (await members[0].acquire()).settle(succeeded(remaining=29))
    waiting = asyncio.create_task(members[0].acquire())
    await asyncio.sleep(0.1)
    await members.close()
    (await waiting).settle(succeeded(remaining=29))
    await members.close()


async def test_a_process_that_leaves_is_no_member_any_more() -> None:
    """A store that is lost afterwards divides the limit among those that are left."""
    members = Members(3)
    for limiter in members.limiters:
        (await limiter.acquire()).settle(succeeded(remaining=29))
    await members[1].aclose()
    await members[2].aclose()
    (await members[0].acquire()).settle(succeeded(remaining=28))
    await asyncio.sleep(0)
    members.place.is_down = True
    (await members[0].acquire()).settle(succeeded(remaining=27))
    lost = [event for event in members.events[0] if isinstance(event, SharedBudgetLost)]
    assert [(event.members, event.limit) for event in lost] == [(1, 30)]
    await members.close()


def test_a_limiter_on_one_event_loop_after_another() -> None:
    """What is known of the limit goes on from one event loop to the next."""
    members = Members(1, window=60.0)

    async def spend() -> None:
        for used in range(30):
            (await members[0].acquire()).settle(succeeded(remaining=29 - used))
        await members.close()

    async def try_more() -> None:
        with pytest.raises(RateLimitError):
            await members[0].acquire(max_wait=1.0)

    run(spend())
    run(try_more())


def test_an_event_loop_that_was_held_up_still_gets_its_permit() -> None:
    """A permit that is due when the timeout ends is acquired."""

    async def main() -> None:
        members = Members(1, limit=1, window=1.0)
        (await members[0].acquire()).settle(succeeded(limit=1, remaining=0))
        waiting = asyncio.create_task(members[0].acquire(max_wait=1.5))
        await asyncio.sleep(0.5)
        hold_up(3.0)
        (await waiting).settle(succeeded(limit=1))
        await members.close()

    run(main())


def run(main: Coroutine[Any, Any, None]) -> None:
    loop = new_event_loop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("call"), st.integers(0, 2), st.integers(1, 3), st.booleans(), st.sampled_from([None, 0.5, 5.0])
        ),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.sampled_from(["succeed", "rate limit", "refund", "lose"]), st.integers(0, 50)),
        st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.001, 0.1, 1.0, 3.5])),
        st.tuples(st.sampled_from(["store down", "store up", "store emptied", "clock jumps"])),
    ),
    max_size=40,
)


class Schedule:
    """Carries out any steps of three processes and their store, and keeps every caller and permit."""

    def __init__(self, round_trip: float) -> None:
        self.members = Members(3, round_trip=round_trip, limit=5)
        self.held: list[Any] = []
        self.callers: list[asyncio.Task[None]] = []

    async def call(self, member: int, cost: int, max_wait: float | None, *, background: bool) -> None:
        limiter = self.members[member]
        permit = limiter.acquire_nowait(cost=cost, background=background)
        if permit is None:
            try:
                permit = await limiter.acquire(cost=cost, max_wait=max_wait, background=background)
            except RateLimitError:
                return
        self.held.append(permit)

    async def do(self, step: tuple[Any, ...]) -> None:
        place = self.members.place
        match step:
            case ("call", member, cost, background, max_wait):
                self.callers.append(asyncio.create_task(self.call(member, cost, max_wait, background=background)))
            case ("cancel", which) if self.callers:
                self.callers[which % len(self.callers)].cancel()
            case ("succeed" | "rate limit" | "refund" | "lose" as end, which) if self.held:
                self.end(end, self.held.pop(which % len(self.held)))
            case ("sleep", seconds):
                await asyncio.sleep(seconds)
            case ("store down" | "store up" as what,):
                place.is_down = what == "store down"
            case ("store emptied",):
                place.values.clear()
            case ("clock jumps",):
                place.ahead += 30.0
            case _:
                pass

    def end(self, how: str, permit: Any) -> None:
        outcomes = {
            "succeed": succeeded(limit=5),
            "rate limit": Outcome(kind="rate_limited", retry_after=1.0),
            "lose": Outcome(kind="no_response"),
        }
        if how == "refund":
            permit.refund()
        else:
            permit.settle(outcomes[how])

    async def drain(self) -> None:
        """Everyone who is left gets a permit, and nothing is left behind."""
        self.members.place.is_down = False
        for _ in range(400):
            if not self.held and all(caller.done() for caller in self.callers):
                break
            while self.held:
                self.end("succeed", self.held.pop())
            await asyncio.sleep(0.5)
        assert all(caller.done() for caller in self.callers)
        await asyncio.sleep(3.0)
        for limiter in self.members.limiters:
            statistics = limiter.statistics()
            assert (statistics.in_flight, statistics.direct_waiting, statistics.background_waiting) == (0, 0, 0)
        await self.members.close()
        assert self.members.place.listeners == {}


@given(st.sampled_from([0.0, 0.002]), STEPS)
@settings(max_examples=examples(150), deadline=None)
def test_any_schedule(round_trip: float, steps: list[tuple[Any, ...]]) -> None:
    """Whatever three processes and their store do, every caller that is left gets a permit, and nothing is left."""

    async def main() -> None:
        schedule = Schedule(round_trip)
        for step in steps:
            await schedule.do(step)
        await schedule.drain()

    run(main())


_PAUSES = st.lists(st.sampled_from([0.0, 0.01, 0.2, 1.0, 2.9, 3.1]), min_size=1, max_size=25)


@given(st.sampled_from([0.0, 0.002]), st.lists(_PAUSES, min_size=2, max_size=4), st.data())
@settings(max_examples=examples(60), deadline=None)
def test_no_window_of_all_processes_has_more_than_the_limit(
    round_trip: float, pauses: list[list[float]], data: st.DataObject
) -> None:
    """Whenever the calls of any process come, no window contains more requests than the limit."""
    latency = data.draw(st.sampled_from([0.0, 0.05, 0.09]))
    times: list[float] = []

    async def main() -> None:
        members = Members(len(pauses), round_trip=round_trip, limit=5)

        async def call(limiter: SharedLimiter) -> None:
            permit = limiter.acquire_nowait() or await limiter.acquire()
            await asyncio.sleep(latency / 2)
            times.append(now())
            await asyncio.sleep(latency / 2)
            permit.settle(succeeded(limit=100, remaining=90))

        async def calls(limiter: SharedLimiter, between: list[float]) -> None:
            tasks: list[asyncio.Task[None]] = []
            for pause in between:
                tasks.append(asyncio.create_task(call(limiter)))
                await asyncio.sleep(pause)
            await asyncio.gather(*tasks)

        await asyncio.gather(*(calls(limiter, list_) for limiter, list_ in zip(members.limiters, pauses, strict=True)))
        await members.close()

    run(main())
    times.sort()
    assert all(later - earlier >= WINDOW for earlier, later in zip(times, times[5:], strict=False))


@REACH
async def test_a_limiter_closed_after_each_request_goes_on_without_its_store(round_trip: float) -> None:
    """A client for each request says once that the store is lost, knows what it sent, and comes back by itself."""
    members = Members(1, round_trip=round_trip, window=60.0)
    (await members[0].acquire()).settle(succeeded(remaining=29))
    await members.close()
    members.place.is_down = True
    began = now()
    for _ in range(10):
        (await members[0].acquire()).settle(succeeded(remaining=20))
        await members.close()
    assert now() - began < 3.0
    assert members[0].snapshot().remaining <= 20
    assert members.kinds(0).count(SharedBudgetLost) == 1
    members.place.is_down = False
    await asyncio.sleep(2.0)
    (await members[0].acquire()).settle(succeeded(remaining=19))
    await asyncio.sleep(0.1)
    (await members[0].acquire()).settle(succeeded(remaining=18))
    await members.close()
    assert members.kinds(0).count(SharedBudgetBack) == 1
    assert members[0].snapshot().remaining <= 18
    assert members.place.listeners == {}


def test_an_event_loop_for_each_request_without_the_store() -> None:
    """A script that runs an event loop for each request goes on likewise."""
    members = Members(1, window=60.0)

    async def once() -> None:
        (await members[0].acquire()).settle(succeeded(remaining=20))
        await members.close()

    async def later() -> None:
        (await members[0].acquire()).settle(succeeded(remaining=19))
        await asyncio.sleep(2.0)
        await members.close()

    run(once())
    members.place.is_down = True
    for _ in range(4):
        run(once())
    assert members.kinds(0).count(SharedBudgetLost) == 1
    assert members[0].snapshot().remaining <= 26
    members.place.is_down = False
    run(later())
    assert members.kinds(0).count(SharedBudgetBack) == 1


async def test_a_process_a_round_trip_away_sleeps_until_the_permit_is_free() -> None:
    """The wait for a permit ends a round trip after it is free, not two."""
    members = Members(1, round_trip=0.4, limit=1)
    (await members[0].acquire()).settle(succeeded(limit=1, remaining=0))
    await asyncio.sleep(2.0)
    free_at = now() + members[0].snapshot().reset_after
    (await members[0].acquire()).refund()
    assert free_at < now() < free_at + 0.6
    await members.close()


async def test_the_forecast_counts_nobody_who_was_killed() -> None:
    """The calls that a killed process waited for delay no forecast once it is passed over."""
    members = Members(2, limit=1)
    (await members[0].acquire()).settle(succeeded(limit=1, remaining=0))
    killed = [asyncio.create_task(members[1].acquire()) for _ in range(20)]
    await asyncio.sleep(0.1)
    (await members[0].acquire()).settle(succeeded(limit=1, remaining=0))
    assert members[0].forecast(1) > 20.0
    members.stores[1].kill()
    await asyncio.sleep(4.0)
    (await members[0].acquire()).settle(succeeded(limit=1, remaining=0))
    assert members[0].forecast(1) < 2 * WINDOW
    for task in killed:
        task.cancel()


async def test_a_process_that_comes_back_is_no_429() -> None:
    """The pause in which the others count what they sent is no event of the server."""
    members = Members(2)
    for _ in range(2):
        for limiter in members.limiters:
            (await limiter.acquire()).settle(succeeded(remaining=20))
            await asyncio.sleep(0.01)
    members.place.is_down = True
    (await members[0].acquire()).settle(succeeded(remaining=20))
    await asyncio.sleep(0.01)
    members.place.is_down = False
    await asyncio.sleep(1.35)
    assert SharedBudgetBack in members.kinds(0)
    for limiter in (members[1], members[0]):
        (await limiter.acquire()).settle(succeeded(remaining=20))
    assert RateLimited not in [*members.kinds(0), *members.kinds(1)]
    await members.close()


async def test_requests_sent_while_the_store_comes_back_are_counted() -> None:
    """What is sent during the round trips of the return counts as well."""
    members = Members(1, round_trip=0.4, window=60.0)
    (await members[0].acquire()).settle(succeeded(remaining=29))
    members.place.is_down = True
    sent = 1
    for _ in range(8):
        (await members[0].acquire()).settle(succeeded(remaining=29))
        sent += 1
        await asyncio.sleep(0.1)
    members.place.is_down = False
    while SharedBudgetBack not in members.kinds(0):
        if (permit := members[0].acquire_nowait()) is not None:
            permit.settle(succeeded(remaining=29))
            sent += 1
        await asyncio.sleep(0.1)
    await members.close()
    assert members[0].snapshot().limit == 30
    state = msgspec.msgpack.decode(members.place.values["key"], type=SharedState)
    assert len(state.pacer.log.times) + state.pacer.log.in_flight >= sent
