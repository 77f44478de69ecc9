"""The callers of one process that wait for a permit, in order."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import msgspec

from zenovay_async._limits.headroom import BACKGROUND_SHARE
from zenovay_async.exceptions import RateLimitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._limits.permit import LimiterPermit
    from zenovay_async.exceptions import ZenovayError


class Statistics(msgspec.Struct, frozen=True):
    """The permits and waiters of a limiter.

    Attributes:
        in_flight: Cost of the permits that are acquired and not returned yet.
        direct_waiting: Direct calls that wait for a permit.
        background_waiting: Background calls that wait for a permit.
        next_wakeup: When the timer wakes waiters, in the time of the event loop; ``None`` if it is not set.
    """

    in_flight: int
    direct_waiting: int
    background_waiting: int
    next_wakeup: float | None


class Waiter:
    """A caller that waits for a permit: its future gets either that or, once its wait cannot fit, an error.

    Attributes:
        future: The future.
        cost: Requests that the call is charged for.
        expires_at: Time of the event loop at which it gives up; ``math.inf`` for never.
        queue: Where it waits.
        headroom: What it leaves to direct calls; 0 for a direct call.
    """

    __slots__ = ("cost", "expires_at", "future", "headroom", "queue")

    def __init__(
        self, future: asyncio.Future[LimiterPermit], cost: int, expires_at: float, queue: Queue, headroom: int
    ) -> None:
        self.future = future
        self.cost = cost
        self.expires_at = expires_at
        self.queue = queue
        self.headroom = headroom

    async def wait(self, expire: Callable[[Waiter], None], on_leave: Callable[[], None]) -> LimiterPermit:
        """Wait for the permit; whoever is canceled leaves the queue, or refunds the permit that it got already.

        Args:
            expire: Called with this waiter when its time is over.
            on_leave: Called when it left the queue.
        """
        future, timer = self.future, None
        if self.expires_at < math.inf:
            timer = future.get_loop().call_at(self.expires_at, expire, self)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().refund()
            elif self in self.queue:
                self.queue.remove(self)
                on_leave()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def reject(self, seconds: float) -> None:
        """Fail the caller, as it would wait so many seconds."""
        self.queue.remove(self)
        self.future.set_exception(deadline_error(seconds))


class Queue(dict[Waiter, None]):
    """Waiters in order: a dictionary as an ordered set, from which any waiter is removed in constant time.

    Attributes:
        cost: Total cost of the waiters, kept so that a new one need not add it up.
    """

    cost = 0

    def add(self, waiter: Waiter) -> None:
        """Append a waiter."""
        self[waiter] = None
        self.cost += waiter.cost

    def remove(self, waiter: Waiter) -> None:
        """Remove a waiter."""
        del self[waiter]
        self.cost -= waiter.cost

    def clear(self) -> None:
        """Remove all waiters."""
        super().clear()
        self.cost = 0

    def fail(self, make_error: Callable[[], ZenovayError]) -> None:
        """Fail and remove all waiters."""
        for waiter in self:
            if not waiter.future.done():
                waiter.future.set_exception(make_error())
        self.clear()


def deadline_error(seconds: float) -> RateLimitError:
    """The error of a caller that would wait longer than it may."""
    return RateLimitError(
        f"Rate limited: the call would wait {seconds:.1f} s, longer than its timeout; no request was sent",
        retry_after=seconds,
    )


def ahead_of_next(n: int, direct: int, waiting: int, *, background: bool) -> int:
    """Cost of the requests ahead of the last of ``n`` further ones.

    Args:
        n: Number of further requests, 1 or more.
        direct: Cost of the direct calls that wait.
        waiting: Cost of the background calls that wait.
        background: Whether the further ones are for background calls.
    """
    ahead = direct + n - 1
    # One in four that direct calls do not overtake.
    return ahead + (waiting if background else min(waiting, ahead // (BACKGROUND_SHARE - 1)))
