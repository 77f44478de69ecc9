"""From status, headers and bytes to a result or an error.

Sources: help "API errors" and "API error handling" for the current shapes, docs "Rate limits" and the 2025 help
pages for the older ones. The status decides the class of an error; codes are compared without regard to case.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from zenovay_async._protocol import headers as _headers
from zenovay_async._protocol.decoding import decode_text
from zenovay_async._protocol.leniency import CoercionError, Drift
from zenovay_async.exceptions import (
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

if TYPE_CHECKING:
    from zenovay_async._protocol.call import Call
    from zenovay_async._protocol.decoding import Envelope

T = TypeVar("T")

MONTHLY_LIMIT = "MONTHLY_LIMIT_EXCEEDED"
PAID_PLAN_REQUIRED = "API_PAID_PLAN_REQUIRED"

_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: BadRequestError,
    429: RateLimitError,
}
# An error that comes with status 200 has only its code to go by.
_BY_CODE: dict[str, type[APIStatusError]] = {
    "VALIDATION_ERROR": BadRequestError,
    "MISSING_SITE_ID": BadRequestError,
    "UNAUTHORIZED": AuthenticationError,
    "FORBIDDEN": PermissionDeniedError,
    PAID_PLAN_REQUIRED: PermissionDeniedError,
    "NOT_FOUND": NotFoundError,
    "RATE_LIMIT_EXCEEDED": RateLimitError,
    MONTHLY_LIMIT: QuotaExceededError,
}
_OK = range(200, 300)
_REDIRECT = range(300, 400)


class RawResponse(msgspec.Struct, frozen=True, gc=False):
    """What came over the wire: status, headers (looked up regardless of case), the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        # Tracebacks may print it, and a server may have echoed the key.
        return f"RawResponse({self.status}, {len(self.body)} bytes)"


class Response(msgspec.Struct, Generic[T], frozen=True):
    """A successful answer with all that came with it; see ``Zenovay.with_raw_response``.

    Attributes:
        data: The result, as the method alone returns it.
        status: HTTP status.
        headers: Headers of the answer, looked up regardless of case.
        body: The body as it came; ``json()`` reads it, with fields that this version does not know.
        timestamp: When the server made the answer; ``None`` where it did not say.
        attempts: How many times the call was tried: the requests that really left, and the connections that failed.
        waits: Seconds waited before each attempt after the first.
    """

    data: T
    status: int
    headers: Mapping[str, str]
    body: bytes
    timestamp: datetime | None
    attempts: int
    waits: tuple[float, ...]

    @property
    def request_id(self) -> str | None:
        """The server's id of this request, to quote to its support."""
        return self.headers.get("x-request-id")

    @property
    def rate_limit(self) -> _headers.RateLimitHeaders:
        """The requests per minute, as this answer told them."""
        return _headers.rate_limit(self.headers)

    @property
    def usage(self) -> _headers.UsageHeaders:
        """The monthly quota, as this answer told it."""
        return _headers.usage(self.headers)

    def json(self) -> Any:
        """The whole body as plain Python values, envelope included."""
        return plain(self.body)


def read(call: Call[T], reply: RawResponse, now: float, *, strict: bool = False) -> tuple[Envelope[T], tuple[Drift, ...]]:
    """The envelope of a successful answer, and how it strays from the documented shape.

    Args:
        call: What was asked; knows how its result is decoded.
        reply: What came.
        now: Unix seconds on this machine.
        strict: Take nothing but the documented shape, for tests.

    Raises:
        APIStatusError: The API answered with an error, also one under status 200.
        ResponseDecodeError: The answer is not what the API promises.
    """
    if reply.status not in _OK:
        raise error_from_response(reply, now)
    decoder = call.decoder
    drifts: tuple[Drift, ...] = ()
    try:
        envelope = decoder.decode(reply.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        envelope, drifts = _parse_leniently(call, reply, now, problem)
    else:
        if not envelope.success:
            raise error_from_response(reply, now)
        if strict or now >= decoder.look_at:
            drifts = decoder.look(reply.body, now)
    if strict and drifts:
        raise _strict_error(reply, drifts)
    return envelope, drifts


def _parse_leniently(call: Call[T], reply: RawResponse, now: float, problem: Exception) -> tuple[Envelope[T], tuple[Drift, ...]]:
    """What an answer is that did not decode: an error in a success's clothes, an old bare body, strayed, or broken."""
    whole = _headers.as_dict(plain(reply.body))
    try:
        if not whole:
            raise decode_error(reply, problem)
        if whole.get("success") is False or ("error" in whole and "data" not in whole):
            raise error_from_response(reply, now) from None
        bare = "data" not in whole
        try:
            # Pages of 2025 show bodies without an envelope.
            envelope, drifts = call.decoder.coerce({"data": whole} if bare else whole)
        except CoercionError as unreadable:
            raise decode_error(reply, problem if bare else unreadable) from None
        except (msgspec.ValidationError, OverflowError) as strange:
            raise decode_error(reply, strange) from None
        if not envelope.success:
            raise error_from_response(reply, now)
    finally:
        # Tracebacks may show variables, and a server may have echoed the key; see RawResponse.
        del whole
    return envelope, (Drift("$", "no envelope around it"), *drifts) if bare else drifts


def _strict_error(reply: RawResponse, drifts: tuple[Drift, ...]) -> ResponseDecodeError:
    told = "; ".join(str(drift) for drift in drifts)
    error = ResponseDecodeError(
        f"The answer strays from the documented shape, and strict=True is set: {told}", **_error_fields(reply)
    )
    error.path = drifts[0].path
    return error


def decode_error(reply: RawResponse, problem: Exception) -> ResponseDecodeError:
    """The error for an answer that is not what the API promises."""
    kind = reply.headers.get("Content-Type", "no content type")
    text = str(problem)
    where = text.rpartition(" - at `")[2].rstrip("`") if " - at `" in text else None
    if isinstance(problem, CoercionError):
        where = problem.path
    if isinstance(problem, (msgspec.ValidationError, CoercionError)):
        message = f"The answer does not have the documented shape: {text}"
    elif not reply.body:
        message = "The answer is empty, where JSON was expected"
    else:
        message = f"The answer is not JSON ({kind}): {text}"
    error = ResponseDecodeError(message, **_error_fields(reply))
    error.path = where
    # msgspec has no class of its own for this; a body that simply stops is a cut one, like a broken connection.
    error.truncated = text.startswith("Input data was truncated") and not isinstance(problem, msgspec.ValidationError)
    return error


def error_from_response(reply: RawResponse, now: float) -> APIStatusError:
    """The error that an answer means, read from any of the three shapes that the documentation shows."""
    outer = _headers.as_dict(plain(reply.body))
    inner = _headers.as_dict(outer.get("error"))
    code = _text(inner.get("code")) or _text(outer.get("code"))
    code = code.upper() if code else None
    said = _text(inner.get("message")) or _text(outer.get("error")) or _text(outer.get("message"))
    cls = _class_of(reply.status, code)
    facts = _error_fields(reply)
    facts["request_id"] = facts["request_id"] or _text(inner.get("request_id"))
    error = cls(said or _default_message(reply), code=code, **facts)
    error.retry_after = _retry_after(reply, inner, said or "", cls, now)
    return error


def _class_of(status: int, code: str | None) -> type[APIStatusError]:
    if status == 429 and code == MONTHLY_LIMIT:  # noqa: PLR2004 - the status is its own name
        return QuotaExceededError
    if status in _OK:
        return _BY_CODE.get(code or "", APIStatusError)
    return _BY_STATUS.get(status, ServerError if status >= 500 else APIStatusError)  # noqa: PLR2004 - as above


def _retry_after(
    reply: RawResponse, error: dict[str, Any], message: str, cls: type[APIStatusError], now: float
) -> float | None:
    if cls is QuotaExceededError:
        return _headers.quota_retry_after(reply.headers, now)
    if cls in {RateLimitError, ServerError}:
        return _headers.retry_after(reply.headers, error, message, now)
    return None


def _default_message(reply: RawResponse) -> str:
    if reply.status in _REDIRECT:
        return "The server redirects elsewhere, which is not followed as the API key would go with it; check base_url"
    if reply.status in _OK:
        return "The API answered with success: false and no reason"
    kind = reply.headers.get("Content-Type", "no content type")
    return f"The server answered with HTTP {reply.status} and no reason ({kind})"


def _error_fields(reply: RawResponse) -> dict[str, Any]:
    return {
        "status": reply.status,
        "request_id": reply.headers.get("x-request-id"),
        "body": decode_text(reply.body),
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
