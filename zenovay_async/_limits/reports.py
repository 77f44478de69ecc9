"""What a limiter reports of the rate limit: a line in the log, and an event."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from zenovay_async._limits.gate import LONG_PAUSE
from zenovay_async._protocol.log_fields import event_fields
from zenovay_async.events import RateLimited, RateLimitUpdated, emit

if TYPE_CHECKING:
    from zenovay_async.events import OnEvent

_logger = logging.getLogger("zenovay_async.limits")


def report_pause(on_event: OnEvent | None, seconds: float, retry_after: float | None, window: float) -> None:
    """Report that a 429 pauses all callers of the key.

    Args:
        on_event: Called with the event.
        seconds: Length of the pause.
        retry_after: Seconds that the server named; ``None`` if it named none.
        window: Seconds of the window.
    """
    event = RateLimited(seconds=seconds, from_server=retry_after is not None)
    if retry_after is not None and seconds < retry_after:
        log_long_pause(seconds, retry_after, window)
    else:
        _log_pause(event)
    emit(on_event, event)


def report_pause_of_others(on_event: OnEvent | None, event: RateLimited) -> None:
    """Report a pause after a 429 that another process got."""
    _log_pause(event)
    emit(on_event, event)


def report_limit(on_event: OnEvent | None, before: int, limit: int) -> None:
    """Report that the rate limit is another one than assumed."""
    event = RateLimitUpdated(before=before, limit=limit)
    _logger.info("Rate limit of %d requests per window, not %d", limit, before, extra=event_fields(event))
    emit(on_event, event)


def log_long_pause(seconds: float, retry_after: float, window: float) -> None:
    """Log that the server named a time longer than the window, which is likely to be a mistake."""
    _logger.warning(LONG_PAUSE, retry_after, window, seconds, extra={"seconds": seconds, "retry_after": retry_after})


def _log_pause(event: RateLimited) -> None:
    _logger.info("Rate limited: all calls of the key pause for %.1f s", event.seconds, extra=event_fields(event))
