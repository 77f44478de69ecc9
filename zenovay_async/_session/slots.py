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

    __slots__ = ("_waiters", "available")

    def __init__(self, total: int) -> None:
        self.available = total
        # A dictionary, as an ordered set: a caller that gives up is removed from anywhere at once.
        self._waiters: dict[asyncio.Future[None], None] = {}

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
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        except BaseException:
            if waiter in self._waiters:
                del self._waiters[waiter]
            else:
                # Canceled in the very moment in which it got a slot.
                self.release()
            raise

    def release(self) -> None:
        """Release a slot to the next waiter, if there is one."""
        for waiter in self._waiters:
            # An event loop that was closed in mid-call leaves callers that nothing can wake any more.
            if not waiter.done() and not waiter.get_loop().is_closed():
                del self._waiters[waiter]
                waiter.set_result(None)
                return
        self.available += 1
