"""The permit of one request, which returns to its limiter once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from zenovay_async._limits.outcome import UNSENT
from zenovay_async._limits.request_log import PermitRecord

if TYPE_CHECKING:
    from zenovay_async.rate_limits import Outcome

RETURNED_TWICE = "Permit returned twice: settle or refund each permit exactly once"
"""Message of the ``RuntimeError`` for a permit that was returned before."""


class PermitReturn(Protocol):
    """Where permits return to."""

    def return_permit(self, record: PermitRecord, outcome: Outcome) -> None:
        """Settle or refund a permit; called by the permit, once."""
        ...


class LimiterPermit(msgspec.Struct, eq=False):
    """A permit of this package's limiters; see :class:`~zenovay_async.rate_limits.Permit`."""

    # A Struct takes a third of the time that another object takes to make. The garbage collector tracks it, as an event
    # loop that ends during a call leaves a cycle: limiter, waiter, a caller's frame, its permit.
    _record: PermitRecord | None
    _limiter: PermitReturn

    def settle(self, outcome: Outcome) -> None:
        """Return the permit of a request that was sent."""
        record, self._record = self._record, None
        if record is None:
            raise RuntimeError(RETURNED_TWICE)
        self._limiter.return_permit(record, outcome)

    def refund(self) -> None:
        """Return the permit unused."""
        self.settle(UNSENT)
