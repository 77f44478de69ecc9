"""What a client tells about itself while it works: handed to ``on_event``, one typed object each.

Events are facts already decided; a listener cannot change them. It is called in the middle of a call, so it must be
quick. What it raises is logged and goes no further.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

import msgspec

from zenovay_async.exceptions import ZenovayError


class Event(msgspec.Struct, frozen=True):
    """Base of all events."""


class RetryScheduled(Event, frozen=True):
    """An attempt failed and another will be made.

    Attributes:
        call: Method and path.
        attempt: The attempt that failed, counted from 1.
        wait: Seconds until the next; a wait for the rate limit comes on top.
        error: What the attempt failed with.
    """

    call: str
    attempt: int
    wait: float
    error: ZenovayError


class RateLimitUpdated(Event, frozen=True):
    """The server stated another limit than was believed.

    Attributes:
        before: Requests per window believed until now.
        limit: Requests per window believed from now on.
    """

    before: int
    limit: int


class RateLimited(Event, frozen=True):
    """The server refused a request with 429; no call of this key is sent until the time is over.

    Attributes:
        seconds: How long.
        stated: Whether the server named the time; else it is a backoff.
    """

    seconds: float
    stated: bool


class QuotaThresholdReached(Event, frozen=True):
    """The month's requests run low; told once a month.

    Attributes:
        used: Requests used this month.
        limit: Requests allowed per month.
    """

    used: int
    limit: int


class QuotaExhausted(Event, frozen=True):
    """The server said that the month's requests are used up; calls fail from now on without a request.

    Attributes:
        resets_at: When the month's count starts again.
    """

    resets_at: datetime


class SchemaDrift(Event, frozen=True):
    """An answer strays from the documented shape, and was read all the same; each way is told once per process.

    Attributes:
        call: Method and path of the call.
        path: Where in the answer, such as ``$.data.pages[].url``.
        problem: What is there in place of what.
    """

    call: str
    path: str
    problem: str


OnEvent: TypeAlias = Callable[[Event], None]
"""A listener, called with each event."""

_logger = logging.getLogger("zenovay_async")


def emit(on_event: OnEvent | None, event: Event) -> None:
    """Call a listener, if there is one; what it raises does not reach the call that it is told of."""
    if on_event is None:
        return
    try:
        on_event(event)
    except Exception:
        _logger.exception("on_event failed on %s", type(event).__name__)
