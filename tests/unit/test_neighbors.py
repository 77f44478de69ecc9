"""Processes on one key that share nothing divide the burst, and say so once. Time is virtual."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import pytest
from simulated_servers import KINDS, Server

from zenovay_async._limits.key_share import UNKNOWN, KeyShare
from zenovay_async._limits.neighbors import WORKERS_VARIABLE, Neighbors
from zenovay_async._limits.options import Limits
from zenovay_async._limits.pacing import Pacer
from zenovay_async._limits.window import WindowLimiter

if TYPE_CHECKING:
    from zenovay_async.sandbox.limits import LimiterKind


def limiters(processes: int, known: int = UNKNOWN, limit: int | None = None) -> list[WindowLimiter]:
    return [WindowLimiter(limit=limit, rng=random.Random(number), processes=known) for number in range(processes)]


async def run_together(server: Server, processes: list[WindowLimiter], calls: int) -> float:
    return max(await asyncio.gather(*(server.run(one, calls // len(processes), 16) for one in processes)))


@pytest.mark.looptime
@pytest.mark.parametrize(("processes", "known", "most"), [(2, UNKNOWN, 15), (2, 2, 15), (4, 4, 25)])
@pytest.mark.parametrize("kind", KINDS)
async def test_bursts_are_divided(kind: LimiterKind, processes: int, known: int, most: int) -> None:
    """Processes that share nothing divide each burst, rather than have most of it rate limited."""
    server = Server(kind, 30, 60.0, latency=0.2, jitter=0.1)
    await run_together(server, limiters(processes, known), 150)
    assert server.rate_limited <= most


@pytest.mark.looptime
@pytest.mark.parametrize("phase", [0.03, 0.37, 0.71, 0.9])
@pytest.mark.parametrize("processes", [2, 4])
async def test_ceilings_together_at_the_limit_are_kept_on_a_sliding_counter(processes: int, phase: float) -> None:
    """Processes with a ceiling each, together the plan's limit, are hardly ever rate limited on a sliding counter."""
    server = Server("counter", 30, 60.0, latency=0.2, jitter=0.1, phase=phase)
    await run_together(server, limiters(processes, 1, limit=30 // processes), 150)
    assert server.rate_limited <= 2


@pytest.mark.looptime
@pytest.mark.parametrize(("latency", "jitter"), [(0.02, 0.0), (0.2, 0.0), (0.2, 0.1)])
@pytest.mark.parametrize("known", [UNKNOWN, 4])
@pytest.mark.parametrize("kind", ["fixed", "sliding", "bucket"])
async def test_lone_process_has_the_whole_rate(kind: LimiterKind, known: int, latency: float, jitter: float) -> None:
    """A process that is alone uses 97 % of the rate, whatever it assumes of others."""
    server = Server(kind, 30, 60.0, latency=latency, jitter=jitter)
    seconds = await server.run(limiters(1, known)[0], 300, 32)
    assert server.rate_limited == 0
    assert 9 * 60 / seconds >= 0.97


def test_requests_of_others_are_seen() -> None:
    """What Remaining has fallen by beyond own requests is others'."""
    pacer = Pacer.create(None, 60.0)
    for at, remaining in enumerate((29, 24, 19)):
        permit = pacer.acquire(at * 5.0)
        pacer.on_response(permit, at * 5.0 + 0.1, limit=30, remaining=remaining)
    assert pacer.key_share.others == 8
    assert pacer.key_share.is_divided
    assert pacer.credit.available < 19 / 2


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_own_requests_in_flight_are_not_taken_for_others(order: list[int]) -> None:
    """However responses are ordered, own requests are not taken for others'."""
    pacer = Pacer.create(None, 60.0)
    pacer.on_response(pacer.acquire(0.0), 0.1, limit=30, remaining=29)
    permits = [pacer.acquire(1.0) for _ in range(3)]
    for counted, which in enumerate(order, 1):
        pacer.on_response(permits[which], 1.2, limit=30, remaining=29 - counted)
    assert not pacer.key_share.others + pacer.key_share.excess
    assert pacer.key_share.part == 1


def test_new_plan_is_not_taken_for_others() -> None:
    """A Remaining that falls because the plan's limit did is not others' doing."""
    pacer = Pacer.create(None, 60.0)
    for at, (limit, remaining) in enumerate([(120, 119), (30, 28)]):
        pacer.on_response(pacer.acquire(at * 5.0), at * 5.0 + 0.1, limit=limit, remaining=remaining)
    assert not pacer.key_share.sees_others


def test_429_halves_the_share() -> None:
    """A 429 halves the share, which is won back in the windows after it."""
    pacer = Pacer.create(None, 60.0, 2)
    pacer.on_response(pacer.acquire(0.0), 0.1, limit=30, remaining=29)
    pacer.on_rate_limited(pacer.acquire(1.0), 1.1, retry_after=5.0, limit=30, jitter=0.5)
    assert pacer.key_share.part == 0.25
    for window in range(1, 10):
        now = pacer.ready_at(window * 70.0)
        pacer.on_response(pacer.acquire(now), now + 0.1, limit=30, remaining=29)
    assert pacer.key_share.bound == 1
    assert pacer.key_share.part > 0.25


def test_known_processes_divide_the_burst_that_nothing_proves() -> None:
    """Where responses state no Remaining, known processes each take their part of a burst."""
    pacer = Pacer.create(None, 60.0, 4)
    assert pacer.credit.available == 7
    assert Pacer.create(None, 60.0, UNKNOWN).credit.available == 30


@pytest.mark.parametrize(
    ("stated", "count"),
    [("4", 4), (" 2 ", 2), ("1", 0), ("0", 0), ("-3", 0), ("", 0), ("many", 0), ("2.5", 0), ("²", 0), ("9" * 5000, 0)],
)
def test_worker_processes_of_the_environment(monkeypatch: pytest.MonkeyPatch, stated: str, count: int) -> None:
    """WEB_CONCURRENCY says how many processes there are; what is no number of them says nothing."""
    monkeypatch.setenv(WORKERS_VARIABLE, stated)
    assert Neighbors().count(Limits()) == count


def test_share_or_store_is_not_divided_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ceiling, a store or no pacing at all is neither divided nor warned about."""
    monkeypatch.setenv(WORKERS_VARIABLE, "4")
    for limits in (Limits(rate_limit=7), Limits(rate_limit=None), Limits(store="machine")):
        assert Neighbors().count(limits) == 1
        assert Neighbors().watch("key", limits) is None


def test_forked_process_knows_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process forked from one that made calls assumes two; from one that made none, nothing."""
    monkeypatch.delenv(WORKERS_VARIABLE, raising=False)
    for is_used, count in ((True, 2), (False, UNKNOWN)):
        neighbors = Neighbors()
        neighbors.restart(is_used=is_used)
        assert neighbors.count(Limits()) == count


def test_one_warning_for_a_key(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Others are warned of once for each key, with what to do."""
    monkeypatch.delenv(WORKERS_VARIABLE, raising=False)
    neighbors = Neighbors()
    one, two = neighbors.watch("key", Limits()), neighbors.watch("key", Limits())
    assert one is not None
    assert two is not None
    with caplog.at_level(logging.WARNING, "zenovay_async"):
        assert not one.is_over(KeyShare())
        assert not caplog.messages
        assert one.is_over(KeyShare(others=5.0))
        assert two.is_over(KeyShare(others=5.0))
    assert len(caplog.messages) == 1
    assert "rate_limit_store='machine'" in caplog.messages[0]
    assert neighbors.watch("key", Limits()) is None
    assert neighbors.watch("another", Limits()) is not None
