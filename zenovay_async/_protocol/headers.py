"""The headers about limits; each is optional, and an invalid one is ignored.

Sources: help "Rate limits" (``X-RateLimit-*``, ``X-Usage-*``), docs "Rate limits" (``X-RateLimit-Reset`` in
Unix seconds, ``Retry-After``), RFC 9110 section 10.2.3 (``Retry-After`` as seconds or as a date). Proxies and limiters
in front of the API state limits as draft-ietf-httpapi-ratelimit-headers has it: ``RateLimit-Limit``, ``-Remaining``,
``-Reset`` (00 to 06), ``RateLimit: limit=, remaining=, reset=`` (07) or ``RateLimit: "name";r=;t=`` (08 to 11), with
the policies in ``RateLimit-Limit`` (00 to 03) or ``RateLimit-Policy`` (04 to 11).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import msgspec

from zenovay_async._protocol.structured_fields import parse_members
from zenovay_async.rate_limits import RateLimitHeaders, UsageHeaders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zenovay_async._protocol.structured_fields import Member

# Seconds. No window or month of this API is longer; a longer time is invalid.
_LONGEST_WAIT = 31 * 86_400.0
# A reset of up to 31 days is the seconds from now: as Unix time it would be January 1970. From 10**11 on it is Unix
# milliseconds: as seconds that is the year 5138, as milliseconds March 1973. Between them it is Unix seconds.
_FIRST_MILLISECONDS, _LAST_MILLISECONDS = 1e11, 1e14
_IN_SECONDS = re.compile(r"(?:again in|retry after)\s+(\d{1,9}(?:\.\d{1,6})?)\s*s", re.IGNORECASE)
_WHOLE = re.compile(r"\s*([0-9]{1,18})(?:\.0*)?\s*")

# Takes half the time of int(), which also accepts "+1", "1_0" and the digits of other scripts.
_decode_count: Callable[[str], int] = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, lt=10**18)]).decode


class IETFLimit(NamedTuple):
    """One rate limit as the IETF's headers state it, ``reset`` as text; ``None`` for what they do not state."""

    limit: int | None = None
    remaining: int | None = None
    window: float | None = None
    reset: str | None = None


_UNSTATED = IETFLimit()


def parse_count(text: str | None) -> int | None:
    """Parse an integer >= 0, also written as ``30.0``; ``None`` if the header is absent or invalid."""
    if text is None:
        return None
    try:
        return _decode_count(text)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        whole = _WHOLE.fullmatch(text)
        return int(whole[1]) if whole else None


cached_parse_count = lru_cache(maxsize=64)(parse_count)
""":func:`parse_count` for a header that rarely changes from response to response."""


@lru_cache(maxsize=64)
def cached_parse_limit(text: str | None, policies: str | None = None) -> tuple[int | None, float | None]:
    """Parse a limit and the seconds of its window.

    Args:
        text: The limit alone, or in a list with all policies, as in ``10, 10;w=1, 50;w=60``.
        policies: ``RateLimit-Policy``; where no limit is stated beside it, its first policy is the one that applies.
    """
    limit = parse_count(text)
    listed = () if limit is not None else parse_members(text)
    if listed:
        if not any(member.parameters for member in listed) and len({member.value for member in listed}) > 1:
            return None, None  # "1,000"
        limit = parse_count(listed[0].value)
    known = [policy for policy in (*listed, *parse_members(policies)) if _counts_requests(policy)]
    if text is None:
        return (_quota(known[0]), _window(known[0])) if known else (None, None)
    windows = (_window(policy) for policy in known if limit is not None and _quota(policy) == limit)
    return limit, next((window for window in windows if window is not None), None)


def rate_limit_headers(headers: Mapping[str, str], now: float | None) -> RateLimitHeaders:
    """Parse the rate limit that a response states, and when its window ends.

    Args:
        headers: Headers of the response, looked up regardless of case.
        now: Unix seconds at which the response was made, if it has no ``Date``; ``None`` if that is not known.
    """
    limit, window = cached_parse_limit(headers.get("X-RateLimit-Limit"))
    remaining = parse_count(headers.get("X-RateLimit-Remaining"))
    if limit is None and remaining is None:
        limit, remaining, window, _ = ietf_limit(headers)
    date = parse_http_date(headers.get("Date"))
    server_now = now if date is None else date
    resets = (_parse_reset(text, server_now) for text in _reset_headers(headers))
    return RateLimitHeaders(limit, remaining, next((reset for reset in resets if reset is not None), None), window)


def ietf_limit(headers: Mapping[str, str]) -> IETFLimit:
    """Parse ``RateLimit``, else ``RateLimit-Limit``, ``-Remaining`` and ``-Reset``, each with ``RateLimit-Policy``."""
    get = headers.get
    text, policies = get("RateLimit"), get("RateLimit-Policy")
    if text is not None:
        policies = _joined(headers, "RateLimit-Policy")
        stated = _cached_parse_rate_limit(_joined(headers, "RateLimit") or "", policies)
        if stated is not _UNSTATED:
            return stated
    limit_text = get("RateLimit-Limit")
    if limit_text is None and policies is None:
        return _UNSTATED
    limit, window = cached_parse_limit(limit_text, policies)
    return IETFLimit(limit, parse_count(get("RateLimit-Remaining")), window, get("RateLimit-Reset"))


@lru_cache(maxsize=128)
def _cached_parse_rate_limit(text: str, policies: str | None) -> IETFLimit:
    members = parse_members(text)
    by_key = {member.key: member.value for member in members}
    if "limit" in by_key or "remaining" in by_key:
        limit, window = cached_parse_limit(by_key.get("limit"), policies)
        return IETFLimit(limit, parse_count(by_key.get("remaining")), window, by_key.get("reset"))
    named = {policy.value: policy for policy in parse_members(policies)}
    # Of several limits, the one with the least left is met first.
    least = _UNSTATED
    for member in members:
        policy = named.get(member.value)
        remaining = parse_count(member.parameters.get("r"))
        if remaining is None or member.key or (policy is not None and not _counts_requests(policy)):
            continue
        if least.remaining is None or remaining < least.remaining:
            limit, window = (None, None) if policy is None else (_quota(policy), _window(policy))
            least = IETFLimit(limit, remaining, window, member.parameters.get("t"))
    return least


def _joined(headers: Mapping[str, str], name: str) -> str | None:
    # Each of several limiters adds a header of its own.
    getall = getattr(headers, "getall", None)
    return headers.get(name) if getall is None else ", ".join(getall(name, ())) or None


def _counts_requests(policy: Member) -> bool:
    # The other units are "content-bytes" and "concurrent-requests".
    return policy.parameters.get("qu", "requests") == "requests"


def _quota(policy: Member) -> int | None:
    bare = policy.value if "w" in policy.parameters else None
    return parse_count(policy.parameters.get("q", bare))


def _window(policy: Member) -> float | None:
    seconds = parse_count(policy.parameters.get("w"))
    return float(seconds) if seconds else None


def _reset_headers(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    return headers.get("X-RateLimit-Reset"), ietf_limit(headers).reset


def _parse_reset(text: str | None, now: float | None) -> float | None:
    """Parse Unix seconds, Unix milliseconds or seconds from now, to Unix seconds."""
    number = _parse_number(text)
    if number is None or not 0 <= number < _LAST_MILLISECONDS:
        return None
    if number <= _LONGEST_WAIT:
        return None if now is None else now + number
    return number / 1000 if number >= _FIRST_MILLISECONDS else number


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


def retry_after(
    headers: Mapping[str, str], error: Mapping[str, Any], message: str, now: float, *, rate_limited: bool = True
) -> float | None:
    """Seconds to wait before a retry, from the first source that is valid.

    In order: ``Retry-After`` (whole seconds, a fraction, or an HTTP date), ``retry_after`` in the error's body, the
    reset of the rate limit (``X-RateLimit-Reset``, else the IETF's, else ``details.reset_at`` in the body of older
    responses), and the sentence "Try again in 42 seconds".

    Args:
        headers: Headers of the response, looked up regardless of case.
        error: The ``error`` object of the body; empty if it has none.
        message: The error's message.
        now: Unix seconds on this machine; the response's ``Date`` takes precedence, as the two clocks may differ.
        rate_limited: Whether the rate limit is the cause; the reset says nothing about another one.
    """
    server_now = parse_http_date(headers.get("Date")) or now
    wait = retry_after_header(headers, now)
    if wait is None:
        wait = _wait(_parse_number(error.get("retry_after")))
    if wait is None and rate_limited:
        wait = _until_reset(headers, error, server_now)
    if wait is None and (sentence := _IN_SECONDS.search(message)):
        wait = _wait(_parse_number(sentence[1]))
    return wait


def retry_after_header(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by ``Retry-After``; ``None`` if the header is absent or invalid.

    Args:
        headers: Headers of the response, looked up regardless of case.
        now: Unix seconds on this machine; the response's ``Date`` takes precedence.
    """
    header = headers.get("Retry-After")
    seconds = _wait(_parse_number(header))
    return _until(parse_http_date(header), parse_http_date(headers.get("Date")) or now) if seconds is None else seconds


def quota_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until the monthly quota resets: ``X-Usage-Reset``, else ``Retry-After``.

    The other sources of :func:`retry_after` are about the rate limit.

    Args:
        headers: Headers of the response, looked up regardless of case.
        now: Unix seconds on this machine.
    """
    reset = parse_datetime(headers.get("X-Usage-Reset"))
    until = None if reset is None else _wait(reset.timestamp() - now)
    return until or retry_after_header(headers, now)


def as_dict(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _parse_number(value: Any) -> float | None:
    # float() also accepts the digits of other scripts.
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, str))
        or (isinstance(value, str) and not value.isascii())
    ):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def parse_http_date(text: str | None) -> float | None:
    """Parse an HTTP date to Unix seconds; ``None`` if the header is absent or invalid."""
    if text is None:
        return None
    try:
        found = parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _until_reset(headers: Mapping[str, str], error: Mapping[str, Any], now: float) -> float | None:
    reset_at = parse_datetime(as_dict(error.get("details")).get("reset_at"))
    resets = (
        *(_parse_reset(text, now) for text in _reset_headers(headers)),
        reset_at.timestamp() if reset_at else None,
    )
    waits = (_until(reset, now) for reset in resets)
    return next((wait for wait in waits if wait is not None), None)


def _wait(seconds: float | None) -> float | None:
    return seconds if seconds is not None and 0 <= seconds <= _LONGEST_WAIT else None


def _until(when: float | None, now: float) -> float | None:
    # A time up to a minute ago means "now"; an earlier one comes from a wrong clock.
    return None if when is None or when < now - 60 else _wait(max(0.0, when - now))
