"""A semaphore that can also be taken without a coroutine."""

from __future__ import annotations

import asyncio


class Slots:
    """A fixed number of slots; callers that find none wait, first come, first served.

    Args:
        total: How many there are.

    Attributes:
        available: Slots that nobody holds and nobody waits for.
    """

    __slots__ = ("_queue", "_waiting", "available")

    def __init__(self, total: int) -> None:
        self.available = total
        # While a caller waits, a released slot goes through the semaphore, which hands it to the next in line.
        self._queue = asyncio.Semaphore(0)
        self._waiting = 0

    def acquire_nowait(self) -> bool:
        """Take a slot if one is available; False if not."""
        if not self.available:
            return False
        self.available -= 1
        return True

    async def acquire(self) -> None:
        """Take a slot, once one is available."""
        if self.acquire_nowait():
            return
        self._waiting += 1
        try:
            await self._queue.acquire()
        finally:
            self._waiting -= 1

    def release(self) -> None:
        """Return a slot."""
        if self._waiting:
            self._queue.release()
        else:
            self.available += 1
