"""Many members of one budget in virtual time: where sharing stops being fair, or on time.

A hundred limiters, their store and the server are one program in one event loop, whose clock jumps from one timer to
the next. Nothing computes there for any time, so only distances, latencies and losses show.
"""

from __future__ import annotations

import asyncio
import random
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import msgspec
from looptime import new_event_loop
from simulated_servers import Server
from simulated_store import Place, SimulatedStore

from zenovay_async._limits.sharing.limiter import SharedLimiter
from zenovay_async.sandbox.limits import LimiterKind

from .counting import CountingStore

if TYPE_CHECKING:
    from zenovay_async.rate_limits import RateLimiter, Store, StoreChange

StoreKind: TypeAlias = Literal["compare-and-set", "locked"]
Load: TypeAlias = Literal["batches", "arrivals"]

# The highest plan: a hundred processes on the lowest would have a request every three minutes each.
LIMIT, WINDOW = 120, 60.0
LATENCY = 0.2
# Windows that all calls take at least, the first burst included.
_WINDOWS = 5


def make_limiter(store: Store, rng: random.Random) -> RateLimiter:
    """The limiter of one member."""
    return SharedLimiter(store, "simulation", window=WINDOW, rng=rng)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Members, their store, and what they do.

    Attributes:
        store: Whether a write fails if another one came first, or waits for its lock.
        members: How many share the budget.
        distance: Seconds of a round trip to the store, on average.
        loss: The share of messages to the store that are lost, and noticed by a timeout.
        load: Equal batches, as many calls as four windows allow; or direct calls at random times, 80 % of what is
            allowed.
        kind: How the server counts.
    """

    store: StoreKind
    members: int
    distance: float
    loss: float = 0.0
    load: Load = "batches"
    kind: LimiterKind = "sliding"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a case.

    Attributes:
        case: The case.
        calls: Calls, each with a result.
        rate_limited: Requests that got a 429.
        used: Calls of batches in shares of what the server allows in the time that they took; the first burst is free.
        spread: Seconds between the end of the first member and that of the last.
        median_wait: Seconds that a call took, in the median.
        longest_wait: Seconds that a call took at most.
        operations: Reads and writes of the store per request.
        worst_update: Reads and writes for one update, at most: each but the last was lost.
    """

    case: Case
    calls: int
    rate_limited: int
    used: float | None
    spread: float
    median_wait: float
    longest_wait: float
    operations: float
    worst_update: int


class LockedStore(SimulatedStore):
    """A store in which each waits for the one before, first come, first served."""

    def __init__(self, place: Place, round_trip: float, seed: int, lock: asyncio.Lock) -> None:
        super().__init__(place, round_trip, seed)
        self._lock = lock

    async def update(self, name: str, change: StoreChange) -> None:
        await self._travel()
        async with self._lock:
            # Whoever has the lock reads and writes from where it is.
            await self._travel()
            write = change(self._place.values.get(name), self._place.now())
            if write is not None:
                self._place.write(name, write, self._round_trip / 2)
            await self._travel()


def all_cases() -> list[Case]:
    """Members and distances, with equal batches against two kinds of server; then losses, and direct calls."""
    stores: tuple[StoreKind, ...] = get_args(StoreKind)
    members, distances = (4, 8, 16, 32, 100), (0.001, 0.005, 0.01, 0.02)
    kinds: tuple[LimiterKind, ...] = ("sliding", "counter")
    cases = [
        Case(store="compare-and-set", members=number, distance=distance, kind=kind)
        for number, distance, kind in product(members, distances, kinds)
    ]
    cases += [
        Case(store="locked", members=number, distance=distance) for number, distance in product(members, (0.0, 0.01))
    ]
    cases += [
        Case(store="compare-and-set", members=number, distance=0.005, loss=loss)
        for number, loss in product((4, 16, 100), (0.01, 0.05))
    ]
    cases += [
        Case(store=store, members=number, distance=distance, load="arrivals")
        for store, number, distance in product(stores, (4, 16, 100), (0.001, 0.01))
    ]
    return cases


def quick_cases() -> list[Case]:
    """A few cases."""
    return [
        Case(store="compare-and-set", members=members, distance=distance)
        for members, distance in product((4, 8), (0.001, 0.01))
    ]


def measure(case: Case) -> Row:
    """Measure a case in an event loop of its own."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_measure(case))


async def _measure(case: Case) -> Row:
    loop, rng = asyncio.get_running_loop(), random.Random(case.members)
    place, lock = Place(), asyncio.Lock()
    place.loss = case.loss / 2
    server = Server(case.kind, LIMIT, WINDOW, latency=LATENCY / 2, jitter=LATENCY / 2)
    stores = [
        CountingStore(
            LockedStore(place, case.distance, number, lock)
            if case.store == "locked"
            else SimulatedStore(place, case.distance, number)
        )
        for number in range(case.members)
    ]
    limiters = [make_limiter(store, random.Random(number)) for number, store in enumerate(stores)]
    calls, more = divmod(_WINDOWS * LIMIT, case.members)
    shares = [calls + (number < more) for number in range(case.members)]
    waits: list[float] = []

    async def call(limiter: RateLimiter) -> None:
        began = loop.time()
        await server.until_admitted(limiter)
        waits.append(loop.time() - began)

    async def batch(limiter: RateLimiter, share: int) -> float:
        left = iter(range(share))

        async def work() -> None:
            for _ in left:
                await call(limiter)

        await asyncio.gather(*(work() for _ in range(8)))
        return loop.time()

    async def arrive(limiter: RateLimiter, share: int) -> float:
        async with asyncio.TaskGroup() as group:
            for _ in range(share):
                await asyncio.sleep(rng.expovariate(0.8 * LIMIT / WINDOW / case.members))
                group.create_task(call(limiter))
        return loop.time()

    began = loop.time()
    ends = await asyncio.gather(*map(batch if case.load == "batches" else arrive, limiters, shares))
    await asyncio.gather(*(limiter.aclose() for limiter in limiters))
    seconds = max(ends) - began
    return Row(
        case=case,
        calls=len(waits),
        rate_limited=server.rate_limited,
        used=(_WINDOWS - 1) * WINDOW / seconds if case.load == "batches" else None,
        spread=max(ends) - min(ends),
        median_wait=median(waits),
        longest_wait=max(waits),
        operations=sum(store.operations for store in stores) / (server.admitted + server.rate_limited),
        worst_update=max(store.worst_update for store in stores),
    )
