"""Arguments are checked before a request is sent, and each error states what was given and what was expected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zenovay_async import ConfigurationError
from zenovay_async._protocol import parameters
from zenovay_async._protocol.parameters import (
    NOT_GIVEN,
    check_timeout,
    encode_query,
    json_body,
    optional_bool,
    optional_int,
    optional_str,
    quote_segment,
    quote_text,
    require_int,
    require_str,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ID = "an ID such as 'a1b2c3d4-e5f6-7890-abcd-ef1234567890'"
SECONDS = "seconds above 0, or None for no limit"
STR = "a non-blank str"
BLANK_OR_NONE = "a non-blank str, or None to omit it"


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (check_timeout, 0, SECONDS),
        (check_timeout, -1.5, SECONDS),
        (check_timeout, "5", SECONDS),
        (check_timeout, True, SECONDS),
        (check_timeout, math.nan, SECONDS),
        (optional_int, 0, "an int >= 1"),
        (optional_int, -1, "an int >= 1"),
        (optional_int, 1.0, "an int >= 1"),
        (optional_int, "1", "an int >= 1"),
        (optional_int, True, "an int >= 1"),
        (require_int, 0, "an int >= 1"),
        (require_int, None, "an int >= 1"),
        (require_int, True, "an int >= 1"),
        (require_int, 2.5, "an int >= 1"),
        (optional_str, "", BLANK_OR_NONE),
        (optional_str, " \t", BLANK_OR_NONE),
        (optional_str, 5, BLANK_OR_NONE),
        (optional_str, b"7d", BLANK_OR_NONE),
        (require_str, "", STR),
        (require_str, "\n", STR),
        (require_str, None, STR),
        (require_str, ["7d"], STR),
        (optional_bool, 1, "True, False, or None to omit it"),
        (optional_bool, "true", "True, False, or None to omit it"),
        (quote_segment, "", ID),
        (quote_segment, "  ", ID),
        (quote_segment, ".", ID),
        (quote_segment, "..", ID),
        (quote_segment, None, ID),
        (quote_segment, 5, ID),
    ],
)
def test_an_error_states_the_name_the_value_and_what_was_expected(
    check: Callable[[str, Any], Any], value: Any, expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check("name", value)
    assert caught.value.message == f"name={value!r}: expected {expected}"
    assert (caught.value.attempts, caught.value.call) == (0, "")


@pytest.mark.parametrize("check", [optional_int, require_int])
@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (0, {"high": 100}, "an int from 1 to 100"),
        (101, {"high": 100}, "an int from 1 to 100"),
        (-1, {"low": 0}, "an int >= 0"),
        (-1, {"low": 0, "high": 5}, "an int from 0 to 5"),
        ("5", {"low": 0, "high": 5}, "an int from 0 to 5"),
    ],
)
def test_an_error_about_a_range_states_the_range(
    check: Callable[..., Any], value: Any, bounds: dict[str, int], expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check("limit", value, **bounds)
    assert caught.value.message == f"limit={value!r}: expected {expected}"


@pytest.mark.parametrize(
    ("check", "values"),
    [
        (optional_int, [None, 1, 2**70]),
        (require_int, [1, 2**70]),
        (optional_str, [None, "7d", " x "]),
        (require_str, ["7d", " x ", "\ud800"]),
        (optional_bool, [None, True, False]),
    ],
)
def test_a_valid_value_is_returned_as_it_is(check: Callable[[str, Any], Any], values: list[Any]) -> None:
    assert [check("name", value) for value in values] == values


@pytest.mark.parametrize("seconds", [None, 0.001, 5, 1e9, math.inf])
def test_a_valid_timeout_passes(seconds: float | None) -> None:
    check_timeout("timeout", seconds)


def test_the_ends_of_a_range_belong_to_it() -> None:
    assert [optional_int("limit", value, low=0, high=100) for value in (0, 100)] == [0, 100]
    assert [require_int("limit", value, low=0, high=100) for value in (0, 100)] == [0, 100]


def test_an_int_of_a_subclass_is_an_int() -> None:
    class Count(int):
        pass

    assert optional_int("limit", Count(5)) == require_int("limit", Count(5)) == 5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["7d"], "range=['7d']: expected a str, a number, a bool or None"),
        ({}, "range={}: expected a str, a number, a bool or None"),
        (b"7d", "range=b'7d': expected a str, a number, a bool or None"),
        ("\ud800", "range='\\ud800': not valid Unicode; expected text that UTF-8 can encode"),
    ],
)
def test_a_query_value_that_cannot_be_encoded_is_rejected(value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        encode_query({"range": value})
    assert caught.value.message == message


def test_a_query_name_is_quoted_too() -> None:
    assert encode_query({"filter[a b]": 1, "ü": 2, "plain_name": 3}) == "filter%5Ba+b%5D=1&%C3%BC=2&plain_name=3"
    with pytest.raises(ConfigurationError, match="not valid Unicode"):
        encode_query({"\ud800": 1})


@pytest.mark.parametrize("text", ["\ud800", "a\udcffb"])
def test_an_id_that_is_not_valid_unicode_is_rejected(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        quote_segment("website_id", text)
    assert caught.value.message == f"website_id={text!r}: not valid Unicode; expected text that UTF-8 can encode"


@given(st.text())
def test_quoted_text_is_ascii_and_unquotes_to_itself(text: str) -> None:
    assert unquote(quote_text(text, quote)) == text
    assert unquote_plus(quote_text(text, quote_plus)) == text
    assert quote_text(text, quote).isascii()


def test_a_body_is_json() -> None:
    assert json_body("json", {"question": "Where from?", "n": None}) == b'{"question":"Where from?","n":null}'


def test_a_body_that_is_no_json_is_rejected_without_showing_it() -> None:
    class Private:
        def __repr__(self) -> str:
            return "zv_private"

    with pytest.raises(ConfigurationError) as caught:
        json_body("json", Private())
    assert caught.value.message.startswith("json: cannot encode this Private as JSON (")
    assert caught.value.message.endswith("); expected plain values, Structs or dataclasses")
    assert "zv_private" not in str(caught.value)


def test_an_omitted_argument_differs_from_none() -> None:
    assert repr(NOT_GIVEN) == "NOT_GIVEN"
    assert NOT_GIVEN is parameters.NotGiven.NOT_GIVEN
    assert NOT_GIVEN is not None
