"""Deadlines of many tasks at once, with one timer for all of them.

``asyncio.timeout`` sets a timer for each block and cancels it at the end, and so does aiohttp for each request: 7 µs of
a call's 100, for a timer that hardly ever fires. Blocks that begin one after the other are mostly due in that order,
too. So there is one timer, for the deadline that is due first; when it fires, it looks for those that have passed.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class DeadlineTimer:
    """The deadlines of one event loop, and their timer.

    Args:
        loop: The running loop.

    Attributes:
        loop: As given.
        pending: The deadlines of blocks under way; a dictionary, as an ordered set.
        next: When the timer fires.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pending: dict[Deadline, None] = {}
        self.next = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def schedule(self, when: float) -> None:
        """Let the timer fire at this time at the latest."""
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

    It does what ``asyncio.timeout_at(when)`` does: cancels the task, and turns that into a ``TimeoutError`` unless
    somebody else cancelled it.

    Args:
        timer: The timer of the running loop.
        when: Time of the loop by which the block must be done; ``math.inf`` for no deadline.
    """

    __slots__ = ("_cancelling", "_timer", "task", "when")

    def __init__(self, timer: DeadlineTimer, when: float) -> None:
        self._timer = timer
        self.when = when

    def __enter__(self) -> None:
        timer = self._timer
        task = asyncio.current_task(timer.loop)
        if task is None:
            raise RuntimeError("A deadline needs a task that can be cancelled")
        self.task = task
        self._cancelling = task.cancelling()
        timer.pending[self] = None
        if self.when < timer.next:
            timer.schedule(self.when)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The timer stays as it is: it finds nothing to do, or serves the deadlines that come until then.
        if self._timer.pending.pop(self, self) is None:
            return
        if self.task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
