"""Headers about limits and waits are parsed where they are plausible, and ignored where they are not."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from zenovay_async import RateLimitHeaders
from zenovay_async._protocol.headers import parse_datetime, rate_limit_headers, retry_after, usage_headers
from zenovay_async._protocol.structured_fields import parse_members

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 1_780_000_000.0
AN_HOUR = 3600


def wait_for(headers: dict[str, str], error: dict[str, Any] | None = None, message: str = "") -> float | None:
    return retry_after(CIMultiDict(headers), error or {}, message, NOW)


def limit_of(headers: Mapping[str, str]) -> RateLimitHeaders:
    return rate_limit_headers(CIMultiDict(headers), NOW)


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
        ({"X-RateLimit-Reset": str(int(NOW) * 1000 + 30_500)}, {}, "", 30.5),
        ({"X-RateLimit-Reset": "30"}, {}, "", 30),
        ({"X-RateLimit-Reset": str(int(NOW) - 5)}, {}, "", 0),
        ({"RateLimit-Limit": "60", "RateLimit-Reset": "30"}, {}, "", 30),
        ({"RateLimit": "limit=60, remaining=0, reset=30"}, {}, "", 30),
        ({"RateLimit": '"minute";r=0;t=30, "day";r=500;t=40000'}, {}, "", 30),
        ({"Retry-After": "6000"}, {}, "", 6000),
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


def test_the_ways_to_state_a_wait_take_precedence_in_this_order() -> None:
    headers = {"Retry-After": "1", "X-RateLimit-Reset": "3", "RateLimit": '"a";r=0;t=4'}
    error = {"retry_after": 2, "details": {"reset_at": datetime.fromtimestamp(NOW + 5, UTC).isoformat()}}
    message = "Try again in 6 seconds"
    for expected, used in enumerate(("Retry-After", "retry_after", "X-RateLimit-Reset", "RateLimit", "details"), 1):
        assert wait_for(headers, error, message) == expected
        headers.pop(used, None)
        error.pop(used, None)
    assert wait_for(headers, error, message) == 6


def test_a_date_is_compared_with_the_servers_clock() -> None:
    """This machine's clock may be an hour off."""
    headers = {"Retry-After": http_date(AN_HOUR + 10), "Date": http_date(AN_HOUR)}
    assert wait_for(headers) == 10


def test_a_wait_longer_than_31_days_is_ignored() -> None:
    assert wait_for({"Retry-After": str(32 * 86_400)}) is None


# aiohttp decodes what is not UTF-8 to lone surrogates.
_ANY_TEXT = st.text(st.characters(exclude_categories=()))
_FIELD = st.lists(
    st.one_of(
        st.sampled_from(
            [*'",;= :\\', "limit", "remaining", "reset", "r", "t", "q", "w", "qu", "pk", "default", ":YTk=:"]
        ),
        st.integers(-5, 10**20).map(str),
        st.floats().map(repr),
        _ANY_TEXT,
    )
).map("".join)
_LIMIT_HEADERS = (
    *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy"),
    *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Date", "Retry-After"),
)


@given(
    st.dictionaries(st.sampled_from(_LIMIT_HEADERS), _FIELD),
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
    st.dictionaries(st.sampled_from([*_LIMIT_HEADERS, "X-Usage-Monthly", "X-Usage-Reset"]), _FIELD),
    st.none() | st.floats(0, 1e10),
)
def test_limits_and_usage_are_non_negative_or_none(headers: dict[str, str], now: float | None) -> None:
    parsed = CIMultiDict(headers)
    limits, usage = rate_limit_headers(parsed, now), usage_headers(parsed)
    for figure in (limits.limit, limits.remaining, limits.window, limits.reset, usage.monthly):
        assert figure is None or figure >= 0
    assert limits.window != 0
    assert usage.reset is None or usage.reset.tzinfo is not None


# As each server writes them; the third column is limit, remaining, seconds until the reset, window.
SERVERS = [
    (
        "express-rate-limit, legacy",
        {"X-RateLimit-Limit": "30", "X-RateLimit-Remaining": "29", "X-RateLimit-Reset": str(int(NOW) + 60)},
        (30, 29, 60, None),
    ),
    (
        "express-rate-limit and hono-rate-limiter, draft-6",
        {
            "RateLimit-Policy": "30;w=60",
            "RateLimit-Limit": "30",
            "RateLimit-Remaining": "29",
            "RateLimit-Reset": "45",
        },
        (30, 29, 45, 60),
    ),
    (
        "express-rate-limit and hono-rate-limiter, draft-7",
        {"RateLimit-Policy": "30;w=60", "RateLimit": "limit=30, remaining=0, reset=45"},
        (30, 0, 45, 60),
    ),
    (
        "express-rate-limit, draft-8",
        {
            "RateLimit-Policy": '"30-in-1min"; q=30; w=60; pk=:MTJjYTE3YjQ5YWYy:',
            "RateLimit": '"30-in-1min"; r=29; t=45',
        },
        (30, 29, 45, 60),
    ),
    (
        "draft-11",
        {
            "RateLimit-Policy": '"burst";q=100;w=60,"daily";q=1000;w=86400',
            "RateLimit": '"burst";r=50;t=30;pk=:cHsdsRa894==:',
        },
        (100, 50, 30, 60),
    ),
    (
        "Envoy",
        {"x-ratelimit-limit": "30, 30;w=6", "x-ratelimit-remaining": "29", "x-ratelimit-reset": "6"},
        (30, 29, 6, 6),
    ),
    (
        "Fastify",
        {"x-ratelimit-limit": "30", "x-ratelimit-remaining": "29", "x-ratelimit-reset": "60"},
        (30, 29, 60, None),
    ),
    (
        "Upstash",
        {
            "X-RateLimit-Limit": "30",
            "X-RateLimit-Remaining": "29",
            "X-RateLimit-Reset": str(int(NOW) * 1000 + 45_500),
        },
        (30, 29, 45.5, None),
    ),
    (
        "GitHub",
        {
            "x-ratelimit-limit": "5000",
            "x-ratelimit-remaining": "4999",
            "x-ratelimit-reset": str(int(NOW) + 3600),
            "x-ratelimit-used": "1",
            "x-ratelimit-resource": "core",
        },
        (5000, 4999, 3600, None),
    ),
    ("draft-03", {"RateLimit-Limit": "10, 10;w=1, 50;w=60, 1000;w=3600", "RateLimit-Remaining": "3"}, (10, 3, None, 1)),
]


@pytest.mark.parametrize(("headers", "stated"), [row[1:] for row in SERVERS], ids=[row[0] for row in SERVERS])
def test_the_limit_is_read_as_each_server_states_it(headers: dict[str, str], stated: tuple[Any, ...]) -> None:
    limit, remaining, seconds, window = stated
    found = limit_of(headers)
    assert (found.limit, found.remaining, found.window) == (limit, remaining, window)
    assert found.reset == (None if seconds is None else NOW + seconds)
    assert wait_for(headers) == seconds


@pytest.mark.parametrize(
    ("headers", "limit", "remaining", "window"),
    [
        # What the API documents comes first, and the two figures from the same headers.
        ({"X-RateLimit-Limit": "60", "RateLimit": '"a";r=5', "RateLimit-Policy": '"a";q=9;w=60'}, 60, None, None),
        ({"X-RateLimit-Limit": "many", "RateLimit-Limit": "60", "RateLimit-Remaining": "5"}, 60, 5, None),
        ({"RateLimit": "limit=60, remaining=5", "RateLimit-Limit": "9"}, 60, 5, None),
        ({"RateLimit": "nonsense", "RateLimit-Limit": "60", "RateLimit-Remaining": "5"}, 60, 5, None),
        # The window is that of the policy with the same limit.
        ({"RateLimit-Limit": "50", "RateLimit-Policy": "10;w=1, 50;w=60, 1000;w=3600"}, 50, None, 60),
        ({"RateLimit-Limit": "50", "RateLimit-Policy": "10;w=1"}, 50, None, None),
        ({"RateLimit": "remaining=5, limit=50", "RateLimit-Policy": "10;w=1, 50;w=60"}, 50, 5, 60),
        ({"X-RateLimit-Limit": "60;w=60"}, 60, None, 60),
        ({"X-RateLimit-Limit": '12, 12;w=1;burst=1000;policy="leaky, bucket; fast"'}, 12, None, 1),
        # A policy belongs to the limit of its name, whatever the order of members and parameters.
        ({"RateLimit": '"b";r=5', "RateLimit-Policy": '"a";q=10;w=1, "b";w=60;q=50'}, 50, 5, 60),
        ({"RateLimit": "t=9;r=5", "RateLimit-Policy": "60;w=60"}, 60, None, 60),
        ({"RateLimit": "b;t=9;r=5", "RateLimit-Policy": "a;q=10;w=1 ,\tb ; pk=:YTk=: ; W=60 ; Q = 50"}, 50, 5, 60),
        ({"RateLimit": '"a \\"b\\", c";r=5', "RateLimit-Policy": '"a \\"b\\", c";q=50;w=60;x'}, 50, 5, 60),
        ({"RateLimit": '"x";r=5', "RateLimit-Policy": '"a";q=10;w=1'}, None, 5, None),
        ({"RateLimit": '"a";r=5'}, None, 5, None),
        ({"RateLimit-Policy": '"a";q=10;w=1, "b";q=50;w=60'}, 10, None, 1),
        # Of several limits, the one with the least left; limits in other units are not about requests.
        ({"RateLimit": '"d";r=900, "m";r=5', "RateLimit-Policy": '"d";q=1000;w=86400,"m";q=30;w=60'}, 30, 5, 60),
        ({"RateLimit": '"b";r=2, "m";r=5', "RateLimit-Policy": '"b";q=9;qu="content-bytes","m";q=30'}, 30, 5, None),
        ({"RateLimit-Policy": '"b";q=9;qu="content-bytes","m";q=30;qu="requests"'}, 30, None, None),
        # Numbers that are not quite plain.
        ({"X-RateLimit-Limit": "60.0", "X-RateLimit-Remaining": " 05 "}, 60, 5, None),
        ({"X-RateLimit-Limit": "60, 60"}, 60, None, None),
    ],
)
def test_the_figures_are_about_one_limit(
    headers: dict[str, str], limit: int | None, remaining: int | None, window: float | None
) -> None:
    found = limit_of(headers)
    assert (found.limit, found.remaining, found.window) == (limit, remaining, window)


def test_several_limiters_may_each_send_a_header_of_their_own() -> None:
    headers = CIMultiDict(
        [
            ("RateLimit-Policy", '"day"; q=1000; w=86400'),
            ("RateLimit", '"day"; r=900; t=40000'),
            ("RateLimit-Policy", '"minute"; q=30; w=60'),
            ("RateLimit", '"minute"; r=5; t=20'),
        ]
    )
    assert rate_limit_headers(headers, NOW) == RateLimitHeaders(30, 5, NOW + 20, 60.0)


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "-1",
        "many",
        "1.5",
        "nan",
        "inf",
        "1e9",
        "1,000",
        "+5",
        "1_0",
        "９",
        "9" * 30,
        "60;",
        '"60',
        "60, ;w=60",
        "\udcff",
    ],
)
@pytest.mark.parametrize("name", ["X-RateLimit-Limit", "X-RateLimit-Remaining", "RateLimit-Limit", "RateLimit-Policy"])
def test_a_malformed_limit_is_ignored(name: str, garbage: str) -> None:
    assert limit_of({name: garbage}) == RateLimitHeaders()


@pytest.mark.parametrize("policy", ['"a";q=-1;w=60', '"a";q=1e9', '"a";q=1.5;w=60', '"a";w=60', "60;w=60, ??;;"])
def test_a_malformed_policy_is_ignored(policy: str) -> None:
    assert limit_of({"RateLimit": '"a";r=5', "RateLimit-Policy": policy}).limit is None


@pytest.mark.parametrize("window", ["0", "-1", "soon", "1.5", "9" * 30, ""])
def test_a_malformed_window_is_ignored(window: str) -> None:
    assert limit_of({"RateLimit": '"a";r=5', "RateLimit-Policy": f'"a";q=60;w={window}'}).window is None


@pytest.mark.parametrize(
    ("text", "reset"),
    [
        ("0", NOW),
        ("86400", NOW + 86_400),
        (str(31 * 86_400 + 1), 31 * 86_400 + 1),
        ("99999999999", 99_999_999_999),
        ("1780000000500", 1_780_000_000.5),
        ("-1", None),
        ("1" + "0" * 15, None),
        ("soon", None),
    ],
)
def test_a_reset_is_seconds_from_now_or_unix_time_in_seconds_or_milliseconds(text: str, reset: float | None) -> None:
    assert limit_of({"X-RateLimit-Reset": text}).reset == reset


def test_a_reset_in_seconds_counts_from_the_servers_date() -> None:
    headers = CIMultiDict({"X-RateLimit-Reset": "30", "Date": http_date(AN_HOUR)})
    assert rate_limit_headers(headers, NOW).reset == NOW + AN_HOUR + 30
    del headers["Date"]
    assert rate_limit_headers(headers, NOW).reset == NOW + 30
    assert rate_limit_headers(headers, None).reset is None


def test_a_malformed_list_has_no_members_and_a_long_one_takes_no_time() -> None:
    assert parse_members('"a";r=5, "b') == ()
    assert parse_members('"\\' * 10**6) == ()
    for text in (';a="' * 250, '"\\' * 500, "a;" * 500, "a;b=" * 250, "a , " * 250):
        assert len(parse_members(text)) <= 250


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
    limits, usage = rate_limit_headers(headers, None), usage_headers(headers)
    assert (limits.limit, limits.remaining, limits.reset) == (30, 29, 1642771200)
    assert (usage.monthly, usage.limit, usage.total) == (4521, 10000, 89234)
    assert usage.reset == datetime(2026, 7, 1, tzinfo=UTC)


def test_a_time_without_a_zone_is_utc() -> None:
    assert parse_datetime("2026-07-01T00:00:00") == datetime(2026, 7, 1, tzinfo=UTC)
