"""What the headers of an answer say about limits; every one of them is optional, and garbage is ignored.

Sources: help "Rate limits" (``X-RateLimit-*``, ``X-Usage-*``), docs "Rate limits" (``X-RateLimit-Reset`` in
Unix seconds, ``Retry-After``), RFC 9110 section 10.2.3 (``Retry-After`` as seconds or as a date).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

# No window or month of this API is longer; a server that says more is not to be taken at its word.
_LONGEST_WAIT = 31 * 86_400.0
_IN_SECONDS = re.compile(r"(?:again in|retry after)\s+(\d{1,9}(?:\.\d{1,6})?)\s*s", re.IGNORECASE)


class RateLimitHeaders(msgspec.Struct, frozen=True):
    """The requests per minute, as one answer told them.

    Attributes:
        limit: Requests allowed per window.
        remaining: Requests left in this window; often absent, which is normal.
        reset: When the window ends, in Unix seconds.
    """

    limit: int | None
    remaining: int | None
    reset: float | None


class UsageHeaders(msgspec.Struct, frozen=True):
    """The monthly quota, as one answer told it.

    Attributes:
        monthly: Requests used this month.
        limit: Requests allowed per month.
        reset: When the month's count starts again.
        total: Requests ever made with this key.
    """

    monthly: int | None
    limit: int | None
    reset: datetime | None
    total: int | None


def parse_count(text: str | None) -> int | None:
    """A header's whole number of zero or more, else ``None``."""
    # isdecimal alone would let in digits of other scripts; a count of more than 18 digits is no count.
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) <= 18 else None  # noqa: PLR2004 - said above


cached_parse_count = lru_cache(maxsize=64)(count)
"""The same for a header that says the same in answer after answer."""


def rate_limit(headers: Mapping[str, str]) -> RateLimitHeaders:
    """Read ``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset``."""
    return RateLimitHeaders(
        parse_count(headers.get("X-RateLimit-Limit")),
        parse_count(headers.get("X-RateLimit-Remaining")),
        _number(headers.get("X-RateLimit-Reset")),
    )


def usage(headers: Mapping[str, str]) -> UsageHeaders:
    """Read ``X-Usage-Monthly``, ``-Limit``, ``-Reset`` and ``-Total``."""
    return UsageHeaders(
        parse_count(headers.get("X-Usage-Monthly")),
        parse_count(headers.get("X-Usage-Limit")),
        parse_datetime(headers.get("X-Usage-Reset")),
        parse_count(headers.get("X-Usage-Total")),
    )


def parse_datetime(text: Any) -> datetime | None:
    """An ISO 8601 time as an aware ``datetime`` (UTC where it names no zone), else ``None``."""
    return _moment(text) if isinstance(text, str) else None


# Every answer of a month names the same reset.
@lru_cache(maxsize=64)
def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        found.astimezone(UTC)
    except (ValueError, OverflowError):
        # Near the ends of the calendar a time exists in one zone and not in another.
        return None
    return found


def retry_after(headers: Mapping[str, str], error: Mapping[str, Any], message: str, now: float) -> float | None:
    """Seconds to wait before trying again, from the first source that makes sense.

    In order: ``Retry-After`` (whole seconds, a fraction, or an HTTP date), ``retry_after`` and
    ``details.reset_at`` in the error's body (older answers), ``X-RateLimit-Reset``, and the sentence
    "Try again in 42 seconds".

    Args:
        headers: Headers of the answer, looked up regardless of case.
        error: The ``error`` object of the body, empty where there is none.
        message: The error's message.
        now: Unix seconds on this machine; the answer's ``Date`` goes before it, as the two clocks may differ.
    """
    server_now = _date(headers.get("Date")) or now
    said = _IN_SECONDS.search(message)
    reset_at = parse_datetime(as_dict(error.get("details")).get("reset_at"))
    return next(
        (
            wait
            for wait in (
                _stated(headers, server_now),
                _wait(_number(error.get("retry_after"))),
                _until(_number(headers.get("X-RateLimit-Reset")), server_now),
                _until(reset_at.timestamp() if reset_at else None, server_now),
                _wait(_number(said[1])) if said else None,
            )
            if wait is not None
        ),
        None,
    )


def quota_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until the month's count starts again: ``X-Usage-Reset``, else ``Retry-After``.

    All other ways to name a time are about the minute.

    Args:
        headers: Headers of the answer, looked up regardless of case.
        now: Unix seconds on this machine.
    """
    reset = parse_datetime(headers.get("X-Usage-Reset"))
    until = None if reset is None else _wait(reset.timestamp() - now)
    return until or _stated(headers, _date(headers.get("Date")) or now)


def as_dict(value: Any) -> dict[str, Any]:
    """The value if it is an object of JSON, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        found = parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _stated(headers: Mapping[str, str], server_now: float) -> float | None:
    header = headers.get("Retry-After")
    seconds = _wait(_number(header))
    return _until(_date(header), server_now) if seconds is None else seconds


def _wait(seconds: float | None) -> float | None:
    return seconds if seconds is not None and 0 <= seconds <= _LONGEST_WAIT else None


def _until(when: float | None, now: float) -> float | None:
    # A time that has just gone by means "now"; one long gone comes from a broken clock.
    return None if when is None or when < now - 60 else _wait(max(0.0, when - now))
