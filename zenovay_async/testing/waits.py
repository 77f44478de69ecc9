"""no_waits: the waits of clients take no real time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from zenovay_async.testing.clock import CLOCKS

if TYPE_CHECKING:
    from types import TracebackType


class NoWaits:
    """A block in which the waits of clients take no real time, made by :func:`no_waits`."""

    def __init__(self) -> None:
        self._began_at = CLOCKS.skipped
        self._ended_at: float | None = None

    @property
    def skipped(self) -> float:
        """Seconds that were skipped in the block so far, of all threads."""
        return (CLOCKS.skipped if self._ended_at is None else self._ended_at) - self._began_at

    def __enter__(self) -> Self:
        self._began_at, self._ended_at = CLOCKS.skipped, None
        CLOCKS.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended_at = CLOCKS.skipped
        CLOCKS.leave()


def no_waits() -> NoWaits:
    """Let the waits of clients take no real time.

    Use it as ``with no_waits() as waits:``, in any kind of test. Pacing, ``Retry-After``, backoff and outages cost no
    time, while the order of calls, their number, their errors and the waits that these state stay what they would be.
    This holds for all calls of this process that begin in the block, in all threads. Other timers of the same event
    loop, such as those of ``asyncio.timeout``, fire in their order, and the sandboxes of this process go by the same
    time.

    Time passes as usual while a request is in flight and while the event loop waits for a thread, as of
    ``asyncio.to_thread``; so no request times out that would have succeeded. What a ``Cache`` keeps ages in real time.
    At the end of the block, what this process knows of rate limits is forgotten.

    Returns:
        The block; its ``skipped`` is the seconds that were skipped so far. A call in it raises a
        ``ConfigurationError`` on an event loop that is not one of asyncio's own, such as uvloop's, and if its client
        has a ``rate_limit_store=``.
    """
    return NoWaits()
