"""One key's budget, shared by its clients; each permit is settled or refunded exactly once. Time is virtual."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from helpers import unique_key
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import new_event_loop

from zenovay_async import (
    APIConnectionError,
    ConfigurationError,
    Estimate,
    Outcome,
    Quota,
    QuotaExceededError,
    RateLimit,
    RateLimiter,
    RateLimitError,
    ServerError,
    UsageHeaders,
    Zenovay,
    ZenovayError,
)
from zenovay_async._limits.budget import Budget, BudgetStatistics, budget_for
from zenovay_async._limits.options import Limits
from zenovay_async._limits.outcome import outcome_of
from zenovay_async._limits.retry_budget import RetryBudget
from zenovay_async._limits.window import WindowLimiter
from zenovay_async._protocol.auth import Auth, Secret
from zenovay_async._protocol.response import RawResponse
from zenovay_async.events import Event, ListenerRef, QuotaExhausted, QuotaThresholdReached, RateLimited
from zenovay_async.sandbox import Fault
from zenovay_async.sandbox.faults import NAMED

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from zenovay_async.rate_limits import OutcomeKind, Permit
    from zenovay_async.sandbox import Sandbox

pytestmark = pytest.mark.looptime

URL = "https://api.example"
SUCCEEDED = Outcome(kind="succeeded")
KINDS: list[OutcomeKind] = ["succeeded", "failed", "rate_limited", "quota_exhausted", "no_response", "unsent"]


def budget_of(key: str, url: str = URL, **limits: Any) -> Budget:
    return budget_for(Auth(Secret(key)), url, Limits(**limits))


class RecordingPermit:
    """Records how it is returned; returning it once is the budget's duty."""

    def __init__(self, limiter: RecordingLimiter) -> None:
        self._limiter = limiter

    def settle(self, outcome: Outcome) -> None:
        self._limiter.returned.append(outcome)

    def refund(self) -> None:
        self._limiter.returned.append("refunded")


class RecordingLimiter:
    """A custom limiter that records how it is called."""

    def __init__(self) -> None:
        self.returned: list[Outcome | str] = []
        self.failed: list[ZenovayError] = []
        self.requested: list[tuple[int, bool]] = []
        self.before_permit: Callable[[], None] = lambda: None
        self.closed = 0

    def acquire_nowait(self, *, cost: int = 1, background: bool = False) -> Permit | None:
        self.requested.append((cost, background))
        return RecordingPermit(self)

    async def acquire(self, *, cost: int = 1, max_wait: float | None = None, background: bool = False) -> Permit:
        if max_wait == 0:
            raise RateLimitError("no time", retry_after=1.0)
        self.requested.append((cost, background))
        self.before_permit()
        return RecordingPermit(self)

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:
        self.failed.append(make_error())

    def snapshot(self) -> RateLimit:
        return RateLimit(limit=60, remaining=60, window=60.0, reset_after=0.0, learned=False)

    def forecast(self, n: int, *, background: bool = False) -> float:
        del background
        return float(n)

    async def aclose(self) -> None:
        self.closed += 1


def acquired(budget: Budget, cost: int = 1) -> Permit:
    permit = budget.acquire_nowait(cost, background=False)
    assert permit is not None
    return permit


async def spend(budget: Budget, limit: int = 30) -> None:
    """Spend a whole window."""
    for used in range(1, limit + 1):
        permit = await budget.acquire(1, max_wait=None, background=False)
        permit.settle(Outcome(kind="succeeded", limit=limit, remaining=limit - used))


def test_a_recording_limiter_is_a_limiter() -> None:
    assert isinstance(RecordingLimiter(), RateLimiter)


@pytest.mark.parametrize("first", [*KINDS, "refund"])
@pytest.mark.parametrize("second", [*KINDS, "refund"])
@pytest.mark.parametrize("paced", ["by its own limiter", "by the caller's", "not at all"])
async def test_a_permit_returned_twice_is_an_error_and_changes_nothing(first: Any, second: Any, paced: str) -> None:
    limiter = RecordingLimiter()
    given_limit = {"by its own limiter": 60, "by the caller's": limiter, "not at all": None}[paced]
    budget = budget_of(unique_key(), rate_limit=given_limit)
    other = await budget.acquire(1, max_wait=None, background=False)
    permit = await budget.acquire(1, max_wait=None, background=False)
    # So that a success earns a part of it back.
    assert budget.spend_retry(ServerError("m"))

    def state() -> Any:
        return budget.statistics(), budget.quota(), budget.rate_limit(), list(limiter.returned)

    def return_permit(how: Any, used: int) -> None:
        if how == "refund":
            permit.refund()
        else:
            permit.settle(Outcome(kind=how, usage=UsageHeaders(used, 10), retry_after=5.0))

    return_permit(first, 5)
    before = state()
    assert budget.statistics().in_flight == 1
    with pytest.raises(RuntimeError, match="settle or refund each permit exactly once"):
        return_permit(second, 6)
    assert state() == before
    other.refund()
    assert budget.statistics().in_flight == 0


async def test_a_permit_in_a_reference_cycle_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event loop that ends in mid-call leaves such cycles, from the limiter over a caller's frame to its permit."""
    limiter = RecordingLimiter()
    inner = [RecordingPermit(limiter)]
    with monkeypatch.context() as patched:
        patched.setattr(limiter, "acquire_nowait", lambda **_: inner[0])
        vars(inner[0])["outer"] = acquired(budget_of(unique_key(), rate_limit=limiter))
    gone = weakref.ref(inner.pop())
    gc.collect()
    assert gone() is None


async def test_a_settled_permit_hands_its_outcome_to_the_limiter() -> None:
    limiter = RecordingLimiter()
    budget = budget_of(unique_key(), rate_limit=limiter)
    outcomes = [Outcome(kind=kind, limit=60, remaining=5) for kind in KINDS if kind != "unsent"]
    for outcome in outcomes:
        acquired(budget).settle(outcome)
    assert limiter.returned == outcomes


async def test_unsent_refunds_and_updates_nothing() -> None:
    limiter = RecordingLimiter()
    budget = budget_of(unique_key(), rate_limit=limiter)
    failure = APIConnectionError("m")
    failure.sent, failure.unreachable = False, True
    acquired(budget, 3).settle(outcome_of(None, failure))
    acquired(budget, 3).refund()
    assert limiter.returned == ["refunded", "refunded"]
    assert (budget.statistics(), budget.quota()) == (BudgetStatistics(in_flight=0, retries_left=20), Quota())


async def test_a_rate_limit_under_another_status_stops_every_caller() -> None:
    """The code decides, also where a response comes with status 200."""
    events: list[Event] = []
    listener = ListenerRef(events.append)
    key = unique_key()
    budget, sibling = budget_of(key), budget_of(key, quota_reserve=5)
    budget.listen(listener)
    permit = await budget.acquire(1, max_wait=None, background=False)
    permit.settle(outcome_of(RawResponse(200, {}, b""), RateLimitError("m", status=200, retry_after=30.0)))
    assert [(type(event), getattr(event, "seconds", 0)) for event in events] == [
        (RateLimited, pytest.approx(30, abs=2))
    ]
    for client in (budget, sibling):
        assert client.acquire_nowait(1, background=False) is None
        with pytest.raises(RateLimitError, match="no request was sent") as caught:
            await client.acquire(1, max_wait=5.0, background=False)
        assert caught.value.retry_after == pytest.approx(30, abs=2)
    assert budget.statistics().in_flight == 0


async def test_an_exhausted_quota_says_nothing_about_the_rate_limit() -> None:
    budget = budget_of(unique_key())
    (await budget.acquire(1, max_wait=None, background=False)).settle(Outcome(kind="quota_exhausted", retry_after=3600))
    with pytest.raises(QuotaExceededError):
        budget.check(1, background=False)
    limits = budget.rate_limit()
    assert limits is not None
    assert limits.reset_after < 60


async def test_waiting_callers_of_a_key_fail_when_its_quota_is_exhausted() -> None:
    events: list[Event] = []
    key = unique_key()
    budget, sibling = budget_of(key), budget_of(key, quota_reserve=5)
    listener = ListenerRef(events.append)
    budget.listen(listener)
    sibling.listen(listener)
    last = await budget.acquire(1, max_wait=None, background=False)
    waiting = [
        asyncio.ensure_future(client.acquire(1, max_wait=wait, background=background))
        for client in (budget, sibling)
        for wait in (None, 1000.0)
        for background in (False, True)
    ]
    await asyncio.sleep(0)
    last.settle(Outcome(kind="quota_exhausted", retry_after=3600.0))
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, QuotaExceededError) for error in ended)
    assert len({id(error) for error in ended}) == len(waiting)
    assert budget.statistics().in_flight == sibling.statistics().in_flight == 0
    assert [type(event) for event in events] == [QuotaExhausted]


async def test_a_given_limiter_that_serves_one_key_fails_its_waiters_too() -> None:
    limiter = RecordingLimiter()
    budget = budget_of(unique_key(), rate_limit=limiter)
    acquired(budget).settle(Outcome(kind="quota_exhausted", retry_after=3600.0))
    assert [type(error) for error in limiter.failed] == [QuotaExceededError]


async def test_an_exhausted_quota_fails_no_caller_of_another_key() -> None:
    """Where two keys share a given limiter, callers of the exhausted key fail when they get a permit, and refund it."""
    limiter = WindowLimiter(limit=4, window=10.0)
    exhausted, other = (budget_of(unique_key(), rate_limit=limiter) for _ in range(2))
    await spend(other, 3)
    last = await exhausted.acquire(1, max_wait=None, background=False)
    waiting = [
        asyncio.ensure_future(budget.acquire(1, max_wait=None, background=False))
        for budget in (exhausted, other, exhausted, other, other)
    ]
    await asyncio.sleep(0)
    assert limiter.statistics().direct_waiting == 5
    last.settle(Outcome(kind="quota_exhausted", retry_after=3600.0))
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(each, QuotaExceededError) for each in ended] == [True, False, True, False, False]
    assert (exhausted.statistics().in_flight, other.statistics().in_flight, limiter.statistics().in_flight) == (0, 3, 3)
    for permit in ended:
        if not isinstance(permit, BaseException):
            permit.settle(SUCCEEDED)
    assert (other.statistics().in_flight, limiter.statistics().in_flight) == (0, 0)


async def test_a_quota_may_be_exhausted_while_other_threads_make_clients() -> None:
    """The budgets of all threads are in one registry, which grows while this one looks for the keys of a limiter."""
    done = threading.Event()

    def make_clients() -> None:
        while not done.is_set():
            budget_of(unique_key())

    thread = threading.Thread(target=make_clients)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(200):
            budget = budget_of(unique_key(), rate_limit=RecordingLimiter())
            acquired(budget).settle(Outcome(kind="quota_exhausted", retry_after=3600.0))
            assert budget.statistics().in_flight == 0
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)


async def test_a_quota_exhausted_during_the_wait_returns_the_permit() -> None:
    limiter = RecordingLimiter()
    budget = budget_of(unique_key(), rate_limit=limiter)
    first = acquired(budget)
    limiter.before_permit = lambda: first.settle(Outcome(kind="quota_exhausted", retry_after=60.0))
    with pytest.raises(QuotaExceededError):
        await budget.acquire(2, max_wait=None, background=False)
    assert limiter.returned == [Outcome(kind="quota_exhausted", retry_after=60.0), "refunded"]
    assert budget.statistics().in_flight == 0


async def test_a_call_that_asks_for_the_quota_takes_no_from_a_limiter_of_its_own() -> None:
    """It waits anew only if the server reported the quota exhausted meanwhile."""
    limiter = RecordingLimiter()
    budget = budget_of(unique_key(), rate_limit=limiter)
    first = await budget.acquire(1, max_wait=None, background=False)
    errors = iter([QuotaExceededError("of this wait"), QuotaExceededError("of the limiter itself")])

    def fail() -> None:
        if len(limiter.requested) == 2:
            first.settle(Outcome(kind="quota_exhausted"))
        raise next(errors)

    limiter.before_permit = fail
    with pytest.raises(QuotaExceededError, match="of the limiter itself"):
        await budget.acquire(1, max_wait=None, background=False, states_usage=True)
    assert budget.statistics().in_flight == 0


async def test_a_wait_that_does_not_fit_leaves_nothing_in_flight() -> None:
    budget = budget_of(unique_key(), rate_limit=RecordingLimiter())
    with pytest.raises(RateLimitError):
        await budget.acquire(1, max_wait=0, background=False)
    assert budget.statistics().in_flight == 0


async def test_cost_and_background_reach_the_limiter() -> None:
    limiter = RecordingLimiter()
    budget = budget_of(unique_key(), rate_limit=limiter)
    budget.acquire_nowait(3, background=True)
    await budget.acquire(2, max_wait=None, background=False)
    assert limiter.requested == [(3, True), (2, False)]
    assert budget.statistics().in_flight == 5


async def test_requests_in_flight_count_against_the_reserve() -> None:
    budget = budget_of(unique_key(), rate_limit=None, quota_reserve=10)
    acquired(budget).settle(Outcome(kind="succeeded", usage=UsageHeaders(85, 100)))
    permits = [acquired(budget, 2), acquired(budget, 2)]
    budget.check(1, background=True)
    with pytest.raises(QuotaExceededError, match="quota_reserve=10"):
        budget.check(2, background=True)
    budget.check(50, background=False)
    permits[0].refund()
    budget.check(2, background=True)


async def test_clients_of_a_key_share_everything_but_the_reserve() -> None:
    key = unique_key()
    budget, careful = budget_of(key), budget_of(key, quota_reserve=95)
    permit = await budget.acquire(2, max_wait=None, background=False)
    assert careful.statistics().in_flight == 2
    permit.settle(Outcome(kind="succeeded", limit=60, remaining=58, usage=UsageHeaders(10, 100)))
    assert budget.spend_retry(ServerError("m"))
    assert careful.statistics().retries_left == budget.statistics().retries_left == 19
    assert careful.quota() == budget.quota() == Quota(used=10, limit=100)
    assert careful.rate_limit() == budget.rate_limit()
    budget.check(1, background=True)
    with pytest.raises(QuotaExceededError):
        careful.check(1, background=True)


async def test_other_keys_and_addresses_share_nothing_and_other_limits_the_quota_alone() -> None:
    key = unique_key()
    limiter = RecordingLimiter()
    budgets = [
        budget_of(key),
        budget_of(unique_key()),
        budget_of(key, "https://other.example"),
        budget_of(key, rate_limit=60),
        budget_of(key, rate_limit=None),
        budget_of(key, rate_limit=limiter),
        budget_of(key, rate_limit=RecordingLimiter()),
        budget_of(key, window=5.0),
    ]
    (await budgets[0].acquire(1, max_wait=None, background=False)).settle(
        Outcome(kind="succeeded", usage=UsageHeaders(10, 100))
    )
    assert [budget.quota().used for budget in budgets] == [10, None, None, 10, 10, 10, 10, 10]
    elsewhere: list[Quota] = []
    thread = threading.Thread(target=lambda: elsewhere.append(budget_of(key).quota()))
    thread.start()
    thread.join()
    assert elsewhere == [Quota()]


def test_a_retry_budget_is_earned_back_by_successes() -> None:
    budget = RetryBudget()
    assert [budget.spend() for _ in range(25)].count(True) == 20
    for _ in range(5):
        budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]


async def test_only_a_success_earns_a_fifth_of_a_retry() -> None:
    budget = budget_of(unique_key(), rate_limit=None)
    for _ in range(5):
        assert budget.spend_retry(ServerError("m"))
    assert budget.statistics().retries_left == 15
    for kind in KINDS:
        if kind != "quota_exhausted":
            acquired(budget).settle(Outcome(kind=kind))
    acquired(budget).refund()
    assert budget.statistics().retries_left == pytest.approx(15.2)


@pytest.mark.parametrize(
    ("rate_limit", "error", "spent"),
    [
        ("auto", RateLimitError("m"), 0),
        ("auto", RateLimitError("m", retry_after=1), 0),
        ("auto", ServerError("m"), 1),
        ("auto", ServerError("m", retry_after=1), 1),
        ("auto", APIConnectionError("m"), 1),
        (None, RateLimitError("m"), 1),
        (None, RateLimitError("m", retry_after=1), 0),
        (None, ServerError("m"), 1),
    ],
)
def test_a_retry_after_a_bounded_429_spends_nothing(rate_limit: Any, error: ZenovayError, spent: int) -> None:
    """A limiter bounds it, or the time that the server named; every other retry spends from the retry budget."""
    budget = budget_of(unique_key(), rate_limit=rate_limit)
    assert budget.is_paced == (rate_limit is not None)
    for _ in range(20):
        assert budget.spend_retry(error)
    assert budget.statistics().retries_left == 20 - 20 * spent
    assert budget.spend_retry(error) == (not spent)


async def test_an_event_is_emitted_once_to_each_listener_that_is_left() -> None:
    key = unique_key()
    budget, sibling = budget_of(key), budget_of(key, quota_reserve=1)
    one: list[Event] = []
    other: list[Event] = []
    gone: list[Event] = []
    on_one = one.append
    first, second, third = ListenerRef(on_one), ListenerRef(on_one), ListenerRef(other.append)
    budget.listen(first)
    sibling.listen(second)
    sibling.listen(third)
    budget.listen(ListenerRef(gone.append))
    gc.collect()
    (await budget.acquire(1, max_wait=None, background=False)).settle(
        Outcome(kind="succeeded", usage=UsageHeaders(95, 100))
    )
    event = QuotaThresholdReached(used=95, limit=100, percent=95)
    assert (one, other, gone) == ([event], [event], [])


@pytest.mark.parametrize(
    ("usage", "n", "cost", "estimate"),
    [
        (None, 5, 1, Estimate(seconds=5.0, requests=5, quota_share=None)),
        (UsageHeaders(80, 100), 5, 2, Estimate(seconds=10.0, requests=10, quota_share=0.5)),
        (UsageHeaders(100, 100), 5, 1, Estimate(seconds=5.0, requests=5, quota_share=1.0)),
        (UsageHeaders(100, 100), 0, 1, Estimate(seconds=0.0, requests=0, quota_share=0.0)),
    ],
)
async def test_an_estimate_counts_requests_seconds_and_their_share(
    usage: UsageHeaders | None, n: int, cost: int, estimate: Estimate
) -> None:
    budget = budget_of(unique_key(), rate_limit=RecordingLimiter())
    acquired(budget).settle(Outcome(kind="succeeded", usage=usage))
    assert budget.estimate(n, cost, background=True) == estimate


@pytest.mark.parametrize(
    ("n", "cost", "message"),
    [
        (-1, 1, "n=-1: expected an int >= 0"),
        (1.5, 1, "n=1.5: expected an int >= 0"),
        (1, 0, "cost=0: expected an int >= 1"),
    ],
)
def test_an_estimate_checks_its_arguments(n: Any, cost: int, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        budget_of(unique_key()).estimate(n, cost, background=True)
    assert caught.value.message == message


async def test_closing_closes_its_own_limiter_and_never_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[WindowLimiter] = []

    async def aclose(limiter: WindowLimiter) -> None:
        closed.append(limiter)

    monkeypatch.setattr(WindowLimiter, "aclose", aclose)
    recording, window = RecordingLimiter(), WindowLimiter()
    for limiter in (recording, window, None):
        await budget_of(unique_key(), rate_limit=limiter).aclose()
    assert (recording.closed, closed) == (0, [])
    for limit in ("auto", 30):
        await budget_of(unique_key(), rate_limit=limit).aclose()
    assert len(closed) == 2
    assert window not in closed


async def test_after_closing_a_permit_can_be_returned_and_another_acquired() -> None:
    budget = budget_of(unique_key())
    permit = await budget.acquire(1, max_wait=None, background=False)
    await budget.aclose()
    permit.settle(SUCCEEDED)
    (await budget.acquire(1, max_wait=None, background=False)).refund()
    assert budget.statistics().in_flight == 0


@pytest.mark.looptime(False)  # noqa: FBT003 - how looptime is turned off
@pytest.mark.parametrize("end", [*NAMED, "success", "strict", "decoder raises", "cancel", "closed", "refused"])
async def test_a_call_returns_its_permit_however_it_ends(sandbox: Sandbox, end: str, unused_tcp_port: int) -> None:
    """With a result, every fault, a closed client, no server, or canceled with its request in flight."""

    class Broken(msgspec.Struct):
        pages: list[Any]

        def __post_init__(self) -> None:
            raise OSError("decoded to a class that raises")

    if end in NAMED:
        sandbox.fault(NAMED[end]())
    arrived = asyncio.Event()

    async def hold(_: web.Request) -> None:
        arrived.set()
        await asyncio.Event().wait()

    if end == "cancel":
        sandbox.fault(Fault("hold", hold))
    url = f"http://127.0.0.1:{unused_tcp_port}" if end == "refused" else sandbox.url
    limiter = WindowLimiter(limit=60)
    options: dict[str, Any] = {"rate_limit": limiter, "max_attempts": 1, "strict": end == "strict"}
    # Two faults take longer than this.
    options["attempt_timeout"] = 0.05 if end in {"latency", "slow-body"} else 15
    async with Zenovay(sandbox.api_key, base_url=url, **options) as zenovay:
        budget = budget_of(sandbox.api_key, url, rate_limit=limiter)
        if end == "closed":
            await zenovay.close()
        result_type = Broken if end == "decoder raises" else None
        path = f"heatmaps/{sandbox.website_ids[0]}/pages"
        call = asyncio.create_task(zenovay.request("GET", path, result_type=result_type))
        if end == "cancel":
            await arrived.wait()
            assert (budget.statistics().in_flight, limiter.statistics().in_flight) == (1, 1)
            call.cancel()
        ended: Any = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(ended[0], dict) == (end in {"success", "strict", "deprecated"})
        assert (budget.statistics().in_flight, limiter.statistics().in_flight) == (0, 0)


_COSTS = st.integers(1, 3)
_KINDS = st.sampled_from([kind for kind in KINDS if kind != "quota_exhausted"])
_STEPS: Any = st.lists(
    st.one_of(
        st.tuples(st.just("acquire_nowait"), _COSTS, st.booleans()),
        st.tuples(st.just("acquire"), _COSTS, st.booleans(), st.one_of(st.none(), st.integers(0, 20))),
        st.tuples(st.just("settle"), st.integers(0, 50), _KINDS),
        st.tuples(st.just("refund"), st.integers(0, 50)),
        st.tuples(st.just("return twice"), st.integers(0, 50)),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("sleep"), st.integers(0, 15)),
        st.tuples(st.just("exhaust"), st.integers(0, 50)),
    ),
    max_size=40,
)


class _Run:
    """Carries out steps, and knows what must be in flight."""

    def __init__(self, rate_limit: Any) -> None:
        self.budget = budget_of(unique_key(), rate_limit=rate_limit)
        self.held: list[tuple[Permit, int]] = []
        self.returned: list[Permit] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def step(self, what: str, *details: Any) -> None:
        if what == "acquire_nowait":
            cost, background = details
            acquired = self.budget.acquire_nowait(cost, background=background)
            if acquired is not None:
                self.held.append((acquired, cost))
        elif what == "acquire":
            self.tasks.append(asyncio.create_task(self._acquire(*details)))
        elif what == "sleep":
            await asyncio.sleep(details[0])
        elif what == "cancel" and self.tasks:
            self.tasks[details[0] % len(self.tasks)].cancel()
        elif what == "return twice" and self.returned:
            with pytest.raises(RuntimeError):
                self.returned[details[0] % len(self.returned)].settle(SUCCEEDED)
        elif what in {"settle", "refund", "exhaust"} and self.held:
            permit, _ = self.held.pop(details[0] % len(self.held))
            self.returned.append(permit)
            if what == "settle":
                permit.settle(Outcome(kind=details[1], limit=5, retry_after=3.0))
            elif what == "refund":
                permit.refund()
            else:
                permit.settle(Outcome(kind="quota_exhausted", retry_after=3600.0))
        assert self.budget.statistics().in_flight == sum(cost for _, cost in self.held)

    async def _acquire(self, cost: int, background: bool, max_wait: float | None) -> None:  # noqa: FBT001 - drawn
        try:
            permit = await self.budget.acquire(cost, max_wait=max_wait, background=background)
        except (RateLimitError, QuotaExceededError):
            return
        self.held.append((permit, cost))

    async def end(self) -> None:
        while self.held or any(not task.done() for task in self.tasks):
            for permit, _ in self.held:
                permit.settle(SUCCEEDED)
            self.held.clear()
            await asyncio.sleep(1)


@given(_STEPS, st.sampled_from(["auto", 5, None, "caller's"]))
@settings(max_examples=200)
def test_in_flight_is_what_was_acquired_and_not_returned(steps: list[Any], rate_limit: Any) -> None:
    """In any order of permits, waits, cancellations and outcomes; in the end it is 0, and nobody waits."""

    async def run() -> None:
        limiter = WindowLimiter(limit=5, window=10.0) if rate_limit == "caller's" else None
        sequence = _Run(limiter or rate_limit)
        for step in steps:
            await sequence.step(*step)
        await sequence.end()
        assert sequence.budget.statistics().in_flight == 0
        if limiter is not None:
            statistics = limiter.statistics()
            assert (statistics.in_flight, statistics.direct_waiting, statistics.background_waiting) == (0, 0, 0)

    loop = new_event_loop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()


@pytest.mark.looptime
async def test_a_batch_leaves_what_its_client_says() -> None:
    """Clients of one key may leave different numbers of requests of the window they share; the estimate counts it."""
    key = unique_key()
    careful, careless = budget_of(key, batch_headroom=29), budget_of(key, batch_headroom=0)
    permit = await careful.acquire(1, max_wait=None, background=True)
    permit.settle(Outcome(kind="succeeded", limit=30, remaining=29))
    assert careful.acquire_nowait(1, background=True) is None
    assert careful.estimate(1, 1, background=True).seconds > 59
    assert careful.estimate(1, 1, background=False).seconds == 0
    assert careless.estimate(1, 1, background=True).seconds == 0
    another = careless.acquire_nowait(1, background=True)
    assert another is not None
    another.refund()
