"""A store in virtual time: one place that several processes reach, at once or after a while, and that may fail."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.rate_limits import StoreChange, StoreWrite

# Seconds by which the clock of the place is ahead of that of the event loop.
AHEAD = 5000.0
# Seconds after which a message counts as lost, and is sent once more.
_TIMEOUT = 0.5


class Place:
    """Where the values are.

    Attributes:
        values: The values, by name.
        is_down: Whether nobody reaches it.
        loss: The share of messages that are lost.
        operations: Reads and writes.
        ahead: Seconds by which its clock is ahead of that of the event loop.
    """

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.listeners: dict[str, Callable[[], None]] = {}
        self.is_down = False
        self.loss = 0.0
        self.operations = 0
        self.ahead = AHEAD
        self._rng = random.Random(0)

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead

    def check(self) -> None:
        if self.is_down:
            raise OSError("the place is down")

    def write(self, name: str, write: StoreWrite, delay: float) -> None:
        self.values[name] = write.value
        for address in write.ring:
            asyncio.get_running_loop().call_later(delay, self.ring, address)

    def ring(self, address: str) -> None:
        listener = self.listeners.get(address)
        if listener is not None and not self.is_down and self._rng.random() >= self.loss:
            listener()


class SimulatedStore:
    """What one process has of it: reached at once, as a file is, or by round trips under compare-and-set, as Redis is.

    Args:
        place: Where the values are.
        round_trip: Seconds of a round trip on average; 0 for at once.
        seed: Seed of the jitter.
        rings: Whether one process can wake another.

    Attributes:
        is_killed: Whether its process was killed, so that nothing it does has an effect.
    """

    def __init__(self, place: Place, round_trip: float = 0.0, seed: int = 0, *, rings: bool = True) -> None:
        self._place = place
        self._rings = rings
        self._round_trip = round_trip
        self._rng = random.Random(seed)
        self._seen: dict[str, bytes | None] = {}
        self._address = ""
        self._yields_until = 0.0
        self.is_killed = False

    def kill(self) -> None:
        self.is_killed = True
        self._place.listeners.pop(self._address, None)

    def update_nowait(self, name: str, change: StoreChange) -> bool:
        if self._round_trip or self.is_killed:
            return False
        self._place.check()
        self._place.operations += 1
        write = change(self._place.values.get(name), self._place.now())
        if write is not None:
            self._place.write(name, write, 0.0)
        return True

    async def update(self, name: str, change: StoreChange) -> None:
        if self.is_killed:
            await asyncio.Event().wait()
        if self.update_nowait(name, change):
            return
        is_current = name not in self._seen
        if is_current:
            await self._exchange(name, None)
        if self._place.now() < self._yields_until:
            await asyncio.sleep(self._round_trip * self._rng.uniform(0.5, 2))
        while True:
            write = change(self._seen[name], self._place.now())
            if (write is None and is_current) or await self._exchange(name, write):
                return
            is_current = True
            if write is not None:
                # As RedisStore does.
                self._yields_until = self._place.now() + 1.0

    async def listen(self, name: str, on_ring: Callable[[], None]) -> str:
        self._place.check()
        if not self._rings:
            return ""
        self._place.listeners.pop(self._address, None)
        self._address = f"{name}.{len(self._place.listeners)}.{self._rng.getrandbits(32)}"
        self._place.listeners[self._address] = on_ring
        return self._address

    async def aclose(self) -> None:
        self._place.listeners.pop(self._address, None)

    async def _exchange(self, name: str, write: StoreWrite | None) -> bool:
        """Write a value if the one seen is the current one, or read it; returns whether it was."""
        await self._travel()
        self._place.operations += 1
        seen, current = self._seen.get(name), self._place.values.get(name)
        is_current = seen == current
        if is_current and write is not None:
            self._place.write(name, write, self._round_trip / 2)
            current = write.value
        await self._travel()
        self._seen[name] = current
        return is_current

    async def _travel(self) -> None:
        for _ in range(2):
            if not self._place.is_down and self._rng.random() >= self._place.loss:
                await asyncio.sleep(self._round_trip / 2 * self._rng.uniform(0.5, 1.5))
                return
            await asyncio.sleep(_TIMEOUT)
        self._place.check()
        raise TimeoutError("no response from the place")
