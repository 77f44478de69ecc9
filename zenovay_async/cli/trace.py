"""What each call went through, as ``--trace`` shows it on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zenovay_async import CallEnded
from zenovay_async.history import duration

if TYPE_CHECKING:
    from zenovay_async import Event
    from zenovay_async.cli.log_lines import LogLines


class Tracer:
    """Writes a line for each call that ended.

    Args:
        lines: Where to write.
    """

    def __init__(self, lines: LogLines) -> None:
        self._lines = lines

    def on_event(self, event: Event) -> None:
        """Write the line of an event, if it is the end of a call; a listener of a client."""
        if not isinstance(event, CallEnded):
            return
        error = None if event.error is None else type(event.error).__name__
        outcome = event.outcome if error is None else f"failed with {error}"
        explained = event.explain()
        self._lines.write(
            f"{event.call} {outcome} in {duration(event.seconds)}: {explained}",
            event=type(event).__name__,
            operation=event.operation,
            call=event.call,
            outcome=event.outcome,
            error=error,
            status=event.status,
            request_id=event.request_id,
            attempts=event.attempts,
            seconds=round(event.seconds, 3),
            explained=explained,
        )
