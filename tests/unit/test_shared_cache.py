"""Processes that share a cache request each response once, whatever becomes of them or the store. Time is virtual."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import math
import random
from typing import TYPE_CHECKING, Any

import pytest
from helpers import examples, now
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import new_event_loop
from simulated_cache_store import TIMEOUT, CachePlace, SimulatedCacheStore

from zenovay_async import ClientClosedError
from zenovay_async._cache.entry import VERSION, CachedResponse, encode
from zenovay_async._cache.invalidation import Scope
from zenovay_async._cache.shared import Lease, SharedTier
from zenovay_async._cache.stats import Counters
from zenovay_async._protocol.call import custom_call
from zenovay_async.events import CacheStoreBack, CacheStoreLost, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from zenovay_async._protocol.call import Call

pytestmark = pytest.mark.looptime

REACH = pytest.mark.parametrize("round_trip", [0.0, 0.002], ids=["files", "Redis"])
NAME = "name"
TTL = 600.0


def a_call(website_id: str = "w1") -> Call[Any]:
    return custom_call("GET", f"heatmaps/{website_id}/pages", None, None, None, 1)


CALL = a_call()

_stamps = itertools.count()


def response(began_at: float | None = None, *, body: bytes = b"{}", seconds: float = TTL) -> CachedResponse:
    """A response that has just come."""
    began = now() if began_at is None else began_at
    stamp = next(_stamps).to_bytes(8)
    return CachedResponse(VERSION, stamp, 200, (("a", "b"),), body, began, now(), now() + seconds / 2, now() + seconds)


def accept_any(_: CachedResponse) -> bool:
    return True


class Waiting:
    """The calls that wait for a response."""

    def __init__(self, timeout: float = math.inf, *, background: bool = False) -> None:
        self.background = background
        self.is_polling = False
        self.deadline = now() + timeout

    def remaining(self) -> float:
        self.is_polling = True
        return self.deadline - now()


class Processes:
    """Tiers of several processes on one store, and all that they emit."""

    def __init__(self, count: int, *, round_trip: float = 0.0, seed: int = 0) -> None:
        self.place = CachePlace()
        self.stores = [SimulatedCacheStore(self.place, round_trip, seed + number) for number in range(count)]
        self.events: list[list[Event]] = [[] for _ in range(count)]
        self.counters = [Counters() for _ in range(count)]
        self.tiers = [
            SharedTier(
                store, events.append, counters, keep_invalidations=TTL, clock=now, rng=random.Random(10 + number)
            )
            for number, (store, events, counters) in enumerate(
                zip(self.stores, self.events, self.counters, strict=True)
            )
        ]
        self.requests: list[tuple[float, float]] = []

    def __getitem__(self, number: int) -> SharedTier:
        return self.tiers[number]

    def kinds(self, number: int = 0) -> list[type[Event]]:
        return [type(event) for event in self.events[number]]

    async def ask(
        self,
        number: int,
        *,
        latency: float = 0.2,
        timeout: float = math.inf,
        background: bool = False,
        accept: Callable[[CachedResponse], bool] = accept_any,
    ) -> CachedResponse:
        """What a cache does: look, then acquire the lease, request and keep."""
        tier = self[number]
        found = await tier.find(NAME, CALL)
        if found is not None and accept(found):
            return found
        lease = await tier.acquire(NAME, CALL, Waiting(timeout, background=background), accept)
        if not isinstance(lease, Lease):
            return lease
        began = now()
        try:
            await asyncio.sleep(latency)
            entry = response(began)
            lease.keep_soon(entry)
        finally:
            lease.release_soon()
            self.requests.append((began, now()))
        return entry

    async def stamp(self, number: int, name: str, call: Call[Any]) -> bytes | None:
        """Which response is found."""
        found = await self[number].find(name, call)
        return None if found is None else found.stamp

    async def keep(self, number: int, entry: CachedResponse) -> None:
        lease = await self[number].try_acquire(NAME)
        assert lease is not None
        lease.keep_soon(entry)
        await settle()

    async def close(self) -> None:
        for tier in self.tiers:
            await tier.aclose()
        await asyncio.sleep(0.1)
        assert [task for task in asyncio.all_tasks() if task.get_name() == "zenovay-async: cache"] == []


async def settle() -> None:
    """Let the tasks of the tiers end that need no more than a few round trips."""
    await asyncio.sleep(0.02)


def run(main: Coroutine[Any, Any, None]) -> None:
    loop = new_event_loop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


@REACH
async def test_a_response_that_one_process_keeps_is_found_by_all(round_trip: float) -> None:
    """With its times in the clock of each."""
    processes = Processes(2, round_trip=round_trip)
    assert await processes[0].find(NAME, CALL) is None
    entry = response(body=b'{"success":true}')
    await processes.keep(0, entry)
    processes.stores[1].offset -= 100.0
    found, elsewhere = [await tier.find(NAME, CALL) for tier in processes.tiers]
    assert found is not None
    assert elsewhere is not None
    assert (found.stamp, found.body, found.headers) == (entry.stamp, entry.body, entry.headers)
    assert found.expires_at == pytest.approx(entry.expires_at)
    assert elsewhere.expires_at == pytest.approx(entry.expires_at + 100.0)
    assert await processes[1].find("another name", CALL) is None
    await processes.close()


async def test_what_is_too_old_or_of_another_version_is_not_found() -> None:
    """Even if the store still has it."""
    processes = Processes(1)
    await processes.keep(0, response(seconds=5.0))
    processes.place.values[NAME] = processes.place.values[NAME][0], math.inf
    assert await processes[0].find(NAME, CALL) is not None
    await asyncio.sleep(5.0)
    assert await processes[0].find(NAME, CALL) is None
    for value in (b"", b"\xff", encode(response(), 0.0)[1:]):
        processes.place.values[NAME] = value, math.inf
        assert await processes[0].find(NAME, CALL) is None
    await processes.close()


async def test_no_response_is_younger_than_it_can_be() -> None:
    """The clock of another machine is known to half a round trip."""
    processes = Processes(2)
    processes.stores[1].offset -= 0.1
    await processes.keep(0, response())
    found = await processes[1].find(NAME, CALL)
    assert found is not None
    assert found.stored_at <= now()
    await processes.close()


@REACH
async def test_an_invalidation_holds_for_all_processes_once_it_is_awaited(round_trip: float) -> None:
    """It concerns what is within its scope, and what was requested before it, even if it is kept after it."""
    processes = Processes(2, round_trip=round_trip)
    before = response()
    await processes.keep(0, before)
    await processes[1].invalidate_soon(Scope(website_id="w2"))
    await processes[1].invalidate_soon(Scope(operation="heatmaps.pages"))
    assert await processes.stamp(0, NAME, CALL) == before.stamp
    await processes[1].invalidate_soon(Scope(website_id="w1"))
    assert await processes[0].find(NAME, CALL) is None
    assert await processes.stamp(0, NAME, a_call("w3")) == before.stamp
    await processes.keep(0, before)
    assert await processes[1].find(NAME, CALL) is None
    await processes.keep(0, after := response())
    assert await processes.stamp(1, NAME, CALL) == after.stamp
    await processes[0].invalidate_soon(Scope())
    assert await processes[1].find(NAME, CALL) is None
    await processes.close()


async def test_an_invalidation_holds_here_at_once() -> None:
    """Before the store knows of it."""
    processes = Processes(1, round_trip=0.4)
    await processes.keep(0, response())
    await asyncio.sleep(1.0)
    recorded = processes[0].invalidate_soon(Scope())
    assert await processes[0].find(NAME, CALL) is None
    assert await processes[0].find(NAME, CALL) is None
    await recorded
    await processes.close()


async def test_whoever_waits_for_an_invalidation_may_be_canceled() -> None:
    """It is recorded all the same."""
    processes = Processes(1, round_trip=0.1)

    async def invalidate() -> None:
        await processes[0].invalidate_soon(Scope())

    task = asyncio.create_task(invalidate())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0.2)
    assert list(processes.place.invalidations) == [Scope().name]
    await processes.close()


@pytest.mark.looptime(enabled=False)
def test_an_invalidation_without_an_event_loop_says_what_to_do() -> None:
    """As a call does."""
    tier = SharedTier(SimulatedCacheStore(CachePlace()), print, Counters(), keep_invalidations=TTL)
    with pytest.raises(ClientClosedError, match=r"asyncio\.run"):
        tier.invalidate_soon(Scope())


@REACH
async def test_one_of_many_processes_requests_a_response_and_all_get_it(round_trip: float) -> None:
    """Soon after it came: within a quarter of the time waited."""
    processes = Processes(6, round_trip=round_trip)
    ended: list[float] = []

    async def ask(number: int) -> CachedResponse:
        entry = await processes.ask(number, latency=2.0)
        ended.append(now())
        return entry

    entries = await asyncio.gather(*(ask(number) for number in range(6)))
    assert len(processes.requests) == 1
    assert len({entry.stamp for entry in entries}) == 1
    assert max(ended) < 2.0 * 1.25 + 0.02
    assert processes.place.operations.count("find") < 6 * 30
    await processes.close()


@REACH
async def test_a_process_that_sees_a_lease_end_without_a_response_goes_on_by_itself(round_trip: float) -> None:
    """At its next look, with the lease."""
    processes = Processes(2, round_trip=round_trip)
    lease = await processes[0].acquire(NAME, CALL, Waiting(), accept_any)
    assert isinstance(lease, Lease)
    waiting = asyncio.create_task(processes.ask(1))
    await asyncio.sleep(1.0)
    assert processes.requests == []
    lease.release_soon()
    await asyncio.sleep(0.3)
    assert isinstance(processes.place.lease(NAME), tuple)
    await waiting
    assert now() < 1.0 + 0.25 + 0.2 + 0.03
    await settle()
    assert processes.place.leases == {}
    await processes.close()


async def test_the_lease_of_a_process_that_is_killed_ends() -> None:
    """The others wait for it no longer than the store keeps it."""
    processes = Processes(2)
    assert isinstance(await processes[0].acquire(NAME, CALL, Waiting(), accept_any), Lease)
    waiting = asyncio.create_task(processes.ask(1))
    await asyncio.sleep(0.5)
    processes.stores[0].kill()
    await waiting
    assert now() < 4.0
    await processes.close()


@REACH
@pytest.mark.parametrize("timeout", [0.3, 1.0, 3.0, 30.0])
async def test_a_waiting_call_goes_on_by_itself_while_a_request_fits(timeout: float, round_trip: float) -> None:
    """It keeps a second of its time for it, or half of it if it has less than two."""
    processes = Processes(2, round_trip=round_trip)
    held = await processes[0].acquire(NAME, CALL, Waiting(), accept_any)
    assert isinstance(held, Lease)
    await processes.ask(1, latency=0.1, timeout=timeout)
    began, ended = processes.requests[0]
    assert ended < timeout
    assert began == pytest.approx(max(timeout - 1.0, timeout / 2), abs=0.02)
    await settle()
    found = await processes[0].find(NAME, CALL)
    assert found is not None
    assert found.began_at == pytest.approx(began)
    held.release_soon()
    await processes.close()


async def test_a_call_that_joins_prolongs_the_wait() -> None:
    """Time to the deadline is asked anew at each look."""
    processes = Processes(2)
    held = await processes[0].acquire(NAME, CALL, Waiting(), accept_any)
    assert isinstance(held, Lease)
    waiting = Waiting(2.0)
    task = asyncio.create_task(processes[1].acquire(NAME, CALL, waiting, accept_any))
    await asyncio.sleep(0.9)
    waiting.deadline += 10.0
    await asyncio.sleep(5.0)
    assert not task.done()
    held.keep_soon(entry := response())
    found = await task
    assert isinstance(found, CachedResponse)
    assert found.stamp == entry.stamp
    await processes.close()


@REACH
async def test_a_direct_call_waits_a_second_for_a_background_request(round_trip: float) -> None:
    """Then it takes the lease, one of many processes; the response of the background request is kept all the same."""
    processes = Processes(4, round_trip=round_trip)
    held = await processes[0].try_acquire(NAME)
    assert held is not None
    entries = await asyncio.gather(*(processes.ask(number, latency=0.5) for number in (1, 2, 3)))
    assert len({entry.stamp for entry in entries}) == 1
    ((began, _),) = processes.requests
    assert 1.0 <= began < 1.02
    held.keep_soon(entry := response())
    await settle()
    assert await processes.stamp(1, NAME, CALL) == entry.stamp
    await processes.close()


async def test_a_background_call_waits_for_another_until_a_direct_one_joins_it() -> None:
    """A second after that it takes the lease."""
    processes = Processes(2)
    held = await processes[0].try_acquire(NAME)
    assert held is not None
    waiting = Waiting(background=True)
    task = asyncio.create_task(processes[1].acquire(NAME, CALL, waiting, accept_any))
    await asyncio.sleep(10.0)
    assert not task.done()
    waiting.background = False
    lease = await task
    assert isinstance(lease, Lease)
    assert 11.0 <= now() < 11.6
    lease.release_soon()
    held.release_soon()
    await processes.close()


async def test_no_response_is_used_that_is_not_accepted() -> None:
    """One that came before the call is passed over; the one that another process requests is not."""
    processes = Processes(2)
    await processes.keep(0, response())
    await asyncio.sleep(1.0)
    began = now()
    entries = await asyncio.gather(
        *(processes.ask(number, accept=lambda entry: entry.began_at >= began) for number in range(2))
    )
    assert len(processes.requests) == 1
    assert entries[0].stamp == entries[1].stamp
    await processes.close()


async def test_a_refresh_does_not_wait_for_another_process() -> None:
    """And many may be tried."""
    processes = Processes(2)
    lease = await processes[0].try_acquire(NAME)
    assert lease is not None
    assert await processes[1].try_acquire(NAME) is None
    assert await processes[0].try_acquire(NAME) is None
    lease.drop_soon()
    await settle()
    assert await processes[1].try_acquire(NAME) is not None
    await processes.close()


@REACH
async def test_calls_of_one_process_request_a_response_once_as_well(round_trip: float) -> None:
    """Those of clients with other options, which do not join each other."""
    processes = Processes(1, round_trip=round_trip)
    entries = await asyncio.gather(*(processes.ask(0) for _ in range(5)))
    assert len(processes.requests) == 1
    assert len({entry.stamp for entry in entries}) == 1
    await processes.close()


async def test_calls_of_two_processes_that_come_at_once_are_one_request() -> None:
    """Whichever message is first: who finds no lease yet, and then that another one was faster, waits all the same."""
    for seed in range(0, 10000, 250):
        processes = Processes(2, round_trip=0.002, seed=seed)
        await asyncio.gather(*(processes.ask(number, latency=0.01) for number in (0, 1, 1, 1)))
        assert len(processes.requests) == 1
        await processes.close()


async def test_a_request_is_outdated_once_another_process_invalidates_it() -> None:
    """As found by the next look."""
    processes = Processes(2)
    lease = await processes[0].acquire(NAME, CALL, Waiting(), accept_any)
    assert isinstance(lease, Lease)
    for scope, is_outdated in ((Scope(website_id="other"), False), (Scope(website_id="w1"), True)):
        await asyncio.sleep(1.0)
        await processes[1].invalidate_soon(scope)
        assert await processes[0].find(NAME, CALL) is None
        assert processes[0].is_outdated(NAME, CALL) == is_outdated
    lease.keep_soon(response(now() - 2.0))
    await asyncio.sleep(1.0)
    await processes.ask(0)
    assert not processes[0].is_outdated(NAME, CALL)
    await processes.close()


async def test_a_call_after_an_invalidation_does_not_wait_for_one_before() -> None:
    """What that one gets is not valid any more, and does not end the lease of the newer one."""
    processes = Processes(2)
    before = asyncio.create_task(processes.ask(0, latency=5.0))
    await asyncio.sleep(1.0)
    await processes[0].invalidate_soon(Scope())
    await asyncio.sleep(0.001)
    after = asyncio.create_task(processes.ask(0, latency=6.0))
    await asyncio.sleep(0.0)
    await before
    waiting = asyncio.create_task(processes.ask(1))
    entry = await after
    assert now() == pytest.approx(7.0, abs=0.01)
    assert (await waiting).stamp == entry.stamp
    assert len(processes.requests) == 2
    await processes.close()


async def test_a_removed_response_is_gone_for_all() -> None:
    """As for a website that was deleted."""
    processes = Processes(2)
    await processes.keep(0, response())
    lease = await processes[1].try_acquire(NAME)
    assert lease is not None
    lease.drop_soon()
    await settle()
    assert await processes[0].find(NAME, CALL) is None
    assert processes.place.leases == {}
    await processes.close()


async def test_a_lease_ends_once() -> None:
    """What follows has no effect, not even on the lease of who came after it; nor has a response that is too old."""
    processes = Processes(2)
    lease = await processes[0].try_acquire(NAME)
    assert lease is not None
    lease.keep_soon(response(seconds=-1.0))
    await settle()
    assert processes.place.leases == {}
    assert await processes[1].try_acquire(NAME) is not None
    for _ in range(2):
        lease.keep_soon(response())
        lease.drop_soon()
        lease.release_soon()
    await settle()
    assert len(processes.place.leases) == 1
    assert processes.place.values == {}
    await processes.close()


async def test_a_forgotten_lease_holds_up_nobody_in_its_process() -> None:
    """One that is garbage does not count."""
    processes = Processes(1)
    assert await processes[0].try_acquire(NAME) is not None
    gc.collect()
    assert await processes[0].try_acquire(NAME) is not None
    await processes.close()


@REACH
@pytest.mark.parametrize("steps", range(12))
async def test_a_caller_canceled_at_any_moment_leaves_no_lease(steps: int, round_trip: float) -> None:
    """The next one, of another process, gets it at once."""
    processes = Processes(2, round_trip=round_trip)
    task = asyncio.create_task(processes.ask(0))
    for _ in range(steps):
        await asyncio.sleep(round_trip / 8)
    task.cancel()
    await asyncio.wait([task])
    await settle()
    assert processes.place.leases == {}
    assert isinstance(await processes[1].acquire(NAME, CALL, Waiting(), accept_any), Lease)
    await processes.close()


async def test_a_store_that_is_lost_is_reported_once_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """Calls go on without it meanwhile, and do not ask it for a second."""
    processes = Processes(1)
    caplog.set_level(logging.INFO, "zenovay_async")
    tier, place = processes[0], processes.place
    await processes.keep(0, entry := response())
    place.is_down = True
    place.operations.clear()
    for _ in range(10):
        assert await tier.find(NAME, CALL) is None
        assert tier.is_lost
        lease = await tier.acquire(NAME, CALL, Waiting(), accept_any)
        assert isinstance(lease, Lease)
        lease.keep_soon(response())
        assert isinstance(await tier.try_acquire(NAME), Lease)
    assert place.operations == ["find"]
    assert processes.events[0] == [CacheStoreLost(reason="the place is down")]
    assert processes.counters[0].errors == 1
    place.is_down = False
    await asyncio.sleep(1.0)
    assert await processes.stamp(0, NAME, CALL) == entry.stamp
    assert not tier.is_lost
    assert processes.kinds() == [CacheStoreLost, CacheStoreBack]
    back = processes.events[0][-1]
    assert isinstance(back, CacheStoreBack)
    assert back.seconds == pytest.approx(1.0, abs=0.1)
    assert [(record.levelname, record.name) for record in caplog.records] == [
        ("WARNING", "zenovay_async.cache"),
        ("INFO", "zenovay_async.cache"),
    ]
    await processes.close()


async def test_a_store_that_stays_away_is_tried_ever_more_rarely() -> None:
    """After one second at first, after 15 at most."""
    processes = Processes(1)
    processes.place.is_down = True
    tried: list[float] = []
    for _ in range(1300):
        known = len(processes.place.operations)
        await processes[0].find(NAME, CALL)
        if len(processes.place.operations) > known:
            tried.append(now())
        await asyncio.sleep(0.1)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
    for pause, longest in zip(pauses, [1.0, 2.0, 4.0, 8.0, *[15.0] * 20], strict=False):
        assert longest * 0.8 <= pause <= longest + 0.11
    assert processes.kinds() == [CacheStoreLost]
    assert processes.counters[0].errors == 1
    await processes.close()


async def test_a_store_that_can_be_read_alone_is_lost_once_and_stays_lost() -> None:
    """Such as one that is full, or a replica: it comes back when it can be changed."""
    processes = Processes(1)
    processes.place.is_full = True
    for _ in range(300):
        await processes.ask(0, latency=0.0)
        await asyncio.sleep(0.1)
    assert processes.kinds() == [CacheStoreLost]
    assert processes.events[0] == [CacheStoreLost(reason="the place is full")]
    processes.place.is_full = False
    await asyncio.sleep(15.0)
    await processes[0].find(NAME, CALL)
    assert processes.kinds() == [CacheStoreLost, CacheStoreBack]
    await settle()
    assert processes.place.leases == {}
    await processes.close()


async def test_a_store_is_not_back_while_it_is_down_and_a_lease_is_to_be_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that the store has let go by itself, so that releasing it says nothing."""
    processes = Processes(1)

    async def release(_: str) -> None:
        """As a store that has no such lease."""

    lease = await processes[0].try_acquire(NAME)
    assert lease is not None
    processes.place.is_down = True
    lease.keep_soon(response())
    await settle()
    monkeypatch.setattr(processes.stores[0], "release_lease", release)
    await asyncio.sleep(30.0)
    assert processes.kinds() == [CacheStoreLost]
    processes.place.is_down = False
    await asyncio.sleep(15.0)
    await processes[0].find(NAME, CALL)
    assert processes.kinds() == [CacheStoreLost, CacheStoreBack]
    await processes.close()


async def test_a_fault_in_a_store_is_logged_once_with_its_traceback_and_harms_no_call(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as lost as well, so that nobody waits for it."""
    processes = Processes(1)

    def fail(*_: Any) -> bytes:
        raise ValueError("cannot encode")

    monkeypatch.setattr("zenovay_async._cache.shared.encode", fail)
    for _ in range(10):
        await processes.ask(0, latency=0.0)
        await asyncio.sleep(10.0)
    faults = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in faults] == ["Unexpected ValueError of the store of the cache"]
    assert "cannot encode" in str(faults[0].exc_info)
    await processes.close()


async def test_of_many_scopes_that_the_store_does_not_know_yet_none_is_lost() -> None:
    """Each is there when its invalidation was awaited; while the store is lost, the scopes of one key are merged."""
    processes = Processes(2, round_trip=0.002)
    kept = "a" * 16 + NAME, "b" * 16 + NAME
    scopes = [Scope(website_id=f"w{number}", account="a" * 16) for number in range(600)]
    for is_down in (False, True):
        for name in kept:
            lease = await processes[1].try_acquire(name)
            assert lease is not None
            lease.keep_soon(response())
        await settle()
        processes.place.is_down = is_down
        recorded = [processes[0].invalidate_soon(scope) for scope in scopes]
        await recorded[1]
        if not is_down:
            assert scopes[1].name in processes.place.invalidations
        await asyncio.gather(*recorded)
        processes.place.is_down = False
        await asyncio.sleep(15.0)
        assert [await processes.stamp(1, name, CALL) is None for name in kept] == [True, False]
    await processes.close()


async def test_many_operations_that_fail_at_once_are_one_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those on connections that break together; so the store is tried again after a second, and not much later."""
    processes = Processes(1)

    async def fail(_: str) -> Any:
        await broken.wait()
        raise ConnectionResetError("connection reset")

    broken = asyncio.Event()
    with monkeypatch.context() as patch:
        patch.setattr(processes.stores[0], "find", fail)
        tasks = [asyncio.create_task(processes[0].find(NAME, CALL)) for _ in range(20)]
        await asyncio.sleep(0.1)
        broken.set()
        await asyncio.gather(*tasks)
    await asyncio.sleep(1.0)
    await processes[0].find(NAME, CALL)
    assert processes.kinds() == [CacheStoreLost, CacheStoreBack]
    await processes.close()


async def test_a_frozen_store_delays_all_callers_once_and_together() -> None:
    """For one timeout of the store; those that come later, by what is left of it."""
    processes = Processes(1, round_trip=0.002)
    processes.place.is_frozen = True

    async def ask() -> float:
        await processes.ask(0, latency=0.0)
        return now()

    tasks = [asyncio.create_task(ask()) for _ in range(50)]
    await asyncio.sleep(0.3)
    tasks += [asyncio.create_task(ask()) for _ in range(50)]
    ended = await asyncio.gather(*tasks)
    assert max(ended) < TIMEOUT + 0.01
    assert processes.kinds() == [CacheStoreLost]
    await processes.close()


async def test_one_caller_at_a_time_tries_a_frozen_store_and_no_other_waits() -> None:
    """For one timeout of the store."""
    processes = Processes(1, round_trip=0.002)
    processes.place.is_frozen = True
    await processes[0].find(NAME, CALL)
    await asyncio.sleep(1.0)

    async def look() -> float:
        began = now()
        assert await processes[0].find(NAME, CALL) is None
        return now() - began

    waited = sorted(await asyncio.gather(*(look() for _ in range(10))))
    assert waited == pytest.approx([0.0] * 9 + [TIMEOUT])
    await processes.close()


async def test_a_caller_that_is_canceled_while_it_tries_the_store_harms_nobody() -> None:
    """The trial goes on without it."""
    processes = Processes(1, round_trip=0.2)
    processes.place.is_down = True
    await processes[0].find(NAME, CALL)
    processes.place.is_down = False
    await asyncio.sleep(1.0)
    task = asyncio.create_task(processes[0].find(NAME, CALL))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(1.0)
    assert processes.kinds() == [CacheStoreLost, CacheStoreBack]
    await processes.close()


async def test_who_waits_for_another_process_goes_on_when_the_store_is_lost() -> None:
    """At its next look."""
    processes = Processes(2)
    held = await processes[0].acquire(NAME, CALL, Waiting(), accept_any)
    assert isinstance(held, Lease)
    task = asyncio.create_task(processes.ask(1))
    await asyncio.sleep(1.0)
    processes.place.is_down = True
    await task
    assert now() < 1.0 + 0.25 + 0.21
    held.release_soon()
    await processes.close()


async def test_an_invalidation_made_without_the_store_is_recorded_once_it_is_back() -> None:
    """By itself, before the store counts as back; awaiting it does not wait for that."""
    processes = Processes(2)
    await processes.keep(0, response())
    processes.place.is_down = True
    for _ in range(3):
        await processes[0].invalidate_soon(Scope(website_id="w1"))
    assert now() < 1.0
    assert processes[0].is_lost
    await asyncio.sleep(20.0)
    processes.place.is_down = False
    assert await processes[0].find(NAME, CALL) is None
    await asyncio.sleep(15.0)
    assert not processes[0].is_lost
    assert await processes[1].find(NAME, CALL) is None
    assert processes.place.operations.count("invalidate") < 10
    await processes.close()


async def test_very_many_invalidations_without_the_store_are_one_of_everything() -> None:
    """So that memory is bounded, and nothing that was invalidated is kept."""
    processes = Processes(2)
    await processes.keep(0, response())
    processes.place.is_down = True
    for number in range(1000):
        processes[0].invalidate_soon(Scope(website_id=f"w{number}"))
    await asyncio.sleep(0.5)
    processes.place.is_down = False
    await asyncio.sleep(1.0)
    assert Scope().name in processes.place.invalidations
    assert len(processes.place.invalidations) < 300
    assert await processes[1].find(NAME, CALL) is None
    await processes.close()


async def test_a_lease_that_outlived_the_store_is_released_once_it_is_back() -> None:
    """As the process lives, the store would keep it."""
    processes = Processes(2)
    lease = await processes[0].try_acquire(NAME)
    assert lease is not None
    processes.place.is_down = True
    lease.keep_soon(response())
    await settle()
    other = await processes[1].try_acquire("another name")
    assert isinstance(other, Lease)
    processes.place.is_down = False
    await asyncio.sleep(1.1)
    assert processes.place.leases == {}
    await processes.close()


@REACH
async def test_closing_writes_what_is_pending(round_trip: float) -> None:
    """And a closed tier opens again."""
    processes = Processes(2, round_trip=round_trip)
    lease = await processes[0].try_acquire(NAME)
    assert lease is not None
    processes[0].invalidate_soon(Scope(website_id="w2"))
    lease.keep_soon(entry := response())
    await processes[0].aclose()
    assert processes.stores[0].closed == 1
    assert list(processes.place.invalidations) == [Scope(website_id="w2").name]
    assert await processes.stamp(1, NAME, CALL) == entry.stamp
    assert await processes.stamp(0, NAME, CALL) == entry.stamp
    await processes.close()


async def test_closing_takes_a_second_at_most_and_reports_no_loss() -> None:
    """Whatever the store does; what could not be recorded is recorded with the next use."""
    processes = Processes(1, round_trip=30.0)
    recorded = processes[0].invalidate_soon(Scope())
    processes[0].invalidate_soon(Scope(website_id="w1"))
    await processes[0].aclose()
    assert now() <= 1.0
    await recorded
    assert processes.kinds() == []
    await processes.close()


async def test_closing_tries_a_lost_store_once_more_for_what_is_pending() -> None:
    """As it may be back, and the process is about to end."""
    processes = Processes(1)
    processes.place.is_down = True
    await processes[0].invalidate_soon(Scope())
    processes.place.is_down = False
    await processes[0].aclose()
    assert list(processes.place.invalidations) == [Scope().name]
    assert now() < 0.1
    await processes.close()


async def test_a_client_that_closes_harms_no_other_that_waits() -> None:
    """One of another client of the same cache."""
    processes = Processes(2)
    held = await processes[0].acquire(NAME, CALL, Waiting(), accept_any)
    assert isinstance(held, Lease)
    task = asyncio.create_task(processes.ask(1))
    await asyncio.sleep(0.5)
    await processes[1].aclose()
    held.keep_soon(entry := response())
    assert (await task).stamp == entry.stamp
    await processes.close()


@pytest.mark.looptime(enabled=False)
def test_a_tier_on_one_event_loop_after_another() -> None:
    """Neither a lease nor an invalidation of a loop that ended holds up the next one."""
    made: list[Processes] = []

    async def first() -> None:
        processes = Processes(1)
        made.append(processes)
        processes.place.is_down = True
        await processes[0].invalidate_soon(Scope())
        processes.place.is_down = False
        await processes[0].aclose()
        lease = await processes[0].acquire(NAME, CALL, Waiting(), accept_any)
        assert isinstance(lease, Lease)
        kept.append(lease)

    async def second() -> None:
        (processes,) = made
        await processes.ask(0)
        assert len(processes.requests) == 1
        kept[0].release_soon()
        await processes.close()

    kept: list[Lease] = []
    run(first())
    kept[0].release_soon()
    run(second())


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("ask"),
            st.integers(0, 2),
            st.integers(0, 1),
            st.booleans(),
            st.sampled_from([math.inf, 0.5, 5.0]),
            st.sampled_from(["succeed", "fail", "forget"]),
        ),
        st.tuples(st.just("refresh"), st.integers(0, 2), st.integers(0, 1)),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("invalidate"), st.integers(0, 2), st.integers(0, 1)),
        st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.001, 0.1, 1.0, 3.5])),
        st.tuples(st.sampled_from(["store down", "store frozen", "store up", "store emptied", "messages lost"])),
        st.tuples(st.sampled_from(["kill", "close"]), st.integers(0, 2)),
    ),
    max_size=40,
)
CALLS = [a_call("w0"), a_call("w1")]
SCOPES = [Scope(website_id="w0"), Scope()]


class Schedule:
    """Carries out any steps of three processes and their store, and checks what each caller gets."""

    def __init__(self, round_trip: float) -> None:
        self.processes = Processes(3, round_trip=round_trip)
        self.callers: list[asyncio.Task[None]] = []
        # When each call was last invalidated, as each process knows.
        self.invalidated = [[-math.inf, -math.inf] for _ in range(3)]
        self.invalidators: list[asyncio.Task[None]] = []

    async def ask(self, process: int, which: int, timeout: float, end: str, *, background: bool) -> None:
        tier, name, call = self.processes[process], f"name{which}", CALLS[which]
        limit = self.invalidated[process][which]
        began = now()
        found: CachedResponse | Lease | None = await tier.find(name, call)
        if found is None:
            waiting = Waiting(timeout, background=background)
            found = await tier.acquire(name, call, waiting, accept_any)
            assert now() - began <= timeout + 4 * TIMEOUT
        if isinstance(found, Lease):
            await self.request(found, end)
        else:
            assert found.began_at >= limit

    async def refresh(self, process: int, which: int) -> None:
        lease = await self.processes[process].try_acquire(f"name{which}")
        if lease is not None:
            await self.request(lease, "succeed")

    async def request(self, lease: Lease, end: str) -> None:
        try:
            began = now()
            await asyncio.sleep(0.3)
            if end == "succeed":
                lease.keep_soon(response(began))
            elif end == "forget":
                lease.drop_soon()
        finally:
            lease.release_soon()

    async def invalidate(self, process: int, which: int) -> None:
        tier, began = self.processes[process], now()
        recorded = tier.invalidate_soon(SCOPES[which])
        self.note(process, which, began)
        await recorded
        if not tier.is_lost:
            for other in range(3):
                self.note(other, which, began)

    def note(self, process: int, which: int, when: float) -> None:
        known = self.invalidated[process]
        for number in range(2) if which else (0,):
            known[number] = max(known[number], when)

    async def do(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("ask", process, which, background, timeout, end):
                work = self.ask(process, which, timeout, end, background=background)
                self.callers.append(asyncio.create_task(work))
            case ("refresh", process, which):
                self.callers.append(asyncio.create_task(self.refresh(process, which)))
            case ("cancel", which) if self.callers:
                self.callers[which % len(self.callers)].cancel()
            case ("invalidate", process, which):
                self.invalidators.append(asyncio.create_task(self.invalidate(process, which)))
            case ("sleep", seconds):
                await asyncio.sleep(seconds)
            case (str() as fault,):
                self.break_or_mend(fault)
            case ("kill", process):
                # Its leases end; the process itself goes on, as one that was frozen does.
                self.processes.stores[process].kill()
            case ("close", process):
                await self.processes[process].aclose()
            case _:
                pass

    def break_or_mend(self, fault: str) -> None:
        place = self.processes.place
        if fault == "store emptied":
            place.values.clear()
            place.leases.clear()
            return
        place.is_down, place.is_frozen = fault == "store down", fault == "store frozen"
        place.loss = 0.2 if fault == "messages lost" else 0.0

    async def drain(self) -> None:
        """Everyone who is left gets on, and nothing is left behind."""
        place = self.processes.place
        place.is_down, place.is_frozen, place.loss = False, False, 0.0
        if self.callers or self.invalidators:
            done, pending = await asyncio.wait([*self.callers, *self.invalidators], timeout=60.0)
            assert not pending
            for task in done:
                with contextlib.suppress(asyncio.CancelledError):
                    task.result()
        await asyncio.sleep(20.0)
        for tier in self.processes.tiers:
            await tier.find("name0", CALLS[0])
            await settle()
            assert not tier.is_lost
        await settle()
        for name in ("name0", "name1"):
            assert place.lease(name) is None
        await self.processes.close()


@given(st.sampled_from([0.0, 0.002]), STEPS)
@settings(max_examples=examples(250))
def test_any_schedule(round_trip: float, steps: list[tuple[Any, ...]]) -> None:
    """Whatever three processes and their store do, nobody waits for ever, gets what is invalid, or leaves a lease."""

    async def main() -> None:
        schedule = Schedule(round_trip)
        for step in steps:
            await schedule.do(step)
        await schedule.drain()

    run(main())


@given(
    st.sampled_from([0.0, 0.002]),
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.1]), st.booleans()),
        min_size=2,
        max_size=25,
    ),
    st.data(),
)
@settings(max_examples=examples(200))
def test_there_is_one_request_at_a_time_while_the_store_works(
    round_trip: float, calls: list[tuple[int, float, bool]], data: st.DataObject
) -> None:
    """Whenever calls of any process come, and while they wait are canceled."""
    latency = data.draw(st.sampled_from([0.01, 0.4, 3.0]))
    in_flight = 0

    async def main() -> None:
        nonlocal in_flight
        processes = Processes(4, round_trip=round_trip)

        async def request(lease: Lease) -> None:
            nonlocal in_flight
            in_flight += 1
            try:
                assert in_flight == 1
                await asyncio.sleep(latency)
            finally:
                in_flight -= 1
            # One that is soon too old, so that more follow, though not before all have looked.
            lease.keep_soon(response(seconds=1.0))

        async def ask(number: int, waiting: Waiting) -> None:
            found = await processes[number].acquire(NAME, CALL, waiting, accept_any)
            waiting.is_polling = False
            if isinstance(found, Lease):
                await request(found)

        tasks: list[asyncio.Task[None]] = []
        for number, pause, is_canceled in calls:
            waiting = Waiting()
            task = asyncio.create_task(ask(number, waiting))
            tasks.append(task)
            await asyncio.sleep(pause)
            # Whoever has the lease lives, as those who wait go on when it ends without a response.
            if is_canceled and in_flight and waiting.is_polling:
                task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError)
        await processes.close()

    run(main())
