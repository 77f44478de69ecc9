"""Clients made by ``with_options``: what they share, and what is their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from helpers import URL, make_client, unique_key
from raw_server import RawServer

from zenovay_async import AuthenticationError, RateLimitError, ServerError, Zenovay

if TYPE_CHECKING:
    from aioresponses import aioresponses

    from zenovay_async.sandbox import Sandbox

GOOD: dict[str, Any] = {"success": True, "data": {"pages": []}}


async def test_siblings_share_connections() -> None:
    """Siblings share the connections of the client that was made first, and do not close them."""
    async with RawServer() as server, Zenovay("zv_one", base_url=server.url, rate_limit=None) as zenovay:
        other = zenovay.with_options(api_key="zv_two", auth="bearer", max_attempts=1)
        for client in (zenovay, other, zenovay, other):
            await client.heatmaps.pages("x")
        await other.close()
        await zenovay.heatmaps.pages("x")
        assert (server.requests, server.connections) == (5, 1)


@pytest.mark.looptime
async def test_siblings_differ_in_the_options_that_were_given(canned: aioresponses) -> None:
    """Siblings differ in the options that were given; the others keep their values."""
    zenovay = make_client(timeout=5)
    other = zenovay.with_options(api_key=unique_key(), max_attempts=1)
    canned.get(URL, status=500, repeat=True)
    for client, attempts in ((zenovay, 4), (other, 1), (other.with_options(max_attempts=2), 2), (zenovay, 4)):
        with pytest.raises(ServerError) as failed:
            await client.heatmaps.pages("x")
        assert failed.value.attempts == attempts
    canned.clear()
    canned.get(URL, status=429, headers={"Retry-After": "10"}, repeat=True)
    for client in (zenovay, zenovay.with_options(api_key=unique_key())):
        with pytest.raises(RateLimitError, match=r"a retry in 10\.\d s does not fit timeout=5 "):
            await client.heatmaps.pages("x")
    with pytest.raises(RateLimitError, match=r"a retry in 10\.\d s does not fit timeout=7 "):
        await zenovay.with_options(timeout=7).heatmaps.pages("x")


async def test_clients_of_one_key_share_a_budget(canned: aioresponses) -> None:
    """Clients of one key share a budget, siblings or not; one with another key has its own."""
    canned.get(URL, payload=GOOD, headers={"X-Usage-Monthly": "7", "X-RateLimit-Limit": "120"})
    key = unique_key()
    zenovay = Zenovay(key)
    other = zenovay.with_options(api_key=unique_key())
    sibling = zenovay.with_options(timeout=None)
    await sibling.heatmaps.pages("x")
    for client in (zenovay, sibling, Zenovay(key)):
        assert client.quota.used == 7
        assert client.rate_limit is not None
        assert client.rate_limit.limit == 120
    assert other.quota.used is None
    assert other.rate_limit is not None
    assert other.rate_limit.limit == 30


async def test_each_sibling_calls_with_its_own_key(sandbox: Sandbox, zenovay: Zenovay) -> None:
    other = zenovay.with_options(api_key="zv_of_somebody_else")
    await zenovay.heatmaps.pages(sandbox.website_ids[0])
    with pytest.raises(AuthenticationError):
        await other.heatmaps.pages(sandbox.website_ids[0])
    await other.close()
    await zenovay.heatmaps.pages(sandbox.website_ids[0])
