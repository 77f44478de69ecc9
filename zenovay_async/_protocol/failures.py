"""From an error response, or one that does not decode, to one error of the tree.

Sources: help "API errors" and "API error handling" for the current shapes, docs "Rate limits" and the 2025 help
pages for the older ones. The status decides the class of an error; codes are compared without regard to case.
"""

from __future__ import annotations

from typing import Any

import msgspec

from zenovay_async._protocol.decoding import decode_text, loads_or_none
from zenovay_async._protocol.headers import as_dict, quota_retry_after, retry_after
from zenovay_async._protocol.leniency import CoercionError, Drift
from zenovay_async._protocol.response import OK_STATUSES, RawResponse
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
# An error under status 200 has only its code.
_BY_CODE: dict[str, type[APIStatusError]] = {
    "VALIDATION_ERROR": BadRequestError,
    "MISSING_SITE_ID": BadRequestError,
    "UNAUTHORIZED": AuthenticationError,
    "FORBIDDEN": PermissionDeniedError,
    API_PAID_PLAN_REQUIRED: PermissionDeniedError,
    "NOT_FOUND": NotFoundError,
    "RATE_LIMIT_EXCEEDED": RateLimitError,
    MONTHLY_LIMIT_EXCEEDED: QuotaExceededError,
}
_REDIRECT = range(300, 400)


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
    cls = _class_of(raw.status, code)
    fields = _error_fields(raw)
    fields["request_id"] = fields["request_id"] or _str_or_none(inner.get("request_id"))
    error = cls(message or _default_message(raw), code=code, **fields)
    if cls is QuotaExceededError:
        error.retry_after = quota_retry_after(raw.headers, now)
    elif cls in {RateLimitError, ServerError}:
        error.retry_after = retry_after(raw.headers, inner, message or "", now)
    return error


def decode_error(raw: RawResponse, problem: Exception) -> ResponseDecodeError:
    """Make the error for a response that is not what the API documents."""
    content_type = raw.headers.get("Content-Type", "no content type")
    text = str(problem)
    path = text.rpartition(" - at `")[2].rstrip("`") if " - at `" in text else None
    if isinstance(problem, CoercionError):
        path = problem.path
    if isinstance(problem, (msgspec.ValidationError, CoercionError)):
        message = f"Response does not match the documented schema: {text}"
    elif not raw.body:
        message = "Response is empty, expected JSON"
    else:
        message = f"Response is not JSON ({content_type}): {text}"
    error = ResponseDecodeError(message, **_error_fields(raw))
    error.path = path
    # A body that ends early is like a broken connection; msgspec has no class of its own for it.
    error.truncated = text.startswith("Input data was truncated") and not isinstance(problem, msgspec.ValidationError)
    return error


def strict_error(raw: RawResponse, drifts: tuple[Drift, ...]) -> ResponseDecodeError:
    """Make the error for a response that differs from the documented schema, with ``strict=True``."""
    found = "; ".join(str(drift) for drift in drifts)
    error = ResponseDecodeError(
        f"Response does not match the documented schema (strict=True): {found}", **_error_fields(raw)
    )
    error.path = drifts[0].path
    return error


def _class_of(status: int, code: str | None) -> type[APIStatusError]:
    if status == 429 and code == MONTHLY_LIMIT_EXCEEDED:  # noqa: PLR2004 - the status is its own name
        return QuotaExceededError
    if status in OK_STATUSES:
        return _BY_CODE.get(code or "", APIStatusError)
    return _BY_STATUS.get(status, ServerError if status >= 500 else APIStatusError)  # noqa: PLR2004 - the status is its own name


def _default_message(raw: RawResponse) -> str:
    if raw.status in _REDIRECT:
        return "Refused to follow a redirect, which would leak the API key; check base_url"
    if raw.status in OK_STATUSES:
        return "The API responded with success: false and no message"
    content_type = raw.headers.get("Content-Type", "no content type")
    return f"The server responded with HTTP {raw.status} and no message ({content_type})"


def _error_fields(raw: RawResponse) -> dict[str, Any]:
    return {
        "status": raw.status,
        "request_id": raw.headers.get("x-request-id"),
        "body": decode_text(raw.body),
    }


def _str_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
