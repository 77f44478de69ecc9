"""Text that JSON allows and msgspec rejects is read, wherever it is in a body, and never taken for a body cut short."""

from __future__ import annotations

import json
from typing import Any

import pytest
from helpers import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zenovay_async import ErrorGroupList, HeatmapPages, NotFoundError, ResponseDecodeError, Usage
from zenovay_async._protocol.call import Endpoint, custom_call
from zenovay_async._protocol.decoding import Decoder
from zenovay_async._protocol.json_text import encode_json, is_cut_short, loads, loads_or_none
from zenovay_async._protocol.leniency import Drift
from zenovay_async._protocol.parsing import parse_response
from zenovay_async._protocol.response import RawResponse

NOW = 1_780_000_000.0
REPLACED = "text that is not Unicode; replaced by U+FFFD"
# Halves and whole pairs, as JSON.stringify writes them.
_HALVES = st.text(
    st.characters(codec=None, categories=["Cs", "Lu", "Nd", "So"]) | st.sampled_from('\\"u/\n'), max_size=5
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _HALVES,
    lambda leaf: st.lists(leaf, max_size=3) | st.dictionaries(_HALVES, leaf, max_size=3),
    max_leaves=6,
)


def parse(data_type: Any, body: bytes, **options: Any) -> Any:
    call = Endpoint("some.operation", "some/path", Decoder(data_type)).call()
    return parse_response(call, RawResponse(200, {}, body), NOW, **options)


def without_halves(value: Any) -> Any:
    """A value as browsers decode it."""
    if isinstance(value, str):
        # Pairs that stand side by side are joined by UTF-16.
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [without_halves(item) for item in value]
    if isinstance(value, dict):
        return {without_halves(name): without_halves(item) for name, item in value.items()}
    return value


@given(_VALUES)
@settings(max_examples=examples(500))
def test_all_that_javascript_writes_is_read(value: Any) -> None:
    body = json.dumps(value).encode()
    assert loads(body)[0] == without_halves(json.loads(body))


@given(st.dictionaries(_HALVES, _VALUES, min_size=1), st.data())
@settings(max_examples=examples(500))
def test_only_a_body_that_ends_early_is_cut_short(value: Any, data: st.DataObject) -> None:
    body = json.dumps(value).encode()
    assert not is_cut_short(body)
    assert is_cut_short(body[: data.draw(st.integers(1, len(body) - 1))])


@given(st.binary())
def test_any_bytes_are_read_or_no_json(body: bytes) -> None:
    loads_or_none(body)
    is_cut_short(body)


@given(_VALUES)
def test_a_byte_order_mark_is_skipped(value: Any) -> None:
    body = json.dumps(value).encode()
    assert loads(b"\xef\xbb\xbf" + body) == loads(body)


@pytest.mark.parametrize(
    "text",
    [r"cut \ud83d", r"\ude00", r"\ud83d\ud83d\ude00", r"a\\\ud83d", r"\uD83Dx", r"\ud83d\n", r"\ud83d\u0041"],
)
@pytest.mark.parametrize("filler", ["", "x" * 100])
def test_half_an_emoji_is_read_in_any_field(text: str, filler: str) -> None:
    group = f'{{"id": "e1", "occurrence_count": 1, "message": "{text}", "new": ["{text}"], "type": "{filler}"}}'
    for body in (
        f'{{"success": true, "data": {{"error_groups": [{group}], "{text}": {{"{text}": "{text}"}}}}}}',
        f'{{"success": true, "data": {{"error_groups": [{group}]}}, "timestamp": null, "meta": "{text}"}}',
        f'{{"error_groups": [{group}]}}',
    ):
        result = parse(ErrorGroupList, body.encode())
        expected = without_halves(json.loads(f'"{text}"'))
        assert "\ufffd" in expected
        assert result.data.error_groups[0].message == expected
        assert result.data.error_groups[0].type == filler
        assert {drift.problem for drift in result.drifts if "message" in drift.path} == {REPLACED}


def test_where_text_was_replaced_is_reported_as_drift() -> None:
    body = (
        rb'{"data": {"pages": [{"url": "/\ud83d", "total_interactions": 1, "last_updated": "2026-02-07T10:30:00Z"}]}}'
    )
    assert parse(HeatmapPages, body).drifts == (Drift("$.data.pages[].url", REPLACED),)
    with pytest.raises(ResponseDecodeError, match=r"\$\.data\.pages\[\]\.url: text that is not Unicode"):
        parse(HeatmapPages, body, strict=True)


def test_bytes_that_are_no_utf_8_are_read_as_well() -> None:
    body = b'{"data": {"error_groups": [{"id": "e", "occurrence_count": 1, "message": "caf\xe9"}], "x\xff": 1}}'
    result = parse(ErrorGroupList, body)
    assert result.data.error_groups[0].message == "caf\ufffd"
    assert result.data.extra == {"x\ufffd": 1}


def test_an_unknown_field_with_such_text_is_reported_when_it_is_looked_for() -> None:
    body = b'{"data": {"pages": []}, "new": "caf\xe9"}'
    assert parse(HeatmapPages, body).drifts == ()
    assert Drift("$.new", REPLACED) in parse(HeatmapPages, body, find_drift=True).drifts


def test_a_number_that_no_float_holds_breaks_no_response() -> None:
    assert parse(ErrorGroupList, b'{"data": {"error_groups": [], "new": -1e999}}').data.extra == {"new": -float("inf")}
    digits = parse(ErrorGroupList, b'{"data": {"error_groups": [], "new": -' + b"9" * 5000 + b"}}").data.extra
    assert digits == {"new": -float("inf")}
    for constant in (b"NaN", b"Infinity"):
        with pytest.raises(ResponseDecodeError, match="Response is not JSON"):
            parse(ErrorGroupList, b'{"data": {"error_groups": [], "big": 1e999, "new": ' + constant + b"}}")


def test_the_message_of_an_error_with_such_text_is_read() -> None:
    call = Endpoint("some.operation", "some/path", Decoder(HeatmapPages)).call()
    for body in (
        rb'{"error": {"message": "no \ud83d", "code": "NOT_FOUND"}}',
        b'\xef\xbb\xbf{"error": {"message": "no \xff"}}',
    ):
        with pytest.raises(NotFoundError) as caught:
            parse_response(call, RawResponse(404, {}, body), NOW)
        assert caught.value.message == "no \ufffd"


@pytest.mark.parametrize("depth", [500, 5_000, 100_000])
def test_deep_nesting_of_such_text_stays_inside_the_error_tree(depth: int) -> None:
    body = b'{"data": ' + b'{"a": ' * depth + rb'"\ud83d"' + b"}" * depth + b"}"
    try:
        parse(Any, body)
    except ResponseDecodeError as error:
        assert not error.truncated  # noqa: PT017 - deep enough, it is no error


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n", b"\xef\xbb\xbf", b"null"])
@pytest.mark.parametrize("status", [200, 202, 204, 205])
def test_an_empty_success_is_none_from_request_and_an_error_from_typed_methods(status: int, body: bytes) -> None:
    raw = RawResponse(status, {}, body)
    for method in ("GET", "POST"):
        assert parse_response(custom_call(method, "goals", None, None, None, 1), raw, NOW).data is None
        assert parse_response(custom_call(method, "goals", None, None, HeatmapPages | None, 1), raw, NOW).data is None
    for call in (
        custom_call("GET", "goals", None, None, HeatmapPages, 1),
        Endpoint("usage", "usage", Decoder(Usage)).call(),
    ):
        with pytest.raises(ResponseDecodeError) as caught:
            parse_response(call, raw, NOW)
        assert not caught.value.truncated


def test_an_empty_object_is_one_from_request_and_an_error_from_typed_methods() -> None:
    raw = RawResponse(200, {}, b" {} ")
    assert parse_response(custom_call("POST", "goals", None, None, None, 1), raw, NOW).data == {}
    for call in (
        custom_call("POST", "goals", None, None, HeatmapPages, 1),
        Endpoint("usage", "usage", Decoder(Usage)).call(),
    ):
        with pytest.raises(ResponseDecodeError, match="required field"):
            parse_response(call, raw, NOW)


@pytest.mark.parametrize("error", ["null", "false", '""', "{}", "[]"])
def test_no_error_in_a_success_is_none(error: str) -> None:
    body = f'{{"success": true, "error": {error}, "pages": []}}'
    assert parse(HeatmapPages, body.encode()).data == HeatmapPages(pages=())


@given(st.text(), st.text())
def test_no_text_is_taken_for_another(first: str, second: str) -> None:
    assume("\ufffd" not in first + second)
    body = json.dumps([first, second], ensure_ascii=False).encode("utf-8", "surrogatepass")
    found, replaced = loads(body)
    assert not replaced or "\ufffd" in "".join(found)


def test_what_json_has_none_of_is_kept_as_something_that_it_has() -> None:
    given = ["half \ud83d", float("nan"), {1: float("inf")}]
    assert encode_json(given) == '["half \ufffd",null,{"1":null}]'
