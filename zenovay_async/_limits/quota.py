"""The month's requests: what is known of them, and who may still spend them.

Sources: help "Rate limits" (``X-Usage-*``, the hard monthly cap on the account), docs "GET /usage" (the count starts
again on the first of the month, 00:00 UTC).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from zenovay_async._protocol import headers as _headers
from zenovay_async._protocol.response import MONTHLY_LIMIT
from zenovay_async.events import QuotaExhausted, QuotaThresholdReached, emit
from zenovay_async.exceptions import QuotaExceededError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zenovay_async._protocol.headers import UsageHeaders
    from zenovay_async.events import OnEvent

# Where the month is nine tenths gone there is still time to act on it.
_THRESHOLD = 0.9
# A month and a day, as clocks and time zones differ.
_LONGEST_MONTH = timedelta(days=32)


class Quota(msgspec.Struct, frozen=True):
    """The monthly quota, as the newest answer told it; ``None`` where none did.

    Attributes:
        used: Requests used this month.
        limit: Requests allowed per month.
        resets_at: When the count starts again.
        total: Requests ever made with this key.
    """

    used: int | None = None
    limit: int | None = None
    resets_at: datetime | None = None
    total: int | None = None

    @property
    def remaining(self) -> int | None:
        """Requests left this month, never below 0."""
        return None if self.limit is None or self.used is None else max(0, self.limit - self.used)


class QuotaGuard:
    """Keeps one key's monthly count, and refuses what it does not allow before a request is spent on it.

    Args:
        on_event: Told when the month runs low, and when it is used up.
        clock: Gives the time, aware.

    Attributes:
        in_flight: Requests that have no answer yet; counted by whoever sends them.
    """

    def __init__(self, *, on_event: OnEvent | None = None, clock: Callable[[], datetime] | None = None) -> None:
        self._on_event = on_event
        self._clock = clock or _utc_now
        self._used: int | None = None
        self._limit: int | None = None
        self._resets_at: datetime | None = None
        self._total: int | str | None = None
        # The limit and the reset as their headers had them: what changes from one answer to the next is the count.
        self._settled: tuple[str | None, str | None] | None = None
        self._month_ends: datetime | None = None
        self.in_flight = 0
        self._exhausted_until: datetime | None = None
        self._warn_at = math.inf

    def snapshot(self) -> Quota:
        """What is known now."""
        total = _headers.parse_count(self._total) if isinstance(self._total, str) else self._total
        return Quota(self._used, self._limit, self._resets_at, total)

    def check(self, cost: int, *, reserve: int) -> None:
        """Refuse a call that may not be sent now.

        Args:
            cost: Requests that it takes.
            reserve: Requests of the month that it must leave; 0 for a direct call, which may use them all.

        Raises:
            QuotaExceededError: The month is used up, or only the reserve is left.
        """
        if self._exhausted_until is not None:
            now = self._clock()
            if now < self._exhausted_until:
                raise self.refusal()
            self._start_month(now)
        if reserve:
            self._keep(reserve, cost)

    def read(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of an answer."""
        settled = headers.get("X-Usage-Limit"), headers.get("X-Usage-Reset")
        used = _headers.parse_count(headers.get("X-Usage-Monthly"))
        if settled != self._settled or (used is not None and (self._used is None or used < self._used)):
            self.observe(_headers.usage(headers))
            self._settled = settled
        elif used is not None:
            self._used = used
            self._total = headers.get("X-Usage-Total") or self._total
            if used >= self._warn_at:
                self._warn()

    def observe(self, usage: UsageHeaders) -> None:
        """Learn from an answer; one that was overtaken by a newer one does not count the month down again."""
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

    def exhausted(self, retry_after: float | None) -> None:
        """The server said that the month is used up; where nobody says until when, it is the month's end."""
        now = self._clock()
        if self._resets_at is not None and self._resets_at > now:
            until = self._resets_at
        else:
            until = _next_month(now) if retry_after is None else now + timedelta(seconds=retry_after)
        if self._exhausted_until is None or until > self._exhausted_until:
            self._exhausted_until = until
            emit(self._on_event, QuotaExhausted(until))

    def refusal(self) -> QuotaExceededError:
        """The error for a call that is not sent, because the month is used up."""
        now = self._clock()
        until = self._exhausted_until or _next_month(now)
        return QuotaExceededError(
            f"The month's requests are used up until {until:%Y-%m-%d %H:%M} UTC; nothing was sent",
            code=MONTHLY_LIMIT,
            retry_after=max(0.0, (until - now).total_seconds()),
        )

    def _is_plausible_reset(self, reset: datetime) -> bool:
        # Who says that a month ends next year is not to be taken at their word, nor who says that it is over.
        return timedelta(0) < reset - self._clock() <= _LONGEST_MONTH

    def _keep(self, reserve: int, cost: int) -> None:
        remaining = self.snapshot().remaining
        if remaining is None or remaining - self.in_flight - cost >= reserve:
            return
        now, ends = self._clock(), self._month_ends
        if ends is not None and now >= ends:
            return
        raise QuotaExceededError(
            f"{remaining} requests of the month are left, and quota_reserve={reserve} keeps them from batches; "
            "nothing was sent",
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
            emit(self._on_event, QuotaThresholdReached(self._used, self._limit))


def _next_month(now: datetime) -> datetime:
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def _utc_now() -> datetime:
    return datetime.now(UTC)
