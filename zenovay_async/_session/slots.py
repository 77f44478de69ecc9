"""A semaphore that can also be acquired without a coroutine."""

from __future__ import annotations

import asyncio


class Slots:
    """A fixed number of slots; callers wait for them first come, first served.

    Args:
        total: Number of slots.

    Attributes:
        available: Slots that can be acquired without waiting.
    """

    __slots__ = ("_queue", "_waiting", "available")

    def __init__(self, total: int) -> None:
        self.available = total
        # While a caller waits, a released slot goes through the semaphore, which hands it to the next in line.
        self._queue = asyncio.Semaphore(0)
        self._waiting = 0

    def acquire_nowait(self) -> bool:
        """Acquire a slot if one is available; returns whether it did."""
        if not self.available:
            return False
        self.available -= 1
        return True

    async def acquire(self) -> None:
        """Acquire a slot; waits until one is available."""
        if self.acquire_nowait():
            return
        self._waiting += 1
        try:
            await self._queue.acquire()
        finally:
            self._waiting -= 1

    def release(self) -> None:
        """Release a slot to the next waiter, if there is one."""
        if self._waiting:
            self._queue.release()
        else:
            self.available += 1
