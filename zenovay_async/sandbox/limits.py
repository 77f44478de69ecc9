"""Rate limiters of four kinds, and the monthly quota.

The documentation does not say which kind the API uses, so a client has to work with each. Callers pass the time.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

LimiterKind: TypeAlias = Literal["fixed", "sliding", "bucket", "counter"]
LimitHeaders: TypeAlias = Literal["x", "draft-6", "draft-7", "draft-8", "none"]


class Limiter(Protocol):
    """Counts the requests of one API key per window.

    Attributes:
        limit: Requests per window.
    """

    limit: int

    def admit(self, now: float) -> bool:
        """Return whether a request is allowed now, and count it if so."""
        ...

    def remaining(self, now: float) -> int:
        """Return the number of requests allowed now."""
        ...

    def reset_after(self, now: float) -> float:
        """Return the seconds until a request is allowed."""
        ...


class FixedWindow:
    """Counts requests per window; windows start at multiples of their length."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit = limit
        self._window = window
        self._window_start: float = 0.0
        self._count = 0

    def admit(self, now: float) -> bool:
        """Allow a request while the window's count is below the limit."""
        allowed = self.remaining(now) > 0
        self._count += allowed
        return allowed

    def remaining(self, now: float) -> int:
        """Return the limit minus the window's count."""
        start = now - now % self._window
        if start != self._window_start:
            self._window_start, self._count = start, 0
        return self.limit - self._count

    def reset_after(self, now: float) -> float:
        """Return the seconds until the next window, if this one is full."""
        return 0.0 if self.remaining(now) > 0 else self._window_start + self._window - now


class SlidingLog:
    """Logs the times of the requests within the last ``window`` seconds."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit = limit
        self._window = window
        self._log: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Allow a request while the log is shorter than the limit."""
        allowed = self.remaining(now) > 0
        if allowed:
            self._log.append(now)
        return allowed

    def remaining(self, now: float) -> int:
        """Return the limit minus the length of the log."""
        while self._log and self._log[0] <= now - self._window:
            self._log.popleft()
        return self.limit - len(self._log)

    def reset_after(self, now: float) -> float:
        """Return the seconds until the oldest request leaves the log, if it is full."""
        return 0.0 if self.remaining(now) > 0 else self._log[0] + self._window - now


class TokenBucket:
    """Holds up to ``limit`` tokens, refilled evenly over the window."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit = limit
        self._rate = limit / window
        self._tokens = float(limit)
        self._refilled_at: float | None = None

    def admit(self, now: float) -> bool:
        """Allow a request while a whole token is left."""
        allowed = self.remaining(now) > 0
        self._tokens -= allowed
        return allowed

    def remaining(self, now: float) -> int:
        """Return the number of whole tokens."""
        since = 0.0 if self._refilled_at is None else now - self._refilled_at
        self._refilled_at = now
        self._tokens = min(float(self.limit), self._tokens + since * self._rate)
        return int(self._tokens + 1e-9)

    def reset_after(self, now: float) -> float:
        """Return the seconds until the next whole token, if none is left."""
        return 0.0 if self.remaining(now) > 0 else (1 - self._tokens) / self._rate


class SlidingCounter:
    """Adds the last window's count, weighted by its overlap with the past ``window`` seconds, to the current count."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit = limit
        self._window = window
        self._window_start: float = 0.0
        self._count = 0
        self._previous = 0

    def admit(self, now: float) -> bool:
        """Allow a request while the weighted count is below the limit."""
        allowed = self.remaining(now) > 0
        self._count += allowed
        return allowed

    def remaining(self, now: float) -> int:
        """Return the limit minus the weighted count, rounded down."""
        return int(self.limit - self._weighted(now))

    def reset_after(self, now: float) -> float:
        """Return the seconds until the weighted count is below the limit."""
        if self.remaining(now) > 0:
            return 0.0
        end = self._window_start + self._window
        room = self.limit - 1
        if self._previous and self._count <= room:
            # The previous window's weight falls linearly; solve for the time of the next request.
            return max(0.0, end - (room - self._count) / self._previous * self._window - now)
        return end + max(0.0, self._window * (1 - room / self._count)) - now

    def _weighted(self, now: float) -> float:
        start = now - now % self._window
        if start != self._window_start:
            self._previous = self._count if start - self._window_start <= self._window * 1.5 else 0
            self._window_start, self._count = start, 0
        return self._count + self._previous * (1 - (now - start) / self._window)


_KINDS: dict[LimiterKind, Callable[[int, float], Limiter]] = {
    "fixed": FixedWindow,
    "sliding": SlidingLog,
    "bucket": TokenBucket,
    "counter": SlidingCounter,
}


def make_limiter(kind: LimiterKind, limit: int, window: float) -> Limiter:
    """Return a new limiter.

    Args:
        kind: ``"fixed"``, ``"sliding"``, ``"bucket"`` or ``"counter"``.
        limit: Requests per window, at least 1.
        window: Length of the window in seconds, above 0.

    Raises:
        ValueError: The kind is unknown, or a number is out of range.
    """
    if kind not in _KINDS:
        raise ValueError(f"rate_limiter={kind!r}: expected one of {', '.join(_KINDS)}")
    if limit < 1:
        raise ValueError(f"rate_limit={limit!r}: expected an int >= 1")
    if not 0 < window < math.inf:
        raise ValueError(f"rate_limit_window={window!r}: expected seconds > 0")
    return _KINDS[kind](limit, window)


def limit_headers(
    style: LimitHeaders, limiter: Limiter, window: float, now: float, *, with_remaining: bool
) -> dict[str, str]:
    """Return the headers that state a rate limit.

    Args:
        style: ``"x"`` for ``X-RateLimit-*``, as the API does; ``"draft-6"``, ``"draft-7"`` or ``"draft-8"`` of
            draft-ietf-httpapi-ratelimit-headers, as express-rate-limit writes them; ``"none"``.
        limiter: The rate limiter.
        window: Length of its window in seconds.
        now: The time.
        with_remaining: Whether to state the number of requests allowed now.
    """
    limit, seconds = limiter.limit, math.ceil(window)
    remaining = max(0, limiter.remaining(now)) if with_remaining else None
    reset = math.ceil(limiter.reset_after(now)) or seconds
    headers: dict[str, str | None] = {}
    match style:
        case "x":
            headers = {"X-RateLimit-Limit": f"{limit}", "X-RateLimit-Remaining": _text("{}", remaining)}
        case "draft-6":
            headers = {
                "RateLimit-Limit": f"{limit}",
                "RateLimit-Remaining": _text("{}", remaining),
                "RateLimit-Reset": f"{reset}",
                "RateLimit-Policy": f"{limit};w={seconds}",
            }
        case "draft-7":
            stated = _text(", remaining={}", remaining) or ""
            headers = {"RateLimit": f"limit={limit}{stated}, reset={reset}", "RateLimit-Policy": f"{limit};w={seconds}"}
        case "draft-8":
            headers = {
                "RateLimit": _text(f'"default"; r={{}}; t={reset}', remaining),
                "RateLimit-Policy": f'"default"; q={limit}; w={seconds}',
            }
        case "none":
            pass
    return {name: text for name, text in headers.items() if text is not None}


def _text(template: str, number: int | None) -> str | None:
    return None if number is None else template.format(number)


class MonthlyQuota:
    """The monthly quota of one API key.

    Args:
        limit: Requests per month.
        used: Requests already charged.
    """

    def __init__(self, limit: int, used: int = 0) -> None:
        self.limit = limit
        self.used = used
        self.total = used

    def charge(self, cost: int) -> None:
        """Charge a request."""
        self.used += cost
        self.total += cost

    def has_room_for(self, cost: int) -> bool:
        """Return whether a request of this cost fits the quota."""
        return self.used + cost <= self.limit

    def resets_at(self, now: datetime) -> datetime:
        """Return the first of the next month, 00:00 UTC (source: docs "GET /usage")."""
        year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)  # noqa: PLR2004 - December
        return datetime(year, month, 1, tzinfo=UTC)
