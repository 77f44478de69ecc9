"""Query parameters that the API has and this version does not know: ``extra_query=`` of every method."""

from __future__ import annotations

import asyncio
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pytest
from endpoints import OPERATIONS
from helpers import unique_key

from zenovay_async import Cache, ConfigurationError, Zenovay
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zenovay_async.sandbox import OperationRequest

EXTRA = {"segment": "mobile", "audience": "new"}
ENCODED = "audience=new&segment=mobile"


def client_of(sandbox: Sandbox, **options: Any) -> Zenovay:
    return Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None, **options)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_every_endpoint_of_the_sandbox_takes_parameters_that_it_does_not_know(
    name: str, zenovay: Zenovay, sandbox: Sandbox
) -> None:
    operation, method = OPERATIONS[name], attrgetter(name)(zenovay)
    arguments: dict[str, Any] = {argument.name: "Where from?" for argument in operation.required}
    website = [sandbox.website_ids[0]] if operation.is_per_website else []
    site = {"site_id": sandbox.website_ids[0]} if operation.takes_site_id else {}
    await method(*website, **arguments, **site, extra_query=EXTRA)
    (request,) = sandbox.calls(name)
    assert request.status == 200
    assert request.query == "&".join([*(f"site_id={site_id}" for site_id in site.values()), ENCODED])


async def test_every_page_of_a_list_has_them(zenovay: Zenovay, sandbox: Sandbox) -> None:
    visitors = zenovay.analytics.visitors(sandbox.website_ids[0], range="30d", limit=500, extra_query=EXTRA).take(700)
    assert len([visitor async for visitor in visitors]) == 700
    assert [request.query for request in sandbox.requests] == [
        f"range=30d&{ENCODED}&limit=500",
        f"range=30d&{ENCODED}&limit=500&offset=500",
    ]


async def test_a_function_of_a_test_gets_them(zenovay: Zenovay, sandbox: Sandbox) -> None:
    def respond(request: OperationRequest) -> Mapping[str, Any]:
        return {"pages": [{"url": f"/{request.query['segment']}", "total_interactions": 1}]}

    sandbox.respond("heatmaps.pages", respond)
    assert (await zenovay.heatmaps.pages(sandbox.website_ids[0], extra_query=EXTRA)).pages[0].url == "/mobile"


async def test_whole_responses_and_estimates_are_of_calls_with_them(sandbox: Sandbox) -> None:
    site, other = sandbox.website_ids[:2]
    async with client_of(sandbox, cache=Cache(ttl=60)) as zenovay:
        response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(site, extra_query=EXTRA)
        assert (response.status, sandbox.requests[-1].query) == (200, ENCODED)
        kept = zenovay.estimate([site, other], partial(zenovay.heatmaps.pages, extra_query=EXTRA))
        assert (kept.requests, kept.cached) == (1, 1)
        assert zenovay.estimate([site], zenovay.heatmaps.pages).cached == 0


async def test_equal_ones_in_any_order_are_one_request_and_others_another(sandbox: Sandbox) -> None:
    site = sandbox.website_ids[0]
    turned = dict(reversed(EXTRA.items()))
    async with client_of(sandbox, cache=Cache(ttl=60)) as zenovay:
        pages = zenovay.heatmaps.pages
        await asyncio.gather(pages(site, extra_query=EXTRA), pages(site, extra_query=turned), pages(site))
        await asyncio.gather(pages(site, extra_query=turned), pages(site, extra_query={}), pages(site))
    assert sorted(request.query for request in sandbox.requests) == ["", ENCODED]


async def test_invalid_ones_and_the_key_cost_no_request(
    zenovay: Zenovay, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    site, key = sandbox.website_ids[0], sandbox.api_key
    invalid: list[Any] = [
        {"limit": 5},
        {"": 1},
        {"token": [key]},
        [key],
        {"token": key},
        {"token": f"x {key}"},
        {key: 1},
    ]
    for extra in invalid:
        with pytest.raises(ConfigurationError) as caught:
            await zenovay.heatmaps.pages(site, extra_query=extra)
        assert key not in f"{caught.value} {caught.value!r}"
    with pytest.raises(ConfigurationError, match="pass time_range= instead"):
        await zenovay.query(site, "Where from?", extra_query={"time_range": "7d"})
    with pytest.raises(ConfigurationError, match="pass offset= instead"):
        zenovay.analytics.visitors(site, extra_query={"offset": 5})
    assert sandbox.count() == 0
    assert key not in caplog.text


@pytest.mark.parametrize("odd", ["+", "/", "&", "%41", "=", "#"])
async def test_a_key_that_a_url_spells_in_another_way_is_found(odd: str) -> None:
    async with Sandbox(api_key=f"{unique_key()}{odd}key") as sandbox, client_of(sandbox) as zenovay:
        for extra in ({"token": sandbox.api_key}, {sandbox.api_key: 1}):
            with pytest.raises(ConfigurationError, match="URLs are logged"):
                await zenovay.heatmaps.pages(sandbox.website_ids[0], extra_query=extra)
        with pytest.raises(ConfigurationError, match="URLs are logged"):
            await zenovay.heatmaps.pages(sandbox.api_key)
        assert sandbox.count() == 0
