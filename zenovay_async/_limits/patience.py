"""How long one call waits for a server that is away, and what ends its wait. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from zenovay_async._limits.outage import Outage, OutageKind

MAX_OUTAGE = 300.0
"""Seconds of an outage after which a call gives up that has no other bound."""

# Seconds. A host that is not found and never responded is most likely misspelled: a direct call says so soon.
_UNKNOWN_HOST = 5.0


class Patience(msgspec.Struct, frozen=True):
    """How long one call waits.

    Attributes:
        since: When the call first had to wait, or any of its batch, in the time of the event loop; ``None`` for now.
        max_outage: Seconds that a background call waits, from the beginning of the outage or of its wait, whichever is
            later; ``None`` for no bound.
        attempts: Attempts made before.
        single: Whether the call makes one attempt only, for which it does not wait.
        attempt_time: Seconds of the call's time that must be left for an attempt.
    """

    since: float | None = None
    max_outage: float | None = MAX_OUTAGE
    attempts: int = 0
    single: bool = False
    attempt_time: float = 0.0

    def ends_at(
        self, outage: Outage, *, deadline: float, since: float, watched_since: float, background: bool
    ) -> float:
        """When a call that the outage holds back gives up.

        Args:
            outage: The outage.
            deadline: When the call ends; ``math.inf`` for never.
            since: When its wait began.
            watched_since: Since when somebody has called often enough to know that the outage lasts.
            background: Whether it belongs to a batch.
        """
        began = max(outage.since, since)
        if background:
            return deadline if self.max_outage is None else min(deadline, max(began, watched_since) + self.max_outage)
        if outage.is_unknown_host:
            return min(deadline, began + _UNKNOWN_HOST)
        return began + MAX_OUTAGE if math.isinf(deadline) else deadline


class ServerUnavailable(Exception):  # noqa: N818 - a signal inside the package, which callers never see
    """A call does not wait for the server any longer.

    Attributes:
        kind: What is wrong.
        seconds: For how long.
        reason: Message of the newest error.
        status: HTTP status of that error; ``None`` if no response came.
        retry_after: Seconds until the next attempt of any call.
        unknown_host: Whether the host was not found, and never was.
    """

    def __init__(self, outage: Outage, now: float) -> None:
        super().__init__(outage.reason)
        self.kind: OutageKind = outage.kind or "unreachable"
        self.seconds = max(0.0, now - outage.since)
        self.reason = outage.reason
        self.status = outage.status
        self.retry_after = max(0.0, outage.next_probe_at - now)
        self.unknown_host = outage.is_unknown_host
