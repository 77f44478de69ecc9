"""A batch leaves the reserve of the monthly quota, and no request is sent once the quota is exhausted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from zenovay_async import Event, Quota, QuotaExceededError, QuotaThresholdReached, Zenovay
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox


async def test_a_batch_stops_at_the_reserve_and_a_direct_call_is_still_sent(sandbox: Sandbox) -> None:
    key = sandbox.add_key("small", monthly_limit=30)
    async with Zenovay(key, base_url=sandbox.url, quota_reserve=10, coalesce=False) as zenovay:
        assert zenovay.quota.used is None
        done = 0
        with pytest.raises(QuotaExceededError, match="quota_reserve=10"):
            async with zenovay.batch(range(100), lambda _: zenovay.heatmaps.pages(sandbox.website_ids[0])) as results:
                async for result in results:
                    done += result.error is None
        assert 0 < done <= 20
        assert zenovay.quota.remaining is not None
        assert zenovay.quota.remaining >= 10
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
        estimate = zenovay.estimate(5)
        assert (estimate.requests, estimate.quota_share) == (5, 5 / zenovay.quota.remaining)


async def test_clients_of_one_key_share_its_limits_and_keep_their_reserves(sandbox: Sandbox) -> None:
    key = sandbox.add_key("small", monthly_limit=30)
    events: list[Event] = []
    async with Zenovay(key, base_url=sandbox.url, on_event=events.append) as zenovay:
        careful = zenovay.with_options(quota_reserve=29)
        site = sandbox.website_ids[0]
        await zenovay.heatmaps.pages(site)
        assert (
            careful.quota
            == zenovay.quota
            == Quota(used=1, limit=30, resets_at=zenovay.quota.resets_at, total=zenovay.quota.total)
        )
        assert careful.rate_limit is not None
        assert careful.rate_limit.learned
        with pytest.raises(QuotaExceededError, match="quota_reserve=29"):
            async with careful.batch([site], careful.heatmaps.pages) as results:
                [result async for result in results]
        async with zenovay.batch([site], zenovay.heatmaps.pages) as results:
            assert [result.error async for result in results] == [None]
        for _ in range(25):
            await careful.heatmaps.pages(site)
    assert [type(event) for event in events].count(QuotaThresholdReached) == 1


async def test_waiting_callers_fail_at_once_when_the_quota_is_exhausted(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.monthly_limit())
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        calls = (zenovay.heatmaps.pages(sandbox.website_ids[0]) for _ in range(10))
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, QuotaExceededError) for error in ended)
    assert sandbox.count() == 1


async def test_a_limiter_shared_by_two_keys_serves_the_one_whose_quota_is_left(sandbox: Sandbox) -> None:
    limiter = WindowLimiter(window=1.0)
    exhausted = sandbox.add_key("exhausted", monthly_limit=5, monthly_used=5)
    options: dict[str, Any] = {"base_url": sandbox.url, "rate_limit": limiter, "coalesce": False}
    site = sandbox.website_ids[0]
    async with Zenovay(exhausted, **options) as one, Zenovay(sandbox.api_key, **options) as other:
        # The first is sent alone, and all others wait for its response.
        calls = [client.heatmaps.pages(site) for client in (one, other, other, one, other)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, QuotaExceededError) for each in ended] == [True, False, False, True, False]
    assert not any(isinstance(each, Exception) for each in (ended[1], ended[2], ended[4]))
    # A caller that waits with the exhausted key fails without a request.
    assert (sandbox.count(status=429), sandbox.count(status=200)) == (1, 3)
    assert limiter.statistics().in_flight == 0
