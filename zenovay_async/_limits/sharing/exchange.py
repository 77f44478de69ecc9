"""What a shared budget exchanges besides permits, with each update of its store: outage, monthly quota, retries.

Each of the three keeps what it saw last. What differs from that in this process is **news**, which
:meth:`Exchange.write` brings into the state; what differs in the state is adopted by :meth:`Exchange.read`. Only a read
ends news, so that an update that is lost, or made anew on a newer state, loses nothing and counts nothing twice.

Where only one of two states can be right (the server is away or it is not, the quota is exhausted or it is not), each
change has a number, and the greater one is newer. So a store that was emptied, or is older, gets what this process
knows.

Times of the state are of the store's clock, but for dates that the server stated. Values that make no sense, as another
version may write them, are ignored or bounded.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from zenovay_async._limits.outage import MOST_BACKOFFS, Outage, OutageKind
from zenovay_async._limits.quota import LONGEST_MONTH, PROBE_INTERVAL, QuotaFacts
from zenovay_async._limits.sharing.state import SharedQuota

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._limits.outage_gate import OutageGate
    from zenovay_async._limits.quota import QuotaGuard
    from zenovay_async._limits.retry_budget import RetryBudget
    from zenovay_async._limits.sharing.state import SharedState

_Findings: TypeAlias = tuple[OutageKind | None, str, int | None, float, int]

PROBE_LIFETIME = 20.0
"""Seconds after the last update of a process at which its probe of an outage counts as lost."""

# Seconds. Times that are equal differ by less, once they were converted between clocks.
_SAME_TIME = 1.0
_SAME_PROBE_TIME = 1e-3
# Seconds. A probe further away is none of this theory, or the clock of the store stepped.
_LONGEST_PROBE_WAIT = PROBE_INTERVAL.total_seconds()

# The first of what _known() returns are the terms of the quota; the others say whether it is exhausted.
_TERMS = 4


class Exchange:
    """Brings the news of this process into the shared state, and those of others out of it.

    Args:
        quota: The monthly quota of the key.
        outage_gate: Whether the server is away.
        retries: The retries of the key.
        request_update: Called when something happened that others must know soon; it must not update at once.
        on_exhausted: Called when another process reported the quota exhausted, to fail the callers that wait.

    Attributes:
        has_news: Whether the last write brought anything in but counts, which the next one brings as well.
        others_in_flight: Requests that other processes have in flight; kept by the limiter.
    """

    def __init__(
        self,
        quota: QuotaGuard,
        outage_gate: OutageGate,
        retries: RetryBudget,
        request_update: Callable[[], None],
        on_exhausted: Callable[[], None],
    ) -> None:
        self._quota = quota
        self._request_update = request_update
        self._on_exhausted = on_exhausted
        self._quota_news = _QuotaNews(quota)
        self._outage_news = _OutageNews(outage_gate)
        self._retry_news = _RetryNews(retries)
        self.has_news = False
        self.others_in_flight = 0
        quota.watchers.add(self)
        outage_gate.on_change = request_update

    def write(self, state: SharedState, me: str, now: float) -> bool:
        """Bring own news into the state; called in each update, perhaps again with a newer state.

        Args:
            state: The state, to be changed in place.
            me: Name of this member.
            now: Time of the store's clock.

        Returns:
            Whether all others have to look at once.
        """
        self._retry_news.write(state)
        rings = self._outage_news.write(state, me, now)
        rings = self._quota_news.write(state.quota, now) or rings
        self.has_news = self._retry_news.is_any or self._outage_news.is_any or self._quota_news.is_any
        return rings

    def read(self, state: SharedState, me: str, now: float) -> None:
        """Adopt what others wrote, once the update that called :meth:`write` is done: own news are delivered."""
        self._retry_news.read(state)
        self._outage_news.read(state, me, now)
        adopted = self._quota_news.read(state.quota, now)
        if adopted is not None and self._quota.adopt(adopted, watcher=self):
            self._on_exhausted()

    def on_quota_change(self) -> None:
        """Deliver soon that the quota became exhausted, or is not any more, or that a probe began."""
        self._request_update()


class _RetryNews:
    """The tokens spent and earned since the last exchange."""

    def __init__(self, retries: RetryBudget) -> None:
        self._retries = retries
        self._seen = self._written = retries.CAPACITY

    @property
    def is_any(self) -> bool:
        return self._written != self._seen

    def write(self, state: SharedState) -> None:
        tokens = self._written = self._retries.tokens
        shared = state.retries
        state.retries = tokens if shared is None else self._bounded(shared + tokens - self._seen)

    def read(self, state: SharedState) -> None:
        if state.retries is None:
            return
        # What happened since the write is news of the next one.
        since = self._retries.tokens - self._written
        self._seen = self._written = self._bounded(state.retries)
        self._retries.tokens = self._bounded(self._seen + since)

    def _bounded(self, tokens: float) -> float:
        # The greater of a number and nan is the number if it comes first.
        return max(0.0, min(self._retries.CAPACITY, tokens))


class _OutageNews:
    """Whether the server is away, and whose probe finds out.

    Of several processes that begin a probe at once, the first to write it claims it. The others see that before they
    send theirs, as each permit comes with an update, and wait for the outcome. A probe that began before its process
    knew of the outcome of another one is not sent either.
    """

    def __init__(self, gate: OutageGate) -> None:
        self._gate = gate
        # What this process knew at the last read and at the last write, and the state at the last read.
        self._base = _findings(Outage())
        self._written: _Findings | None = None
        self._seen = (0, -math.inf)
        self._number = 0
        # Number of the own probe that the last write did not claim.
        self._denied = 0

    @property
    def is_any(self) -> bool:
        return self._written is not None and self._written != self._base

    def write(self, state: SharedState, me: str, now: float) -> bool:
        outage, shared = self._gate.outage, state.outage
        if outage.has_responded:
            shared.has_responded = True
        if outage.kind is None and shared.kind is None and self._base[0] is None and not state.probe_by:
            state.outages, self._written = max(state.outages, self._number), None
            return False
        self._written = _findings(outage)
        # What this process finds is newer than all that a state without an outage may tell of probes.
        is_current = shared.kind is None or _progress(state) == self._seen
        rings = self._write_findings(state, now - self._gate.now())
        return self._write_claim(state, me, now, is_current=is_current) or rings

    def read(self, state: SharedState, me: str, now: float) -> None:
        gate, outage, shared = self._gate, self._gate.outage, state.outage
        if shared.has_responded:
            outage.has_responded = True
        if outage.kind is None and shared.kind is None and self._base[0] is None:
            self._number = max(self._number, state.outages)
            return
        offset, found, own = now - gate.now(), None, gate.own_probe
        # What happened since the write has to be delivered first.
        is_delivered = _findings(outage) == self._written and state.outages >= self._number
        if is_delivered:
            found = _difference(outage, shared, offset, now)
        is_others = state.probe_by != me
        gate.follow(
            found,
            probe_until=state.probe_until - offset if is_others and _is_claimed(state, now) else None,
            drops_probe=is_others and own != 0 and (own == self._denied or found is not None),
        )
        if is_delivered:
            self._base, self._number, self._seen = _findings(outage), state.outages, _progress(state)

    def _write_findings(self, state: SharedState, offset: float) -> bool:
        """Bring in what this process found; returns whether the kind of the outage changed."""
        outage, shared = self._gate.outage, state.outage
        found, base = _findings(outage), self._base
        is_away, was_away = outage.kind is not None, base[0] is not None
        if is_away != was_away or state.outages < self._number:
            changes = is_away != (shared.kind is not None)
            if changes:
                _copy(outage, shared, offset)
            elif is_away:
                shared.since = min(shared.since, outage.since + offset)
            state.outages = max(state.outages + changes, self._number)
            return changes
        if not is_away or state.outages > self._number:
            return False
        if found[:3] != base[:3]:
            shared.kind, shared.reason, shared.status = found[:3]
        if found[3:] != base[3:]:
            shared.next_probe_at, shared.backoffs = outage.next_probe_at + offset, outage.backoffs
        return found[0] != base[0]

    def _write_claim(self, state: SharedState, me: str, now: float, *, is_current: bool) -> bool:
        """Claim the own probe, or end the claim; returns whether that ended, for whose outcome others wait.

        A probe that began before this process knew of the outcome of another one is not claimed.
        """
        own, is_mine = self._gate.own_probe, state.probe_by == me
        self._denied = 0
        if own and state.outage.kind is not None:
            if is_mine or (is_current and not _is_claimed(state, now)):
                state.probe_by, state.probe_until = me, now + PROBE_LIFETIME
            else:
                self._denied = own
        elif is_mine or (state.probe_by and state.outage.kind is None):
            state.probe_by, state.probe_until = "", -math.inf
            return is_mine
        return False


class _QuotaNews:
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


def _findings(outage: Outage) -> _Findings:
    return outage.kind, outage.reason, outage.status, outage.next_probe_at, outage.backoffs


def _progress(state: SharedState) -> tuple[int, float]:
    """What differs once a probe failed, or an outage began or ended."""
    return state.outages, state.outage.next_probe_at


def _is_claimed(state: SharedState, now: float) -> bool:
    return state.probe_by != "" and now < state.probe_until <= now + PROBE_LIFETIME


def _copy(outage: Outage, shared: Outage, offset: float) -> None:
    shared.kind, shared.reason, shared.status = outage.kind, outage.reason, outage.status
    shared.backoffs = outage.backoffs
    shared.since, shared.next_probe_at = outage.since + offset, outage.next_probe_at + offset


def _difference(outage: Outage, shared: Outage, offset: float, now: float) -> Outage | None:
    """The state of the server as others found it, in the time of the event loop; ``None`` if it is known."""
    next_probe_at = _at_most(now + outage.longest_wait, shared.next_probe_at) - offset
    if abs(next_probe_at - outage.next_probe_at) <= _SAME_PROBE_TIME:
        next_probe_at = outage.next_probe_at
    found = Outage(
        kind=shared.kind,
        since=_at_most(now, shared.since) - offset,
        reason=shared.reason,
        status=shared.status,
        next_probe_at=next_probe_at,
        backoffs=max(0, min(MOST_BACKOFFS, shared.backoffs)),
    )
    is_known = found.kind is None if outage.kind is None else _findings(found) == _findings(outage)
    return None if is_known else found


def _at_most(bound: float, number: float) -> float:
    """The lesser of two numbers; the bound if the other one is none."""
    return number if number < bound else bound


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
