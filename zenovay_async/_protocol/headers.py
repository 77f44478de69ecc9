"""The headers about limits; each is optional, and an invalid one is ignored.

Sources: help "Rate limits" (``X-RateLimit-*``, ``X-Usage-*``), docs "Rate limits" (``X-RateLimit-Reset`` in
Unix seconds, ``Retry-After``), RFC 9110 section 10.2.3 (``Retry-After`` as seconds or as a date).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec

from zenovay_async.rate_limits import RateLimitHeaders, UsageHeaders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Seconds. No window or month of this API is longer; a longer time is invalid.
_LONGEST_WAIT = 31 * 86_400.0
_IN_SECONDS = re.compile(r"(?:again in|retry after)\s+(\d{1,9}(?:\.\d{1,6})?)\s*s", re.IGNORECASE)

# Takes half the time of int(), which also accepts "+1", "1_0" and the digits of other scripts.
_decode_count: Callable[[str], int] = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, lt=10**18)]).decode


def parse_count(text: str | None) -> int | None:
    """Parse an integer >= 0; ``None`` if the header is absent or invalid."""
    if text is None:
        return None
    try:
        return _decode_count(text)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None


cached_parse_count = lru_cache(maxsize=64)(parse_count)
""":func:`parse_count` for a header that rarely changes from response to response."""


def rate_limit_headers(headers: Mapping[str, str]) -> RateLimitHeaders:
    """Parse ``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset``."""
    return RateLimitHeaders(
        cached_parse_count(headers.get("X-RateLimit-Limit")),
        parse_count(headers.get("X-RateLimit-Remaining")),
        _parse_number(headers.get("X-RateLimit-Reset")),
    )


def usage_headers(headers: Mapping[str, str]) -> UsageHeaders:
    """Parse ``X-Usage-Monthly``, ``-Limit``, ``-Reset`` and ``-Total``."""
    get = headers.get
    return UsageHeaders(
        parse_count(get("X-Usage-Monthly")),
        cached_parse_count(get("X-Usage-Limit")),
        _cached_parse_datetime(get("X-Usage-Reset")),
        parse_count(get("X-Usage-Total")),
    )


def parse_datetime(text: Any) -> datetime | None:
    """Parse an ISO 8601 time to an aware ``datetime``, UTC if it names no zone; ``None`` if it is invalid."""
    return _cached_parse_datetime(text) if isinstance(text, str) else None


# All responses of a month state the same reset.
@lru_cache(maxsize=64)
def _cached_parse_datetime(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        found.astimezone(UTC)
    except (ValueError, OverflowError):
        # OverflowError: near the ends of the calendar, a time of one zone has no UTC equivalent.
        return None
    return found


def retry_after(headers: Mapping[str, str], error: Mapping[str, Any], message: str, now: float) -> float | None:
    """Seconds to wait before a retry, from the first source that is valid.

    In order: ``Retry-After`` (whole seconds, a fraction, or an HTTP date), ``retry_after`` and
    ``details.reset_at`` in the error's body (older responses), ``X-RateLimit-Reset``, and the sentence
    "Try again in 42 seconds".

    Args:
        headers: Headers of the response, looked up regardless of case.
        error: The ``error`` object of the body; empty if it has none.
        message: The error's message.
        now: Unix seconds on this machine; the response's ``Date`` takes precedence, as the two clocks may differ.
    """
    server_now = _parse_date(headers.get("Date")) or now
    sentence = _IN_SECONDS.search(message)
    reset_at = parse_datetime(as_dict(error.get("details")).get("reset_at"))
    return next(
        (
            wait
            for wait in (
                _retry_after_header(headers, server_now),
                _wait(_parse_number(error.get("retry_after"))),
                _until(_parse_number(headers.get("X-RateLimit-Reset")), server_now),
                _until(reset_at.timestamp() if reset_at else None, server_now),
                _wait(_parse_number(sentence[1])) if sentence else None,
            )
            if wait is not None
        ),
        None,
    )


def quota_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until the monthly quota resets: ``X-Usage-Reset``, else ``Retry-After``.

    The other sources of :func:`retry_after` are about the rate limit.

    Args:
        headers: Headers of the response, looked up regardless of case.
        now: Unix seconds on this machine.
    """
    reset = parse_datetime(headers.get("X-Usage-Reset"))
    until = None if reset is None else _wait(reset.timestamp() - now)
    return until or _retry_after_header(headers, _parse_date(headers.get("Date")) or now)


def as_dict(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _parse_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _parse_date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        found = parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _retry_after_header(headers: Mapping[str, str], server_now: float) -> float | None:
    header = headers.get("Retry-After")
    seconds = _wait(_parse_number(header))
    return _until(_parse_date(header), server_now) if seconds is None else seconds


def _wait(seconds: float | None) -> float | None:
    return seconds if seconds is not None and 0 <= seconds <= _LONGEST_WAIT else None


def _until(when: float | None, now: float) -> float | None:
    # A time up to a minute ago means "now"; an earlier one comes from a wrong clock.
    return None if when is None or when < now - 60 else _wait(max(0.0, when - now))
