"""From an error response, or one that does not decode, to one error of the tree.

Sources: help "API errors" and "API error handling" for the current shapes, docs "Rate limits" and the 2025 help
pages for the older ones; "RFC 9457 agent error pages" of Cloudflare's blog and its documentation "Error 1015" for the
edge in front of the API. The status decides the class of an error, unless the response states a rate limit in another
way; codes are compared without regard to case.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from zenovay_async._protocol.headers import as_dict, quota_retry_after, retry_after, retry_after_header
from zenovay_async._protocol.json_text import decode_text, is_cut_short, loads_or_none
from zenovay_async._protocol.leniency import CoercionError, Drift
from zenovay_async._protocol.response import OK_STATUSES, RawResponse
from zenovay_async._protocol.text import one_line
from zenovay_async.exceptions import (
    API_PAID_PLAN_REQUIRED,
    MONTHLY_LIMIT_EXCEEDED,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    ResponseDecodeError,
    ServerError,
)

_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: BadRequestError,
    429: RateLimitError,
}
_RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
# An error under status 200 has only its code.
_BY_CODE: dict[str, type[APIStatusError]] = {
    "VALIDATION_ERROR": BadRequestError,
    "MISSING_SITE_ID": BadRequestError,
    "UNAUTHORIZED": AuthenticationError,
    "FORBIDDEN": PermissionDeniedError,
    API_PAID_PLAN_REQUIRED: PermissionDeniedError,
    "NOT_FOUND": NotFoundError,
    _RATE_LIMIT_EXCEEDED: RateLimitError,
    MONTHLY_LIMIT_EXCEEDED: QuotaExceededError,
}
_REDIRECT = range(300, 400)
# Codings that are decoded by now, or were reported as such that cannot be.
_DECODED = {"", "br", "deflate", "gzip", "identity"}
_MAYBE_RATE_LIMIT = frozenset({403, 503})
"""Statuses that mean a rate limit if the response says when to retry and states no other cause."""
# 429 is documented; APIs that charge for more use the others.
_MAYBE_QUOTA = frozenset({402, 403, 429})
# With 400, 401 or 404, a page that speaks of rate limits is about something else.
_EDGE_STATUSES = frozenset({403, 429})
_EDGE_RATE_LIMIT = 1015
# Cloudflare's plain text is "error code: 1015"; on its pages, tags come between the words.
_EDGE_CODE = re.compile(rb'(?:error(?: code:)? |cf-error-code">)(1\d{3})\b', re.IGNORECASE)
_EDGE_SENTENCE = re.compile(rb"you are being rate limited", re.IGNORECASE)
_EDGE_PREFIX = 16_384


def error_from_response(raw: RawResponse, now: float) -> APIStatusError:
    """Make the error for a response, in any of the three shapes that the documentation shows.

    Args:
        raw: The response.
        now: Unix seconds on this machine.
    """
    outer = as_dict(loads_or_none(raw.body))
    inner = as_dict(outer.get("error"))
    code = _str_or_none(inner.get("code")) or _str_or_none(outer.get("code"))
    code = code.upper() if code else None
    message = (
        _str_or_none(inner.get("message")) or _str_or_none(outer.get("error")) or _str_or_none(outer.get("message"))
    )
    edge_code = _edge_code(raw, outer)
    cls = _class_of(raw, code, edge_code, now)
    fields = _error_fields(raw)
    fields["request_id"] = fields["request_id"] or _str_or_none(inner.get("request_id"))
    error = cls(message or _default_message(raw, cls, edge_code), code=code, **fields)
    _keep_body(error, raw)
    if cls is QuotaExceededError:
        error.retry_after = quota_retry_after(raw.headers, now)
    elif cls is RateLimitError:
        error.retry_after = retry_after(raw.headers, {**outer, **inner}, message or "", now)
    elif cls is ServerError:
        error.retry_after = retry_after(raw.headers, inner, message or "", now, rate_limited=False)
    return error


def decode_error(raw: RawResponse, problem: Exception) -> ResponseDecodeError:
    """Make the error for a response that is not what the API documents."""
    content_type = one_line(raw.headers.get("Content-Type", "no content type"))
    coding = one_line(raw.headers.get("Content-Encoding", "")).lower()
    text = one_line(str(problem))
    path = text.rpartition(" - at `")[2].rstrip("`") if " - at `" in text else None
    if isinstance(problem, CoercionError):
        path = one_line(problem.path)
    is_malformed = not isinstance(problem, (msgspec.ValidationError, CoercionError))
    if not is_malformed:
        message = f"Response does not match the documented schema: {text}"
    elif coding not in _DECODED:
        message = f"Response cannot be decoded: its Content-Encoding {coding!r} is unknown, and was not asked for"
    else:
        message = f"Response is not JSON ({content_type}): {text}"
    error = ResponseDecodeError(message, **_error_fields(raw))
    _keep_body(error, raw)
    error.path = path
    error.truncated = is_malformed and coding in _DECODED and is_cut_short(raw.body)
    return error


def empty_error(raw: RawResponse) -> ResponseDecodeError:
    """Make the error for a successful response without content, such as HTTP 204, where the API documents data."""
    error = ResponseDecodeError(f"Response is empty (HTTP {raw.status}), expected JSON", **_error_fields(raw))
    _keep_body(error, raw)
    return error


def strict_error(raw: RawResponse, drifts: tuple[Drift, ...]) -> ResponseDecodeError:
    """Make the error for a response that differs from the documented schema, with ``strict=True``."""
    found = one_line("; ".join(str(drift) for drift in drifts))
    error = ResponseDecodeError(
        f"Response does not match the documented schema (strict=True): {found}", **_error_fields(raw)
    )
    _keep_body(error, raw)
    error.path = one_line(drifts[0].path)
    return error


def _class_of(raw: RawResponse, code: str | None, edge_code: int | None, now: float) -> type[APIStatusError]:
    status = raw.status
    if status in _MAYBE_QUOTA and code == MONTHLY_LIMIT_EXCEEDED:
        return QuotaExceededError
    if status in OK_STATUSES:
        return _BY_CODE.get(code or "", APIStatusError)
    by_status = _BY_STATUS.get(status, ServerError if status >= 500 else APIStatusError)  # noqa: PLR2004 - the status is its own name
    if status in _REDIRECT:
        return by_status
    if code is not None or edge_code is not None:
        return RateLimitError if code == _RATE_LIMIT_EXCEEDED or edge_code == _EDGE_RATE_LIMIT else by_status
    is_limit = status in _MAYBE_RATE_LIMIT and retry_after_header(raw.headers, now) is not None
    return RateLimitError if is_limit else by_status


def _edge_code(raw: RawResponse, outer: dict[str, Any]) -> int | None:
    """The number of Cloudflare's own error, if the response is from its edge rather than from the API."""
    if raw.status not in _EDGE_STATUSES and raw.status < 500:  # noqa: PLR2004 - the status is its own name
        return None
    if outer:
        code = outer.get("error_code")
        return code if isinstance(code, int) else None
    start = raw.body[:_EDGE_PREFIX]
    found = _EDGE_CODE.search(start)
    if found:
        return int(found[1])
    return _EDGE_RATE_LIMIT if _EDGE_SENTENCE.search(start) else None


def _default_message(raw: RawResponse, cls: type[APIStatusError], edge_code: int | None) -> str:
    if raw.status in _REDIRECT:
        return "Refused to follow a redirect, which would leak the API key; check base_url"
    if raw.status in OK_STATUSES:
        return "The API responded with success: false and no message"
    if edge_code == _EDGE_RATE_LIMIT:
        return "Rate limited by Cloudflare, in front of the API (error 1015)"
    if cls is RateLimitError and raw.status in _MAYBE_RATE_LIMIT:
        return f"Rate limited: the server responded with HTTP {raw.status} and Retry-After, and no other cause"
    content_type = one_line(raw.headers.get("Content-Type", "no content type"))
    return f"The server responded with HTTP {raw.status} and no message ({content_type})"


def _error_fields(raw: RawResponse) -> dict[str, Any]:
    return {
        "status": raw.status,
        "request_id": _str_or_none(raw.headers.get("x-request-id")),
    }


def _keep_body(error: APIStatusError | ResponseDecodeError, raw: RawResponse) -> None:
    """Keep the whole body as text: ``Auth.redact`` cuts it, once the key is redacted."""
    error.body = decode_text(raw.body)


def _str_or_none(value: Any) -> str | None:
    return one_line(value) or None if isinstance(value, str) else None
