"""Headers about limits and waits are parsed where they are plausible, and ignored where they are not."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from zenovay_async._protocol.headers import parse_datetime, rate_limit_headers, retry_after, usage_headers

NOW = 1_780_000_000.0
AN_HOUR = 3600


def wait_for(headers: dict[str, str], error: dict[str, Any] | None = None, message: str = "") -> float | None:
    return retry_after(CIMultiDict(headers), error or {}, message, NOW)


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "error", "message", "seconds"),
    [
        ({"Retry-After": "42"}, {}, "", 42),
        ({"retry-after": "1.5"}, {}, "", 1.5),
        ({"Retry-After": " 7 "}, {}, "", 7),
        ({"Retry-After": http_date(90)}, {}, "", 90),
        ({"Retry-After": http_date(-5)}, {}, "", 0),
        ({}, {"retry_after": 45}, "", 45),
        ({"X-RateLimit-Reset": str(int(NOW) + 30)}, {}, "", 30),
        ({}, {"details": {"reset_at": datetime.fromtimestamp(NOW + 12, UTC).isoformat()}}, "", 12),
        ({}, {}, "Rate limit exceeded (30 requests/minute). Try again in 42 seconds", 42),
        ({}, {}, "Rate limit exceeded. Please retry after 60 seconds.", 60),
        ({}, {}, "Rate limit exceeded. Please try again later.", None),
        ({}, {}, "", None),
    ],
)
def test_each_documented_way_to_state_a_wait_is_understood(
    headers: dict[str, str], error: dict[str, Any], message: str, seconds: float | None
) -> None:
    assert wait_for(headers, error, message) == seconds


@pytest.mark.parametrize(
    "garbage",
    ["soon", "", "-1", "nan", "inf", "1e400", "9" * 400, "Thu, 99 Foo 2026 00:00:00 GMT", "1970-01-01", "１２", "\x00"],
)
def test_garbage_is_ignored_and_the_next_source_is_used(garbage: str) -> None:
    assert wait_for({"Retry-After": garbage}, {"retry_after": 3}) in {3, 12}
    assert wait_for({"X-RateLimit-Reset": garbage}, {"retry_after": garbage}, "Try again in 2 seconds") in {2, 12}


def test_header_body_and_sentence_take_precedence_in_this_order() -> None:
    headers, error, message = {"Retry-After": "1"}, {"retry_after": 2}, "Try again in 3 seconds"
    assert wait_for(headers, error, message) == 1
    assert wait_for({}, error, message) == 2
    assert wait_for({}, {}, message) == 3


def test_a_date_is_compared_with_the_servers_clock() -> None:
    """This machine's clock may be an hour off."""
    headers = {"Retry-After": http_date(AN_HOUR + 10), "Date": http_date(AN_HOUR)}
    assert wait_for(headers) == 10


def test_a_wait_longer_than_31_days_is_ignored() -> None:
    assert wait_for({"Retry-After": str(32 * 86_400)}) is None


@given(
    st.dictionaries(st.sampled_from(["Retry-After", "X-RateLimit-Reset", "Date"]), st.text()),
    st.dictionaries(
        st.sampled_from(["retry_after", "details"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda leaf: st.dictionaries(st.just("reset_at"), leaf),
        ),
    ),
    st.text(),
)
def test_no_header_or_body_breaks_parsing(headers: dict[str, str], error: dict[str, Any], message: str) -> None:
    seconds = wait_for(headers, error, message)
    assert seconds is None or 0 <= seconds <= 31 * 86_400


@given(st.floats(min_value=0, max_value=1e6, allow_nan=False))
def test_any_fraction_of_seconds_is_parsed(seconds: float) -> None:
    assert wait_for({"Retry-After": repr(seconds)}) == seconds


@given(
    st.dictionaries(
        st.sampled_from(["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-Usage-Monthly", "X-Usage-Reset"]), st.text()
    )
)
def test_limits_and_usage_are_non_negative_or_none(headers: dict[str, str]) -> None:
    parsed = CIMultiDict(headers)
    limits, usage = rate_limit_headers(parsed), usage_headers(parsed)
    for figure in (limits.limit, limits.remaining, usage.monthly):
        assert figure is None or figure >= 0
    assert usage.reset is None or usage.reset.tzinfo is not None


def test_the_documented_headers_are_parsed() -> None:
    headers = CIMultiDict(
        {
            "X-RateLimit-Limit": "30",
            "X-RateLimit-Remaining": "29",
            "X-RateLimit-Reset": "1642771200",
            "X-Usage-Monthly": "4521",
            "X-Usage-Limit": "10000",
            "X-Usage-Reset": "2026-07-01T00:00:00.000Z",
            "X-Usage-Total": "89234",
        }
    )
    limits, usage = rate_limit_headers(headers), usage_headers(headers)
    assert (limits.limit, limits.remaining, limits.reset) == (30, 29, 1642771200)
    assert (usage.monthly, usage.limit, usage.total) == (4521, 10000, 89234)
    assert usage.reset == datetime(2026, 7, 1, tzinfo=UTC)


def test_a_time_without_a_zone_is_utc() -> None:
    assert parse_datetime("2026-07-01T00:00:00") == datetime(2026, 7, 1, tzinfo=UTC)
