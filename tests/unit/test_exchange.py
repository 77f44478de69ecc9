"""Processes that share a budget know of each other's outages, monthly quota and retries. Time is virtual."""

from __future__ import annotations

import asyncio
import math
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from helpers import now, unique_key
from hypothesis import given
from hypothesis import strategies as st
from looptime import new_event_loop
from simulated_store import Place, SimulatedStore

from zenovay_async import (
    Outcome,
    Quota,
    QuotaExceededError,
    QuotaExhausted,
    QuotaThresholdReached,
    RateLimit,
    ServerReachable,
    ServerUnreachable,
    UsageHeaders,
)
from zenovay_async._limits.budget import Budget, BudgetPermit, budget_for
from zenovay_async._limits.options import Limits
from zenovay_async._limits.outage_gate import OutageGate
from zenovay_async._limits.pacing import Pacer
from zenovay_async._limits.patience import Patience, ServerUnavailable
from zenovay_async._limits.quota import PROBE_INTERVAL, QuotaGuard
from zenovay_async._limits.retry_budget import RetryBudget
from zenovay_async._limits.sharing.exchange import Exchange
from zenovay_async._limits.sharing.limiter import SharedLimiter
from zenovay_async._limits.sharing.outage_news import PROBE_LIFETIME
from zenovay_async._limits.sharing.state import SharedQuota, SharedState
from zenovay_async._protocol.auth import Auth, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async import ZenovayError
    from zenovay_async._limits.outage import Outage
    from zenovay_async.events import Event

REFUSED = Outcome(kind="unreachable", reason="No connection could be made")
BROKEN = Outcome(kind="failed", status=502, reason="Bad gateway")
GOOD = Outcome(kind="succeeded", status=200)

TODAY = datetime(2026, 6, 15, tzinfo=UTC)
JULY = datetime(2026, 7, 1, tzinfo=UTC)
AUGUST = datetime(2026, 8, 1, tzinfo=UTC)


def new_state() -> SharedState:
    return SharedState(version=1, epoch=1, pacer=Pacer.create(30, 60.0))


class Store:
    """One state, as it is in a store: encoded, and dated by a clock of its own."""

    def __init__(self) -> None:
        self.value = self.encode(new_state())
        self.members: list[Process | Member] = []
        self.rings = 0

    @property
    def now(self) -> float:
        return now() + 12_345.6

    @staticmethod
    def encode(state: SharedState) -> bytes:
        return msgspec.msgpack.encode(state)

    @property
    def state(self) -> SharedState:
        return msgspec.msgpack.decode(self.value, type=SharedState)

    def empty(self) -> None:
        self.value = self.encode(new_state())


class Clock:
    """The date, which virtual time moves."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return TODAY + timedelta(seconds=now()) + self.ahead


class Process:
    """What one process knows, and its exchange with the others.

    Attributes:
        events: What it emitted.
        requests: Number of updates that it asked for.
        failed: How often the callers that wait were failed.
    """

    def __init__(self, store: Store, name: str, quota: QuotaGuard | None = None) -> None:
        self.store, self.name = store, name
        self.events: list[Event] = []
        self.clock = Clock()
        self.quota = quota or QuotaGuard(on_event=self.events.append, clock=self.clock)
        self.gate = OutageGate(self.events.append, random.Random(0))
        self.retries = RetryBudget()
        self.requests = self.failed = 0
        self.exchange = Exchange(self.quota, self.gate, self.retries, self._request, self._fail)
        store.members.append(self)

    @property
    def outage(self) -> Outage:
        return self.gate.outage

    def _request(self) -> None:
        self.requests += 1

    def _fail(self) -> None:
        self.failed += 1

    def lose(self) -> None:
        """Make an update that does not reach the store."""
        self.exchange.write(self.store.state, self.name, self.store.now)

    def update(self, meanwhile: Callable[[], object] | None = None) -> bool:
        """Make one update; returns whether it rings."""
        state = self.store.state
        rings = self.exchange.write(state, self.name, self.store.now)
        self.store.value = self.store.encode(state)
        if meanwhile is not None:
            meanwhile()
        self.exchange.read(state, self.name, self.store.now)
        return rings

    def settle(self, outcome: Outcome, ticket: int | None = None, path: str = "path") -> None:
        self.gate.settle(ticket, outcome, path)


def processes(count: int = 2) -> tuple[Store, list[Process]]:
    store = Store()
    return store, [Process(store, f"process {number}") for number in range(count)]


def usage(used: int | None, limit: int | None = 1000, reset: datetime | None = JULY) -> UsageHeaders:
    return UsageHeaders(used, limit, reset, None)


# The retries


@pytest.mark.looptime
async def test_retries_spent_anywhere_are_spent_everywhere() -> None:
    _, (a, b) = processes()
    for _ in range(3):
        assert a.retries.spend()
    assert b.retries.spend()
    for process in (a, b, a):
        process.update()
    assert a.retries.tokens == b.retries.tokens == RetryBudget.CAPACITY - 4


@pytest.mark.looptime
async def test_a_retry_spent_during_an_update_is_counted_once() -> None:
    _, (a, b) = processes()
    a.update(meanwhile=a.retries.spend)
    assert a.retries.tokens == RetryBudget.CAPACITY - 1
    a.lose()
    a.lose()
    a.update()
    b.update()
    assert a.retries.tokens == b.retries.tokens == RetryBudget.CAPACITY - 1


def sharing(place: Place) -> tuple[SharedLimiter, QuotaGuard, RetryBudget]:
    """One process whose limiter is over a store."""
    limiter, quota, retries = SharedLimiter(SimulatedStore(place), "key"), QuotaGuard(clock=Clock()), RetryBudget()
    gate = OutageGate(rng=random.Random(0))
    limiter.exchange = Exchange(
        quota, gate, retries, limiter.request_update, lambda: limiter.fail_waiters(quota.exhausted_error)
    )
    return limiter, quota, retries


@pytest.mark.looptime
async def test_an_update_that_has_nothing_but_news_is_written() -> None:
    """A retry is spent for all, also if the next update comes while no permit is returned and nobody waits."""
    place = Place()
    (a, _, mine), (b, _, others) = sharing(place), sharing(place)
    for limiter in (a, b):
        (await limiter.acquire()).settle(GOOD)
        await asyncio.sleep(0)
    assert mine.spend()
    a.request_update()
    await asyncio.sleep(0)
    for limiter in (b, a):
        (await limiter.acquire()).settle(GOOD)
        await asyncio.sleep(0)
    assert mine.tokens == others.tokens == RetryBudget.CAPACITY - 1
    for limiter in (a, b):
        await limiter.aclose()


@pytest.mark.looptime
async def test_a_permit_that_is_not_there_is_none_where_the_quota_is_exhausted() -> None:
    """Without a wait there is a permit or none: the budget knows which calls an exhausted quota concerns."""
    place = Place()
    (a, quota, _), (b, _, _) = sharing(place), sharing(place)
    for limiter in (a, b):
        (await limiter.acquire()).refund()
        await asyncio.sleep(0)
    permit = a.acquire_nowait()
    assert permit is not None
    quota.mark_exhausted(None)
    await asyncio.sleep(0)
    assert b.acquire_nowait() is None
    permit.settle(GOOD)
    for limiter in (a, b):
        await limiter.aclose()


# Outages


@pytest.mark.looptime
async def test_an_outage_that_one_process_meets_holds_back_all() -> None:
    store, (a, b) = processes()
    b.update()
    await asyncio.sleep(1)
    a.settle(REFUSED)
    assert a.requests == 1
    assert a.update()
    assert b.gate.is_clear
    assert not b.update()
    assert not b.gate.is_clear
    assert b.gate.holds_back(None, background=False)
    assert (b.outage.kind, b.outage.reason, b.outage.backoffs) == ("unreachable", REFUSED.reason, 1)
    assert b.outage.since == pytest.approx(a.outage.since)
    assert b.outage.next_probe_at == pytest.approx(a.outage.next_probe_at)
    assert b.requests == 0
    assert store.state.outages == 1


@pytest.mark.looptime
async def test_the_server_that_one_process_reaches_is_back_for_all() -> None:
    _, (a, b) = processes()
    a.settle(REFUSED)
    a.update()
    b.update()
    await asyncio.sleep(4)
    b.settle(GOOD)
    assert b.update()
    a.update()
    assert a.gate.is_clear
    for process in (a, b):
        process.update()
        began, ended = process.events
        assert began == ServerUnreachable(kind="unreachable", reason=REFUSED.reason or "", status=None)
        assert isinstance(ended, ServerReachable)
        assert ended.seconds == pytest.approx(4)


@pytest.mark.looptime
async def test_a_server_that_fails_instead_lets_direct_calls_go_on_everywhere() -> None:
    _, (a, b) = processes()
    a.settle(REFUSED)
    a.update()
    b.update()
    waiting = asyncio.create_task(b.gate.enter(deadline=math.inf, background=False, patience=Patience()))
    await asyncio.sleep(0)
    await asyncio.sleep(a.outage.next_probe_at - now() - 0.01)
    a.settle(BROKEN, a.outage.start_probe())
    assert a.update()
    b.update()
    assert b.outage.kind == "failing"
    assert await waiting == 0
    assert not b.gate.holds_back(None, background=False)
    assert b.gate.holds_back(None, background=True)


@pytest.mark.looptime
async def test_an_outage_that_two_processes_meet_at_once_is_one() -> None:
    store, (a, b) = processes()
    a.settle(REFUSED)
    b.settle(REFUSED)
    for process in (a, b, a, b):
        process.update()
    assert store.state.outages == 1
    assert len(a.events) == len(b.events) == 1
    assert a.outage.next_probe_at == pytest.approx(b.outage.next_probe_at)


@pytest.mark.looptime
@pytest.mark.parametrize("how", ["claimed", "failed meanwhile"])
async def test_a_probe_begun_beside_that_of_another_process_is_not_sent(how: str) -> None:
    _, (a, b) = processes()
    a.settle(REFUSED)
    a.update()
    b.update()
    await asyncio.sleep(1)
    ticket, late = a.outage.start_probe(), b.outage.start_probe()
    a.update()
    assert not a.gate.holds_back(ticket, background=False)
    if how == "failed meanwhile":
        a.settle(REFUSED, ticket)
        a.update()
    assert not b.gate.holds_back(late, background=False)
    b.update()
    assert b.gate.holds_back(late, background=False)
    assert bool(b.outage.probe) is (how == "claimed")
    assert not b.gate.own_probe


@pytest.mark.looptime
async def test_a_probe_begun_during_the_update_that_shows_another_one_is_not_sent() -> None:
    _, (a, b) = processes()
    a.settle(REFUSED)
    a.update()
    b.update()
    await asyncio.sleep(1)
    ticket = a.outage.start_probe()
    a.update()
    a.settle(REFUSED, ticket)
    a.update()
    tickets: list[int] = []
    b.update(meanwhile=lambda: tickets.append(b.outage.start_probe()))
    assert b.gate.holds_back(tickets[0], background=False)


@pytest.mark.looptime
async def test_the_outcome_of_a_probe_is_that_of_all_processes() -> None:
    _, (a, b) = processes()
    a.settle(REFUSED)
    a.update()
    b.update()
    single = asyncio.create_task(
        b.gate.enter(deadline=math.inf, background=False, patience=Patience(single=True, attempts=1))
    )
    await asyncio.sleep(1)
    b.gate.abandon(await single)
    ticket = a.outage.start_probe()
    a.update()
    b.update()
    single = asyncio.create_task(b.gate.enter(deadline=math.inf, background=False, patience=Patience(single=True)))
    await asyncio.sleep(1)
    assert not single.done()
    a.settle(REFUSED, ticket)
    assert a.update()
    b.update()
    with pytest.raises(ServerUnavailable):
        await single
    assert b.outage.next_probe_at == pytest.approx(a.outage.next_probe_at)


@pytest.mark.looptime
async def test_the_probe_of_a_process_that_was_killed_lapses() -> None:
    _, (a, b) = processes()
    a.settle(REFUSED)
    a.update()
    b.update()
    await asyncio.sleep(1)
    a.outage.start_probe()
    a.update()
    claimed_at = now()
    waiting = asyncio.create_task(b.gate.enter(deadline=math.inf, background=True, patience=Patience()))
    b.update()
    ticket = await waiting
    assert ticket == b.gate.own_probe
    assert now() - claimed_at == pytest.approx(PROBE_LIFETIME, abs=0.1)
    b.update()
    assert not b.gate.holds_back(ticket, background=True)


@pytest.mark.looptime
async def test_a_probe_that_was_canceled_lets_another_process_probe() -> None:
    store, (a, b) = processes()
    a.settle(REFUSED)
    a.update()
    b.update()
    await asyncio.sleep(1)
    ticket = a.outage.start_probe()
    a.update()
    b.update()
    waiting = asyncio.create_task(b.gate.enter(deadline=math.inf, background=True, patience=Patience()))
    await asyncio.sleep(1)
    assert not waiting.done()
    before = a.requests
    a.gate.abandon(ticket)
    assert a.requests == before + 1
    assert a.update()
    b.update()
    admitted = await waiting
    b.update()
    assert store.state.probe_by == b.name
    assert admitted == b.gate.own_probe


@pytest.mark.looptime
async def test_an_outage_outlasts_an_emptied_store_and_its_end_an_older_one() -> None:
    store, (a, b) = processes()
    a.settle(REFUSED)
    a.update()
    b.update()
    older = store.value
    store.empty()
    b.update()
    assert store.state.outage.kind == "unreachable"
    a.update()
    assert a.outage.kind == "unreachable"
    await asyncio.sleep(1)
    a.settle(GOOD)
    a.update()
    store.value = older
    b.update()
    a.update()
    b.update()
    assert {outage.kind for outage in (a.outage, b.outage, store.state.outage)} == {None}
    assert len(a.events) == len(b.events) == 2


@pytest.mark.looptime
async def test_processes_agree_on_what_comes_after_an_emptied_store() -> None:
    store, (a, b) = processes()
    a.quota.update(usage(1000))
    for outcome in (REFUSED, GOOD, REFUSED):
        a.settle(outcome)
        if outcome is GOOD:
            a.quota.end_trial("probe", GOOD)
        else:
            a.quota.mark_exhausted(None)
        a.update()
        b.update()
    store.empty()
    a.update()
    a.settle(GOOD)
    a.quota.end_trial("probe", GOOD)
    a.update()
    b.update()
    assert b.outage.kind is None
    assert not b.quota.is_exhausted
    store.empty()
    a.update()
    newcomer = Process(store, "newcomer")
    newcomer.settle(REFUSED)
    for process in (newcomer, a, b):
        process.update()
    assert a.outage.kind == b.outage.kind == "unreachable"


# The monthly quota


@pytest.mark.looptime
async def test_what_is_known_of_the_quota_outlasts_an_emptied_store() -> None:
    store, (a, b) = processes()
    a.quota.update(usage(1000))
    a.quota.mark_exhausted(None)
    a.update()
    store.empty()
    a.update()
    b.update()
    assert b.quota.snapshot() == Quota(used=1000, limit=1000, resets_at=JULY)
    assert b.quota.is_exhausted


@pytest.mark.looptime
async def test_what_one_process_spends_counts_for_the_reserve_of_another() -> None:
    _, (a, b) = processes()
    b.update()
    a.quota.update(usage(895))
    a.update()
    b.update()
    assert b.quota.snapshot() == Quota(used=895, limit=1000, resets_at=JULY)
    with pytest.raises(QuotaExceededError):
        b.quota.check(10, reserve=100)
    assert [type(event) for event in b.events] == [QuotaThresholdReached]


@pytest.mark.looptime
async def test_the_greater_count_of_a_month_is_the_newer_one() -> None:
    _, (a, b) = processes()
    a.quota.update(usage(10))
    b.quota.update(usage(12))
    for process in (b, a, b):
        process.update()
    assert a.quota.snapshot().used == b.quota.snapshot().used == 12


@pytest.mark.looptime
@pytest.mark.parametrize("reset", [JULY, None])
async def test_a_new_month_begins_for_all_processes(reset: datetime | None) -> None:
    _, (a, b, idle) = processes(3)
    a.quota.update(usage(990, reset=reset))
    for process in (a, b, idle):
        process.update()
        process.clock.ahead = timedelta(days=20)
    a.quota.update(usage(1, reset=reset and AUGUST))
    for process in (a, b, idle, a):
        process.update()
    assert [process.quota.snapshot().used for process in (a, b, idle)] == [1, 1, 1]
    b.quota.update(usage(990, reset=reset))
    b.quota.update(usage(3, reset=reset and AUGUST))
    if reset is not None:
        for process in (b, a, idle):
            process.update()
        assert [process.quota.snapshot().used for process in (a, b, idle)] == [3, 3, 3]


@pytest.mark.looptime
async def test_the_count_of_a_month_that_is_over_holds_nobody_back() -> None:
    store, (a, b) = processes()
    a.quota.update(usage(990, reset=None))
    a.update()
    b.clock.ahead = timedelta(days=20)
    b.update()
    assert b.quota.snapshot().used is None
    b.quota.check(1, reserve=100)
    b.quota.update(usage(2, reset=None))
    b.update()
    assert store.state.quota.used == 2
    a.clock.ahead = timedelta(days=20)
    a.update()
    assert a.quota.snapshot().used == 2


@pytest.mark.looptime
async def test_an_upgrade_of_the_plan_is_one_of_all() -> None:
    _, (a, b) = processes()
    a.quota.update(usage(900))
    for process in (a, b):
        process.update()
    b.quota.update(usage(5, limit=5000))
    b.update()
    a.update()
    assert a.quota.snapshot() == Quota(used=5, limit=5000, resets_at=JULY)
    a.update()
    b.update()
    assert b.quota.snapshot() == Quota(used=5, limit=5000, resets_at=JULY)


@pytest.mark.looptime
async def test_an_exhausted_quota_fails_the_callers_of_every_process_once() -> None:
    store, (a, b) = processes()
    b.update()
    a.quota.update(usage(1000))
    a.quota.mark_exhausted(None)
    assert a.requests == 1
    assert a.update()
    for _ in range(2):
        b.update()
        a.update()
    assert (a.failed, b.failed) == (0, 1)
    assert b.events.count(QuotaExhausted(resets_at=JULY)) == a.events.count(QuotaExhausted(resets_at=JULY)) == 1
    with pytest.raises(QuotaExceededError) as caught:
        b.quota.check(1, reserve=0)
    assert caught.value.message == "Monthly quota exhausted until 2026-07-01 00:00 UTC; no request was sent"
    assert store.state.quota.exhaustions == 1


@pytest.mark.looptime
async def test_the_probe_of_an_exhausted_quota_is_one_for_all_processes() -> None:
    _, (a, b) = processes()
    a.quota.update(usage(1000))
    a.quota.mark_exhausted(None)
    a.update()
    b.update()
    await asyncio.sleep(PROBE_INTERVAL.total_seconds() + 1)
    for process in (a, b):
        process.quota.check(1, reserve=0)
    before = b.requests
    b.quota.begin_trial(states_usage=False)
    assert b.requests == before + 1
    b.update()
    a.update()
    with pytest.raises(QuotaExceededError):
        a.quota.check(1, reserve=0)
    b.quota.end_trial("probe", GOOD)
    assert b.update()
    a.update()
    a.quota.check(1, reserve=0)
    assert not a.quota.is_exhausted


@pytest.mark.looptime
async def test_a_quota_exhausted_last_month_holds_nobody_back() -> None:
    _, (a, b) = processes()
    a.quota.update(usage(1000))
    a.quota.mark_exhausted(None)
    a.update()
    b.clock.ahead = timedelta(days=20)
    b.update()
    assert not b.quota.is_exhausted
    assert b.failed == 0
    assert b.events == []


@pytest.mark.looptime
async def test_what_happens_during_an_update_is_news_of_the_next() -> None:
    _, (a, b) = processes()
    a.quota.update(usage(999))
    a.update()
    b.update()

    def exhaust() -> None:
        a.quota.update(usage(1000, limit=1001))
        a.quota.mark_exhausted(None)
        a.settle(REFUSED)

    a.update(meanwhile=exhaust)
    a.lose()
    a.update()
    b.update()
    assert b.quota.snapshot().limit == 1001
    assert b.quota.is_exhausted
    assert b.outage.kind == "unreachable"


@pytest.mark.looptime
async def test_the_quota_of_a_key_goes_with_each_of_its_limits() -> None:
    """An account has one quota and several limiters, each with a state of its own."""
    store, (a, b) = processes()
    other = Store()
    a2, b2 = Process(other, "process 0", a.quota), Process(other, "process 1", b.quota)
    for process in (a, b, a2, b2):
        process.update()
    a.quota.update(usage(1000))
    a.quota.mark_exhausted(None)
    assert (a.requests, a2.requests) == (1, 1)
    a.update()
    b.update()
    assert (b.requests, b2.requests) == (0, 1)
    states: list[bytes] = []
    for _ in range(9):
        await asyncio.sleep(1)
        # Two clocks are never read at the same moment.
        b.clock.ahead += timedelta(microseconds=7)
        for process in (a2, b2, b, a):
            process.update()
        states.append(store.value + other.value)
    assert len(set(states[2:])) == 1
    assert store.state.quota.used == other.state.quota.used == 1000
    assert (b.failed, b2.failed) == (1, 0)


# Any state


_ODD_FLOATS = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 1e300, -1e300, 1e18, 0.0, 1.8e9])
_ODD_COUNTS = st.sampled_from([-(2**40), -1, 0, 1, 2**40])
_ODD_QUOTAS = st.builds(
    SharedQuota,
    used=st.none() | _ODD_COUNTS,
    limit=st.none() | _ODD_COUNTS,
    resets_at=st.none() | _ODD_FLOATS,
    total=st.none() | _ODD_COUNTS,
    exhaustions=_ODD_COUNTS,
    exhausted_until=st.none() | _ODD_FLOATS,
    probe_at=st.none() | _ODD_FLOATS,
    restarts=_ODD_COUNTS,
    month_ends=st.none() | _ODD_FLOATS,
)


@given(
    quota=_ODD_QUOTAS,
    retries=st.none() | _ODD_FLOATS,
    kind=st.sampled_from([None, "unreachable", "failing"]),
    times=st.tuples(_ODD_FLOATS, _ODD_FLOATS, _ODD_FLOATS),
    counts=st.tuples(_ODD_COUNTS, _ODD_COUNTS),
    exhausted=st.booleans(),
)
def test_odd_values_break_nothing(
    quota: SharedQuota,
    retries: float | None,
    kind: Any,
    times: tuple[float, float, float],
    counts: tuple[int, int],
    *,
    exhausted: bool,
) -> None:
    async def exchange() -> None:
        store, (a,) = processes(1)
        if exhausted:
            a.settle(REFUSED)
            a.quota.update(usage(1000))
            a.quota.mark_exhausted(None)
        state = store.state
        state.quota, state.retries = quota, retries
        state.outage.kind, state.outages = kind, counts[0]
        state.outage.since, state.outage.next_probe_at, state.probe_until = times
        state.outage.backoffs = counts[1]
        state.probe_by = "another"
        store.value = store.encode(state)
        for _ in range(3):
            a.update()
        assert 0 <= a.retries.tokens <= RetryBudget.CAPACITY
        if a.outage.kind is not None:
            ticket = await a.gate.enter(deadline=math.inf, background=True, patience=Patience())
            assert now() <= PROBE_LIFETIME + 10
            a.settle(REFUSED, ticket)
        a.quota.update(usage(7))
        a.update()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(exchange())


class World:
    """Three processes to which anything happens in any order, and what has to hold all the while."""

    def __init__(self) -> None:
        self.store, self.members = processes(3)
        self.committed: dict[int, tuple[SharedState, int]] = {}
        # The probe that each process began, and sent; and when it last updated the store with it.
        self.begun: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        self.seen: dict[int, float] = {}
        self.used: int | None = None

    async def step(self, number: int, what: str) -> None:
        await getattr(self, what)(number, self.members[number])
        assert all(0 <= process.retries.tokens <= RetryBudget.CAPACITY for process in self.members)

    async def commit(self, number: int, process: Process) -> None:
        """Make an update of which this process does not know yet that it is done."""
        if number not in self.committed:
            state = self.store.state
            process.exchange.write(state, process.name, self.store.now)
            self.store.value = self.store.encode(state)
            self.committed[number] = state, self.begun.get(number, 0)
            self.seen[number] = now()

    async def read(self, number: int, process: Process) -> None:
        """End that update; the probe that began before it is sent, unless it is held back."""
        if number not in self.committed:
            return
        state, ticket = self.committed.pop(number)
        process.exchange.read(state, process.name, self.store.now)
        if not ticket or self.begun.get(number) != ticket:
            return
        del self.begun[number]
        if process.gate.holds_back(ticket, background=True):
            return
        assert state.outage.next_probe_at <= self.store.now + 1e-3
        for other, probe in self.sent.items():
            is_lost = now() >= self.seen[other] + PROBE_LIFETIME
            assert is_lost or self.members[other].gate.own_probe != probe
        self.sent[number] = ticket

    async def update(self, number: int, process: Process) -> None:
        await self.read(number, process)
        await self.commit(number, process)
        await self.read(number, process)

    async def lose(self, number: int, process: Process) -> None:
        if number not in self.committed:
            process.lose()

    async def empty(self, *_: Any) -> None:
        self.store.empty()
        self.sent.clear()

    async def wait(self, *_: Any) -> None:
        await asyncio.sleep(3)

    async def spend(self, _: int, process: Process) -> None:
        process.retries.spend()

    async def earn(self, _: int, process: Process) -> None:
        process.retries.earn()

    async def refused(self, _: int, process: Process) -> None:
        process.settle(REFUSED)

    async def broken(self, _: int, process: Process) -> None:
        process.settle(BROKEN)

    async def good(self, _: int, process: Process) -> None:
        process.settle(GOOD)

    async def probe(self, number: int, process: Process) -> None:
        if number not in self.begun and number not in self.sent and process.outage.is_probe_due(now()):
            self.begun[number] = process.outage.start_probe()

    async def fail(self, number: int, process: Process) -> None:
        if number in self.sent:
            process.settle(REFUSED, self.sent.pop(number))

    async def cancel(self, number: int, process: Process) -> None:
        for probes in (self.begun, self.sent):
            if number in probes:
                process.gate.abandon(probes.pop(number))

    async def use(self, _: int, process: Process) -> None:
        self.used = (self.used or 0) + 100
        process.quota.update(usage(self.used, limit=process.quota.snapshot().limit or 100_000))

    async def exhaust(self, _: int, process: Process) -> None:
        process.quota.mark_exhausted(None)

    async def upgrade(self, _: int, process: Process) -> None:
        self.used = self.used or 0
        process.quota.update(usage(self.used, limit=(process.quota.snapshot().limit or 0) + 100_000))

    async def come_to_rest(self) -> None:
        for _ in range(2):
            for number, process in enumerate(self.members):
                await self.update(number, process)


_STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(
            [name for name in vars(World) if not name.startswith("_") and name not in {"step", "come_to_rest"}]
        ),
    ),
    max_size=60,
)


@given(_STEPS)
def test_all_processes_come_to_know_the_same_whatever_is_lost(steps: list[tuple[int, str]]) -> None:
    async def exchange() -> None:
        world = World()
        for number, what in steps:
            await world.step(number, what)
        await world.come_to_rest()
        (first, *others) = world.members
        for other in others:
            assert other.quota.snapshot() == first.quota.snapshot()
            assert other.quota.is_exhausted == first.quota.is_exhausted
            assert other.retries.tokens == pytest.approx(first.retries.tokens)
            assert other.outage.kind == first.outage.kind
            if first.outage.kind is not None:
                assert (other.outage.reason, other.outage.backoffs) == (first.outage.reason, first.outage.backoffs)
                assert other.outage.next_probe_at == pytest.approx(first.outage.next_probe_at)
        assert first.quota.snapshot().used == world.used
        assert sum(bool(process.gate.own_probe) for process in world.members) <= 1
        for process in world.members:
            kinds = [type(event) for event in process.events if isinstance(event, (ServerUnreachable, ServerReachable))]
            assert kinds == [ServerUnreachable, ServerReachable] * (len(kinds) // 2) + kinds[:1] * (len(kinds) % 2)
            assert len(kinds) % 2 == (process.outage.kind is not None)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(exchange())


# Callers


class Member:
    """A limiter that has a permit for all, each with one update of the store, as the shared one does it.

    Attributes:
        updates: Number of its updates.
    """

    exchange: Exchange

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self.updates = 0
        store.members.append(self)

    def attach(self, budget: Budget) -> None:
        shared = budget._shared
        self.exchange = Exchange(
            shared.quota, shared.outage_gate, shared.retries, self.request_update, shared.fail_all_waiters
        )

    def request_update(self) -> None:
        asyncio.get_running_loop().call_soon(self.update)

    def update(self) -> None:
        self.updates += 1
        state = self.store.state
        rings = self.exchange.write(state, self.name, self.store.now)
        self.store.value = self.store.encode(state)
        self.exchange.read(state, self.name, self.store.now)
        if rings:
            for member in self.store.members:
                if member is not self:
                    asyncio.get_running_loop().call_soon(member.update)

    def acquire_nowait(self, *, cost: int = 1, background: bool = False) -> MemberPermit | None:  # noqa: ARG002 - the protocol's
        self.update()
        return MemberPermit(self)

    async def acquire(
        self,
        *,
        cost: int = 1,  # noqa: ARG002 - the protocol's
        max_wait: float | None = None,  # noqa: ARG002 - the protocol's
        background: bool = False,  # noqa: ARG002 - the protocol's
    ) -> MemberPermit:
        # The way to the store.
        await asyncio.sleep(0.001)
        self.update()
        return MemberPermit(self)

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:
        pass

    def snapshot(self) -> RateLimit:
        return RateLimit(limit=30, remaining=30, window=60.0, reset_after=0.0, learned=False)

    def forecast(self, n: int, *, background: bool = False) -> float:  # noqa: ARG002 - the protocol's
        return 0.0

    async def aclose(self) -> None:
        pass


class MemberPermit:
    def __init__(self, member: Member) -> None:
        self.member = member

    def settle(self, outcome: Outcome) -> None:  # noqa: ARG002 - the protocol's
        self.member.request_update()

    def refund(self) -> None:
        self.member.request_update()


class Calls:
    """The calls of one process to a server that is away until a time.

    Attributes:
        attempts: When a request was sent.
    """

    def __init__(self, store: Store, name: str, back_at: float) -> None:
        self.member = Member(store, name)
        self.budget = budget_for(Auth(Secret(unique_key())), "https://api.example", Limits(self.member))
        self.member.attach(self.budget)
        self.back_at = back_at
        self.attempts: list[float] = []
        self.in_flight = 0

    async def call(self, path: str, *, background: bool = True) -> None:
        while True:
            permit = self.budget.acquire_nowait(1, background=background)
            permit = permit or await self.budget.acquire(1, max_wait=None, background=background)
            if await self._succeeds(permit, path):
                return

    async def _succeeds(self, permit: BudgetPermit, path: str) -> bool:
        self.attempts.append(now())
        self.in_flight += 1
        await asyncio.sleep(0.2)
        self.in_flight -= 1
        is_back = self.attempts[-1] >= self.back_at
        permit.settle(Outcome(kind="succeeded", status=200) if is_back else REFUSED, path)
        return is_back


@pytest.mark.looptime
async def test_processes_probe_one_at_a_time_and_all_go_on_once_the_server_is_back() -> None:
    store, back_at = Store(), 40.0
    programs = [Calls(store, f"process {number}", back_at) for number in range(4)]
    calls = [asyncio.create_task(program.call(f"{number}")) for program in programs for number in range(8)]
    async with asyncio.timeout(60):
        await asyncio.gather(*calls)
    attempts = sorted(at for program in programs for at in program.attempts)
    # Those that were in flight as it began, and then one at a time.
    probes = [at for at in attempts if 0.3 < at < back_at]
    assert 6 <= len(probes) <= 16
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(probes))
    assert attempts[-1] < back_at + 10
    assert store.state.outages == 2
    assert sum(program.member.updates for program in programs) < 600


@pytest.mark.looptime
async def test_a_permit_that_comes_with_an_outage_is_not_used() -> None:
    store = Store()
    a, b = (Calls(store, name, 0.0) for name in "ab")
    permit = a.budget.acquire_nowait(1, background=False)
    assert permit is not None
    permit.settle(REFUSED, "path")
    a.member.update()
    assert b.budget.acquire_nowait(1, background=False) is None
    waiting = asyncio.create_task(b.budget.acquire(1, max_wait=None, background=False))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    (await waiting).settle(GOOD)
    await asyncio.sleep(0.01)
    assert a.budget.acquire_nowait(1, background=False) is not None


@pytest.mark.looptime
async def test_a_permit_that_comes_with_an_exhausted_quota_is_not_used() -> None:
    store = Store()
    a, b = (Calls(store, name, 0.0) for name in "ab")
    permit = a.budget.acquire_nowait(1, background=False)
    assert permit is not None
    permit.settle(Outcome(kind="quota_exhausted", retry_after=3600.0))
    a.member.update()
    assert b.budget.acquire_nowait(1, background=False) is None
    with pytest.raises(QuotaExceededError):
        await b.budget.acquire(1, max_wait=None, background=False)
