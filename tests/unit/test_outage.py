"""While the server is away one caller probes, and nobody waits forever. Time is virtual."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from helpers import examples, hold_up, now, unique_key
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import new_event_loop

from zenovay_async import ClientClosedError, Outcome, RateLimitError, ServerReachable, ServerUnreachable
from zenovay_async._limits.budget import Budget, budget_for
from zenovay_async._limits.options import Limits
from zenovay_async._limits.outage import MIN_FAILURES, Outage
from zenovay_async._limits.patience import Patience, ServerUnavailable
from zenovay_async._limits.window import WindowLimiter
from zenovay_async._protocol.auth import Auth, Secret
from zenovay_async.events import Event, ListenerRef

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from zenovay_async._limits.budget import BudgetPermit
    from zenovay_async._limits.outage_gate import OutageGate

REFUSED = Outcome(kind="unreachable", reason="No connection could be made")
NOT_FOUND = Outcome(kind="unreachable", reason="The host was not found: api.example")
BROKEN = Outcome(kind="failed", status=502, reason="Bad gateway")
DROPPED = Outcome(kind="no_response", reason="The server closed the connection without a response")
GOOD = Outcome(kind="succeeded", status=200)


def unreachable(outage: Outage, at: float, *, probe: int = 0, jitter: float = 0.5) -> bool:
    return outage.on_unreachable(at, probe=probe, reason="refused", jitter=jitter)


def fail(outage: Outage, path: str, *, at: float = 0.0, probe: int = 0, status: int | None = 502) -> bool:
    return outage.on_failure(at, probe=probe, path=path, reason="broken", status=status, jitter=0.5)


def test_the_first_connection_that_cannot_be_made_begins_an_outage() -> None:
    outage = Outage()
    assert unreachable(outage, 10.0)
    assert not unreachable(outage, 11.0)
    assert (outage.kind, outage.since, outage.reason) == ("unreachable", 10.0, "refused")
    assert outage.holds_back(0, background=False)
    assert outage.holds_back(0, background=True)
    assert outage.on_response(12.0, sent_at=11.5) == 2.0
    assert not outage.holds_back(0, background=True)


def test_probes_are_fewer_than_twenty_a_minute_whatever_the_jitter() -> None:
    for jitter in (0.0, 0.5, 0.999):
        outage = Outage()
        unreachable(outage, 0.0, jitter=jitter)
        waits: list[float] = []
        at = 0.0
        while outage.next_probe_at < 600:
            waits.append(outage.next_probe_at - at)
            at = outage.next_probe_at
            assert not outage.is_probe_due(at - 0.01)
            assert outage.is_probe_due(at)
            unreachable(outage, at, probe=outage.start_probe(), jitter=jitter)
        assert sum(sum(waits[:count]) <= 60 for count in range(len(waits))) < 20
        bounds = [min(8.0, 0.5 * 1.7**count) for count in range(len(waits))]
        assert all(bound / 2 - 1e-9 <= wait <= bound + 1e-9 for bound, wait in zip(bounds, waits, strict=True))


def test_failures_of_one_website_are_no_outage() -> None:
    """Nor of two, however often they are asked; a failure of a third is."""
    outage = Outage()
    assert not any(fail(outage, path) for path in ["a", "b"] * 20)
    assert outage.kind is None
    assert fail(outage, "c")
    assert outage.kind == "failing"


def test_failures_with_another_response_between_them_are_no_outage() -> None:
    outage = Outage()
    for number in range(100):
        assert not fail(outage, str(number))
        if number % (MIN_FAILURES - 1) == 0:
            outage.on_response(0.0, sent_at=None)
    assert outage.kind is None


def failing() -> Outage:
    outage = Outage()
    assert [fail(outage, str(number)) for number in range(MIN_FAILURES)][-1]
    return outage


def test_a_failing_server_holds_back_batches_only() -> None:
    outage = failing()
    assert outage.holds_back(0, background=True)
    assert not outage.holds_back(0, background=False)
    probe = outage.start_probe()
    assert not outage.holds_back(probe, background=True)


def test_what_left_before_the_outage_does_not_end_it() -> None:
    outage = Outage()
    unreachable(outage, 10.0)
    assert outage.on_response(10.5, sent_at=9.9) is None
    assert outage.kind == "unreachable"
    assert outage.on_response(10.5, sent_at=10.1) == 0.5


def test_a_connection_that_breaks_late_does_not_make_the_server_reachable() -> None:
    outage = Outage()
    unreachable(outage, 0.0)
    assert not fail(outage, "a", status=None)
    assert (outage.kind, outage.since) == ("unreachable", 0.0)
    assert not fail(outage, "a", at=1.0, probe=outage.start_probe())
    assert (outage.kind, outage.since) == ("failing", 0.0)
    assert not unreachable(outage, 2.0)
    assert (outage.kind, outage.since) == ("unreachable", 0.0)


def test_an_outage_can_be_kept_elsewhere_after_any_step() -> None:
    outage = failing()
    outage.start_probe()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(outage), type=Outage) == outage
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Outage()), type=Outage) == Outage()
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode([2]), type=Outage)


_AT = st.floats(0, 10)
_TRANSITIONS: Any = st.lists(
    st.one_of(
        st.tuples(st.just("unreachable"), _AT, st.booleans()),
        st.tuples(st.just("failure"), _AT, st.booleans(), st.sampled_from("abcd")),
        st.tuples(st.just("response"), _AT),
        st.tuples(st.just("slow"), _AT, st.booleans()),
        st.tuples(st.just("pass"), _AT, st.booleans()),
        st.tuples(st.just("probe"), _AT),
    ),
    max_size=60,
)


@given(_TRANSITIONS)
def test_another_probe_is_always_due_within_the_longest_wait(transitions: list[Any]) -> None:
    outage, at = Outage(), 0.0
    for what, seconds, *details in transitions:
        at += seconds
        probe = outage.probe if details and details[0] else 0
        if what == "unreachable":
            unreachable(outage, at, probe=probe)
        elif what == "failure":
            fail(outage, details[1], at=at, probe=probe)
        elif what == "response":
            outage.on_response(at, sent_at=None)
            assert outage.kind is None
        elif what == "slow":
            outage.on_slow_probe(at, probe=probe, jitter=0.5)
        elif what == "pass":
            outage.pass_on(probe)
        elif outage.is_probe_due(at):
            assert not outage.holds_back(outage.start_probe(), background=True)
        if outage.kind is not None:
            assert outage.holds_back(0, background=True)
            assert outage.since <= at
            assert outage.probe or outage.is_probe_due(at + outage.longest_wait)
        else:
            assert not outage.probe


class Callers:
    """Callers of one key, and what became of them.

    Attributes:
        budget: The budget of the key.
        permits: The permits of those that may send, in order, by name.
        gave_up: Those that do not wait any longer.
    """

    def __init__(self, rate_limit: Any = None, seed: int = 0) -> None:
        self.budget = budget_of(rate_limit)
        self.gate._rng = random.Random(seed)
        self.permits: dict[str, BudgetPermit] = {}
        self.gave_up: dict[str, ServerUnavailable] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def gate(self) -> OutageGate:
        return self.budget._shared.outage_gate

    @property
    def outage(self) -> Outage:
        return self.gate.outage

    async def begin(self, outcome: Outcome = REFUSED) -> None:
        """Begin an outage."""
        for number in range(1 if outcome.kind == "unreachable" else MIN_FAILURES):
            permit = await self.budget.acquire(1, max_wait=None, background=False)
            permit.settle(outcome, f"path {number}")

    async def come(self, *names: str, background: bool = False, max_wait: float | None = None, **patience: Any) -> None:
        """Let callers wait for a permit, and go as far as they can at once."""
        for name in names:
            call = self._call(name, background, max_wait, Patience(**patience))
            self.tasks[name] = asyncio.create_task(call)
        await settle_down()

    async def _call(self, name: str, background: bool, max_wait: float | None, patience: Patience) -> None:  # noqa: FBT001 - handed through
        try:
            self.permits[name] = await self.budget.acquire(
                1, max_wait=max_wait, background=background, patience=patience
            )
        except ServerUnavailable as error:
            self.gave_up[name] = error

    async def next_probe(self) -> str:
        """The caller that probes next, once it may."""
        before = set(self.permits)
        await until(lambda: set(self.permits) != before, 20)
        (name,) = set(self.permits) - before
        return name

    async def settle(self, name: str, outcome: Outcome) -> None:
        self.permits.pop(name).settle(outcome, f"path of {name}")
        await settle_down()


def budget_of(rate_limit: Any = None) -> Budget:
    return budget_for(Auth(Secret(unique_key())), "https://api.example", Limits(rate_limit))


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Let virtual time pass until a condition is true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - none of the tasks sets an event
            await asyncio.sleep(0.01)


async def settle_down() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.looptime
async def test_one_caller_probes_and_the_others_wait_for_its_outcome() -> None:
    callers = Callers()
    await callers.begin()
    began = now()
    await callers.come("a", "b", "c")
    assert callers.permits == {}
    assert callers.budget.acquire_nowait(1, background=False) is None
    assert await callers.next_probe() == "a"
    assert 0.25 <= now() - began <= 0.52
    await asyncio.sleep(100)
    assert list(callers.permits) == ["a"]


@pytest.mark.looptime
async def test_a_caller_whose_probe_failed_goes_to_the_back() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come("a", "b", "c")
    order: list[str] = []
    for _ in range(5):
        name = await callers.next_probe()
        order.append(name)
        await callers.settle(name, REFUSED)
        await callers.come(name)
    assert order == ["a", "b", "c", "a", "b"]


@pytest.mark.looptime
async def test_direct_calls_probe_before_those_of_a_batch() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come("batch", background=True)
    await callers.come("direct")
    assert await callers.next_probe() == "direct"


@pytest.mark.looptime
async def test_after_an_outage_callers_go_on_a_few_at_a_time() -> None:
    callers = Callers()
    await callers.begin()
    names = [str(number) for number in range(30)]
    await callers.come(*names, background=True)
    (probe,) = [await callers.next_probe()]
    waves: list[int] = []
    await callers.settle(probe, GOOD)
    while callers.permits:
        waves.append(len(callers.permits))
        for name in list(callers.permits):
            callers.permits.pop(name).settle(Outcome(kind="failed", status=404, reason="Not found"), name)
        await settle_down()
    assert waves[0] == 2
    assert all(later <= 2 * earlier for earlier, later in itertools.pairwise(waves))
    assert sum(waves) == 29
    assert callers.gate.is_clear


@pytest.mark.looptime
async def test_callers_that_come_after_an_outage_wait_behind_those_that_waited() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come(*"abcdefg", background=True)
    await callers.settle(await callers.next_probe(), GOOD)
    await callers.come("late", background=True)
    assert list(callers.permits) == ["b", "c"]
    await callers.come("direct")
    assert "direct" in callers.permits
    for name in "bcd":
        await callers.settle(name, GOOD)
    assert "late" in callers.permits


@pytest.mark.looptime
async def test_an_outage_in_the_slow_start_stops_it() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come(*"abcdefgh", background=True)
    await callers.settle(await callers.next_probe(), GOOD)
    assert len(callers.permits) == 2
    for name in list(callers.permits):
        await callers.settle(name, REFUSED)
    assert callers.permits == {}
    assert await callers.next_probe() == "d"


@pytest.mark.looptime
@pytest.mark.parametrize("how", ["refund", "cancel in flight", "cancel before it starts", "cancel while it waits"])
async def test_a_probe_without_an_outcome_lets_another_caller_probe(how: str) -> None:
    callers = Callers()
    await callers.begin()
    await callers.come("a", "b")
    if how == "cancel while it waits":
        callers.tasks["a"].cancel()
    elif how == "cancel before it starts":
        hold_up(1.0)
        # The timer fires, and in the same iteration the task is canceled.
        asyncio.get_running_loop().call_soon(callers.tasks["a"].cancel)
    else:
        assert await callers.next_probe() == "a"
        permit = callers.permits.pop("a")
        if how == "refund":
            permit.refund()
        else:
            permit.settle(Outcome(kind="no_response"))
    began = now()
    assert await callers.next_probe() == "b"
    assert now() - began <= 0.51


@pytest.mark.looptime
async def test_a_caller_in_the_queue_of_the_limiter_does_not_send_in_an_outage() -> None:
    limiter = WindowLimiter(limit=10)
    callers = Callers(limiter)
    first = await callers.budget.acquire(1, max_wait=None, background=False)
    # They wait for the response to the first.
    await callers.come("a", "b", "c")
    first.settle(REFUSED, "path")
    await settle_down()
    assert callers.permits == {}
    assert limiter.statistics().in_flight == 0
    assert await callers.next_probe() == "a"
    assert limiter.statistics().in_flight == 1


@pytest.mark.looptime
async def test_a_permit_acquired_before_an_outage_is_held_back() -> None:
    """As that of a caller that waited for a connection slot."""
    callers = Callers()
    early = await callers.budget.acquire(1, max_wait=None, background=False)
    assert not callers.budget.holds_back(early, background=False)
    await callers.begin()
    assert callers.budget.holds_back(early, background=False)


@pytest.mark.looptime
async def test_a_failing_server_holds_back_no_direct_call() -> None:
    callers = Callers()
    await callers.begin(BROKEN)
    assert callers.outage.kind == "failing"
    await callers.come("batch", background=True)
    await callers.come("direct")
    assert list(callers.permits) == ["direct"]
    await callers.settle("direct", GOOD)
    assert list(callers.permits) == ["batch"]


@pytest.mark.looptime
async def test_direct_callers_go_on_when_the_server_is_reachable_but_fails() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come(*"abcdef")
    await callers.come("batch", background=True)
    await callers.settle(await callers.next_probe(), BROKEN)
    assert len(callers.permits) == 2
    while callers.permits:
        await callers.settle(next(iter(callers.permits)), BROKEN)
        if "batch" in callers.permits:
            break
    assert all(callers.tasks[name].done() for name in "abcdef")


@pytest.mark.looptime
@pytest.mark.parametrize("outcome", [REFUSED, BROKEN, DROPPED], ids=["unreachable", "5xx", "no response"])
async def test_a_batch_waits_as_long_as_it_may_and_then_gives_up(outcome: Outcome) -> None:
    callers = Callers()
    await callers.begin(outcome)
    began = now()
    patience: dict[str, Any] = {"background": True, "max_outage": 20.0, "since": began}
    await callers.come("a", "b", **patience)
    while not callers.gave_up:
        await asyncio.sleep(0.05)
        for name in list(callers.permits):
            await callers.settle(name, outcome)
            await callers.come(name, **patience)
    assert 19.9 <= now() - began <= 20.1
    await settle_down()
    assert set(callers.gave_up) == {"a", "b"}
    error = callers.gave_up["a"]
    assert (error.reason, error.status) == (outcome.reason, outcome.status)
    assert error.seconds == pytest.approx(20, abs=0.1)


@pytest.mark.looptime
async def test_a_batch_that_begins_in_an_outage_has_its_own_time() -> None:
    callers = Callers()
    await callers.begin()
    await asyncio.sleep(1000)
    await callers.come("a", background=True, max_outage=5.0)
    assert list(callers.permits) == ["a"]
    await callers.settle("a", REFUSED)
    began = now()
    await callers.come("b", background=True, max_outage=0.1, since=began)
    await asyncio.sleep(0.2)
    assert list(callers.gave_up) == ["b"]


@pytest.mark.looptime
async def test_a_batch_without_a_bound_waits_forever() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come("a", "b", background=True, max_outage=None)
    assert await callers.next_probe() == "a"
    await asyncio.sleep(1_000_000)
    assert callers.gave_up == {}


@pytest.mark.looptime
async def test_a_direct_call_waits_to_its_deadline() -> None:
    callers = Callers()
    await callers.begin()
    began = now()
    await callers.come("probe")
    assert await callers.next_probe() == "probe"
    await callers.come("a", max_wait=7.0)
    await until(lambda: bool(callers.gave_up), 20)
    assert now() - began == pytest.approx(7.5, abs=0.3)


@pytest.mark.looptime
async def test_a_direct_call_that_cannot_wait_for_the_next_probe_fails_at_once() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come("waits")
    began = now()
    await callers.come("a", max_wait=0.1)
    await callers.come("retry", max_wait=0.1, attempts=1)
    assert set(callers.gave_up) == {"a", "retry"}
    assert now() == began
    assert 0.2 <= callers.gave_up["a"].retry_after <= 0.5


@pytest.mark.looptime
async def test_a_direct_call_that_nobody_probes_for_makes_its_first_attempt() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come("a", max_wait=0.1)
    assert list(callers.permits) == ["a"]


@pytest.mark.looptime
async def test_a_direct_call_that_cannot_outwait_a_failed_probe_fails_with_it() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come("probe")
    assert await callers.next_probe() == "probe"
    await callers.come("short", max_wait=0.1)
    await callers.come("long", max_wait=50)
    began = now()
    await callers.settle("probe", REFUSED)
    assert list(callers.gave_up) == ["short"]
    assert now() == began


@pytest.mark.looptime
async def test_a_direct_call_without_a_deadline_gives_up_after_five_minutes() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come("probe", "a")
    assert await callers.next_probe() == "probe"
    began = now()
    await asyncio.wait([callers.tasks["a"]], timeout=400)
    assert set(callers.gave_up) == {"a"}
    assert now() - began == pytest.approx(300, abs=2)


@pytest.mark.looptime
async def test_a_host_that_was_never_found_is_given_up_within_ten_seconds() -> None:
    callers = Callers()
    await callers.begin(NOT_FOUND)
    began = now()
    attempts = 0
    while "a" not in callers.gave_up:
        await callers.come("a", since=began, attempts=attempts)
        await until(lambda: "a" in callers.permits or "a" in callers.gave_up, 20)
        if "a" in callers.permits:
            attempts += 1
            await callers.settle("a", NOT_FOUND)
    assert now() - began < 6
    assert callers.gave_up["a"].unknown_host
    assert attempts >= 2


@pytest.mark.looptime
async def test_a_host_that_was_found_before_is_waited_for() -> None:
    callers = Callers()
    (await callers.budget.acquire(1, max_wait=None, background=False)).settle(GOOD)
    await callers.begin(NOT_FOUND)
    await callers.come("probe", "a")
    await callers.next_probe()
    await asyncio.sleep(100)
    assert callers.gave_up == {}


@pytest.mark.looptime
async def test_a_call_of_one_attempt_makes_it_at_once_or_shares_that_of_another() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come("waits")
    await callers.come("first", "second", single=True)
    assert list(callers.permits) == ["first"]
    await callers.settle("first", REFUSED)
    assert list(callers.gave_up) == ["second"]
    await callers.come("third", "fourth", single=True)
    assert list(callers.permits) == ["third"]
    callers.permits.pop("third").refund()
    await settle_down()
    assert list(callers.permits) == ["fourth"]
    await callers.settle("fourth", GOOD)
    assert list(callers.permits) == ["waits"]


@pytest.mark.looptime
async def test_the_beginning_and_the_end_of_an_outage_are_emitted_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "zenovay_async")
    events: list[Event] = []
    listener = ListenerRef(events.append)
    callers = Callers()
    callers.budget.listen(listener)
    permits = [await callers.budget.acquire(1, max_wait=None, background=False) for _ in range(5)]
    for permit in permits:
        permit.settle(REFUSED, "path")
    await callers.come("a")
    await callers.settle(await callers.next_probe(), GOOD)
    await callers.come("b")
    await callers.settle("b", GOOD)
    away, back = events
    assert away == ServerUnreachable(kind="unreachable", reason="No connection could be made", status=None)
    assert isinstance(back, ServerReachable)
    assert 0.2 <= back.seconds <= 0.6
    assert [(record.levelname, record.getMessage()[:20]) for record in caplog.records] == [
        ("INFO", "Server unreachable: "),
        ("INFO", "Server reachable aga"),
    ]


@pytest.mark.looptime
async def test_the_log_has_the_status_of_a_server_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "zenovay_async")
    callers = Callers()
    for number in range(5):
        permit = await callers.budget.acquire(1, max_wait=None, background=False)
        permit.settle(Outcome(kind="failed", status=502, reason="Bad gateway"), f"path {number}")
    assert [record.getMessage() for record in caplog.records] == ["Server failing: HTTP 502: Bad gateway; batches wait"]


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("outcome", "path"),
    [
        (Outcome(kind="no_response"), "path"),
        (Outcome(kind="unsent"), "path"),
        (REFUSED, ""),
        (DROPPED, ""),
        (Outcome(kind="failed", status=404, reason="Not found"), "path"),
        (Outcome(kind="rate_limited", status=503, reason="Slow down"), "path"),
    ],
)
async def test_what_says_nothing_bad_of_the_server_begins_no_outage(outcome: Outcome, path: str) -> None:
    """Such as a call that is canceled, or whose own time is over, or that is rate limited."""
    callers = Callers()
    for number in range(20):
        permit = await callers.budget.acquire(1, max_wait=None, background=False)
        permit.settle(outcome, path and f"{path} {number}")
    assert callers.outage.kind is None


@pytest.mark.looptime
async def test_a_probe_that_runs_out_of_its_own_time_spaces_the_next() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come("a", "b")
    await callers.next_probe()
    callers.permits.pop("a").settle(DROPPED)
    began = now()
    assert await callers.next_probe() == "b"
    assert now() - began >= 0.5


def test_an_outage_of_a_closed_event_loop_is_found_out_anew_on_the_next() -> None:
    callers = Callers()

    def run(work: Callable[[], Coroutine[Any, Any, None]], start: float) -> None:
        loop = new_event_loop(start=start)
        try:
            loop.run_until_complete(work())
        finally:
            loop.close()

    async def leave() -> None:
        await callers.begin()
        await callers.come("probe", "waits")
        await callers.next_probe()

    async def again() -> None:
        await callers.come("a")
        assert await callers.next_probe() == "a"
        assert now() < 20
        await callers.settle("a", GOOD)
        assert callers.gate.is_clear

    run(leave, 1e6)
    # The loop ended in mid-call on purpose, of which asyncio would warn.
    unfinished: list[Any] = [*callers.tasks.values()]
    for task in unfinished:
        task._log_destroy_pending = False
    callers.permits.clear()
    run(again, 0.0)


@pytest.mark.looptime
async def test_a_direct_call_whose_time_ends_in_the_slow_start_is_left_to_the_limiter() -> None:
    callers = Callers()
    await callers.begin()
    await callers.come("a", "b", "c")
    await callers.come("d", max_wait=5.0)
    await callers.settle(await callers.next_probe(), GOOD)
    assert list(callers.permits) == ["b", "c"]
    await asyncio.sleep(5)
    assert list(callers.permits) == ["b", "c", "d"]


@pytest.mark.looptime
async def test_a_call_with_no_time_left_for_an_attempt_does_not_probe() -> None:
    callers = Callers()
    await callers.begin()
    await asyncio.sleep(100)
    await callers.come("a", max_wait=0.005, attempt_time=0.01)
    assert list(callers.gave_up) == ["a"]


def test_callers_of_two_event_loops_do_not_wait_together() -> None:
    callers = Callers()

    async def wait() -> None:
        await callers.begin()
        await callers.come("a", max_wait=100.0)

    first, second = new_event_loop(), new_event_loop()
    try:
        first.run_until_complete(wait())
        with pytest.raises(ClientClosedError, match="another event loop"):
            second.run_until_complete(callers.budget.acquire(1, max_wait=None, background=False))
        first.run_until_complete(callers.next_probe())
        # As when a caller is garbage collected after its loop.
        callers.permits.pop("a").refund()
        assert callers.budget.statistics().in_flight == 0
        assert not callers.outage.probe
    finally:
        first.close()
        second.close()


_KINDS: list[Outcome] = [REFUSED, NOT_FOUND, BROKEN, DROPPED, GOOD, Outcome(kind="no_response"), Outcome(kind="unsent")]
_STEPS: Any = st.lists(
    st.one_of(
        st.tuples(
            st.just("acquire"),
            st.booleans(),
            st.one_of(st.none(), st.floats(0, 20)),
            st.builds(
                Patience,
                max_outage=st.one_of(st.none(), st.floats(0, 20)),
                attempts=st.integers(0, 1),
                single=st.booleans(),
            ),
        ),
        st.tuples(st.just("settle"), st.integers(0, 50), st.sampled_from(_KINDS), st.sampled_from(["a", "b", "c", ""])),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.0, 0.1, 1.0, 5.0, 30.0])),
    ),
    max_size=60,
)


class _Run:
    """Carries out steps, and checks what must hold after each."""

    def __init__(self, rate_limit: Any) -> None:
        self.budget = budget_of(rate_limit)
        self.gate = self.budget._shared.outage_gate
        self.held: list[BudgetPermit] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def step(self, what: str, *details: Any) -> None:
        if what == "acquire":
            self.tasks.append(asyncio.create_task(self._acquire(*details)))
        elif what == "sleep":
            await asyncio.sleep(details[0])
        elif what == "cancel" and self.tasks:
            self.tasks[details[0] % len(self.tasks)].cancel()
        elif what == "settle" and self.held:
            self.held.pop(details[0] % len(self.held)).settle(*details[1:])
        self.check()

    def check(self) -> None:
        gate = self.gate
        waiting = len(gate._direct) + len(gate._background)
        assert gate.is_clear == (gate.outage.kind is None and not waiting)
        assert not (gate.is_quiet and (waiting or gate.outage.failures))

    async def _acquire(self, background: bool, max_wait: float | None, patience: Patience) -> None:  # noqa: FBT001 - drawn
        patience = msgspec.structs.replace(patience, since=now(), single=patience.single and not background)
        try:
            permit = await self.budget.acquire(1, max_wait=max_wait, background=background, patience=patience)
        except RateLimitError:
            return
        except ServerUnavailable:
            # The server may be back by now, if it came back in the very instant in which the caller gave up.
            return
        assert not self.budget.holds_back(permit, background=background)
        self.held.append(permit)

    async def end(self) -> None:
        """Let the server be up again: everybody gets a permit."""
        for _ in range(1000):
            for permit in self.held:
                permit.settle(GOOD)
            self.held.clear()
            if all(task.done() for task in self.tasks):
                return
            await asyncio.sleep(1)
        raise AssertionError("callers wait forever")


@given(_STEPS, st.sampled_from([None, "auto", 5, "caller's"]))
@settings(max_examples=examples(300))
def test_nobody_waits_forever(steps: list[Any], rate_limit: Any) -> None:
    """In any order of callers, deadlines, cancellations and outcomes."""

    async def run() -> None:
        sequence = _Run(WindowLimiter(limit=5, window=10.0) if rate_limit == "caller's" else rate_limit)
        for step in steps:
            await sequence.step(*step)
        await sequence.end()
        assert all(task.cancelled() or task.exception() is None for task in sequence.tasks)
        (await sequence.budget.acquire(1, max_wait=None, background=True)).settle(GOOD)
        assert sequence.gate.is_clear
        assert sequence.budget.statistics().in_flight == 0

    loop = new_event_loop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()


@pytest.mark.looptime
async def test_a_batch_that_did_not_call_for_long_finds_out_anew_whether_the_server_is_away() -> None:
    """As a batch over an endless source, whose calls failed, and which then had no items."""
    callers = Callers()
    await callers.begin(BROKEN)
    patience: dict[str, Any] = {"background": True, "max_outage": 20.0, "since": now()}
    await asyncio.sleep(1000)
    await callers.come("a", "b", **patience)
    assert list(callers.permits) == ["a"]
    await callers.settle("a", GOOD)
    assert list(callers.permits) == ["b"]
