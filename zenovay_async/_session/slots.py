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

    __slots__ = ("_waiters", "available")

    def __init__(self, total: int) -> None:
        self.available = total
        # A dictionary, as an ordered set: a caller that gives up is removed from anywhere at once.
        self._waiters: dict[asyncio.Future[None], None] = {}

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
        """Return a slot; it goes to the first caller that waits."""
        for waiter in self._waiters:
            # An event loop that was closed in mid-call leaves callers that nothing can wake any more.
            if not waiter.done() and not waiter.get_loop().is_closed():
                del self._waiters[waiter]
                waiter.set_result(None)
                return
        self.available += 1
