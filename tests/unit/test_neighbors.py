"""Processes on one key that share nothing divide the burst, and say so once. Time is virtual."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from simulated_servers import KINDS, Server

from zenovay_async._limits.key_share import KeyShare
from zenovay_async._limits.neighbors import WORKERS_VARIABLE, Neighbors
from zenovay_async._limits.options import Limits
from zenovay_async._limits.pacing import Pacer
from zenovay_async._limits.window import WindowLimiter

if TYPE_CHECKING:
    from zenovay_async.sandbox.limits import LimiterKind


def limiters(processes: int, known: int = 1, limit: int | None = None) -> list[WindowLimiter]:
    return [WindowLimiter(limit=limit, rng=random.Random(number), processes=known) for number in range(processes)]


async def run_together(server: Server, processes: list[WindowLimiter], calls: int) -> float:
    return max(await asyncio.gather(*(server.run(one, calls // len(processes), 16) for one in processes)))


@pytest.mark.looptime
@pytest.mark.parametrize(("processes", "most"), [(2, 15), (4, 25)])
@pytest.mark.parametrize("kind", KINDS)
async def test_bursts_of_known_processes_are_divided(kind: LimiterKind, processes: int, most: int) -> None:
    """Processes that share nothing, but know how many they are, divide each burst, the first one as well."""
    server = Server(kind, 30, 60.0, latency=0.2, jitter=0.1)
    await run_together(server, limiters(processes, processes), 150)
    assert server.rate_limited <= most


@pytest.mark.looptime
@pytest.mark.parametrize("kind", KINDS)
async def test_processes_that_know_of_none_notice_each_other(kind: LimiterKind) -> None:
    """Only the first bursts of two processes that start together collide; then they notice each other."""
    server = Server(kind, 30, 60.0, latency=0.2, jitter=0.1)
    processes = limiters(2)
    await run_together(server, processes, 60)
    first = server.rate_limited
    await run_together(server, processes, 120)
    assert server.rate_limited - first <= 12


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
@pytest.mark.parametrize("known", [1, 4])
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


@pytest.mark.looptime
@pytest.mark.parametrize("kind", ["fixed", "sliding", "bucket"])
async def test_first_burst_of_a_lone_process_is_whole(kind: LimiterKind) -> None:
    """A process that knows of no others sends the rest of the limit as soon as the first response is here."""
    server = Server(kind, 30, 60.0, latency=0.2)
    assert await server.run(limiters(1)[0], 30, 30) == pytest.approx(0.4)


@pytest.mark.parametrize("known", [1, 2])
def test_429_without_a_sign_of_others_divides_nothing(known: int) -> None:
    """A 429 divides the share only of a process that has a sign of others."""
    pacer = Pacer.create(None, 60.0, known)
    pacer.on_rate_limited(pacer.acquire(0.0), 0.1, retry_after=1.0, limit=30, jitter=0.5)
    assert (pacer.key_share.part, pacer.key_share.pace) == ((1, 1) if known == 1 else (0.25, 0.25))


def test_429_halves_the_share() -> None:
    """A 429 halves the share of one who knows of others; it is won back in the windows after it."""
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
    assert Pacer.create(None, 60.0).credit.available == 30


@pytest.mark.parametrize(
    ("stated", "count"),
    [("4", 4), (" 2 ", 2), ("1", 1), ("0", 1), ("-3", 1), ("", 1), ("many", 1), ("2.5", 1), ("²", 1), ("9" * 5000, 1)],
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
    for is_used, count in ((True, 2), (False, 1)):
        neighbors = Neighbors()
        neighbors.restart(is_used=is_used)
        assert neighbors.count(Limits()) == count


def test_process_of_multiprocessing_assumes_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that multiprocessing started assumes two, but warns only once responses show others."""
    monkeypatch.delenv(WORKERS_VARIABLE, raising=False)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(_count_and_warning).result() == (2, False)
    assert Neighbors().count(Limits()) == 1


def test_process_of_a_celery_pool_assumes_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of a Celery pool assumes two; Celery's main process nothing."""
    monkeypatch.delenv(WORKERS_VARIABLE, raising=False)
    billiard, process = ModuleType("billiard.process"), multiprocessing.Process(name="ForkPoolWorker-2")
    monkeypatch.setattr(billiard, "current_process", lambda: process, raising=False)
    monkeypatch.setitem(sys.modules, "billiard.process", billiard)
    assert Neighbors().count(Limits()) == 2
    process.name = "MainProcess"
    assert Neighbors().count(Limits()) == 1


def _count_and_warning() -> tuple[int, bool]:
    neighbors = Neighbors()
    watch = neighbors.watch("key", Limits())
    return neighbors.count(Limits()), watch is None or watch.is_over(KeyShare())


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
