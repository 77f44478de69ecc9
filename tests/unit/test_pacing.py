"""The pace keeps a server from refusing, however it counts, and wastes little of what it allows. Time is virtual."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_servers import KINDS, Server

from zenovay_async._limits.pacing import LOWEST_LIMIT, Grant, Pacer
from zenovay_async._limits.window import WindowLimiter

if TYPE_CHECKING:
    from zenovay_async.sandbox.limits import Kind

EXACT: tuple[Kind, ...] = ("fixed", "sliding", "bucket")
LATENCIES = [(0.0, 0.0), (0.2, 0.0), (0.2, 0.1)]


def pacer(limit: int | None = None, window: float = 60.0) -> Pacer:
    return Pacer(limit, window, random.Random(1))


@pytest.mark.looptime
@pytest.mark.parametrize(("latency", "jitter"), LATENCIES)
@pytest.mark.parametrize("limit", [30, 60, 120])
@pytest.mark.parametrize("kind", EXACT)
async def test_no_request_is_refused_and_97_percent_of_the_rate_is_used(
    kind: Kind, limit: int, latency: float, jitter: float
) -> None:
    server = Server(kind, limit, 60.0, latency=latency, jitter=jitter)
    seconds = await server.run(WindowLimiter(), 10 * limit, 32)
    assert server.refused == 0
    assert 9 * 60 / seconds >= 0.97


@pytest.mark.looptime
@pytest.mark.parametrize(("latency", "jitter"), LATENCIES)
@pytest.mark.parametrize("remaining", [0.0, 0.3])
@pytest.mark.parametrize("kind", EXACT)
async def test_without_the_remaining_header_no_request_is_refused_and_one_window_is_lost_at_most(
    kind: Kind, remaining: float, latency: float, jitter: float
) -> None:
    server = Server(kind, 60, 60.0, latency=latency, jitter=jitter, remaining=remaining)
    seconds = await server.run(WindowLimiter(), 600, 32)
    assert server.refused == 0
    assert seconds <= (540 + 60) / 0.97


@pytest.mark.looptime
@pytest.mark.parametrize("remaining", [0.0, 1.0])
@pytest.mark.parametrize(("latency", "jitter"), LATENCIES)
async def test_a_sliding_counter_refuses_one_in_a_hundred_at_most(
    latency: float, jitter: float, remaining: float
) -> None:
    server = Server("counter", 60, 60.0, latency=latency, jitter=jitter, remaining=remaining)
    await server.run(WindowLimiter(), 600, 32)
    assert server.refused <= 6


@pytest.mark.looptime
@pytest.mark.parametrize("phase", [0.003, 0.278, 0.503, 0.728, 0.953])
@pytest.mark.parametrize(("latency", "jitter"), LATENCIES)
@pytest.mark.parametrize("remaining", [0.0, 1.0])
@pytest.mark.parametrize("limit", [30, 50, 60])
async def test_a_sliding_counter_refuses_one_in_a_hundred_at_most_whenever_the_work_begins(
    limit: int, remaining: float, latency: float, jitter: float, phase: float
) -> None:
    server = Server("counter", limit, 60.0, latency=latency, jitter=jitter, remaining=remaining, phase=phase)
    await server.run(WindowLimiter(), 10 * limit, 32)
    assert server.refused <= limit / 10


@pytest.mark.looptime
@pytest.mark.parametrize("phase", [0.003, 0.28, 0.53, 0.78])
@pytest.mark.parametrize("limit", [30, 50])
@pytest.mark.parametrize("kind", EXACT)
async def test_a_small_limit_is_used_to_97_percent_whenever_the_work_begins(
    kind: Kind, limit: int, phase: float
) -> None:
    server = Server(kind, limit, 60.0, latency=0.2, jitter=0.1, phase=phase)
    seconds = await server.run(WindowLimiter(), 10 * limit, 32)
    assert server.refused == 0
    assert 9 * 60 / seconds >= 0.97


@pytest.mark.looptime
@pytest.mark.parametrize(("calls", "phase"), [(600, 0.85), (1200, 0.85), (1200, 0.95)])
async def test_a_burst_across_the_end_of_a_sliding_counters_window_is_not_followed_by_one_refusal_after_another(
    calls: int, phase: float
) -> None:
    server = Server("counter", 50, 5.0, latency=0.1, jitter=0.1, phase=phase)
    await server.run(WindowLimiter(window=5.0), calls, 64)
    assert server.refused <= calls / 100


@pytest.mark.looptime
@pytest.mark.parametrize("kind", KINDS)
async def test_fifty_per_five_seconds_takes_fifteen_for_two_hundred(kind: Kind) -> None:
    server = Server(kind, 50, 5.0)
    seconds = await server.run(WindowLimiter(window=5.0), 200, 64)
    assert (server.admitted, server.refused) == (200, 0)
    assert kind == "counter" or seconds <= 15.5


@pytest.mark.looptime
async def test_the_first_caller_goes_alone_and_learns_the_limit_for_all() -> None:
    server = Server("fixed", 120, 60.0, latency=0.2)
    limiter = WindowLimiter()
    assert limiter.snapshot().limit == LOWEST_LIMIT
    seconds = await server.run(limiter, 100, 100)
    assert limiter.snapshot().limit == 120
    assert limiter.snapshot().learned
    assert seconds == pytest.approx(0.4)


@pytest.mark.looptime
async def test_a_single_call_now_and_then_never_waits() -> None:
    server = Server("sliding", 30, 60.0)
    limiter = WindowLimiter()
    for _ in range(100):
        began = asyncio.get_running_loop().time()
        await server.until_allowed(limiter)
        assert asyncio.get_running_loop().time() == began
        await asyncio.sleep(2.2)
    assert server.refused == 0


@pytest.mark.looptime
async def test_a_figure_is_kept_below_even_if_the_server_allows_more() -> None:
    server = Server("fixed", 120, 60.0)
    limiter = WindowLimiter(limit=10)
    seconds = await server.run(limiter, 30, 30)
    assert limiter.snapshot().limit == 10
    assert seconds >= 120


@pytest.mark.looptime
async def test_a_key_that_another_process_uses_as_well_is_refused_one_request_in_four_at_most() -> None:
    """Who only retries is refused every second one."""
    server = Server("sliding", 60, 60.0)
    one, two = WindowLimiter(), WindowLimiter()
    await asyncio.gather(server.run(one, 150, 16), server.run(two, 150, 16))
    assert server.refused <= 300 / 4


def test_a_late_answer_does_not_raise_what_a_newer_one_lowered() -> None:
    paced = pacer()
    old, new = _two_on_their_way(paced)
    paced.answered(new, 2.0, limit=30, remaining=1)
    before = paced.remaining(2.0)
    paced.answered(old, 2.1, limit=120, remaining=100)
    assert paced.limit == 30
    assert paced.remaining(2.1) <= before == 1


def test_a_change_of_plan_is_followed_up_and_down() -> None:
    paced = pacer()
    for at, limit in enumerate((30, 120, 60)):
        paced.answered(paced.grant(at * 300.0), at * 300.0 + 1, limit=limit, remaining=None)
        assert paced.limit == limit


def test_one_refusal_closes_the_gate_once_for_all_that_were_on_their_way() -> None:
    paced = pacer()
    one, two = _two_on_their_way(paced)
    assert paced.refused(one, 2.0, 42.0, None) == 42.0
    assert paced.refused(two, 3.0, 42.0, None) is None
    assert paced.ready_at(3.0) == 44.0
    assert paced.remaining(3.0) == 0


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
def test_of_refusals_of_one_time_the_longest_wait_that_is_named_holds(
    first: float | None, then: float | None, opens: float
) -> None:
    paced = pacer()
    one, two = _two_on_their_way(paced)
    paced.refused(one, 2.0, first, None)
    paced.refused(two, 3.0, then, None)
    assert paced.ready_at(3.0) == opens
    # One refusal it was all the same: the pace is slowed down once, and nothing backs off further.
    assert paced._slow == 2
    assert paced._backoffs <= 1


@pytest.mark.parametrize("late", [[1], [0, 1], [1, 0]])
def test_answers_that_were_on_their_way_when_a_refusal_came_neither_win_back_the_pace_nor_open_a_burst(
    late: list[int],
) -> None:
    paced = pacer(limit=60)
    paced.answered(paced.grant(0.0), 0.5, limit=60, remaining=59)
    refused, *others = (paced.grant(1.0) for _ in range(3))
    paced.refused(refused, 1.5, 10.0, None)
    for which in late:
        paced.answered(others[which], 1.6, limit=60, remaining=40)
    assert paced.ready_at(1.6) == 11.5
    probe = paced.grant(11.5)
    assert paced.ready_at(11.5) > 11.5
    paced.answered(probe, 11.6, limit=60, remaining=None)
    # Everyone else comes one by one, at nearly half the pace.
    gaps: list[float] = []
    at = 11.6
    for _ in range(5):
        turn = paced.ready_at(at)
        gaps.append(turn - at)
        paced.answered(paced.grant(turn), turn, limit=60, remaining=None)
        at = turn
    assert gaps == pytest.approx([2.04, 1.84, 1.65, 1.49, 1.34], abs=0.2)


@pytest.mark.looptime
@pytest.mark.parametrize("remaining", [0.0, 0.3, 1.0])
async def test_a_key_whose_minute_others_have_used_up_is_not_stormed_when_the_gate_opens(remaining: float) -> None:
    server = Server("fixed", 60, 60.0, latency=0.4, jitter=0.3, remaining=remaining)
    limiter, others = WindowLimiter(), WindowLimiter(limit=60)
    await server.until_allowed(limiter)
    await server.run(others, 40, 40)
    await server.run(limiter, 120, 64)
    # Those on their way together when the count was less than believed, and one or two that went first afterwards.
    assert server.refused <= 60


def test_when_the_gate_opens_one_goes_first() -> None:
    paced = pacer()
    one, two = _two_on_their_way(paced)
    paced.refused(one, 2.0, 10.0, None)
    paced.refused(two, 2.0, 10.0, None)
    opens = max(paced.ready_at(12.0), 12.0)
    paced.grant(opens)
    assert paced.ready_at(opens) > opens


def test_a_refusal_without_a_time_backs_off_further_each_time() -> None:
    bounds: list[float] = []
    for _ in range(200):
        paced = Pacer(None, 60.0, random.Random())
        now, waits = 0.0, []
        for _ in range(6):
            now = max(now, paced.ready_at(now))
            wait = paced.refused(paced.grant(now), now, None, None)
            assert wait is not None
            waits.append(wait)
            now += wait
        bounds = [max(pair) for pair in zip(waits, bounds or waits, strict=True)]
    assert bounds == pytest.approx([4, 8, 16, 32, 60, 60], rel=0.2)


def test_a_refund_gives_back_what_was_taken() -> None:
    paced = pacer()
    paced.answered(paced.grant(0.0), 0.1, limit=30, remaining=29)
    before = paced.remaining(0.2)
    paced.refund(paced.grant(0.2))
    assert paced.remaining(0.2) == before == 29


def test_after_a_refusal_no_refund_brings_credit_back() -> None:
    paced = pacer()
    one, two = _two_on_their_way(paced)
    paced.refused(two, 2.0, 1.0, None)
    paced.refund(one)
    assert paced._credit == 0


def test_a_paced_request_that_never_left_leaves_neither_credit_nor_a_wait() -> None:
    paced = pacer()
    paced.answered(paced.grant(0.0), 0.1, limit=30, remaining=0)
    turn = paced.ready_at(0.1)
    assert turn > 0.1
    paced.refund(paced.grant(turn))
    assert paced._credit == 0
    assert paced.ready_at(turn) == turn


def test_a_refund_adds_nothing_to_what_a_newer_answer_proved() -> None:
    paced = pacer()
    old, new = _two_on_their_way(paced)
    paced.answered(new, 2.0, limit=30, remaining=5)
    proved = paced._credit
    paced.refund(old)
    assert paced._credit == proved == 5


@given(st.lists(st.tuples(st.sampled_from(["grant", "answer", "refuse", "refund", "lose"]), st.integers(0, 9))))
def test_no_refund_leaves_more_credit_than_if_the_request_had_not_been_granted(steps: list[tuple[str, int]]) -> None:
    paced, now = pacer(limit=10), 0.0
    held: list[Grant] = []
    for step, which in steps:
        now = max(now + 0.3, min(paced.ready_at(now), now + 60))
        if step == "grant" and paced.ready_at(now) <= now:
            without = paced._credit
            granted = paced.grant(now)
            paced.refund(granted)
            assert paced._credit == without
            held.append(paced.grant(now))
        elif held:
            granted, before = held.pop(which % len(held)), paced._credit
            if step == "answer":
                paced.answered(granted, now, limit=10, remaining=which)
                assert paced._credit <= max(before, which)
            elif step == "refuse":
                paced.refused(granted, now, 5.0, None)
                assert paced._credit == 0
            elif step == "refund":
                paced.refund(granted)
                assert before <= paced._credit <= before + granted.paid
            else:
                paced.unanswered(granted, now)
        assert 0 <= paced._credit <= paced.limit
        assert paced.in_flight == len(held)


def test_two_idle_windows_after_a_refusal_give_the_whole_limit_back() -> None:
    paced = pacer()
    paced.answered(paced.grant(0.0), 0.5, limit=30, remaining=None)
    paced.refused(paced.grant(3.0), 3.0, 10.0, None)
    assert paced.ready_at(150.0) == 150.0
    paced.answered(paced.grant(150.0), 150.0, limit=30, remaining=None)
    assert paced.remaining(150.0) == 29
    assert paced.free_at(150.0, 28) == 150.0


def test_the_state_tells_of_the_one_that_goes_first() -> None:
    paced = pacer()
    assert paced.remaining(0.0) == 1
    first = paced.grant(0.0)
    assert paced.remaining(0.1) == 0
    paced.answered(first, 0.2, limit=30, remaining=29)
    assert paced.remaining(0.2) == 29
    paced.refused(paced.grant(1.0), 1.0, 10.0, None)
    assert paced.remaining(2.0) == 0
    assert paced.remaining(11.0) == 1
    paced.grant(11.0)
    assert paced.remaining(11.0) == 0


def test_a_call_of_three_takes_three() -> None:
    paced = pacer()
    paced.answered(paced.grant(0.0), 0.1, limit=30, remaining=29)
    paced.grant(0.2, 3)
    assert paced.remaining(0.2) == 26


def test_a_call_that_costs_more_than_the_limit_still_goes_some_time() -> None:
    paced = pacer(limit=2)
    assert paced.ready_at(0.0, 3) == 0.0


def _two_on_their_way(paced: Pacer) -> tuple[Grant, Grant]:
    paced.answered(paced.grant(0.0), 0.5, limit=30, remaining=29)
    return paced.grant(1.0), paced.grant(1.1)
