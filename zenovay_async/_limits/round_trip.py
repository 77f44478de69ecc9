"""How little time a response takes, so that no request is sent that has no time to come back. Pure."""

from __future__ import annotations

import math

# Seconds for which the fastest response counts at least; three times this at most.
_RECENT = 30.0
# Seconds. A server may have become faster, or be faster for some calls than for those that respond, which no call would
# find out if all were refused: so often, one is not.
_PROBE_EVERY = 5.0
# Seconds after which a response that is not the fastest is recorded all the same.
_RECORD_EVERY = 1.0


class RoundTrip:
    """The fastest of the recent responses.

    Attributes:
        fastest: Its seconds, from connecting to the last byte; 0 before the first response.
        due: When to :meth:`record` a response that is not the fastest; each call reads both.
    """

    __slots__ = ("_before", "_learned_at", "_now", "_period_began", "_period_ends", "_tried_at", "due", "fastest")

    def __init__(self) -> None:
        self.fastest = 0.0
        self.due = -math.inf
        self._before = math.inf
        self._now = math.inf
        self._period_began = math.inf
        self._period_ends = -math.inf
        self._learned_at = -math.inf
        self._tried_at = -math.inf

    def record(self, seconds: float, now: float) -> None:
        """Record a response, at a time of the event loop."""
        self._learned_at, self.due = now, now + _RECORD_EVERY
        # Another event loop may have an earlier time.
        if self._period_began <= now < self._period_ends:
            if seconds >= self._now:
                return
            self._now = seconds
        else:
            is_next = self._period_ends <= now < self._period_ends + _RECENT
            self._before, self._now = (self._now if is_next else math.inf), seconds
            self._period_began, self._period_ends = now, now + _RECENT
        self.fastest = min(self._before, self._now)

    def is_too_late(self, now: float) -> bool:
        """Whether a request is not sent that has less time than the fastest; now and then, one is sent all the same."""
        if self._tried_at == -math.inf:
            self._tried_at = now
        if all(since <= now < since + _PROBE_EVERY for since in (self._learned_at, self._tried_at)):
            return True
        self._learned_at = self._tried_at = now
        return False
