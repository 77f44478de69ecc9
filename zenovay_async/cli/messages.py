"""What a run says on standard error while it waits: the server is away, the rate limit is reached; and warnings."""

from __future__ import annotations

import logging
import math
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from zenovay_async import (
    EndpointDeprecated,
    QuotaExhausted,
    QuotaThresholdReached,
    RateLimited,
    SchemaDrift,
    ServerReachable,
    ServerUnreachable,
    SharedBudgetBack,
    SharedBudgetLost,
)
from zenovay_async._limits.gate import LONG_PAUSE

if TYPE_CHECKING:
    from types import TracebackType

    from zenovay_async import Event, RateLimit
    from zenovay_async.cli.log_lines import Level, LogLines

_logger = logging.getLogger("zenovay_async")

# Seconds: a wait that is reported, and how much longer one has to be to be another one.
_LONG_WAIT = 10.0
_SAME_WAIT = 2.0

# Events of which a line says what the log says as well; of an exhausted quota, the error of each call that it fails.
_SHOWN = frozenset(
    event.__name__ for event in (QuotaExhausted, QuotaThresholdReached, SharedBudgetBack, SharedBudgetLost)
)
# Events about the API, which the client of each key finds out.
_OF_THE_API = frozenset(event.__name__ for event in (EndpointDeprecated, SchemaDrift))
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class MessageReporter(logging.Handler):
    """Writes lines to standard error: a server that goes away or is back, a long wait, a low quota, warnings.

    Args:
        max_wait: Seconds that calls wait for a server that is away.
        lines: Where to write.

    Attributes:
        max_wait: As given; may be set.
    """

    def __init__(self, max_wait: float, lines: LogLines) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines
        self.max_wait = max_wait
        self._reported_until = -math.inf
        self._is_away = False
        self._reported: set[frozenset[tuple[str, Any]]] = set()
        # Who writes what concerns the server.
        self._of_server = self

    def of_key(self, name: str) -> MessageReporter:
        """Make the reporter of one key of several: its lines have the name, but those on the server, which is one."""
        own = MessageReporter(self.max_wait, self._lines.of_key(name))
        own._of_server = self
        return own

    def __enter__(self) -> Self:
        _logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _logger.removeHandler(self)

    def on_event(self, event: Event) -> None:
        """Write the line of an event, if it has one; a listener of a client."""
        write = self._lines.write
        if isinstance(event, (ServerUnreachable, ServerReachable)):
            self._of_server.report_server(event)
        elif isinstance(event, QuotaThresholdReached):
            text = f"{event.percent} % of the monthly quota used: {event.used:,} of {event.limit:,} requests"
            write(text, "warning", event=type(event).__name__, used=event.used, limit=event.limit)
        elif isinstance(event, SharedBudgetLost):
            share = f"continuing with {event.limit:,} requests per window"
            text = f"Store of the shared rate limit lost: {event.reason}; {share}"
            write(text, "warning", event=type(event).__name__, members=event.members, limit=event.limit)
        elif isinstance(event, SharedBudgetBack):
            text = f"Store of the shared rate limit reachable again after {event.seconds:.0f} s"
            write(text, event=type(event).__name__, seconds=round(event.seconds, 1))
        elif isinstance(event, RateLimited):
            asked = "the server asked to wait" if event.from_server else "waiting"
            text = f"Rate limited: {asked} {event.seconds:.0f} s, until"
            self._report_wait(event.seconds, text, "warning", event=type(event).__name__)

    def report_server(self, event: ServerUnreachable | ServerReachable) -> None:
        """Write that the server is away or back, unless the client of another key has found out before."""
        is_away = isinstance(event, ServerUnreachable)
        if is_away == self._is_away:
            return
        self._is_away = is_away
        if isinstance(event, ServerReachable):
            text, seconds = f"Server reachable again after {event.seconds:.0f} s", round(event.seconds, 1)
            self._lines.write(text, event=type(event).__name__, seconds=seconds)
            return
        status = "" if event.status is None else f"HTTP {event.status}: "
        bound = f" up to {self.max_wait:g} s" if math.isfinite(self.max_wait) else ""
        text = f"Server {event.kind}: {status}{event.reason}; waiting{bound}"
        self._lines.write(text, "warning", event=type(event).__name__, status=event.status)

    def report_pacing(self, limit: RateLimit) -> bool:
        """Write that calls wait for the rate limit, if they wait long; returns whether a line says so."""
        what = f"Rate limit of {limit.limit:,} in {limit.window:g} s reached: waiting {limit.reset_after:.0f} s, until"
        return self._report_wait(limit.reset_after, what)

    def _report_wait(self, seconds: float, what: str, level: Level = "info", /, **fields: Any) -> bool:
        if seconds < _LONG_WAIT:
            return False
        until = time.monotonic() + seconds
        if until > self._reported_until + _SAME_WAIT:
            self._reported_until = until
            self._lines.write(f"{what} {_clock_time(seconds)}", level, **{**fields, "seconds": round(seconds, 1)})
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a log record with its fields, unless it is about an event, which has a line of its own."""
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if "event_type" in fields:
            # As in the lines of events.
            fields["event"] = fields.pop("event_type")
        if record.msg == LONG_PAUSE:
            # Of an event that follows, this is the whole story: what the server asked for, and what is done.
            text, of_record = record.getMessage(), {"logger": record.name, **fields}
            if not self._report_wait(fields["seconds"], f"{text}, at", "warning", **of_record):
                self._lines.write(text, "warning", **of_record)
        elif fields.get("event") not in _SHOWN and not self._is_reported(fields):
            level: Level = "error" if record.levelno >= logging.ERROR else "warning"
            self._lines.write(self.format(record), level, logger=record.name, **fields)

    def _is_reported(self, fields: dict[str, Any]) -> bool:
        """Whether the line of an event about the API was written before, for the client of another key."""
        if fields.get("event") not in _OF_THE_API:
            return False
        event = frozenset((name, value) for name, value in fields.items() if name != "call")
        is_reported = event in self._reported
        self._reported.add(event)
        return is_reported


def _clock_time(seconds: float) -> str:
    """The local time so many seconds from now; with its date, unless that is today's."""
    now = datetime.now().astimezone()
    then = now + timedelta(seconds=seconds)
    return f"{then:%H:%M:%S}" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M:%S}"
