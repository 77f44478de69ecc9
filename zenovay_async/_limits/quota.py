"""The monthly quota: what is known of it, and which calls may still spend it.

Once the server has reported it exhausted, calls fail without a request until it resets. The plan may be upgraded
before: so calls that ask for the quota are sent all the same, and one other call every few minutes, as a probe. What
they bring decides whether the quota is still exhausted; a response to a request that was sent before does not.

Sources: help "Rate limits" (``X-Usage-*``, the hard monthly cap on the account), docs "GET /usage" (the count restarts
on the first of the month, 00:00 UTC), help "Usage limits and warnings" (users are warned at 80 % and at 95 %).
"""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias
from weakref import WeakSet

import msgspec

from zenovay_async._protocol.log_fields import event_fields
from zenovay_async.events import QuotaExhausted, QuotaThresholdReached, emit
from zenovay_async.exceptions import MONTHLY_LIMIT_EXCEEDED, QuotaExceededError
from zenovay_async.rate_limits import Quota

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.events import OnEvent
    from zenovay_async.rate_limits import Outcome, UsageHeaders

_logger = logging.getLogger("zenovay_async.limits")

Trial: TypeAlias = Literal["usage", "probe"]
"""A request that is sent although the quota is exhausted: one that asks for the quota, or any other."""

PROBE_INTERVAL = timedelta(minutes=5)
"""Time from a response that the quota is exhausted to the next probe."""
# Percent of the quota at which it runs low.
_THRESHOLDS = (80, 95)
LONGEST_MONTH = timedelta(days=32)
"""The longest month and a day, as clocks and time zones differ."""


class QuotaFacts(msgspec.Struct, frozen=True):
    """What a process knows of the quota, to be known by others.

    Attributes:
        used: Requests used this month.
        total: Requests ever made with the key.
        limit: Requests allowed per month.
        resets_at: When the count restarts, as the server stated it.
        month_ends: When the count restarts, as far as known.
        restarts: Number of times that it restarted; a greater one makes a lower count the newer one.
        exhausted_until: Until when the quota is exhausted; ``None`` if it is not.
        probe_at: When the next probe may go.
    """

    used: int | None = None
    total: int | None = None
    limit: int | None = None
    resets_at: datetime | None = None
    month_ends: datetime | None = None
    restarts: int = 0
    exhausted_until: datetime | None = None
    probe_at: datetime | None = None


class QuotaWatcher(Protocol):
    """Who has to know that the quota became exhausted, or is not any more, or that a probe began.

    Attributes:
        others_in_flight: Requests that other processes have in flight.
    """

    others_in_flight: int

    def on_quota_change(self) -> None:
        """Note the change."""
        ...


class QuotaGuard:
    """Keeps the monthly quota of one key, and rejects calls beyond it before a request is spent.

    Args:
        on_event: Called when the quota runs low, and when it is exhausted.
        clock: Returns the time, aware; omitted, the system's.

    Attributes:
        in_flight: Requests in flight; kept by the budget.
        is_exhausted: Whether the server reported the quota exhausted, and it has not reset since, as far as known.
        reports: Number of times that the server reported it, to this process or to one that shares the budget.
        is_probing: Whether a probe of this process is in flight.
        watchers: Notified of changes, until they are garbage collected.
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
        self.is_exhausted = False
        self.reports = 0
        self.is_probing = False
        self.watchers: WeakSet[QuotaWatcher] = WeakSet()
        self._restarts = 0
        self._exhausted_until: datetime | None = None
        self._probe_at: datetime | None = None
        # Set once the last probe has ended.
        self._probe_ended = asyncio.Event()
        # The highest threshold that was reached this month, and the count at which the next one is.
        self._warned = 0
        self._warn_at = math.inf

    @property
    def remaining(self) -> int | None:
        """Requests left this month; ``None`` if that is not known."""
        return None if self._limit is None or self._used is None else max(0, self._limit - self._used)

    def snapshot(self) -> Quota:
        """What is known of the quota."""
        return Quota(used=self._used, limit=self._limit, resets_at=self._resets_at, total=self._total)

    def now(self) -> datetime:
        """The time, aware."""
        return self._clock()

    def facts(self) -> QuotaFacts:
        """All that is known, for other processes."""
        return QuotaFacts(
            self._used,
            self._total,
            self._limit,
            self._resets_at,
            self._month_ends,
            self._restarts,
            self._exhausted_until,
            self._probe_at,
        )

    def adopt(self, facts: QuotaFacts, *, watcher: QuotaWatcher) -> bool:
        """Go on with what other processes know; returns whether the quota is newly exhausted by that.

        Args:
            facts: What is known now.
            watcher: Who brings it, and need not be notified.
        """
        is_lower = self._used is not None and facts.used is not None and facts.used < self._used
        terms = (facts.limit, facts.resets_at, facts.restarts)
        has_changed = terms != (self._limit, self._resets_at, self._restarts)
        self._used, self._total = facts.used, facts.total
        if has_changed or is_lower:
            self._limit, self._resets_at, self._restarts = terms
            # The next response is compared with all of this, rather than with the last one.
            self._last_limit = self._last_reset = None
            self._warned = 0 if is_lower else min(self._warned, _reached(facts.used or 0, facts.limit or 0))
            self._warn_at = self._next_warning()
        self._month_ends = facts.month_ends
        if self._used is not None and self._used >= self._warn_at:
            self._warn()
        was_exhausted, self.is_exhausted = self.is_exhausted, facts.exhausted_until is not None
        if self.is_exhausted and (facts.exhausted_until, facts.probe_at) != (self._exhausted_until, self._probe_at):
            self.reports += 1
        self._exhausted_until, self._probe_at = facts.exhausted_until, facts.probe_at
        if self.is_exhausted != was_exhausted:
            if facts.exhausted_until is not None:
                self._report_exhausted(facts.exhausted_until)
            self._notify(watcher)
        return self.is_exhausted and not was_exhausted

    def check(self, cost: int, *, reserve: int, may_wait: bool = False) -> None:
        """Reject a call that may not be sent now; one that asks for the quota is not checked.

        Args:
            cost: Requests that it is charged for.
            reserve: Requests that it must leave; 0 for a direct call.
            may_wait: Whether it may :meth:`wait_for_probe` before it is sent.

        Raises:
            QuotaExceededError: The quota is exhausted, or only the reserve is left.
        """
        if self.is_exhausted:
            now = self._clock()
            if self._exhausted_until is not None and now >= self._exhausted_until:
                self._start_month(now)
            elif self.is_probing:
                if not may_wait:
                    raise self.exhausted_error()
            elif not self._is_probe_due(now):
                raise self.exhausted_error()
        if reserve and not self.is_exhausted:
            self._check_reserve(reserve, cost)

    async def wait_for_probe(self) -> None:
        """Wait until no probe is in flight."""
        while self.is_probing:
            await self._probe_ended.wait()

    def begin_trial(self, *, states_usage: bool) -> Trial:
        """Record that a request is sent although the quota is exhausted; it ends with :meth:`end_trial`.

        Args:
            states_usage: Whether it asks for the quota.
        """
        if states_usage:
            return "usage"
        self._probe_at = self._clock() + PROBE_INTERVAL
        self._probe_ended, self.is_probing = asyncio.Event(), True
        self._notify()
        return "probe"

    def end_trial(self, trial: Trial, outcome: Outcome) -> None:
        """Learn whether the quota is still exhausted; :meth:`update` and :meth:`mark_exhausted` come before.

        Args:
            trial: As :meth:`begin_trial` returned it.
            outcome: How the request ended.
        """
        if trial == "probe":
            self.is_probing = False
            self._probe_ended.set()
            if outcome.kind not in {"succeeded", "quota_exhausted"} and not _is_rejected(outcome):
                # It showed nothing, so the next call probes.
                self._probe_at = self._clock()
            elif outcome.kind == "succeeded":
                self._clear()
        elif outcome.kind == "succeeded" and outcome.usage is not None:
            used, limit = outcome.usage.monthly, outcome.usage.limit or self._limit
            if used is not None and limit is not None and used < limit:
                # It was sent later than the response that the quota is exhausted, so a lower count is the newer one.
                self._start_month(self._clock())
                self.update(outcome.usage)

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
        self.reports += 1
        if self._resets_at is not None and self._resets_at > now:
            until = self._resets_at
        else:
            until = _next_month(now) if retry_after is None else now + timedelta(seconds=retry_after)
        if self._exhausted_until is None or until > self._exhausted_until:
            self._exhausted_until = until
        self._probe_at = now + PROBE_INTERVAL
        if not self.is_exhausted:
            self.is_exhausted = True
            self._report_exhausted(self._exhausted_until)
            self._notify()

    def seconds_to_reset(self) -> float:
        """Seconds until the quota resets: as the server stated it, else at the end of the month."""
        now = self._clock()
        return max(0.0, (self._ends(now) - now).total_seconds())

    def exhausted_error(self) -> QuotaExceededError:
        """Make the error for a call that is not sent because the quota is exhausted."""
        until = self._ends(self._clock())
        return QuotaExceededError(
            f"Monthly quota exhausted until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC; no request was sent",
            code=MONTHLY_LIMIT_EXCEEDED,
            retry_after=self.seconds_to_reset(),
        )

    def _ends(self, now: datetime) -> datetime:
        return self._exhausted_until or self._resets_at or _next_month(now)

    def _is_probe_due(self, now: datetime) -> bool:
        # More than the interval ahead: the clock was set back.
        return self._probe_at is None or not timedelta(0) < self._probe_at - now <= PROBE_INTERVAL

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
            is_upgrade = self._limit is not None and usage.limit is not None and usage.limit > self._limit
            if not is_upgrade and (self._month_ends is None or now < self._month_ends):
                return
            self._start_month(now)
        if usage.limit and usage.limit != self._limit:
            self._set_limit(usage.limit)
        self._resets_at = reset or self._resets_at
        self._total = usage.total or self._total
        if usage.monthly is not None:
            self._used = usage.monthly
            if self._month_ends is None:
                self._month_ends = self._resets_at or _next_month(self._clock())
            if self._used >= self._warn_at:
                self._warn()

    def _set_limit(self, limit: int) -> None:
        if self.is_exhausted and self._limit is not None and limit > self._limit:
            # The plan was upgraded.
            self._clear()
        self._limit = limit
        # Of the new limit, less may be used than of the old one.
        self._warned = min(self._warned, _reached(self._used or 0, limit))
        self._warn_at = self._next_warning()

    def _is_plausible_reset(self, reset: datetime) -> bool:
        # A reset in the past, or more than a month ahead, is an error of the server.
        return timedelta(0) < reset - self._clock() <= LONGEST_MONTH

    def _check_reserve(self, reserve: int, cost: int) -> None:
        remaining = self.snapshot().remaining
        in_flight = self.in_flight + sum(watcher.others_in_flight for watcher in self.watchers)
        if remaining is None or remaining - in_flight - cost >= reserve:
            return
        now, ends = self._clock(), self._month_ends
        if ends is not None and now >= ends:
            return
        raise QuotaExceededError(
            f"quota_reserve={reserve}: {remaining} requests of the monthly quota remain, "
            f"{in_flight} of them in flight; no request was sent",
            retry_after=None if ends is None else (ends - now).total_seconds(),
        )

    def _clear(self) -> None:
        """Forget that the quota was exhausted."""
        was_exhausted, self.is_exhausted = self.is_exhausted, False
        self._exhausted_until = self._probe_at = None
        if was_exhausted:
            self._notify()

    def _notify(self, but: QuotaWatcher | None = None) -> None:
        for watcher in list(self.watchers):
            if watcher is not but:
                watcher.on_quota_change()

    def _start_month(self, now: datetime) -> None:
        self._clear()
        self._month_ends = None
        self._used = None
        self._restarts += 1
        if self._resets_at is not None and now >= self._resets_at:
            self._resets_at = None
        self._warned = 0
        self._warn_at = self._next_warning()

    def _next_warning(self) -> float:
        """The count at which the next threshold is reached."""
        if self._limit is None:
            return math.inf
        # In whole numbers, as no float is as great as those that a server may state.
        left = [percent for percent in _THRESHOLDS if percent > self._warned]
        return min((-(-self._limit * percent // 100) for percent in left), default=math.inf)

    def _warn(self) -> None:
        if self._used is None or self._limit is None:
            return
        self._warned = _reached(self._used, self._limit)
        self._warn_at = self._next_warning()
        event = QuotaThresholdReached(used=self._used, limit=self._limit, percent=self._warned)
        # A program that shows events need not show the same again.
        _logger.warning(
            "%d %% of the monthly quota used: %d of %d requests",
            event.percent,
            event.used,
            event.limit,
            extra=event_fields(event),
        )
        emit(self._on_event, event)

    def _report_exhausted(self, until: datetime) -> None:
        event = QuotaExhausted(resets_at=until)
        _logger.warning(
            "Monthly quota exhausted until %s; calls fail without a request",
            until.isoformat(timespec="minutes"),
            extra=event_fields(event),
        )
        emit(self._on_event, event)


def _is_rejected(outcome: Outcome) -> bool:
    # The API refuses a key without quota before it looks at the rest.
    return outcome.kind == "failed" and outcome.status is not None and outcome.status < 500  # noqa: PLR2004 - the status is its own name


def _reached(used: int, limit: int) -> int:
    """The highest threshold that is reached, in percent; 0 for none."""
    return max((percent for percent in _THRESHOLDS if used * 100 >= limit * percent), default=0)


def _next_month(now: datetime) -> datetime:
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def _utc_now() -> datetime:
    return datetime.now(UTC)
