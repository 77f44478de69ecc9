"""The pacer keeps within the limit, however the server counts, and wastes little of it. Time is virtual."""

from __future__ import annotations

import asyncio
import math
from itertools import product
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import pytest
from helpers import sample
from hypothesis import given
from hypothesis import strategies as st
from simulated_servers import KINDS, Server, SmallBucket

from zenovay_async._limits.learned_limits import LOWEST_LIMIT, LearnedLimit
from zenovay_async._limits.pacing import Pacer
from zenovay_async._limits.request_log import WINDOW_MARGIN, PermitRecord, RequestLog
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.sandbox.limits import make_limiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.sandbox.limits import Limiter, LimiterKind

EXACT: tuple[LimiterKind, ...] = ("fixed", "sliding", "bucket")
LATENCIES = [(0.0, 0.0), (0.2, 0.0), (0.2, 0.1)]


def respond(
    pacer: Pacer, permit: PermitRecord, now: float, limit: int | None = 30, remaining: int | None = None
) -> None:
    pacer.on_response(permit, now, limit=limit, remaining=remaining)


def rate_limit(pacer: Pacer, permit: PermitRecord, now: float, retry_after: float | None) -> float | None:
    return pacer.on_rate_limited(permit, now, retry_after=retry_after, limit=None, jitter=0.5)


@pytest.mark.looptime
@pytest.mark.parametrize(("latency", "jitter"), LATENCIES)
@pytest.mark.parametrize("limit", sample([60, 30, 120]))
@pytest.mark.parametrize("kind", EXACT)
async def test_exact_kinds(kind: LimiterKind, limit: int, latency: float, jitter: float) -> None:
    """No request is rate limited, and 97 % of the rate is used."""
    server = Server(kind, limit, 60.0, latency=latency, jitter=jitter)
    seconds = await server.run(WindowLimiter(), 10 * limit, 32)
    assert server.rate_limited == 0
    assert 9 * 60 / seconds >= 0.97


@pytest.mark.looptime
@pytest.mark.parametrize(("latency", "jitter"), LATENCIES)
@pytest.mark.parametrize("remaining", [0.0, 0.3])
@pytest.mark.parametrize("kind", EXACT)
async def test_exact_kinds_without_remaining(
    kind: LimiterKind, remaining: float, latency: float, jitter: float
) -> None:
    """Without the Remaining header no request is rate limited, and one window is lost at most."""
    server = Server(kind, 60, 60.0, latency=latency, jitter=jitter, remaining=remaining)
    seconds = await server.run(WindowLimiter(), 600, 32)
    assert server.rate_limited == 0
    assert seconds <= (540 + 60) / 0.97


@pytest.mark.looptime
@pytest.mark.parametrize("remaining", [0.0, 1.0])
@pytest.mark.parametrize(("latency", "jitter"), LATENCIES)
async def test_sliding_counter(latency: float, jitter: float, remaining: float) -> None:
    """A sliding counter rate limits one request in a hundred at most."""
    server = Server("counter", 60, 60.0, latency=latency, jitter=jitter, remaining=remaining)
    await server.run(WindowLimiter(), 600, 32)
    assert server.rate_limited <= 6


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("limit", "remaining", "latency", "phase"),
    sample(product([30, 50, 60], [0.0, 1.0], LATENCIES, [0.003, 0.278, 0.503, 0.728, 0.953])),
)
async def test_sliding_counter_at_any_phase(
    limit: int, remaining: float, latency: tuple[float, float], phase: float
) -> None:
    """A sliding counter rate limits one request in a hundred at most, whenever the work begins."""
    seconds, jitter = latency
    server = Server("counter", limit, 60.0, latency=seconds, jitter=jitter, remaining=remaining, phase=phase)
    await server.run(WindowLimiter(), 10 * limit, 32)
    assert server.rate_limited <= limit / 10


@pytest.mark.looptime
@pytest.mark.parametrize(("kind", "limit", "phase"), sample(product(EXACT, [30, 50], [0.003, 0.28, 0.53, 0.78])))
async def test_small_limits_at_any_phase(kind: LimiterKind, limit: int, phase: float) -> None:
    """A small limit is used to 97 %, whenever the work begins."""
    server = Server(kind, limit, 60.0, latency=0.2, jitter=0.1, phase=phase)
    seconds = await server.run(WindowLimiter(), 10 * limit, 32)
    assert server.rate_limited == 0
    assert 9 * 60 / seconds >= 0.97


@pytest.mark.looptime
@pytest.mark.parametrize(("calls", "phase"), [(600, 0.85), (1200, 0.85), (1200, 0.95)])
async def test_burst_across_the_end_of_a_sliding_counters_window(calls: int, phase: float) -> None:
    """A burst across the end of a sliding counter's window is not followed by one 429 after another."""
    server = Server("counter", 50, 5.0, latency=0.1, jitter=0.1, phase=phase)
    await server.run(WindowLimiter(window=5.0), calls, 64)
    assert server.rate_limited <= calls / 100


@pytest.mark.looptime
@pytest.mark.parametrize("kind", KINDS)
async def test_fifty_per_five_seconds(kind: LimiterKind) -> None:
    """Fifty per five seconds: two hundred take fifteen seconds."""
    server = Server(kind, 50, 5.0)
    seconds = await server.run(WindowLimiter(window=5.0), 200, 64)
    assert (server.admitted, server.rate_limited) == (200, 0)
    assert kind == "counter" or seconds <= 15.5


@pytest.mark.looptime
async def test_first_caller_learns_the_limit_for_all() -> None:
    """The first caller goes alone and learns the limit for all."""
    server = Server("fixed", 120, 60.0, latency=0.2)
    limiter = WindowLimiter()
    assert limiter.snapshot().limit == LOWEST_LIMIT
    seconds = await server.run(limiter, 100, 100)
    assert limiter.snapshot().limit == 120
    assert limiter.snapshot().learned
    assert seconds == pytest.approx(0.4)


@pytest.mark.looptime
async def test_single_calls_never_wait() -> None:
    """A single call now and then never waits."""
    server = Server("sliding", 30, 60.0)
    limiter = WindowLimiter()
    for _ in range(100):
        began = asyncio.get_running_loop().time()
        await server.until_admitted(limiter)
        assert asyncio.get_running_loop().time() == began
        await asyncio.sleep(2.2)
    assert server.rate_limited == 0


@pytest.mark.looptime
async def test_ceiling() -> None:
    """A ceiling is not exceeded even if the server allows more."""
    server = Server("fixed", 120, 60.0)
    limiter = WindowLimiter(limit=10)
    seconds = await server.run(limiter, 30, 30)
    assert limiter.snapshot().limit == 10
    assert seconds >= 120


@pytest.mark.looptime
async def test_two_processes_on_one_key() -> None:
    """On a key that another process uses as well, one request in four is rate limited at most.

    With retries alone it is every second one.
    """
    server = Server("sliding", 60, 60.0)
    one, two = WindowLimiter(), WindowLimiter()
    await asyncio.gather(server.run(one, 150, 16), server.run(two, 150, 16))
    assert server.rate_limited <= 300 / 4


def test_late_response() -> None:
    """A late response does not raise what a newer one lowered."""
    pacer = Pacer.create(None, 60.0)
    old, new = _two_in_flight(pacer, remaining=3)
    respond(pacer, new, 2.0, remaining=1)
    before = pacer.remaining(2.0)
    respond(pacer, old, 2.1, limit=120, remaining=100)
    assert pacer.limit == 30
    assert pacer.remaining(2.1) <= before == 1


def test_change_of_plan() -> None:
    """A change of plan is followed, up and down."""
    pacer = Pacer.create(None, 60.0)
    for at, limit in enumerate((30, 120, 60)):
        respond(pacer, pacer.acquire(at * 300.0), at * 300.0 + 1, limit=limit)
        assert pacer.limit == limit


def test_one_429_closes_the_gate_once() -> None:
    """One 429 closes the gate once for all that were in flight."""
    pacer = Pacer.create(None, 60.0)
    one, two = _two_in_flight(pacer)
    assert rate_limit(pacer, one, 2.0, 42.0) == 42.0
    assert rate_limit(pacer, two, 3.0, 42.0) is None
    assert pacer.ready_at(3.0) == 44.0
    assert pacer.remaining(3.0) == 0


@pytest.mark.parametrize(
    ("first", "then", "opens"),
    [
        (10.0, 60.0, 63.0),  # longer
        (None, 60.0, 63.0),  # where none was named
        (60.0, 10.0, 62.0),  # shorter
        (60.0, None, 62.0),
        (60.0, 59.5, 62.0),  # the same, rounded up to whole seconds
    ],
)
def test_concurrent_429s_keep_the_longest_retry_after(first: float | None, then: float | None, opens: float) -> None:
    """Of concurrent 429s, the longest wait that is named holds."""
    pacer = Pacer.create(None, 60.0)
    one, two = _two_in_flight(pacer)
    rate_limit(pacer, one, 2.0, first)
    rate_limit(pacer, two, 3.0, then)
    assert pacer.ready_at(3.0) == opens
    # One incident all the same: the pace is slowed down once, and nothing backs off further.
    assert pacer.credit.slowdown == 2
    assert pacer.gate.backoffs <= 1


@pytest.mark.parametrize("late", [[1], [0, 1], [1, 0]])
def test_responses_in_flight_at_a_429(
    late: list[int],
) -> None:
    """Responses to what was in flight when a 429 came neither regain the pace nor open a burst."""
    pacer = Pacer.create(60, 60.0)
    respond(pacer, pacer.acquire(0.0), 0.5, limit=60, remaining=59)
    limited, *others = (pacer.acquire(1.0) for _ in range(3))
    rate_limit(pacer, limited, 1.5, 10.0)
    for which in late:
        respond(pacer, others[which], 1.6, limit=60, remaining=40)
    assert pacer.ready_at(1.6) == 11.5
    probe = pacer.acquire(11.5)
    assert pacer.ready_at(11.5) > 11.5
    respond(pacer, probe, 11.6, limit=60)
    # Everyone else comes one by one, at nearly half the pace.
    gaps: list[float] = []
    at = 11.6
    for _ in range(5):
        start = pacer.ready_at(at)
        gaps.append(start - at)
        respond(pacer, pacer.acquire(start), start, limit=60)
        at = start
    assert gaps == pytest.approx([2.04, 1.84, 1.65, 1.49, 1.34], abs=0.2)


@pytest.mark.looptime
@pytest.mark.parametrize("remaining", [0.0, 0.3, 1.0])
async def test_no_storm_when_the_gate_opens(remaining: float) -> None:
    """A key whose window others have spent is not stormed when the gate opens."""
    server = Server("fixed", 60, 60.0, latency=0.4, jitter=0.3, remaining=remaining)
    limiter, others = WindowLimiter(), WindowLimiter(limit=60)
    await server.until_admitted(limiter)
    await server.run(others, 40, 40)
    await server.run(limiter, 120, 64)
    # Those in flight together when less was left than expected, and one or two probes afterwards.
    assert server.rate_limited <= 60


def test_probe() -> None:
    """When the gate opens, one request goes first."""
    pacer = Pacer.create(None, 60.0)
    one, two = _two_in_flight(pacer)
    rate_limit(pacer, one, 2.0, 10.0)
    rate_limit(pacer, two, 2.0, 10.0)
    opens = max(pacer.ready_at(12.0), 12.0)
    pacer.acquire(opens)
    assert pacer.ready_at(opens) > opens


@pytest.mark.parametrize("jitter", [0.0, 0.25, 0.99])
def test_429_without_a_time(jitter: float) -> None:
    """A 429 that names no time backs off further each time, at random up to a bound."""
    pacer, now, waits = Pacer.create(None, 60.0), 0.0, list[float]()
    for _ in range(7):
        now = max(now, pacer.ready_at(now))
        permit = pacer.acquire(now)
        wait = pacer.on_rate_limited(permit, now, retry_after=None, limit=None, jitter=jitter)
        assert wait is not None
        waits.append(wait)
        now += wait
    assert waits == pytest.approx([jitter * bound for bound in (4, 8, 16, 32, 64, 120, 120)])


def test_refund() -> None:
    """A refund restores what was taken."""
    pacer = Pacer.create(None, 60.0)
    respond(pacer, pacer.acquire(0.0), 0.1, remaining=29)
    before = pacer.remaining(0.2)
    pacer.refund(pacer.acquire(0.2))
    assert pacer.remaining(0.2) == before == 29


def test_refund_after_a_429() -> None:
    """After a 429 no refund restores credit."""
    pacer = Pacer.create(None, 60.0)
    one, two = _two_in_flight(pacer)
    rate_limit(pacer, two, 2.0, 1.0)
    pacer.refund(one)
    assert pacer.credit.available == 0


def test_refund_of_a_paced_request() -> None:
    """A paced request that never left leaves neither credit nor a wait."""
    pacer = Pacer.create(None, 60.0)
    respond(pacer, pacer.acquire(0.0), 0.1, remaining=0)
    start = pacer.ready_at(0.1)
    assert start > 0.1
    pacer.refund(pacer.acquire(start))
    assert pacer.credit.available == 0
    assert pacer.ready_at(start) == start


def test_refund_after_a_newer_response() -> None:
    """A refund adds nothing to what a newer response proved."""
    pacer = Pacer.create(None, 60.0)
    old, new = _two_in_flight(pacer, remaining=7)
    respond(pacer, new, 2.0, remaining=5)
    proved = pacer.credit.available
    pacer.refund(old)
    assert pacer.credit.available == proved == 5


@given(st.lists(st.tuples(st.sampled_from(["acquire", "respond", "rate limit", "refund", "lose"]), st.integers(0, 9))))
def test_refunds_under_any_schedule(steps: list[tuple[str, int]]) -> None:
    """No refund leaves more credit than if the request had never been let go."""
    pacer, now = Pacer.create(10, 60.0), 0.0
    held: list[PermitRecord] = []
    for step, which in steps:
        now = max(now + 0.3, min(pacer.ready_at(now), now + 60))
        if step == "acquire" and pacer.ready_at(now) <= now:
            without = pacer.credit.available
            permit = pacer.acquire(now)
            pacer.refund(permit)
            assert pacer.credit.available == without
            held.append(pacer.acquire(now))
        elif held:
            permit, before = held.pop(which % len(held)), pacer.credit.available
            if step == "respond":
                respond(pacer, permit, now, limit=10, remaining=which)
                assert pacer.credit.available <= max(before, which)
            elif step == "rate limit":
                rate_limit(pacer, permit, now, 5.0)
                assert pacer.credit.available == 0
            elif step == "refund":
                pacer.refund(permit)
                assert before <= pacer.credit.available <= before + permit.credit_used
            else:
                pacer.on_no_response(permit, now)
        assert 0 <= pacer.credit.available <= pacer.limit
        assert pacer.log.in_flight == len(held)


def test_two_idle_windows_after_a_429() -> None:
    """Two idle windows after a 429 restore the pace; a burst of the whole limit is tried again in steps."""
    pacer = Pacer.create(None, 60.0)
    respond(pacer, pacer.acquire(0.0), 0.5)
    rate_limit(pacer, pacer.acquire(3.0), 3.0, 10.0)
    assert pacer.ready_at(150.0) == 150.0
    now, bursts = 150.0, list[int]()
    while sum(bursts) < 30:
        permits = list[PermitRecord]()
        while pacer.ready_at(now) == now:
            permits.append(pacer.acquire(now))
        now += 0.1
        for permit in permits:
            respond(pacer, permit, now)
        bursts.append(len(permits))
    assert bursts == [1, 1, 2, 4, 8, 14]


def test_remaining_counts_the_probe() -> None:
    """While a probe goes first, one request at most remains."""
    pacer = Pacer.create(None, 60.0)
    assert pacer.remaining(0.0) == 1
    first = pacer.acquire(0.0)
    assert pacer.remaining(0.1) == 0
    respond(pacer, first, 0.2, remaining=29)
    assert pacer.remaining(0.2) == 29
    rate_limit(pacer, pacer.acquire(1.0), 1.0, 10.0)
    assert pacer.remaining(2.0) == 0
    assert pacer.remaining(11.0) == 1
    pacer.acquire(11.0)
    assert pacer.remaining(11.0) == 0


def test_cost() -> None:
    """A call of three takes three."""
    pacer = Pacer.create(None, 60.0)
    respond(pacer, pacer.acquire(0.0), 0.1, remaining=29)
    pacer.acquire(0.2, 3)
    assert pacer.remaining(0.2) == 26


def test_cost_above_the_limit() -> None:
    """A call that costs more than the limit still goes some time."""
    pacer = Pacer.create(2, 60.0)
    assert pacer.ready_at(0.0, 3) == 0.0


_Step: TypeAlias = tuple[str, float, int, int | None]

_STEPS: st.SearchStrategy[list[_Step]] = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "acquire", "respond", "rate limit", "refund", "lose", "abandon"]),
        st.sampled_from([0.0, 0.001, 0.5, 2.0, 7.0, 61.0, 130.0, math.inf]),
        st.integers(1, 9),
        st.sampled_from([None, 0, 1, 5, 30]),
    ),
    max_size=80,
)


def drive(
    pacer: Pacer,
    steps: list[_Step],
    between: Callable[[Pacer], Pacer] = lambda pacer: pacer,
    keep: Callable[[PermitRecord], PermitRecord] = lambda permit: permit,
) -> list[tuple[object, ...]]:
    """Take a pacer through a schedule, in which ``math.inf`` waits until a request may go; returns all it decided."""
    decided: list[tuple[object, ...]] = []
    held: list[PermitRecord] = []
    now = 0.0
    for step, pause, number, stated in steps:
        ready = pacer.ready_at(now, number)
        now = now + pause if pause < math.inf else ready if ready < math.inf else now
        made: object = None
        pacer = between(pacer)
        if step == "acquire":
            if pacer.ready_at(now, number) <= now:
                made = pacer.acquire(now, number)
                held.append(keep(made))
        elif step == "abandon":
            pacer.abandon(now)
        elif held:
            permit = held.pop(number % len(held))
            if step == "respond":
                pacer.on_response(permit, now, limit=stated, remaining=stated)
            elif step == "rate limit":
                made = pacer.on_rate_limited(permit, now, retry_after=stated, limit=None, jitter=number / 10)
            elif step == "refund":
                pacer.refund(permit)
            else:
                pacer.on_no_response(permit, now)
        pacer = between(pacer)
        decided.append((now, made, pacer.remaining(now), pacer.earliest_start(now, number, 2), pacer.ready_at(now)))
    return decided


@given(st.sampled_from([None, 1, 3, 10]), _STEPS)
def test_pacer_is_a_value(ceiling: int | None, steps: list[_Step]) -> None:
    """A pacer that is encoded and decoded between any two steps decides the same as one that is not."""
    decode = msgspec.msgpack.Decoder(Pacer).decode
    decode_permit = msgspec.msgpack.Decoder(PermitRecord).decode

    def between(pacer: Pacer) -> Pacer:
        again = decode(msgspec.msgpack.encode(pacer))
        assert again == pacer
        return again

    here = drive(Pacer.create(ceiling, 60.0), steps)
    moved = drive(
        Pacer.create(ceiling, 60.0), steps, between, lambda permit: decode_permit(msgspec.msgpack.encode(permit))
    )
    assert moved == here


@given(st.integers(1, 10), _STEPS)
def test_no_window_has_more_than_the_limit(limit: int, steps: list[_Step]) -> None:
    """Under any schedule no window contains more of a ceiling's requests than it allows, those in flight included."""
    pacer = Pacer.create(limit, 60.0)

    def check(pacer: Pacer) -> Pacer:
        times = pacer.log.times
        assert pacer.log.in_flight <= limit
        assert times == sorted(times)
        assert all(later - earlier >= 60.0 for earlier, later in zip(times, times[limit:], strict=False))
        return pacer

    drive(pacer, [step for step in steps if step[0] != "abandon"], check)


@given(st.sampled_from([None, 2, 10]), _STEPS)
def test_a_request_goes_when_all_three_parts_agree(ceiling: int | None, steps: list[_Step]) -> None:
    """A request goes at once only while the gate is open, a window has room and credit or the pace allows it."""

    def check(pacer: Pacer) -> Pacer:
        for now in (0.0, 3.0, 70.0, 200.0):
            copy = msgspec.convert(msgspec.to_builtins(pacer), Pacer)
            if copy.ready_at(now) > now:
                continue
            # As the pacer does, its parts take a wait shorter than a tick for none.
            assert copy.gate.ready_at(now) <= now
            assert copy.log.ready_at(now, 1, copy.limit, 60.0) <= now + 1e-5
            assert copy.credit.available or copy.credit.paced_until <= now + 1e-5
        return pacer

    drive(Pacer.create(ceiling, 60.0), steps, check)


def test_versions() -> None:
    """Fields that a newer pacer appends are ignored; another version of the encoded form is not decoded."""
    pacer = Pacer.create(None, 60.0)
    pacer.acquire(0.0)
    fields = msgspec.to_builtins(pacer)
    assert msgspec.convert([*fields, "newer"], Pacer) == pacer
    assert msgspec.convert(fields[:-3], Pacer).is_default_limit
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert([2, *fields[1:]], Pacer)


def _two_in_flight(pacer: Pacer, remaining: int = 29) -> tuple[PermitRecord, PermitRecord]:
    respond(pacer, pacer.acquire(0.0), 0.5, remaining=remaining)
    return pacer.acquire(1.0), pacer.acquire(1.1)


SMALL_BUCKETS = [1, 10, 11]


async def _bursts(server: Server, limiter: WindowLimiter, rounds: int, pause: float) -> list[int]:
    """Several bursts of 30 calls, some time apart; returns the 429s of each."""
    rejected = list[int]()
    for _ in range(rounds):
        before = server.rate_limited
        await asyncio.gather(*(server.until_admitted(limiter) for _ in range(30)))
        rejected.append(server.rate_limited - before)
        await asyncio.sleep(pause)
    return rejected


@pytest.mark.looptime
@pytest.mark.parametrize("states_time", [True, False])
@pytest.mark.parametrize("depth", SMALL_BUCKETS)
async def test_a_small_bucket_is_learned(depth: int, *, states_time: bool) -> None:
    """A server that allows the rate but no burst of the limit rejects a few requests of the first burst, then one."""
    server = Server(
        SmallBucket(30, 6.0, depth), 30, 6.0, latency=0.02, remaining=0, states_limit=False, states_time=states_time
    )
    limiter = WindowLimiter(window=6.0)
    rejected = await _bursts(server, limiter, 6, pause=13.0)
    assert rejected[0] <= 12
    assert all(later <= 1 for later in rejected[1:])
    assert sum(rejected[1:]) <= 3
    assert limiter.snapshot().limit == 30


@pytest.mark.looptime
@pytest.mark.parametrize("depth", SMALL_BUCKETS)
async def test_a_small_bucket_gives_its_rate(depth: int) -> None:
    """A long run against a server that allows no burst of the limit gets nine tenths of the rate that it allows."""
    server = Server(
        SmallBucket(30, 6.0, depth), 30, 6.0, latency=0.02, remaining=0, states_limit=False, states_time=False
    )
    took = await server.run(WindowLimiter(window=6.0), 150, 64)
    assert took <= (150 - depth) * 0.2 / 0.9


@pytest.mark.looptime
@pytest.mark.parametrize("depth", [1, 3, 10])
async def test_a_small_remaining_that_is_true(depth: int) -> None:
    """Where a small Remaining is true, no request is rejected and the server's own rate is kept."""
    server = Server(SmallBucket(30, 6.0, depth), 30, 6.0, latency=0.02)
    limiter = WindowLimiter(window=6.0)
    took = await server.run(limiter, 150, 64)
    assert server.rate_limited == 0
    assert took <= (150 - depth) * 0.2 / 0.95
    await asyncio.sleep(13.0)
    assert await _bursts(server, limiter, 2, pause=13.0) == [0, 0]


@pytest.mark.looptime
@pytest.mark.parametrize("lie", [(1_000_000, 999_999), (1_000_000, None), (30, 29), (60, 59)])
async def test_a_false_statement(lie: tuple[int, int | None]) -> None:
    """A limit or Remaining that 429s prove false is not believed for a while: a run of five windows has few 429s."""
    server = Server("fixed", 20, 6.0, latency=0.02, lie=lie)
    limiter = WindowLimiter(window=6.0)
    await server.run(limiter, 100, 64)
    first, server.rate_limited = server.rate_limited, 0
    assert first <= 100
    await server.run(limiter, 100, 64)
    assert server.rate_limited <= 6


@pytest.mark.looptime
@pytest.mark.parametrize("kind", KINDS)
async def test_a_lowered_limit_that_is_not_stated(kind: LimiterKind) -> None:
    """A lower limit is found by its 429s, and left when the server raises it again."""
    server = Server(kind, 30, 6.0, latency=0.02, remaining=0, states_limit=False)
    limiter = WindowLimiter(window=6.0)
    await server.run(limiter, 60, 64)
    server.limiter = make_limiter(kind, 12, 6.0)
    await server.run(limiter, 40, 64)
    assert 10 <= limiter.snapshot().limit <= 16
    server.rate_limited = 0
    await server.run(limiter, 96, 64)
    assert server.rate_limited <= 6
    server.limiter = make_limiter(kind, 30, 6.0)
    await server.run(limiter, 1000, 64)
    assert limiter.snapshot().limit == 30


@pytest.mark.looptime
async def test_a_first_burst_without_proof_of_room() -> None:
    """Until a burst has succeeded, it starts with eight requests in flight; from then on it goes at once."""
    server = Server("fixed", 30, 60.0, latency=0.2, remaining=0)
    limiter = WindowLimiter()
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(server.call(limiter) for _ in range(30)))
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.8, abs=0.01)
    await asyncio.sleep(150)
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(server.call(limiter) for _ in range(30)))
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.2, abs=0.01)
    assert server.rate_limited == 0


def test_late_responses_do_not_stop_a_burst() -> None:
    """If the responses to the first requests of a burst are late, further ones follow all the same."""
    pacer = Pacer.create(None, 60.0)
    respond(pacer, pacer.acquire(0.0), 0.1)
    for _ in range(8):
        assert pacer.ready_at(0.1) == 0.1
        pacer.acquire(0.1)
    assert pacer.ready_at(0.1) == pytest.approx(2.1)


def test_rejected_requests_leave_room() -> None:
    """Requests rejected with 429 take no room in the log when the gate opens; if another 429 follows, they do."""
    pacer = Pacer.create(None, 60.0)
    respond(pacer, pacer.acquire(0.0), 0.0)
    for permit in [pacer.acquire(0.0) for _ in range(8)]:
        rate_limit(pacer, permit, 0.1, 1.0)
    respond(pacer, pacer.acquire(1.1), 1.1)
    assert len(pacer.log.times) == 2
    now = pacer.ready_at(1.1)
    rate_limit(pacer, pacer.acquire(now), now, 1.0)
    assert len(pacer.log.times) == 10


def test_a_time_longer_than_the_window() -> None:
    """A 429 that names 6000 s, as one does that means milliseconds, is tried after one window, then after two more."""
    pacer = Pacer.create(None, 60.0)
    assert rate_limit(pacer, pacer.acquire(0.0), 0.0, 6000.0) == 60.0
    assert rate_limit(pacer, pacer.acquire(60.0), 60.0, 6000.0) == 120.0
    assert pacer.ready_at(100.0) == 180.0
    respond(pacer, pacer.acquire(180.0), 180.0)
    now = pacer.ready_at(180.0)
    assert rate_limit(pacer, pacer.acquire(now), now, 6000.0) == 60.0
    assert pacer.gate.closed_until == now + 60.0


def test_a_time_longer_than_the_window_is_named_twice() -> None:
    """Two 429s of one incident that name a time longer than the window close the gate for one window."""
    pacer = Pacer.create(None, 60.0)
    respond(pacer, pacer.acquire(0.0), 0.0, remaining=29)
    one, two = pacer.acquire(0.0), pacer.acquire(0.0)
    rate_limit(pacer, one, 0.5, 6000.0)
    rate_limit(pacer, two, 0.5, 6000.0)
    assert pacer.ready_at(1.0) == 60.5


@pytest.mark.parametrize(("sent_at", "dated"), [(None, 2.0), (0.0, 2.0), (0.5, 2.5), (20.0, 20.1)])
def test_a_request_is_dated_from_its_departure(sent_at: float | None, dated: float) -> None:
    """A busy loop may send a request long after its permit: it is dated a thirtieth of the window after it left."""
    pacer = Pacer.create(None, 60.0)
    permit = pacer.acquire(0.0)
    pacer.on_response(permit, 20.1, limit=30, remaining=None, sent_at=sent_at)
    assert pacer.log.times == [dated]


def test_a_429_teaches_no_limit_by_itself() -> None:
    """One 429 of a paced request leaves the limit as it is, as someone else may have used the key."""
    pacer = Pacer.create(None, 60.0)
    pacer.credit.available = 1
    respond(pacer, pacer.acquire(0.0), 0.0)
    now = pacer.ready_at(0.0)
    rate_limit(pacer, pacer.acquire(now), now, 60.0)
    assert pacer.limit == 30


@pytest.mark.parametrize("retry_after", [None, 0.0, 0.5])
def test_429s_without_a_wait_to_name(retry_after: float | None) -> None:
    """A server that names no time, or no wait with each 429, is probed less and less often."""
    pacer = Pacer.create(None, 60.0)
    respond(pacer, pacer.acquire(0.0), 0.0)
    now, pauses = pacer.ready_at(1.0), list[float]()
    for _ in range(8):
        rate_limit(pacer, pacer.acquire(now), now, retry_after)
        pauses.append(pacer.ready_at(now) - now)
        now = pacer.ready_at(now)
    assert pauses[-1] == pytest.approx(60.0)
    assert sum(pauses) > 60.0


class _Logged:
    """A limiter that keeps the times of all requests, also those that it rejects, and may count them."""

    def __init__(self, limiter: Limiter) -> None:
        self.limit, self.times, self._limiter = limiter.limit, list[float](), limiter

    def admit(self, now: float) -> bool:
        self.times.append(now)
        return self._limiter.admit(now)

    def remaining(self, now: float) -> int:
        return self._limiter.remaining(now)

    def reset_after(self, now: float) -> float:
        return self._limiter.reset_after(now)


class _CountsRejected:
    """Counts what it rejects, and names a time as if it did not."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit, self._window, self._times = limit, window, list[float]()

    def admit(self, now: float) -> bool:
        self.remaining(now)
        self._times.append(now)
        return len(self._times) <= self.limit

    def remaining(self, now: float) -> int:
        self._times = [at for at in self._times if at > now - self._window]
        return max(0, self.limit - len(self._times))

    def reset_after(self, now: float) -> float:
        return 0.0 if self.remaining(now) else self._times[0] + self._window - now


@pytest.mark.looptime
@pytest.mark.parametrize("states_time", [True, False])
@pytest.mark.parametrize("depth", [1, 10])
async def test_rejected_requests_count_against_a_ceiling(depth: int, *, states_time: bool) -> None:
    """No window has more requests than the ceiling, whatever becomes of them."""
    logged = _Logged(SmallBucket(30, 6.0, depth))
    server = Server(logged, 30, 6.0, remaining=0, states_limit=False, states_time=states_time)
    await server.run(WindowLimiter(limit=20, window=6.0), 100, 64)
    assert server.rate_limited > 0
    assert all(after - first >= 6.0 for first, after in zip(logged.times, logged.times[20:], strict=False))


@pytest.mark.looptime
@pytest.mark.parametrize("states_time", [True, False])
async def test_a_server_that_counts_what_it_rejects(*, states_time: bool) -> None:
    """It is left alone for a whole window at last, even if the times that it names are too short."""
    server = Server(
        _CountsRejected(1, 6.0), 1, 6.0, latency=0.02, remaining=0, states_limit=False, states_time=states_time
    )
    took = await server.run(WindowLimiter(window=6.0), 8, 8)
    assert took < 300
    assert server.rate_limited <= 80


def test_a_probe_that_is_rejected_waits_longer_than_the_server_says() -> None:
    """A time that proved too short is no reason to probe at the same pace for ever."""
    pacer, now, pauses = Pacer.create(None, 60.0), 0.0, list[float]()
    for _ in range(8):
        rate_limit(pacer, pacer.acquire(now), now, retry_after=10.0)
        pauses.append(pacer.ready_at(now) - now)
        now = pacer.ready_at(now)
    assert pauses == pytest.approx([10, 10, 10, 16, 32, 60, 60, 60])


@pytest.mark.looptime
@pytest.mark.parametrize("jitter", [0.01, 0.03])
async def test_a_smooth_server_behind_a_network_with_jitter(jitter: float) -> None:
    """A few 429s show the pace at which requests arrive far enough apart; a higher limit is tried without a burst."""
    server = Server(SmallBucket(120, 6.0, 1), 120, 6.0, latency=0.02, jitter=jitter)
    took = await server.run(WindowLimiter(window=6.0), 480, 64)
    assert server.rate_limited <= 8
    assert took <= 60


@pytest.mark.looptime
async def test_a_higher_limit_is_tried_without_a_burst() -> None:
    """A server that allows no bursts does not reject the first request after each raise."""
    server = Server(SmallBucket(30, 6.0, 1), 30, 6.0, latency=0.02, jitter=0.01)
    took = await server.run(WindowLimiter(window=6.0), 1200, 16)
    assert server.rate_limited <= 20
    assert took <= 240 / 0.7


@pytest.mark.looptime
@pytest.mark.parametrize("kind", EXACT)
async def test_the_limit_recovers_after_429s_that_were_not_ours(kind: LimiterKind) -> None:
    """Someone else used the key up, four times in a row: what was taken for a lower limit is raised back to it all."""
    server = Server(kind, 30, 60.0, latency=0.2, remaining=0)
    limiter = WindowLimiter()
    await server.run(limiter, 60, 8)
    for _ in range(4):
        await asyncio.sleep(20.0)
        for _ in range(30):
            server.limiter.admit(server.now())
        await server.run(limiter, 3, 3)
    lowest = limiter.snapshot().limit
    await server.run(limiter, 240, 8)
    assert lowest < 30
    assert limiter.snapshot().limit == 30


def test_only_a_raised_limit_that_is_rejected_delays_the_next_raise() -> None:
    """Steps down to the limit are one search: what delays the next raise is a raise that failed."""
    found, now = LearnedLimit(), 0.0
    for limit in (30, 30, 21, 15):
        found.lower(now, limit, 12, 60.0, is_proved=False)
        now += 30.0
    assert found.raise_at - (now - 30.0) == 4 * 60.0
    found.raise_towards(30, found.raise_at, 60.0)
    found.lower(now, 16, 12, 60.0, is_proved=False)
    assert found.raise_at - now == 8 * 60.0


@given(
    times=st.lists(st.floats(-60.0, 0.0), max_size=40),
    in_flight=st.integers(0, 10),
    limit=st.integers(1, 30),
    ahead=st.integers(0, 60),
)
def test_room_after_the_limit_was_lowered(times: list[float], in_flight: int, limit: int, ahead: int) -> None:
    """The estimate is what follows if each request goes as soon as the window has room, also above a lowered limit."""
    log = RequestLog(times=sorted(times), in_flight=in_flight)
    starts = [*log.times, *[0.0] * in_flight]
    for _ in range(ahead + 1):
        first = len(starts) - limit
        starts.append(max(0.0, starts[first] + 60.0 * WINDOW_MARGIN) if first >= 0 else 0.0)
    assert log.room_at(0.0, ahead, limit, 60.0) == pytest.approx(starts[-1])


@pytest.mark.looptime
@pytest.mark.parametrize("limit", [30, 120, 600])
async def test_jitter_where_no_bursts_are_allowed(limit: int) -> None:
    """Jitter brings requests closer together than a server without bursts allows: a few 429s slow the pace a little."""
    server = Server(SmallBucket(limit, 6.0, 1), limit, 6.0, latency=0.02, jitter=0.6 / limit)
    took = await server.run(WindowLimiter(window=6.0), 5 * limit, 64)
    assert server.rate_limited <= 10
    assert took <= 48.0


def test_requests_in_flight_grow_again_while_remaining_is_not_believed() -> None:
    """After a Remaining proved false, each success allows one request more in flight, as where none is stated."""
    pacer = Pacer.create(None, 60.0)
    respond(pacer, pacer.acquire(0.0), 0.0, limit=600, remaining=599)
    rate_limit(pacer, pacer.acquire(0.0), 0.0, 1.0)
    now = 1.0
    for _ in range(20):
        now = pacer.ready_at(now)
        respond(pacer, pacer.acquire(now), now, limit=600, remaining=500)
    for _ in range(20):
        waited, now = pacer.ready_at(now) - now, pacer.ready_at(now)
        assert waited < 0.2
        pacer.acquire(now)
    assert pacer.ready_at(now) - now == pytest.approx(2.0)
