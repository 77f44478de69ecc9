"""The one timer with which a queue wakes its waiters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from zenovay_async.exceptions import ClientClosedError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Wakeup:
    """A timer that is moved as the queue changes; on one event loop at a time.

    Args:
        wake: Called when it is due.
    """

    __slots__ = ("_timer", "_wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None

    @property
    def at(self) -> float | None:
        """When it is due, in the time of the event loop; ``None`` if it is not set."""
        return None if self._timer is None else self._timer.when()

    def set(self, loop: asyncio.AbstractEventLoop | None, when: float) -> None:
        """Set it to another time; to none if that is ``math.inf``, or without a loop."""
        if self._timer is not None:
            if when == self._timer.when():
                return
            self._timer.cancel()
            self._timer = None
        if loop is not None and not math.isinf(when):
            self._timer = loop.call_at(when, self._fire)

    def leave(self, loop: asyncio.AbstractEventLoop | None, *, waiting: bool) -> None:
        """Leave an event loop for another one.

        Args:
            loop: The loop to leave; ``None`` for none.
            waiting: Whether callers wait on it.

        Raises:
            ClientClosedError: Callers wait on the loop, which is not closed.
        """
        if waiting and loop is not None and not loop.is_closed():
            raise ClientClosedError("Callers of this key wait on another event loop; make a client in each thread")
        self.set(None, math.inf)

    def _fire(self) -> None:
        self._timer = None
        self._wake()
