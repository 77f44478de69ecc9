"""The pace keeps a server from refusing, however it counts, and wastes little of what it allows. Time is virtual."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from simulated_servers import KINDS, Server

from zenovay_async.core.pacing import LOWEST_LIMIT, Grant, Pacer
from zenovay_async.limiter import WindowLimiter

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
    assert limiter.snapshot().learnt
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
