"""From a raw response to a result, or to one error of the tree.

Source: help "API error handling" and "REST API reference" (the envelope), docs of 2025 (bodies without one).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from zenovay_async._protocol.decoding import text_drifts
from zenovay_async._protocol.failures import decode_error, empty_error, error_from_response, strict_error
from zenovay_async._protocol.headers import as_dict
from zenovay_async._protocol.json_text import BOM, UNDECODABLE, loads, loads_or_none
from zenovay_async._protocol.leniency import CoercionError, Drift
from zenovay_async._protocol.response import OK_STATUSES, RawResponse
from zenovay_async.rate_limits import UsageHeaders

if TYPE_CHECKING:
    from zenovay_async._protocol.call import Call
    from zenovay_async._protocol.decoding import Envelope

T = TypeVar("T")


class Parsed(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """A parsed response.

    Attributes:
        data: The result.
        timestamp: When the server made the response; ``None`` if it did not say.
        drifts: The differences from the documented schema, if they were looked for.
        usage: The monthly quota, if the result states it.
    """

    data: T
    timestamp: datetime | None = None
    drifts: tuple[Drift, ...] = ()
    usage: UsageHeaders | None = None


def parse_response(
    call: Call[T], raw: RawResponse, now: float, *, strict: bool = False, find_drift: bool = False
) -> Parsed[T]:
    """Parse the response to a call.

    Args:
        call: The call.
        raw: The response.
        now: Unix seconds on this machine.
        strict: Accept nothing but the documented schema, for tests.
        find_drift: Compare a body that decodes with the schema as well, field by field.

    Raises:
        APIStatusError: The API responded with an error, also one under status 200.
        ResponseDecodeError: The response is not what the API documents.
    """
    if raw.status not in OK_STATUSES:
        raise error_from_response(raw, now)
    endpoint = call.endpoint
    decoder = endpoint.decoder
    drifts: tuple[Drift, ...] = ()
    try:
        envelope = decoder.decode(raw.body)
    except UNDECODABLE as problem:
        envelope, drifts = _parse_leniently(call, raw, now, problem)
    else:
        # Through a variable of its own, as a check would narrow the type of the result.
        data: Any = envelope.data
        if not envelope.success or (data is None and _states_error(loads_or_none(raw.body))):
            raise error_from_response(raw, now)
        if strict or find_drift:
            drifts = decoder.find_drift(raw.body)
    if strict and drifts:
        raise strict_error(raw, drifts)
    usage = None if endpoint.usage_of is None else endpoint.usage_of(envelope.data)
    return Parsed(envelope.data, envelope.timestamp, drifts, usage)


def _states_error(value: Any) -> bool:
    """Whether a body has an error, and no data beside it; some APIs write ``"error": null`` into a success."""
    document = as_dict(value)
    return bool(document.get("error")) and document.get("data") is None


def _parse_leniently(
    call: Call[T], raw: RawResponse, now: float, problem: Exception
) -> tuple[Envelope[T], tuple[Drift, ...]]:
    """Parse a body that did not decode: an error under status 200, no envelope, schema drift, nothing, or no JSON."""
    endpoint = call.endpoint
    content = raw.body.removeprefix(BOM).strip()
    if not content and not endpoint.may_be_empty:
        raise empty_error(raw) from None
    is_empty = endpoint.may_be_empty and content in {b"", b"null"}
    try:
        value, replaced = loads(b'{"data": null}' if is_empty else raw.body)
    except UNDECODABLE as failed:
        raise decode_error(raw, failed) from None
    document = as_dict(value)
    # What msgspec says of a body that it cannot decode is beside the point, if it was read all the same.
    at_first = problem if isinstance(problem, msgspec.ValidationError) else None
    if not document and not (endpoint.may_be_empty and isinstance(value, dict)):
        raise decode_error(raw, at_first or CoercionError("$", "expected an object that is not empty")) from None
    if document.get("success") is False or _states_error(document):
        raise error_from_response(raw, now) from None
    bare = "data" not in document
    try:
        # Pages of 2025 show bodies without an envelope.
        envelope, drifts = endpoint.decoder.coerce({"data": document} if bare else document)
    except CoercionError as failed:
        raise decode_error(raw, (at_first if bare else None) or failed) from None
    except (msgspec.ValidationError, OverflowError) as failed:
        raise decode_error(raw, failed) from None
    if not envelope.success:
        raise error_from_response(raw, now) from None
    drifts = (*text_drifts(replaced), *drifts)
    return envelope, (Drift("$", "no envelope"), *drifts) if bare else drifts
