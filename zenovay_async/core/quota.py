"""The month's requests: what is known of them, and who may still spend them.

Sources: help "Rate limits" (``X-Usage-*``, the hard monthly cap on the account), docs "GET /usage" (the count starts
again on the first of the month, 00:00 UTC).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from zenovay_async.core.errors import QuotaExceededError
from zenovay_async.core.events import QuotaExhausted, QuotaThresholdReached
from zenovay_async.core.response import MONTHLY_LIMIT

if TYPE_CHECKING:
    from zenovay_async.core.events import OnEvent
    from zenovay_async.core.headers import UsageHeaders

# Where the month is nine tenths gone there is still time to act on it.
_THRESHOLD = 0.9


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
    """

    def __init__(self, *, on_event: OnEvent | None = None) -> None:
        self._on_event = on_event
        self._quota = Quota()
        self._on_their_way = 0
        self._exhausted_until: datetime | None = None
        self._warned = False

    def snapshot(self) -> Quota:
        """What is known now."""
        return self._quota

    def enter(self, cost: int, *, reserve: int, now: datetime) -> None:
        """Let a call pass, and count it until :meth:`leave`.

        Args:
            cost: Requests that it takes.
            reserve: Requests of the month that it must leave; 0 for a direct call, which may use them all.
            now: The time, aware.

        Raises:
            QuotaExceededError: The month is used up, or only the reserve is left.
        """
        if self._exhausted_until is not None:
            if now < self._exhausted_until:
                raise self.refusal(now)
            self._start_month()
        elif reserve:
            self._keep(reserve, cost, now)
        self._on_their_way += cost

    def leave(self, cost: int) -> None:
        """A call that entered has its answer, or will have none."""
        self._on_their_way -= cost

    def observe(self, usage: UsageHeaders) -> None:
        """Learn from an answer; one that was overtaken by a newer one does not count the month down again."""
        old = self._quota
        new_month = old.resets_at is not None and usage.reset is not None and usage.reset > old.resets_at
        if new_month:
            self._start_month()
        elif old.used is not None and usage.monthly is not None and usage.monthly < old.used:
            return
        self._quota = Quota(
            old.used if usage.monthly is None else usage.monthly,
            usage.limit or old.limit,
            usage.reset or old.resets_at,
            usage.total or old.total,
        )
        self._warn()

    def exhausted(self, now: datetime, retry_after: float | None) -> None:
        """The server said that the month is used up; where it does not say until when, it is the month's end."""
        until = now + timedelta(seconds=retry_after) if retry_after is not None else _next_month(now)
        if self._exhausted_until is None or until > self._exhausted_until:
            self._exhausted_until = until
            if self._on_event is not None:
                self._on_event(QuotaExhausted(until))

    def refusal(self, now: datetime) -> QuotaExceededError:
        """The error for a call that is not sent, because the month is used up."""
        until = self._exhausted_until or _next_month(now)
        return QuotaExceededError(
            f"The month's requests are used up until {until:%Y-%m-%d %H:%M} UTC; nothing was sent",
            code=MONTHLY_LIMIT,
            retry_after=max(0.0, (until - now).total_seconds()),
        )

    def _keep(self, reserve: int, cost: int, now: datetime) -> None:
        remaining = self._quota.remaining
        if remaining is None or remaining - self._on_their_way - cost >= reserve:
            return
        resets_at = self._quota.resets_at
        if resets_at is not None and now >= resets_at:
            return
        raise QuotaExceededError(
            f"{remaining} requests of the month are left, and quota_reserve={reserve} keeps them from batches",
            retry_after=None if resets_at is None else (resets_at - now).total_seconds(),
        )

    def _start_month(self) -> None:
        self._exhausted_until = None
        self._warned = False
        self._quota = msgspec.structs.replace(self._quota, used=None)

    def _warn(self) -> None:
        used, limit = self._quota.used, self._quota.limit
        if used is None or not limit or used < limit * _THRESHOLD or self._warned:
            return
        self._warned = True
        if self._on_event is not None:
            self._on_event(QuotaThresholdReached(used, limit))


def _next_month(now: datetime) -> datetime:
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)
