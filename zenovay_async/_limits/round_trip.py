"""How little time a response takes, so that no request is sent that has no time to come back. Pure."""

from __future__ import annotations

import math

# Seconds for which the fastest response counts at least; three times this at most.
_RECENT = 30.0
# Seconds. A server may have become faster, which no call would find out if all were refused: so often, one is not.
_PROBE_EVERY = 5.0


class RoundTrip:
    """The fastest of the recent responses.

    Attributes:
        fastest: Its seconds, from connecting to the last byte; 0 before the first response.
    """

    __slots__ = ("_before", "_next_period", "_next_probe", "_now", "fastest")

    def __init__(self) -> None:
        self.fastest = 0.0
        self._before = math.inf
        self._now = math.inf
        self._next_period = -math.inf
        self._next_probe = -math.inf

    def record(self, seconds: float, now: float) -> None:
        """Record a response, at a time of the event loop."""
        self._next_probe = now + _PROBE_EVERY
        # Another event loop may have an earlier time.
        if not self._next_period - _RECENT <= now < self._next_period:
            is_next = self._next_period <= now < self._next_period + _RECENT
            self._before, self._now = (self._now if is_next else math.inf), seconds
            self._next_period = now + _RECENT
        elif seconds < self._now:
            self._now = seconds
        else:
            return
        self.fastest = min(self._before, self._now)

    def is_too_late(self, seconds_left: float, now: float) -> bool:
        """Whether a request has no time to come back; now and then, one is sent all the same."""
        if seconds_left >= self.fastest:
            return False
        if self._next_probe - _PROBE_EVERY <= now < self._next_probe:
            return True
        self._next_probe = now + _PROBE_EVERY
        return False
