"""Bounds on time for many tasks at once, with one timer for all of them.

``asyncio.timeout`` sets a timer for each block and takes it back at the end, and aiohttp does so for each request: 7 µs
of a call's 90, for a timer that next to never rings. Blocks that begin one after the other are mostly due in that
order, too. So there is one timer, for the block that is due first; when it rings, it finds out who is late by then.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class DeadlineTimer:
    """The alarms of one event loop, and their timer.

    Args:
        loop: The running loop.

    Attributes:
        loop: As given.
        set: The alarms of blocks that are under way; a dictionary, as an ordered set.
        next: When the timer rings.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.set: dict[Deadline, None] = {}
        self.next = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def schedule(self, when: float) -> None:
        """See to it that the timer rings at this time at the latest."""
        if self._timer is not None:
            self._timer.cancel()
        self.next = when
        self._timer = self.loop.call_at(when, self._fire)

    def _fire(self) -> None:
        # A loop may run a timer early by as much as its clock resolves.
        now = max(self.loop.time(), self.next)
        self._timer, self.next = None, math.inf
        for alarm in [alarm for alarm in self.set if alarm.when <= now]:
            del self.set[alarm]
            alarm.task.cancel()
        due = min((alarm.when for alarm in self.set), default=math.inf)
        if due < math.inf:
            self.schedule(due)


class Deadline:
    """A bound on the time of a block: ``with Deadline(alarms, when):``.

    It does what ``asyncio.timeout_at(when)`` does: cancels the task, and turns that into a ``TimeoutError`` where
    nobody else cancelled it.

    Args:
        alarms: The alarms of the running loop.
        when: Time of the loop by which the block must be done; ``math.inf`` for no bound.
    """

    __slots__ = ("_deadline_timer", "_cancelling", "task", "when")

    def __init__(self, alarms: DeadlineTimer, when: float) -> None:
        self._deadline_timer = alarms
        self.when = when

    def __enter__(self) -> None:
        alarms = self._deadline_timer
        task = asyncio.current_task(alarms.loop)
        if task is None:
            raise RuntimeError("a bound on time needs a task that can be cancelled")
        self.task = task
        self._cancelling = task.cancelling()
        alarms.set[self] = None
        if self.when < alarms.next:
            alarms.schedule(self.when)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The timer stays as it is: it will find nothing to do, or serve those that come until then.
        if self._deadline_timer.set.pop(self, self) is None:
            return
        if self.task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
