"""Every answer becomes the right result or the right error, in each shape that the documentation shows."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from zenovay_async import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    HeatmapPages,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    ResponseDecodeError,
    ServerError,
    ZenovayError,
)
from zenovay_async._protocol.call import Call
from zenovay_async._protocol.decoding import Decoder
from zenovay_async._protocol.response import RawResponse

CALL = Call("GET", "heatmaps/x/pages", Decoder(HeatmapPages))
NOW = 1_780_000_000.0
PAGES: dict[str, Any] = {
    "pages": [{"url": "/", "total_interactions": 12543, "last_updated": "2026-02-07T14:30:00.000Z"}]
}


def answer(status: int, body: bytes | object, **headers: str) -> HeatmapPages:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    envelope, _ = read(CALL, RawResponse(status, named, raw), NOW)
    return envelope.data


def failure(status: int, body: bytes | object, **headers: str) -> ZenovayError:
    with pytest.raises(ZenovayError) as caught:
        answer(status, body, **headers)
    assert caught.value.status == status
    assert caught.value.body is not None
    return caught.value


NESTED = {
    "success": False,
    "error": {"message": "Nope", "code": "GENERIC_ERROR", "timestamp": "2026-06-13T10:30:00.000Z"},
}
FLAT = {"error": "Nope", "code": "GENERIC_ERROR"}
OLD = {"error": {"message": "Nope", "code": "generic_error", "status": 400, "request_id": "req_abc"}}


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, APIStatusError),
        (418, APIStatusError),
        (422, BadRequestError),
        (429, RateLimitError),
        (500, ServerError),
        (502, ServerError),
        (599, ServerError),
        (304, APIStatusError),
    ],
)
@pytest.mark.parametrize("shape", [NESTED, FLAT, OLD])
def test_the_status_decides_the_class_in_every_shape(status: int, cls: type[ZenovayError], shape: object) -> None:
    error = failure(status, shape)
    assert type(error) is cls
    assert (error.message, error.code) == ("Nope", "GENERIC_ERROR")


@pytest.mark.parametrize("code", ["MONTHLY_LIMIT_EXCEEDED", "monthly_limit_exceeded"])
def test_a_used_up_month_is_told_from_a_used_up_minute_by_its_code(code: str) -> None:
    error = failure(429, {"error": {"message": "m", "code": code}}, X_Usage_Reset="2026-06-01T00:00:00.000Z")
    assert type(error) is QuotaExceededError
    assert error.retry_after is not None
    assert error.retry_after > 86_400


def test_the_request_id_comes_from_the_header_or_else_from_an_old_body() -> None:
    assert failure(400, OLD, x_request_id="r-1").request_id == "r-1"
    assert failure(400, OLD).request_id == "req_abc"


@pytest.mark.parametrize(
    "body", [b"", b"<html>502 Bad Gateway</html>", b"[]", b"null", b"\xff\xfe", b"{", b'"x"', b'{"error": 5}']
)
def test_an_error_without_a_readable_body_still_says_its_status(body: bytes) -> None:
    error = failure(502, body, Content_Type="text/html")
    assert type(error) is ServerError
    assert "HTTP 502" in error.message
    assert "text/html" in error.message


@pytest.mark.parametrize(
    ("code", "cls"),
    [("UNAUTHORIZED", AuthenticationError), ("RATE_LIMIT_EXCEEDED", RateLimitError), ("GENERIC_ERROR", APIStatusError)],
)
@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": {}}, {"data": PAGES}])
def test_success_false_under_status_200_is_an_error(code: str, cls: type[ZenovayError], data: dict[str, Any]) -> None:
    assert type(failure(200, {"success": False, "error": {"message": "m", "code": code}, **data})) is cls


def test_a_good_answer_is_its_data_with_aware_times() -> None:
    pages = answer(200, {"success": True, "data": PAGES, "timestamp": "2026-02-07T12:00:00.000Z"}).pages
    assert (pages[0].url, pages[0].total_interactions) == ("/", 12543)
    assert pages[0].last_updated.isoformat() == "2026-02-07T14:30:00+00:00"


def test_an_old_answer_without_an_envelope_is_read_too() -> None:
    assert answer(200, PAGES).pages[0].url == "/"


def test_a_field_that_is_missing_is_named_with_its_path() -> None:
    error = failure(200, {"success": True, "data": {"pages": [{"url": "/"}]}})
    assert isinstance(error, ResponseDecodeError)
    assert "total_interactions" in str(error)
    assert "$.data.pages[" in str(error.path)


@pytest.mark.parametrize(
    ("body", "truncated"),
    [(b"", True), (b'{"success": true, "da', True), (b"<html></html>", False), (b"nonsense", False), (b"[1]", False)],
)
def test_a_200_that_is_no_answer_is_a_decode_error(body: bytes, truncated: bool) -> None:  # noqa: FBT001 - a table's column
    error = failure(200, body, Content_Type="text/html")
    assert isinstance(error, ResponseDecodeError)
    assert error.truncated is truncated


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda leaf: (
        st.lists(leaf)
        | st.dictionaries(st.sampled_from(["success", "data", "error", "code", "pages", "message"]), leaf)
    ),
)


@given(st.integers(200, 599), JSON | st.binary())
def test_no_body_leads_out_of_the_tree(status: int, body: object) -> None:
    with contextlib.suppress(ZenovayError):
        answer(status, body)


def test_json_nested_to_the_depths_is_a_decode_error() -> None:
    assert isinstance(failure(200, b"[" * 200_000), ResponseDecodeError)
