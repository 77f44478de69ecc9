"""The four ways in which a server counts requests, and the month.

Which one the real API uses is not documented; a client should get along with each. Time is handed in.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Kind: TypeAlias = Literal["fixed", "sliding", "bucket", "counter"]


class Limiter(Protocol):
    """Counts one key's requests per window."""

    limit: int

    def admit(self, now: float) -> bool:
        """Whether a request at this time is allowed; if so, it counts."""
        ...

    def remaining(self, now: float) -> int:
        """How many further requests would be allowed now."""
        ...

    def reset_after(self, now: float) -> float:
        """Seconds until another request is allowed; 0.0 for now."""
        ...


class FixedWindow:
    """A count that starts from nothing at each window's start, by the clock."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit = limit
        self._window = window
        self._started: float = 0.0
        self._count = 0

    def admit(self, now: float) -> bool:
        """Allowed while the window's count is below the limit."""
        allowed = self.remaining(now) > 0
        self._count += allowed
        return allowed

    def remaining(self, now: float) -> int:
        """What is left of this window."""
        start = now - now % self._window
        if start != self._started:
            self._started, self._count = start, 0
        return self.limit - self._count

    def reset_after(self, now: float) -> float:
        """Until the next window, where this one is full."""
        return 0.0 if self.remaining(now) > 0 else self._started + self._window - now


class SlidingLog:
    """The times of the last requests; one is allowed when fewer than the limit are younger than the window."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit = limit
        self._window = window
        self._log: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Allowed while the log has room."""
        allowed = self.remaining(now) > 0
        if allowed:
            self._log.append(now)
        return allowed

    def remaining(self, now: float) -> int:
        """Room in the log."""
        while self._log and self._log[0] <= now - self._window:
            self._log.popleft()
        return self.limit - len(self._log)

    def reset_after(self, now: float) -> float:
        """Until the oldest request leaves the log."""
        return 0.0 if self.remaining(now) > 0 else self._log[0] + self._window - now


class TokenBucket:
    """As many tokens as the limit, filled up evenly over the window."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit = limit
        self._rate = limit / window
        self._tokens = float(limit)
        self._at: float | None = None

    def admit(self, now: float) -> bool:
        """Allowed while there is a whole token."""
        allowed = self.remaining(now) > 0
        self._tokens -= allowed
        return allowed

    def remaining(self, now: float) -> int:
        """Whole tokens."""
        since = 0.0 if self._at is None else now - self._at
        self._at = now
        self._tokens = min(float(self.limit), self._tokens + since * self._rate)
        return int(self._tokens + 1e-9)

    def reset_after(self, now: float) -> float:
        """Until the next whole token."""
        return 0.0 if self.remaining(now) > 0 else (1 - self._tokens) / self._rate


class SlidingCounter:
    """This window's count plus the last one's, weighted by how much of it the last ``window`` seconds still touch."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit = limit
        self._window = window
        self._started: float = 0.0
        self._count = 0
        self._before = 0

    def admit(self, now: float) -> bool:
        """Allowed while the weighted count is below the limit."""
        allowed = self.remaining(now) > 0
        self._count += allowed
        return allowed

    def remaining(self, now: float) -> int:
        """The limit less the weighted count, rounded down."""
        return int(self.limit - self._weighted(now))

    def reset_after(self, now: float) -> float:
        """Until the weighted count leaves room for one."""
        if self.remaining(now) > 0:
            return 0.0
        end = self._started + self._window
        room = self.limit - 1
        if self._before and self._count <= room:
            # The last window's share falls evenly; this is when it is small enough.
            return max(0.0, end - (room - self._count) / self._before * self._window - now)
        return end + max(0.0, self._window * (1 - room / self._count)) - now

    def _weighted(self, now: float) -> float:
        start = now - now % self._window
        if start != self._started:
            self._before = self._count if start - self._started <= self._window * 1.5 else 0
            self._started, self._count = start, 0
        return self._count + self._before * (1 - (now - start) / self._window)


_KINDS: dict[Kind, Callable[[int, float], Limiter]] = {
    "fixed": FixedWindow,
    "sliding": SlidingLog,
    "bucket": TokenBucket,
    "counter": SlidingCounter,
}


def make_limiter(kind: Kind, limit: int, window: float) -> Limiter:
    """The limiter of this kind.

    Raises:
        ValueError: There is no such kind, or a figure is not above 0.
    """
    if kind not in _KINDS:
        raise ValueError(f"rate_limiter={kind!r}: expected one of {', '.join(_KINDS)}")
    if limit < 1 or window <= 0:
        raise ValueError(f"rate_limit={limit!r} per rate_limit_window={window!r}: expected figures above 0")
    return _KINDS[kind](limit, window)


class Month:
    """One key's requests of the month."""

    def __init__(self, limit: int, used: int = 0) -> None:
        self.limit = limit
        self.used = used
        self.total = used

    def charge(self, cost: int) -> None:
        """Count a request."""
        self.used += cost
        self.total += cost

    def has_room_for(self, cost: int) -> bool:
        """Whether a request fits into what is left."""
        return self.used + cost <= self.limit

    def resets_at(self, now: datetime) -> datetime:
        """The first of the next month, 00:00 UTC (docs "GET /usage")."""
        year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)  # noqa: PLR2004 - December
        return datetime(year, month, 1, tzinfo=UTC)
