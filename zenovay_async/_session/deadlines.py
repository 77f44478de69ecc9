"""Deadlines of many tasks at once, with one timer for all of them.

``asyncio.timeout`` sets a timer for each block and cancels it at the end, and so does aiohttp for each request: 7 µs of
a call's 100, for a timer that rarely fires. Here one timer is set for the deadline that is due first. Blocks that begin
one after the other are mostly due in that order, so it is rarely set again; when it fires, it ends all that are due.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from zenovay_async.exceptions import ClientClosedError

if TYPE_CHECKING:
    from types import TracebackType

CLOSED = "The client was closed during the call"
"""Message of a ``ClientClosedError`` of a block that was ended with its timer."""


class DeadlineTimer:
    """The deadlines of one event loop, and their timer.

    Args:
        loop: The running loop.

    Attributes:
        loop: As given.
        pending: The deadlines of entered blocks; a dictionary, as an ordered set.
        next: When the timer fires; ``math.inf`` if it is not set.
        is_closed: Whether all blocks were ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pending: dict[Deadline, None] = {}
        self.next = math.inf
        self.is_closed = False
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """End all entered blocks now."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self.pending = self.pending, {}
        for deadline in pending:
            deadline.task.cancel()

    def schedule(self, when: float) -> None:
        """Set the timer, in place of the one that is set."""
        if self._timer is not None:
            self._timer.cancel()
        self.next = when
        self._timer = self.loop.call_at(when, self._fire)

    def _fire(self) -> None:
        # A loop may run a timer early by as much as its clock resolves.
        now = max(self.loop.time(), self.next)
        self._timer, self.next = None, math.inf
        for deadline in [deadline for deadline in self.pending if deadline.when <= now]:
            del self.pending[deadline]
            deadline.task.cancel()
        due = min((deadline.when for deadline in self.pending), default=math.inf)
        if due < math.inf:
            self.schedule(due)


class Deadline:
    """A deadline for a block: ``with Deadline(timer, when):``.

    Like ``asyncio.timeout_at(when)``, it cancels the task and raises a ``TimeoutError`` instead, unless the task was
    also canceled from elsewhere. So it does when the timer is closed.

    Args:
        timer: The timer of the running loop.
        when: Time of the loop at which the block ends; ``math.inf`` for no deadline.
        latest: Time of the loop beyond which it cannot be put off.
    """

    __slots__ = ("_cancelling", "_latest", "_timer", "task", "when")

    def __init__(self, timer: DeadlineTimer, when: float, latest: float = math.inf) -> None:
        self._timer = timer
        self._latest = latest
        self.when = when

    def put_off(self, when: float) -> None:
        """End the block later, if at all; the timer looks again when it fires."""
        self.when = max(self.when, min(when, self._latest))

    def __enter__(self) -> None:
        timer = self._timer
        task = asyncio.current_task(timer.loop)
        if task is None:
            raise RuntimeError("A deadline needs a task, which it can cancel")
        self.task = task
        self._cancelling = task.cancelling()
        timer.pending[self] = None
        if self.when < timer.next:
            timer.schedule(self.when)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The timer stays set: it may serve a later deadline, and to fire in vain now and then costs less than to cancel
        # it after each block.
        if self._timer.pending.pop(self, self) is None:
            return
        if self.task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error


class UntilClosed(Deadline):
    """A block that may take any time, until the timer is closed: ``with UntilClosed(timer):``.

    Args:
        timer: The timer of the running loop.
    """

    __slots__ = ()

    def __init__(self, timer: DeadlineTimer) -> None:
        super().__init__(timer, math.inf)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, traceback)
        except TimeoutError:
            raise ClientClosedError(CLOSED) from None


class Bounds:
    """When a call ends.

    Attributes:
        deadline: Time of the loop; ``None`` for never.
        attempt: The deadline of the attempt in flight; ``None`` if there is none.
    """

    deadline: float | None = None
    attempt: Deadline | None = None
