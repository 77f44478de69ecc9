"""A cache store in virtual time: a place that several processes reach, at once or after a while, and that may fail."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, TypeVar

from zenovay_async._cache.store import Found

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Seconds by which the clock of the place is ahead of that of the event loop.
AHEAD = 5000.0
# Seconds after which an operation fails whose response does not come.
TIMEOUT = 0.5
# Seconds after the end of a process in which its leases end.
LEASE = 2.0


class CachePlace:
    """Where the responses are.

    Attributes:
        values: The values, and when each expires.
        leases: Which store has a lease, and whether it is for a background request.
        invalidations: When each scope was invalidated.
        is_down: Whether each operation fails at once.
        is_frozen: Whether none has a response.
        is_full: Whether each change fails.
        loss: The share of operations whose response is lost.
        operations: Names of the operations that were begun.
    """

    def __init__(self) -> None:
        self.values: dict[str, tuple[bytes, float]] = {}
        self.leases: dict[str, tuple[SimulatedCacheStore, bool]] = {}
        self.invalidations: dict[str, float] = {}
        self.is_down = False
        self.is_frozen = False
        self.is_full = False
        self.loss = 0.0
        self.operations: list[str] = []

    def now(self) -> float:
        return asyncio.get_running_loop().time() + AHEAD

    def lease(self, name: str) -> tuple[SimulatedCacheStore, bool] | None:
        lease = self.leases.get(name)
        if lease is not None and lease[0].leases_end_at <= self.now():
            del self.leases[name]
            return None
        return lease

    def release(self, name: str, store: SimulatedCacheStore) -> None:
        if name in self.leases and self.leases[name][0] is store:
            del self.leases[name]


class SimulatedCacheStore:
    """What one process has of it.

    Args:
        place: Where the responses are.
        round_trip: Seconds of a round trip on average; 0 for at once.
        seed: Seed of the jitter.

    Attributes:
        offset: Seconds by which the clock of the place is ahead of this process's.
        closed: How often it was closed.
    """

    def __init__(self, place: CachePlace, round_trip: float = 0.0, seed: int = 0) -> None:
        self.place = place
        self.offset = AHEAD
        self.leases_end_at = math.inf
        self.closed = 0
        self._round_trip = round_trip
        self._rng = random.Random(seed)

    def kill(self) -> None:
        """End the process, so that its leases end soon."""
        self.leases_end_at = self.place.now() + LEASE

    async def find(self, name: str) -> Found:
        return await self._exchange("find", lambda: self._find(name))

    async def acquire_lease(self, name: str, *, background: bool, steal: bool = False) -> bool:
        return await self._exchange("acquire_lease", lambda: self._acquire(name, background=background, steal=steal))

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        await self._exchange("put", lambda: self._put(name, value, seconds))

    async def release_lease(self, name: str) -> None:
        await self._exchange("release_lease", lambda: self.place.release(name, self))

    async def remove(self, name: str) -> None:
        await self._exchange("remove", lambda: self._remove(name))

    async def invalidate(self, scope: str, seconds: float) -> None:
        assert seconds > 0
        await self._exchange("invalidate", lambda: self.place.invalidations.update({scope: self.place.now()}))

    async def aclose(self) -> None:
        self.closed += 1
        # Nobody renews its leases any more.
        ended = SimulatedCacheStore(self.place)
        ended.kill()
        for name, (store, background) in list(self.place.leases.items()):
            if store is self:
                self.place.leases[name] = ended, background

    def _find(self, name: str) -> Found:
        value, until = self.place.values.get(name, (None, math.inf))
        lease = self.place.lease(name)
        return Found(
            value=value if self.place.now() < until else None,
            invalidations=dict(self.place.invalidations),
            lease=None if lease is None else "background" if lease[1] else "direct",
            offset=self.offset,
        )

    def _acquire(self, name: str, *, background: bool, steal: bool) -> bool:
        lease = self.place.lease(name)
        if lease is not None and lease[0] is not self and not (steal and lease[1]):
            return False
        self.place.leases[name] = self, background
        return True

    def _put(self, name: str, value: bytes, seconds: float) -> None:
        assert seconds > 0
        self.place.values[name] = value, self.place.now() + seconds
        self.place.release(name, self)

    def _remove(self, name: str) -> None:
        self.place.values.pop(name, None)
        self.place.release(name, self)

    async def _exchange(self, operation: str, apply: Callable[[], T]) -> T:
        """Carry out an operation there, even if it is canceled meanwhile or its response is lost."""
        place, loop = self.place, asyncio.get_running_loop()
        place.operations.append(operation)
        if place.is_down:
            raise ConnectionRefusedError("the place is down")
        if place.is_full and operation != "find":
            raise OSError("the place is full")
        if place.is_frozen:
            await asyncio.sleep(TIMEOUT)
            raise TimeoutError("no response from the place")
        is_lost = self._rng.random() < place.loss
        if not self._round_trip:
            if is_lost:
                raise ConnectionResetError("connection reset")
            return apply()
        there: asyncio.Future[T] = loop.create_future()

        def arrive() -> None:
            result = apply()
            if not there.done():
                there.set_result(result)

        loop.call_later(self._round_trip / 2 * self._rng.uniform(0.5, 1.5), arrive)
        result = await there
        if is_lost:
            await asyncio.sleep(TIMEOUT)
            raise TimeoutError("no response from the place")
        await asyncio.sleep(self._round_trip / 2 * self._rng.uniform(0.5, 1.5))
        return result
