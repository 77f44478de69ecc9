"""The burst and the limit that a server allows, as 429s show them. Pure; parts of the pacer."""

from __future__ import annotations

import math

import msgspec

# Requests a minute of the lowest paid plan (help "Rate limits"); the first response states the real limit.
LOWEST_LIMIT = 30
# Requests in flight at the start of a burst that no response proves room for: a server that allows none rejects eight.
FIRST_RAMP = 8
# Windows after which a burst grows beyond the one that was rejected; doubled each time that it is again, five times.
_BURST_MEMORY = 2.0
_MOST_BURST_HOLDS = 5
# Two 429s of paced requests within so many windows show that the limit is lower than assumed.
_LIMIT_MEMORY = 4.0
# It is lowered to what came through in the last window, by three tenths at most. After as many windows without a 429,
# which double each time that the higher limit is rejected, it is raised by an eighth, and again every window.
_LOWER, _RAISE, _RAISE_EVERY = 0.7, 1 / 8, 1.0
_MOST_HOLDS = 3
# A limit so many times what came through was never one.
_DISPROVED = 4


class LearnedBurst(msgspec.Struct, array_like=True):
    """How large a burst the server lets through after two idle windows, as far as 429s showed.

    Attributes:
        allowed: Requests of a burst; at most the limit.
        ramp: Successes since the last 429: while no response proves room, no more requests are in flight at once.
        admitted: Requests of the newest burst that succeeded.
        step: By how much a burst grows whose requests all succeeded.
        grow_at: When it may grow.
        rejected_at: When a request of a burst was last rejected.
        holds: How often in a row a larger burst was rejected.
    """

    allowed: int
    ramp: int = 0
    admitted: int = 0
    step: int = 1
    grow_at: float = -math.inf
    rejected_at: float = -math.inf
    holds: int = 0

    def begin(self) -> int:
        """Start a burst; returns the requests that it may have."""
        self.admitted = 0
        return self.allowed

    def grow(self, now: float, limit: int) -> int:
        """Allow a larger burst, if all requests of this one succeeded; returns by how much."""
        if self.admitted < self.allowed or now < self.grow_at:
            return 0
        more = min(self.step, limit - self.allowed)
        self.allowed += more
        self.step *= 2
        if self.allowed >= limit:
            self.holds = 0
        return more

    def reject(self, now: float, window: float) -> None:
        """Learn from the 429 of a request that was paid from credit."""
        self.allowed, self.step, self.rejected_at = max(1, self.admitted), 1, now
        self.grow_at = now + window * _BURST_MEMORY * 2**self.holds
        self.holds = min(self.holds + 1, _MOST_BURST_HOLDS)

    def change_limit(self, before: int, limit: int) -> None:
        """Allow bursts of another limit, unless they are smaller than it."""
        self.allowed = limit if self.allowed >= before else min(self.allowed, limit)


class LearnedLimit(msgspec.Struct, array_like=True):
    """The limit as 429s show it, where the server states none, or a false one.

    Attributes:
        limit: Requests per window; ``None`` while 429s do not contradict the limit that is stated or assumed.
        rejected_at: When a paced request was last rejected.
        raise_at: When a higher limit is tried.
        holds: How often in a row a higher limit was rejected.
        raised: Whether the limit was raised since it was last lowered.
    """

    limit: int | None = None
    rejected_at: float = -math.inf
    raise_at: float = math.inf
    holds: int = 0
    raised: bool = False

    def lower(self, now: float, limit: int, admitted: int, window: float, *, is_proved: bool) -> None:
        """Learn from the 429 of a paced request.

        Args:
            now: The time.
            limit: The limit until now.
            admitted: Requests that came through in the last window.
            window: Seconds of the window.
            is_proved: Whether responses prove how much room there is, so that the limit is no lie.
        """
        again = self.limit is not None or now - self.rejected_at <= _LIMIT_MEMORY * window
        self.rejected_at = now
        if again and admitted:
            if not is_proved and limit > _DISPROVED * max(admitted, LOWEST_LIMIT):
                self.limit = max(admitted, LOWEST_LIMIT)
            else:
                self.limit = max(1, int(_LOWER * limit), min(admitted, limit - 1))
        if self.raised:
            self.holds, self.raised = min(self.holds + 1, _MOST_HOLDS), False
        if self.limit is not None:
            self.raise_at = now + window * _LIMIT_MEMORY * 2**self.holds

    def raise_towards(self, limit: int, now: float, window: float) -> None:
        """Try a higher limit, up to the one that is stated or assumed."""
        if self.limit is None:
            return
        self.limit += max(1, int(self.limit * _RAISE))
        self.raised = True
        self.raise_at = now + window * _RAISE_EVERY
        if self.limit >= limit:
            self.limit, self.raise_at, self.holds, self.raised = None, math.inf, 0, False
