"""What one attempt tells the limits. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zenovay_async._protocol.headers import cached_parse_limit, ietf_limit, parse_count, usage_headers
from zenovay_async.exceptions import (
    APIConnectionError,
    ClientClosedError,
    ConfigurationError,
    QuotaExceededError,
    RateLimitError,
    ZenovayError,
)
from zenovay_async.rate_limits import Outcome, UsageHeaders

if TYPE_CHECKING:
    from zenovay_async._protocol.response import RawResponse
    from zenovay_async.rate_limits import OutcomeKind

UNSENT = Outcome(kind="unsent")
"""The outcome of a permit that is refunded."""

_NO_RESPONSE = Outcome(kind="no_response")


def outcome_of(raw: RawResponse | None, error: BaseException | None, usage: UsageHeaders | None = None) -> Outcome:
    """The outcome of one attempt.

    Args:
        raw: The response; ``None`` if none came.
        error: Error of the attempt; ``None`` if it succeeded.
        usage: The monthly quota as the result stated it, which takes precedence over the headers; ``None`` if it did
            not.
    """
    if raw is None:
        return _without_response(error)
    headers = raw.headers
    get = headers.get
    limit, window = cached_parse_limit(get("X-RateLimit-Limit"))
    remaining = parse_count(get("X-RateLimit-Remaining"))
    if limit is None and remaining is None:
        limit, remaining, window, _ = ietf_limit(headers)
    stated = usage_headers(headers)
    if usage is not None:
        stated = _merge(usage, stated)
    if error is None:
        return Outcome(
            kind="succeeded",
            limit=limit,
            limit_window=window,
            remaining=remaining,
            usage=stated,
            status=raw.status,
            sent_at=raw.sent_at,
        )
    return Outcome(
        kind=_kind_of(error),
        limit=limit,
        limit_window=window,
        remaining=remaining,
        retry_after=error.retry_after if isinstance(error, ZenovayError) else None,
        usage=stated,
        status=raw.status,
        reason=_reason_of(error),
        sent_at=raw.sent_at,
    )


def is_sent(outcome: Outcome, error: BaseException) -> bool:
    """Whether an attempt that failed sent its request, or may have."""
    if outcome.kind in {"unsent", "unreachable"}:
        return False
    return outcome.status is not None or not isinstance(error, APIConnectionError) or error.sent


def _without_response(error: BaseException | None) -> Outcome:
    if isinstance(error, ClientClosedError):
        return _NO_RESPONSE if error.sent else UNSENT
    # aiohttp rejects a request before anything is sent.
    if isinstance(error, ConfigurationError):
        return UNSENT
    if isinstance(error, APIConnectionError) and not error.sent:
        # A connection that is dead, and one that cannot be made however often, say nothing of the server's presence.
        if error.stale or error.final:
            return UNSENT
        if error.unreachable:
            return Outcome(kind="unreachable", reason=error.message)
    reason = _reason_of(error)
    return _NO_RESPONSE if reason is None else Outcome(kind="no_response", reason=reason)


def _reason_of(error: BaseException | None) -> str | None:
    return error.message if isinstance(error, ZenovayError) else None


def _kind_of(error: BaseException) -> OutcomeKind:
    if isinstance(error, QuotaExceededError):
        return "quota_exhausted"
    return "rate_limited" if isinstance(error, RateLimitError) else "failed"


def _merge(usage: UsageHeaders, stated: UsageHeaders) -> UsageHeaders:
    return UsageHeaders(
        stated.monthly if usage.monthly is None else usage.monthly,
        usage.limit or stated.limit,
        usage.reset or stated.reset,
        usage.total or stated.total,
    )
