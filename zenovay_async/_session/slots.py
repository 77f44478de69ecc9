"""A bounded number of places, for those who need one at a time.

What ``asyncio.Semaphore`` does, in two steps for those who count microseconds: where a place is free, which is nearly
always, they take it by counting ``free`` down, and call nothing.
"""

from __future__ import annotations

import asyncio


class Slots:
    """So many places; those who find none wait, first come, first served.

    Args:
        places: How many there are.

    Attributes:
        free: Slots that nobody has and nobody waits for.
    """

    __slots__ = ("_queue", "_waiting", "free")

    def __init__(self, places: int) -> None:
        self.free = places
        # While somebody waits, a place that gets free goes through the semaphore, which hands it to the next in line.
        self._queue = asyncio.Semaphore(0)
        self._waiting = 0

    async def take(self) -> None:
        """Take a place, once one is free."""
        if self.free:
            self.free -= 1
            return
        self._waiting += 1
        try:
            await self._queue.acquire()
        finally:
            self._waiting -= 1

    def give_back(self) -> None:
        """Somebody else may have the place."""
        if self._waiting:
            self._queue.release()
        else:
            self.free += 1
