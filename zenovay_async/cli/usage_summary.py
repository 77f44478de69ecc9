"""The usage at a glance: the key, the plan, the rate limit and the monthly quota."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import msgspec
from rich.segment import Segment

from zenovay_async import Usage
from zenovay_async._protocol.text import printable
from zenovay_async.cli.blocks import bar
from zenovay_async.cli.grid import BLOCKS, print_lines
from zenovay_async.cli.streams import console_of
from zenovay_async.cli.writer import Writer

if TYPE_CHECKING:
    from zenovay_async import MonthlyUsage
    from zenovay_async.cli.time_zones import Clock

_LABEL = 12


class UsageSummary(Writer):
    """A line for each thing to know.

    Args:
        file: Where to write.
        clock: Shows the time at which the quota is reset.
    """

    def __init__(self, file: IO[str], clock: Clock) -> None:
        self._console = console_of(file)
        self._clock = clock

    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:  # noqa: ARG002 - of no website
        usage = msgspec.convert(result, Usage)
        key, per_minute = usage.api_key, usage.rate_limits.requests_per_minute
        name, permission = key.name or key.id or "unknown", key.permission or "permission unknown"
        lines = {
            "key": [Segment(printable(f"{name}, {permission}"))],
            "plan": [Segment(printable(usage.subscription.tier or "unknown"))],
            "rate limit": [Segment("unknown" if per_minute is None else f"{per_minute:,} requests a minute")],
            **self._quota(usage.usage),
        }
        segments: list[Segment] = []
        for label, text in lines.items():
            segments += [Segment(label.ljust(_LABEL)), *text, Segment.line()]
        print_lines(self._console, segments)

    def _quota(self, quota: MonthlyUsage) -> dict[str, list[Segment]]:
        limit, resets_at, used = quota.monthly_limit, quota.monthly_reset_at, quota.monthly_requests
        lines = {"quota": [Segment(f"{used:,} requests")]}
        if limit and limit > 0:
            blocks = bar(min(used, limit), limit)
            lines["quota"] = [
                Segment(f"{used:,} of {limit:,} requests  "),
                Segment(blocks, BLOCKS),
                Segment(f" {used * 100 // limit}%"),
            ]
            remaining = limit - used if quota.monthly_remaining is None else quota.monthly_remaining
            lines["remaining"] = [Segment(f"{max(0, remaining):,}")]
        if resets_at is not None:
            days = max(0, (resets_at - datetime.now(UTC)).days)
            lines["resets"] = [Segment(f"{self._time(resets_at)}, in {days} {'day' if days == 1 else 'days'}")]
        return lines

    def _time(self, time: datetime) -> str:
        try:
            return self._clock.show_with_zone(time)
        except OverflowError:
            # The ends of the calendar, in a zone that is beyond them: a server's word for never.
            return time.isoformat(" ", "minutes")
