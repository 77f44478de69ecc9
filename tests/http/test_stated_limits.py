"""Limits and rate limits are understood in whichever way a server or a proxy in front of it states them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from helpers import URL, make_client, now

from zenovay_async import RateLimitError, Zenovay
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from aioresponses import aioresponses

    from zenovay_async.sandbox import LimitHeaders

GOOD = {"success": True, "data": {"pages": []}}


@pytest.mark.parametrize("style", ["x", "draft-6", "draft-7", "draft-8"])
@pytest.mark.parametrize("send_remaining", [True, False])
async def test_a_client_learns_the_limit_from_the_headers_of_each_kind(
    style: LimitHeaders,
    send_remaining: bool,  # noqa: FBT001 - a table's column
) -> None:
    options: dict[str, Any] = {"rate_limit_headers": style, "send_remaining": send_remaining}
    async with (
        Sandbox(websites=1, rate_limit=90, **options) as sandbox,
        Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay,
    ):
        response = await zenovay.with_raw_response(zenovay.usage)()
        assert zenovay.rate_limit is not None
        assert (zenovay.rate_limit.limit, zenovay.rate_limit.learned) == (90, True)
    stated = response.rate_limit
    assert (stated.limit, stated.remaining) == (90, 89 if send_remaining else None)
    assert stated.window == (None if style == "x" else 60)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (503, "", {"Retry-After": "42"}),
        (403, "<html>Slow down</html>", {"Retry-After": "42"}),
        (429, "error code: 1015", {"Retry-After": "42"}),
        (403, '{"error_code": 1015, "retry_after": 42}', {}),
        (429, "", {"RateLimit": '"default";r=0;t=42', "RateLimit-Policy": '"default";q=30;w=60'}),
        (429, "", {"X-RateLimit-Reset": "42"}),
    ],
)
async def test_a_rate_limit_pauses_all_callers_under_any_status(
    canned: aioresponses, status: int, body: str, headers: dict[str, str]
) -> None:
    canned.get(URL, payload=GOOD)
    canned.get(URL, status=status, body=body, headers=headers)
    canned.get(URL, payload=GOOD, repeat=True)
    async with make_client(rate_limit="auto", timeout=100) as zenovay:
        await zenovay.heatmaps.pages("x")
        began = now()
        with pytest.raises(RateLimitError) as caught:
            await zenovay.with_options(max_attempts=1).heatmaps.pages("x")
        assert (caught.value.status, caught.value.retry_after) == (status, 42)
        await zenovay.heatmaps.pages("x")
    assert 42 <= now() - began < 60
