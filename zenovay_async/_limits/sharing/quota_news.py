"""The news of the monthly quota: its count, and whether it is exhausted. A part of the exchange."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from zenovay_async._limits.quota import LONGEST_MONTH, PROBE_INTERVAL, QuotaFacts
from zenovay_async._limits.sharing.state import SharedQuota

if TYPE_CHECKING:
    from zenovay_async._limits.quota import QuotaGuard

# Seconds. Times that are equal differ by less, once they were converted between clocks.
_SAME_TIME = 1.0
# Seconds. A probe further away is none of this theory, or the clock of the store stepped.
_LONGEST_PROBE_WAIT = PROBE_INTERVAL.total_seconds()

# The first of what _known() returns are the terms of the quota; the others say whether it is exhausted.
_TERMS = 4


class QuotaNews:
    """The monthly quota, and whether it is exhausted."""

    def __init__(self, guard: QuotaGuard) -> None:
        self._guard = guard
        # What this process knew at the last read and at the last write, and the state at the last read.
        self._base = self._written = _known(QuotaFacts())
        self._seen = _stated(SharedQuota())
        self._number = 0
        # Whether these are the same, so that counts alone have to be compared while they last.
        self._is_in_step = False

    @property
    def is_any(self) -> bool:
        return self._written != self._base

    def write(self, quota: SharedQuota, now: float) -> bool:
        facts = self._guard.facts()
        self._written = _known(facts)
        if self._is_in_step and self._written == self._base and _stated(quota) == self._seen:
            quota.used, quota.total = _greater(quota.used, facts.used), _greater(quota.total, facts.total)
            return False
        today = self._guard.now()
        self._write_count(quota, facts, today)
        return self._write_exhaustion(quota, facts, today, now)

    def read(self, quota: SharedQuota, now: float) -> QuotaFacts | None:
        """What this process knows from now on; ``None`` if that is nothing new."""
        facts, base, written = self._guard.facts(), self._base, self._written
        known = _known(facts)
        if self._is_in_step and known == base and _stated(quota) == self._seen:
            used, total = _greater(facts.used, quota.used), _greater(facts.total, quota.total)
            is_known = used == facts.used and total == facts.total
            return None if is_known else msgspec.structs.replace(facts, used=used, total=total)
        today = self._guard.now()
        # What changed since the write has to be delivered first.
        is_counted = known[:_TERMS] == written[:_TERMS]
        is_delivered = known[_TERMS:] == written[_TERMS:] and quota.exhaustions >= self._number
        adopted = _adopt_count(facts, quota, today, keeps_terms=not is_counted)
        if is_delivered:
            adopted, self._number = _adopt_exhaustion(adopted, quota, today, now), quota.exhaustions
        known = _known(adopted)
        self._base = (known if is_counted else base)[:_TERMS] + (known if is_delivered else base)[_TERMS:]
        self._seen = _stated(quota)
        self._is_in_step = self._base == known and quota.used is not None and _order(adopted, quota) == 0
        return None if adopted == facts else adopted

    def _write_count(self, quota: SharedQuota, facts: QuotaFacts, today: datetime) -> None:
        if facts.used is None or (facts.month_ends is not None and facts.month_ends <= today):
            return
        is_over, order = _is_over(quota, today), _order(facts, quota)
        if quota.used is None or is_over or order > 0:
            quota.restarts = max(facts.restarts, quota.restarts + (quota.used is not None))
            quota.used, quota.resets_at = facts.used, _seconds(facts.resets_at)
            quota.month_ends = _seconds(facts.month_ends)
        elif order < 0:
            return
        else:
            quota.used = max(quota.used, facts.used)
        if self._written[:_TERMS] != self._base[:_TERMS] or quota.limit is None:
            quota.limit = facts.limit or quota.limit
            quota.resets_at = _seconds(facts.resets_at) or quota.resets_at
            quota.month_ends = _seconds(facts.month_ends) or quota.month_ends
        quota.total = _greater(quota.total, facts.total)

    def _write_exhaustion(self, quota: SharedQuota, facts: QuotaFacts, today: datetime, now: float) -> bool:
        until, base = facts.exhausted_until, self._base[_TERMS:]
        is_exhausted = until is not None and until > today
        known = _date(quota.exhausted_until)
        is_known = known is not None and known > today
        changes = False
        if (until is None) != (base[0] is None) or quota.exhaustions < self._number:
            changes = is_exhausted != is_known
            quota.exhaustions = max(quota.exhaustions + changes, self._number)
        if changes or (is_exhausted and is_known and self._written[_TERMS:] != base):
            quota.exhausted_until = _seconds(until) if is_exhausted else None
            probe_at = facts.probe_at if is_exhausted else None
            quota.probe_at = None if probe_at is None else now + (probe_at - today).total_seconds()
        return changes


def _known(facts: QuotaFacts) -> tuple[object, ...]:
    """All but counts: the terms of the quota, and whether it is exhausted."""
    return (
        facts.limit,
        facts.resets_at,
        facts.month_ends,
        facts.restarts,
        facts.exhausted_until,
        facts.probe_at,
    )


def _stated(quota: SharedQuota) -> tuple[object, ...]:
    """All but counts."""
    return (
        quota.limit,
        quota.resets_at,
        quota.month_ends,
        quota.restarts,
        quota.exhaustions,
        quota.exhausted_until,
        quota.probe_at,
    )


def _greater(count: int | None, other: int | None) -> int | None:
    if count is None or other is None:
        return other if count is None else count
    return max(count, other)


def _order(facts: QuotaFacts, quota: SharedQuota) -> float:
    """Above 0 if this process knows of a later count than the state, below 0 if of an earlier one."""
    resets_at = _seconds(facts.resets_at)
    if resets_at is not None and quota.resets_at is not None and resets_at != quota.resets_at:
        return resets_at - quota.resets_at
    return facts.restarts - quota.restarts


def _is_over(quota: SharedQuota, today: datetime) -> bool:
    """Whether the count of the state is that of an earlier month."""
    ends = _date(quota.month_ends)
    return ends is not None and ends <= today


def _adopt_count(facts: QuotaFacts, quota: SharedQuota, today: datetime, *, keeps_terms: bool) -> QuotaFacts:
    order, used = _order(facts, quota), quota.used
    if used is None or used < 0 or order > 0 or _is_over(quota, today):
        return facts
    total = _greater(facts.total, quota.total)
    if not order < 0:
        used = max(used, facts.used or 0)
        if keeps_terms:
            return msgspec.structs.replace(facts, used=used, total=total)
        resets_at, month_ends = facts.resets_at, facts.month_ends
    else:
        resets_at = month_ends = None
    return msgspec.structs.replace(
        facts,
        used=used,
        limit=quota.limit if quota.limit is not None and quota.limit > 0 else facts.limit,
        resets_at=_date(quota.resets_at, latest=today + LONGEST_MONTH) or resets_at,
        total=total,
        month_ends=_date(quota.month_ends, latest=today + LONGEST_MONTH) or month_ends,
        restarts=quota.restarts,
    )


def _adopt_exhaustion(facts: QuotaFacts, quota: SharedQuota, today: datetime, now: float) -> QuotaFacts:
    until, probe_at = _date(quota.exhausted_until), None
    if quota.exhausted_until is not None and (until is None or until <= today):
        return facts
    if until is not None and quota.probe_at is not None and abs(quota.probe_at - now) <= _LONGEST_PROBE_WAIT:
        probe_at = today + timedelta(seconds=quota.probe_at - now)
        if facts.probe_at is not None and abs((probe_at - facts.probe_at).total_seconds()) < _SAME_TIME:
            probe_at = facts.probe_at
    return msgspec.structs.replace(facts, exhausted_until=until, probe_at=probe_at)


def _seconds(date: datetime | None) -> float | None:
    return None if date is None else date.timestamp()


def _date(seconds: float | None, latest: datetime | None = None) -> datetime | None:
    """The date of Unix seconds; ``None`` if they are none, or later than that."""
    if seconds is None:
        return None
    try:
        date = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None if latest is not None and date > latest else date
