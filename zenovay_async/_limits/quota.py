"""The monthly quota: what is known of it, and which calls may still spend it.

Sources: help "Rate limits" (``X-Usage-*``, the hard monthly cap on the account), docs "GET /usage" (the count restarts
on the first of the month, 00:00 UTC).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from zenovay_async.events import QuotaExhausted, QuotaThresholdReached, emit
from zenovay_async.exceptions import MONTHLY_LIMIT_EXCEEDED, QuotaExceededError
from zenovay_async.rate_limits import Quota

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.events import OnEvent
    from zenovay_async.rate_limits import UsageHeaders

# Share of the quota at which it runs low: the tenth that is left allows time to act.
_THRESHOLD = 0.9
# The longest month and a day, as clocks and time zones differ.
_LONGEST_MONTH = timedelta(days=32)


class QuotaGuard:
    """Keeps the monthly quota of one key, and rejects calls beyond it before a request is spent.

    Args:
        on_event: Called when the quota runs low, and when it is exhausted.
        clock: Returns the time, aware; omitted, the system's.

    Attributes:
        in_flight: Requests in flight; kept by the budget.
    """

    def __init__(self, *, on_event: OnEvent | None = None, clock: Callable[[], datetime] | None = None) -> None:
        self._on_event = on_event
        self._clock = clock or _utc_now
        self._used: int | None = None
        self._limit: int | None = None
        self._resets_at: datetime | None = None
        self._total: int | None = None
        # Limit and reset of the last response: while they stay the same, update() compares the count alone.
        self._last_limit: int | None = None
        self._last_reset: datetime | None = None
        self._month_ends: datetime | None = None
        self.in_flight = 0
        self._exhausted_until: datetime | None = None
        self._warn_at = math.inf

    def snapshot(self) -> Quota:
        """What is known of the quota."""
        return Quota(used=self._used, limit=self._limit, resets_at=self._resets_at, total=self._total)

    def check(self, cost: int, *, reserve: int) -> None:
        """Reject a call that may not be sent now.

        Args:
            cost: Requests that it is charged for.
            reserve: Requests that it must leave; 0 for a direct call.

        Raises:
            QuotaExceededError: The quota is exhausted, or only the reserve is left.
        """
        if self._exhausted_until is not None:
            now = self._clock()
            if now < self._exhausted_until:
                raise self.exhausted_error()
            self._start_month(now)
        if reserve:
            self._check_reserve(reserve, cost)

    def update(self, usage: UsageHeaders) -> None:
        """Learn from a response. Responses may come out of order, so the count does not decrease within a month."""
        used = usage.monthly
        # Parsing is cached, so responses that state the same reset share one object.
        if usage.reset is not self._last_reset or usage.limit != self._last_limit:
            self._update_all(usage)
            self._last_limit, self._last_reset = usage.limit, usage.reset
        elif used is not None:
            if self._used is None or used < self._used:
                self._update_all(usage)
                return
            self._used = used
            self._total = usage.total or self._total
            if used >= self._warn_at:
                self._warn()
        elif usage.total:
            self._total = usage.total

    def mark_exhausted(self, retry_after: float | None) -> None:
        """Record that the server reported the quota exhausted.

        Args:
            retry_after: Seconds until the reset, used unless a response stated it before; ``None`` for the end of the
                month.
        """
        now = self._clock()
        if self._resets_at is not None and self._resets_at > now:
            until = self._resets_at
        else:
            until = _next_month(now) if retry_after is None else now + timedelta(seconds=retry_after)
        if self._exhausted_until is None or until > self._exhausted_until:
            self._exhausted_until = until
            emit(self._on_event, QuotaExhausted(resets_at=until))

    def exhausted_error(self) -> QuotaExceededError:
        """Make the error for a call that is not sent because the quota is exhausted."""
        now = self._clock()
        until = self._exhausted_until or _next_month(now)
        return QuotaExceededError(
            f"Monthly quota exhausted until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC; no request was sent",
            code=MONTHLY_LIMIT_EXCEEDED,
            retry_after=max(0.0, (until - now).total_seconds()),
        )

    def _update_all(self, usage: UsageHeaders) -> None:
        reset = usage.reset
        if self._resets_at is not None and reset is not None and reset < self._resets_at:
            return
        if reset is not None and not self._is_plausible_reset(reset):
            reset = None
        if self._resets_at is not None and reset is not None and reset > self._resets_at:
            self._start_month(self._clock())
        elif self._used is not None and usage.monthly is not None and usage.monthly < self._used:
            now = self._clock()
            if self._month_ends is None or now < self._month_ends:
                return
            self._start_month(now)
        if usage.limit and usage.limit != self._limit:
            self._limit = usage.limit
            self._warn_at = usage.limit * _THRESHOLD
        self._resets_at = reset or self._resets_at
        self._total = usage.total or self._total
        if usage.monthly is not None:
            self._used = usage.monthly
            if self._month_ends is None:
                self._month_ends = self._resets_at or _next_month(self._clock())
            if self._used >= self._warn_at:
                self._warn()

    def _is_plausible_reset(self, reset: datetime) -> bool:
        # A reset in the past, or more than a month ahead, is an error of the server.
        return timedelta(0) < reset - self._clock() <= _LONGEST_MONTH

    def _check_reserve(self, reserve: int, cost: int) -> None:
        remaining = self.snapshot().remaining
        if remaining is None or remaining - self.in_flight - cost >= reserve:
            return
        now, ends = self._clock(), self._month_ends
        if ends is not None and now >= ends:
            return
        raise QuotaExceededError(
            f"quota_reserve={reserve}: {remaining} requests of the monthly quota remain, "
            f"{self.in_flight} of them in flight; no request was sent",
            retry_after=None if ends is None else (ends - now).total_seconds(),
        )

    def _start_month(self, now: datetime) -> None:
        self._exhausted_until = None
        self._month_ends = None
        self._used = None
        if self._resets_at is not None and now >= self._resets_at:
            self._resets_at = None
        self._warn_at = math.inf if self._limit is None else self._limit * _THRESHOLD

    def _warn(self) -> None:
        self._warn_at = math.inf
        if self._used is not None and self._limit is not None:
            emit(self._on_event, QuotaThresholdReached(used=self._used, limit=self._limit))


def _next_month(now: datetime) -> datetime:
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def _utc_now() -> datetime:
    return datetime.now(UTC)
