"""Every response is parsed to the right result or the right error, in each shape that the documentation shows."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
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
    UsageHeaders,
    ZenovayError,
)
from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import UNTYPED, Decoder
from zenovay_async._protocol.parsing import Parsed, parse_response
from zenovay_async._protocol.response import RawResponse, Response

CALL = Endpoint("heatmaps.pages", "heatmaps/{website_id}/pages", Decoder(HeatmapPages)).call("x")
NOW = 1_780_000_000.0
PAGES: dict[str, Any] = {
    "pages": [{"url": "/", "total_interactions": 12543, "last_updated": "2026-02-07T14:30:00.000Z"}]
}


def parse(status: int, body: bytes | object, **headers: str) -> Parsed[HeatmapPages]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return parse_response(CALL, RawResponse(status, named, raw), NOW)


def failure(status: int, body: bytes | object, **headers: str) -> ZenovayError:
    with pytest.raises(ZenovayError) as caught:
        parse(status, body, **headers)
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


EDGE_JSON = {
    "type": "https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-1xxx-errors/error-1015/",
    "title": "Error 1015: You are being rate limited",
    "status": 429,
    "detail": "You are being rate-limited by the website owner's configuration.",
    "instance": "a28817ceee58faca",
    "error_code": 1015,
    "error_name": "rate_limited",
    "cloudflare_error": True,
    "retryable": True,
    "retry_after": 30,
}
EDGE_PAGE = b"""<!DOCTYPE html><title>Access denied | api.example.com used Cloudflare to restrict access</title>
<h1><span class="cf-error-type">Error</span> <span class="cf-error-code">1015</span></h1>
<h2>You are being rate limited</h2>"""


@pytest.mark.parametrize("status", [403, 429, 503, 530])
@pytest.mark.parametrize(
    ("body", "retry_after"),
    [
        (EDGE_JSON, 30),
        (b"error code: 1015", None),
        (EDGE_PAGE, None),
        (b"<title>Access denied | Error 1015</title>", None),
        (b"<h2>You are being rate limited</h2>", None),
    ],
)
def test_a_rate_limit_of_cloudflare_is_one_under_any_status(
    status: int, body: bytes | object, retry_after: float | None
) -> None:
    error = failure(status, body)
    assert type(error) is RateLimitError
    assert error.message == "Rate limited by Cloudflare, in front of the API (error 1015)"
    assert error.retry_after == retry_after
    assert failure(status, body, Retry_After="7").retry_after == 7


@pytest.mark.parametrize("status", [403, 503])
@pytest.mark.parametrize("body", [b"", b"<html>Slow down</html>", {}, {"error": "Slow down"}, {"error": {"code": 5}}])
@pytest.mark.parametrize("stated", ["7", "Thu, 28 May 2026 20:26:47 GMT"])
def test_a_403_or_503_that_says_when_to_retry_and_no_other_cause_is_a_rate_limit(
    status: int, body: bytes | object, stated: str
) -> None:
    error = failure(status, body, Retry_After=stated)
    assert type(error) is RateLimitError
    assert error.retry_after == 7
    assert error.message in {
        "Slow down",
        f"Rate limited: the server responded with HTTP {status} and Retry-After, and no other cause",
    }


@pytest.mark.parametrize(
    ("status", "body", "stated", "cls"),
    [
        (403, FLAT, "7", PermissionDeniedError),
        (503, NESTED, "7", ServerError),
        (403, {"error": "m", "code": "API_PAID_PLAN_REQUIRED"}, "7", PermissionDeniedError),
        (403, b"error code: 1005", "120", PermissionDeniedError),
        (403, {**EDGE_JSON, "error_code": 1005}, "120", PermissionDeniedError),
        (403, b"", "soon", PermissionDeniedError),
        (503, b"", "-1", ServerError),
        (500, b"", "7", ServerError),
        (502, b"", "7", ServerError),
        (404, b"", "7", NotFoundError),
        (302, b"error code: 1015", "7", APIStatusError),
        (404, b"No page with error 1015", "7", NotFoundError),
        (401, EDGE_PAGE, "7", AuthenticationError),
    ],
)
def test_an_error_with_another_cause_or_no_time_to_retry_is_no_rate_limit(
    status: int, body: bytes | object, stated: str, cls: type[ZenovayError]
) -> None:
    error = failure(status, body, Retry_After=stated)
    assert type(error) is cls
    assert error.retry_after == (7 if cls is ServerError and stated == "7" else None)


@pytest.mark.parametrize("status", [400, 429, 503])
def test_text_of_a_server_is_one_line_of_limited_length(status: int) -> None:
    """Logs and terminals show it: it neither fills them, nor moves the cursor, nor starts a line of its own."""
    text = "Slow\x1b[31m\r\nERROR forged\u202e" + " x" * 50_000
    error = failure(status, {"error": {"message": text, "code": text, "request_id": text}})
    for shown in (error.message, error.code or "", error.request_id or ""):
        assert shown.lower().startswith("slow\ufffd[31m error forged\ufffd x x")
        assert shown.lower().endswith("x [...]")
        assert len(shown) <= 506
    assert len(error.body or "") > 50_000
    assert "\x1b" not in failure(status, b"", Content_Type="text/\x1b[31m").message


@pytest.mark.parametrize("text", ["x" * 1_000_000, "\u8bf7\u6c42" * 1_000, "Failed: " + "\u8bf7" * 1_000])
def test_a_message_in_a_language_without_spaces_is_cut_inside_a_word(text: str) -> None:
    assert failure(400, {"error": {"message": text}}).message == f"{text[:500]} [...]"


def test_a_message_is_cut_between_words() -> None:
    """So no half of an API key that a server echoed is left."""
    assert failure(400, {"error": f"{'a ' * 240}zv_{'k' * 60} b"}).message.endswith("a a [...]")


@pytest.mark.parametrize("status", [400, 403, 420, 500, 503])
def test_the_code_of_a_rate_limit_makes_an_error_one_under_any_status(status: int) -> None:
    body = {"error": {"message": "Rate limit exceeded. Try again in 42 seconds", "code": "rate_limit_exceeded"}}
    error = failure(status, body)
    assert (type(error), error.retry_after) == (RateLimitError, 42)


def test_a_server_error_is_not_retried_at_the_reset_of_the_rate_limit() -> None:
    """Every response states that reset, also one with a cause of its own."""
    headers = {"X_RateLimit_Reset": str(int(NOW) + 50), "RateLimit": '"a";r=5;t=50'}
    assert failure(500, NESTED, **headers).retry_after is None
    assert failure(429, NESTED, **headers).retry_after == 50


@pytest.mark.parametrize("code", ["MONTHLY_LIMIT_EXCEEDED", "monthly_limit_exceeded"])
def test_an_exhausted_quota_differs_from_a_rate_limit_by_its_code(code: str) -> None:
    error = failure(429, {"error": {"message": "m", "code": code}}, X_Usage_Reset="2026-06-01T00:00:00.000Z")
    assert type(error) is QuotaExceededError
    assert error.retry_after is not None
    assert error.retry_after > 86_400


def test_the_request_id_comes_from_the_header_or_else_from_an_old_body() -> None:
    assert failure(400, OLD, x_request_id="r-1").request_id == "r-1"
    assert failure(400, OLD).request_id == "req_abc"


@pytest.mark.parametrize(("sent", "shown"), [("r-1", "r-1"), ("r\udcff\x9b\u202e", "r\ufffd\ufffd\ufffd"), ("", "")])
def test_the_request_id_of_a_response_can_be_printed(sent: str, shown: str) -> None:
    headers = CIMultiDict({"X-Request-Id": sent})
    response = Response(data=None, status=200, headers=headers, body=b"", timestamp=None, attempts=1, waits=())
    assert response.request_id == shown
    assert response.headers["x-request-id"] == sent


@pytest.mark.parametrize(
    "body", [b"", b"<html>502 Bad Gateway</html>", b"[]", b"null", b"\xff\xfe", b"{", b'"x"', b'{"error": 5}']
)
def test_an_error_without_a_valid_body_states_its_status(body: bytes) -> None:
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


@pytest.mark.parametrize("outer", [{}, {"success": True}, {"data": None}, {"success": True, "data": None}])
def test_an_error_without_data_under_status_200_is_an_error(outer: dict[str, Any]) -> None:
    """What says an error and has no data is no success, neither for a typed method nor for ``request``."""
    body = {**outer, "error": {"message": "m", "code": "NOT_FOUND"}}
    assert type(failure(200, body)) is NotFoundError
    untyped = Endpoint("request", "x", UNTYPED, may_be_empty=True)
    with pytest.raises(NotFoundError):
        parse_response(untyped.call(), RawResponse(200, {}, json.dumps(body).encode()), NOW)


def test_a_successful_response_is_its_data_with_aware_times() -> None:
    result = parse(200, {"success": True, "data": PAGES, "timestamp": "2026-02-07T12:00:00.000Z"})
    page = result.data.pages[0]
    assert (page.url, page.total_interactions) == ("/", 12543)
    assert page.last_updated == datetime(2026, 2, 7, 14, 30, tzinfo=UTC)
    assert result.timestamp is not None
    assert result.timestamp.isoformat() == "2026-02-07T12:00:00+00:00"
    assert (result.drifts, result.usage) == ((), None)


def test_an_old_response_without_an_envelope_is_parsed_too() -> None:
    assert parse(200, PAGES).data.pages[0].url == "/"


def test_the_quota_in_a_result_is_part_of_what_was_parsed() -> None:
    endpoint = Endpoint(
        "usage", "usage", Decoder(dict[str, int]), usage_of=lambda data: UsageHeaders(data["used"], data["limit"])
    )
    raw = RawResponse(200, {}, b'{"success": true, "data": {"used": 5, "limit": 10}}')
    assert parse_response(endpoint.call(), raw, NOW).usage == UsageHeaders(5, 10)


def test_a_missing_field_is_named_with_its_path() -> None:
    error = failure(200, {"success": True, "data": {"pages": [{"url": "/"}]}})
    assert isinstance(error, ResponseDecodeError)
    assert "total_interactions" in str(error)
    assert "$.data.pages[" in str(error.path)


@pytest.mark.parametrize(
    ("body", "truncated"),
    [
        (b"", False),
        (b" \r\n", False),
        (b'{"success": true, "da', True),
        (b"<html></html>", False),
        (b"nonsense", False),
        (b"[1]", False),
    ],
)
def test_a_200_with_another_body_is_a_decode_error(body: bytes, truncated: bool) -> None:  # noqa: FBT001 - a table's column
    error = failure(200, body, Content_Type="text/html")
    assert isinstance(error, ResponseDecodeError)
    assert error.truncated is truncated


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (302, b"", "Refused to follow a redirect, which would leak the API key; check base_url"),
        (200, b'{"success": false}', "The API responded with success: false and no message"),
        (503, b"", "The server responded with HTTP 503 and no message (text/html)"),
        (200, b"", "Response is empty (HTTP 200), expected JSON"),
        (200, b"\xef\xbb\xbf\r\n", "Response is empty (HTTP 200), expected JSON"),
        (204, b"", "Response is empty (HTTP 204), expected JSON"),
        (200, b"<html>", "Response is not JSON (text/html): "),
        (
            200,
            b'{"success": true, "data": {"pages": 5}}',
            "Response does not match the documented schema: $.data.pages: ",
        ),
        (200, b'{"success": true}', "Response does not match the documented schema: "),
    ],
)
def test_an_error_without_a_message_says_what_came(status: int, body: bytes, message: str) -> None:
    error = failure(status, body, Content_Type="text/html")
    assert error.message.startswith(message)
    assert (error.message == message) == (not message.endswith(": "))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda leaf: (
        st.lists(leaf)
        | st.dictionaries(st.sampled_from(["success", "data", "error", "code", "pages", "message"]), leaf)
    ),
)


@given(st.integers(200, 599), JSON | st.binary())
def test_no_body_leads_out_of_the_error_tree(status: int, body: object) -> None:
    with contextlib.suppress(ZenovayError):
        parse(status, body)


def test_json_nested_too_deeply_is_a_decode_error() -> None:
    assert isinstance(failure(200, b"[" * 200_000), ResponseDecodeError)
