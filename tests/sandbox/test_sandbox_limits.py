"""The sandbox limits requests as the API's documentation says, in each of four ways."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from sandbox_calls import get

from zenovay_async.sandbox import LimitHeaders, Sandbox
from zenovay_async.sandbox.limits import LimiterKind, MonthlyQuota, make_limiter

# A window that ends in no test, in seconds.
WIDE = 1e9


@pytest.mark.parametrize("kind", ["fixed", "sliding", "bucket", "counter"])
def test_each_limiter_allows_its_limit_and_knows_when_the_next_request_is_allowed(kind: LimiterKind) -> None:
    limiter = make_limiter(kind, 10, 60.0)
    now = 600.0
    assert [limiter.admit(now) for _ in range(11)] == [True] * 10 + [False]
    for _ in range(30):
        wait = limiter.reset_after(now)
        if wait > 0:
            assert not limiter.admit(now + wait * 0.99 - 1e-6)
        now += wait + 1e-6
        assert limiter.remaining(now) >= 1
        assert limiter.admit(now)


async def test_a_rate_limited_response_has_the_documented_message() -> None:
    async with Sandbox(websites=1, rate_limit=2, rate_limit_window=WIDE) as sandbox:
        responses = [await get(sandbox, "/usage") for _ in range(3)]
    assert [status for status, _, _ in responses] == [200, 200, 429]
    _, body, headers = responses[2]
    match = re.fullmatch(
        r"Rate limit exceeded \(2 requests/minute\)\. Try again in (\d+) seconds", body["error"]["message"]
    )
    assert match is not None
    assert headers["Retry-After"] == match[1]


async def test_headers_of_the_rate_limit_are_optional() -> None:
    options: dict[str, Any] = {"rate_limit": 1, "rate_limit_window": WIDE}
    async with Sandbox(websites=1, send_remaining=False, send_retry_after=False, **options) as sandbox:
        responses = [await get(sandbox, "/usage") for _ in range(2)]
        unlimited = await get(sandbox, "/usage", sandbox.add_key("unlimited", rate_limit=None))
    assert [status for status, _, _ in responses] == [200, 429]
    for _, _, headers in responses:
        assert headers["X-RateLimit-Limit"] == "1"
        assert not {"X-RateLimit-Remaining", "Retry-After"} & set(headers)
    assert unlimited[0] == 200
    assert not {"X-RateLimit-Limit", "X-RateLimit-Remaining"} & set(unlimited[2])


@pytest.mark.parametrize(
    ("style", "stated", "without_remaining"),
    [
        ("x", {"X-RateLimit-Limit": "9", "X-RateLimit-Remaining": "8"}, {"X-RateLimit-Limit": "9"}),
        (
            "draft-6",
            {
                "RateLimit-Limit": "9",
                "RateLimit-Remaining": "8",
                "RateLimit-Reset": "1000000000",
                "RateLimit-Policy": "9;w=1000000000",
            },
            {"RateLimit-Limit": "9", "RateLimit-Reset": "1000000000", "RateLimit-Policy": "9;w=1000000000"},
        ),
        (
            "draft-7",
            {"RateLimit": "limit=9, remaining=8, reset=1000000000", "RateLimit-Policy": "9;w=1000000000"},
            {"RateLimit": "limit=9, reset=1000000000", "RateLimit-Policy": "9;w=1000000000"},
        ),
        (
            "draft-8",
            {"RateLimit": '"default"; r=8; t=1000000000', "RateLimit-Policy": '"default"; q=9; w=1000000000'},
            {"RateLimit-Policy": '"default"; q=9; w=1000000000'},
        ),
        ("none", {}, {}),
    ],
)
async def test_the_limit_may_be_stated_in_other_headers(
    style: LimitHeaders, stated: dict[str, str], without_remaining: dict[str, str]
) -> None:
    for send_remaining, expected in ((True, stated), (False, without_remaining)):
        options: dict[str, Any] = {"rate_limit": 9, "rate_limit_window": WIDE, "send_remaining": send_remaining}
        async with Sandbox(websites=1, rate_limit_headers=style, **options) as sandbox:
            _, _, headers = await get(sandbox, "/usage")
        assert {name: value for name, value in headers.items() if "RateLimit" in name} == expected


async def test_rejected_keys_are_not_charged(sandbox: Sandbox) -> None:
    assert (await get(sandbox, "/usage", "zv_wrong"))[0] == 401
    assert (await get(sandbox, "/usage"))[1]["data"]["usage"]["monthly_requests"] == 1


@pytest.mark.parametrize(
    ("option", "limit", "window"), [("rate_limit", 0, 60.0), ("rate_limit", -1, 60.0), ("rate_limit_window", 10, 0.0)]
)
def test_a_limiter_names_the_argument_that_is_out_of_range(option: str, limit: int, window: float) -> None:
    with pytest.raises(ValueError, match=f"^{option}=.*: expected"):
        make_limiter("fixed", limit, window)


async def test_an_exhausted_monthly_quota_admits_no_request(sandbox: Sandbox) -> None:
    key = sandbox.add_key("small", monthly_limit=2, monthly_used=1)
    responses = [await get(sandbox, "/usage", key) for _ in range(2)]
    assert [status for status, _, _ in responses] == [200, 429]
    _, body, headers = responses[1]
    assert body["error"]["code"] == "MONTHLY_LIMIT_EXCEEDED"
    assert headers["X-Usage-Monthly"] == "2"


@pytest.mark.parametrize(("month", "reset"), [((2026, 2), (2026, 3)), ((2026, 12), (2027, 1))])
def test_the_monthly_quota_resets_on_the_first(month: tuple[int, int], reset: tuple[int, int]) -> None:
    assert MonthlyQuota(10).resets_at(datetime(*month, 7, 12, tzinfo=UTC)) == datetime(*reset, 1, tzinfo=UTC)
