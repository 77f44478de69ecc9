"""How calls know that they belong to a batch, and what the calls of one batch have in common."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import msgspec

from zenovay_async._limits.patience import MAX_OUTAGE
from zenovay_async._session.tally import Tally
from zenovay_async.exceptions import BadRequestError, BatchStoppedError, ZenovayError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from zenovay_async._protocol.call import Call

# So many items have to fail alike, before any has succeeded, until the cause is taken to be what they have in common.
_ALIKE = 3
# Parameters, and errors with them, that are kept; a batch may call with others for each item.
_MOST_PARAMETERS = 256


class Rejections:
    """Finds the error that every item would meet: items fail alike, and none has succeeded with the same parameters."""

    def __init__(self) -> None:
        self._succeeded: set[Hashable] = set()
        self._rejected: dict[Hashable, dict[Hashable, Hashable]] = {}

    def accept(self, parameters: Hashable) -> None:
        """Record a success: the parameters are valid."""
        if parameters not in self._succeeded:
            if len(self._succeeded) >= _MOST_PARAMETERS:
                self._succeeded.clear()
            self._succeeded.add(parameters)

    def reject(self, parameters: Hashable, reason: Hashable, *, item: Hashable, path: Hashable) -> bool:
        """Record an error; returns whether every item would meet it.

        Args:
            parameters: What all items have in common.
            reason: What makes two errors the same.
            item: Whose error it is.
            path: What was called for it: several items may be of one website, and an item may make several calls.
        """
        if parameters in self._succeeded:
            return False
        # The last is the one that came last; those that do not recur are dropped first.
        paths = self._rejected.pop((parameters, reason), {})
        if len(self._rejected) >= _MOST_PARAMETERS:
            del self._rejected[next(iter(self._rejected))]
        self._rejected[parameters, reason] = paths
        # One for each item, and no more of one path, however many items there are.
        if len(paths) < _ALIKE and item not in paths and path not in paths.values():
            paths[item] = path
        return len(paths) >= _ALIKE


class Background(msgspec.Struct):
    """What the calls of a batch have in common.

    Attributes:
        max_outage: Seconds of an outage after which they give up; ``None`` for no bound.
        max_requests: Requests, as charged to the monthly quota, that they may send at most; ``None`` for no bound.
        tally: What they have sent so far.
        waits_since: When the first of them had to wait, in the time of the event loop; ``None`` if none had to.
        rejections: Their errors that may hold for every item.
        repeated: Those that do, by these.
        has_failed: Whether one of them failed with an error that every further call would meet.
        has_stopped: Whether one of them did not fit ``max_requests``.
        outer: The same of the batch in whose ``fetch`` this one runs; ``None`` if in none.
    """

    max_outage: float | None = MAX_OUTAGE
    max_requests: int | None = None
    tally: Tally = msgspec.field(default_factory=Tally)
    waits_since: float | None = None
    rejections: Rejections = msgspec.field(default_factory=Rejections)
    repeated: WeakSet[ZenovayError] = msgspec.field(default_factory=WeakSet[ZenovayError])
    has_failed: bool = False
    has_stopped: bool = False
    outer: Background | None = None

    def reserve(self, cost: int, last_error: ZenovayError | None) -> int:
        """Reserve the requests that an attempt is charged for, until it ends.

        Args:
            cost: How many.
            last_error: Error of the attempt before it; ``None`` for the first one.

        Returns:
            How many.

        Raises:
            BatchStoppedError: They exceed ``max_requests``, of this batch or of one around it.
        """
        self.check(cost, last_error)
        self.tally.charge(cost)
        return cost

    def check(self, cost: int, last_error: ZenovayError | None) -> None:
        """Check that an attempt fits ``max_requests``; as :meth:`reserve`, which reserves it, too."""
        charged, bound = self.tally.charged, self.max_requests
        if bound is not None and charged + cost > bound:
            requests = f"{charged:,} request{'' if charged == 1 else 's'}"
            needed = "" if cost == 1 else f"; the next call is charged {cost}"
            error = BatchStoppedError(
                f"Stopped after {requests} (max_requests={bound}){needed}; no further request was sent"
            )
            error.reason = "max_requests"
            self.has_stopped = True
            raise error from last_error
        if self.outer is not None:
            try:
                self.outer.check(cost, last_error)
            except BatchStoppedError:
                self.has_stopped = True
                raise


class BackgroundScope(msgspec.Struct, eq=False):
    """While it lasts, calls are background calls, also those of tasks that began in it; afterwards they are direct.

    Attributes:
        background: The batch.
        ended: Whether it is over.
    """

    background: Background
    ended: bool = False

    def record_success(self, call: Call[Any]) -> None:
        """Record that the parameters of a call are valid."""
        self.background.rejections.accept(_parameters(call))

    def record_rejection(self, call: Call[Any], error: ZenovayError) -> None:
        """Find out whether the error of a call is the same for every website."""
        if isinstance(error, BadRequestError):
            reason = error.status, error.code, error.message
            if self.background.rejections.reject(_parameters(call), reason, item=self, path=call.path):
                self.background.repeated.add(error)


def _parameters(call: Call[Any]) -> Hashable:
    """What calls for several websites have in common."""
    return call.operation, call.query, call.body


SCOPE: ContextVar[BackgroundScope | None] = ContextVar("zenovay_async_background", default=None)
"""The scope in which a task runs; tasks inherit it."""


def current_scope() -> BackgroundScope | None:
    """The scope in which the running task is, unless that is over."""
    scope = SCOPE.get()
    return None if scope is None or scope.ended else scope
