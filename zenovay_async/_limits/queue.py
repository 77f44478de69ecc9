"""The callers of one process that wait for a permit, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from zenovay_async.exceptions import RateLimitError

if TYPE_CHECKING:
    import asyncio

PermitT = TypeVar("PermitT")


class Waiter(Generic[PermitT]):
    """A caller that waits for a permit: its future gets either that or, once its wait cannot fit, an error.

    Attributes:
        future: The future.
        cost: Requests that the call is charged for.
        expires_at: Time of the event loop at which it gives up; ``math.inf`` for never.
        queue: Where it waits.
        headroom: What it leaves to direct calls.
    """

    __slots__ = ("cost", "expires_at", "future", "headroom", "queue")

    def __init__(
        self,
        future: asyncio.Future[PermitT],
        cost: int,
        expires_at: float,
        queue: Queue[PermitT],
        headroom: int,
    ) -> None:
        self.future = future
        self.cost = cost
        self.expires_at = expires_at
        self.queue = queue
        self.headroom = headroom

    def reject(self, seconds: float) -> None:
        """Fail the caller, as it would wait so many seconds."""
        self.queue.remove(self)
        self.future.set_exception(deadline_error(seconds))


class Queue(dict[Waiter[PermitT], None], Generic[PermitT]):
    """Waiters in order: a dictionary as an ordered set, from which any waiter is removed in constant time.

    Attributes:
        cost: Total cost of the waiters, kept so that a new one need not add it up.
    """

    cost = 0

    def add(self, waiter: Waiter[PermitT]) -> None:
        """Append a waiter."""
        self[waiter] = None
        self.cost += waiter.cost

    def remove(self, waiter: Waiter[PermitT]) -> None:
        """Remove a waiter."""
        del self[waiter]
        self.cost -= waiter.cost

    def clear(self) -> None:
        """Remove all waiters."""
        super().clear()
        self.cost = 0


def deadline_error(seconds: float) -> RateLimitError:
    """The error of a caller that would wait longer than it may."""
    return RateLimitError(
        f"Rate limited: the call would wait {seconds:.1f} s, longer than its timeout; no request was sent",
        retry_after=seconds,
    )
