"""A test gives operations data of its own, which are checked where they are written."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from endpoints import DOCUMENTED, ENDPOINTS
from sandbox_calls import ask, data, get

import zenovay_async as z
from zenovay_async import Zenovay
from zenovay_async.sandbox import Fault, OperationRequest, Sandbox
from zenovay_async.sandbox.own_responses import endpoints
from zenovay_async.sandbox.routes import ROUTES

if TYPE_CHECKING:
    from endpoints import Endpoint

NOON = datetime(2026, 2, 7, 12, tzinfo=UTC)


def pages(*urls: str) -> dict[str, Any]:
    return {"pages": [{"url": url, "total_interactions": 17} for url in urls]}


def visitors(count: int) -> dict[str, Any]:
    return {"visitors": [{"id": f"v{number}"} for number in range(count)]}


def test_the_operations_of_the_sandbox_are_those_of_the_client() -> None:
    ours = {route.operation: (route.method, route.path, route.cost) for route in ROUTES.routes}
    assert ours == {name: (one.method, f"/{one.template}", one.cost) for name, one in endpoints().items()}
    assert sorted(ours) == sorted(endpoint.name for endpoint in ENDPOINTS)


async def test_own_data_are_what_the_client_returns(sandbox: Sandbox, zenovay: Zenovay) -> None:
    sandbox.respond("heatmaps.pages", {"pages": [{"url": "/own", "total_interactions": 17, "last_updated": NOON}]})
    (page,) = (await zenovay.heatmaps.pages(sandbox.website_ids[0])).pages
    assert page == z.HeatmapPage(url="/own", total_interactions=17, last_updated=NOON)


@pytest.mark.parametrize("endpoint", DOCUMENTED, ids=lambda endpoint: endpoint.name)
async def test_every_result_may_be_given_as_the_api_sends_it_or_as_the_client_returns_it(
    sandbox: Sandbox, zenovay: Zenovay, endpoint: Endpoint
) -> None:
    site = sandbox.website_ids[0]
    sandbox.respond(endpoint.name, endpoint.body()["data"])
    result = await endpoint.call(zenovay, site)
    sandbox.respond(endpoint.name, result)
    assert await endpoint.call(zenovay, site) == result


@pytest.mark.parametrize("name", ["analytics.pages", "analytics.technology", "stats.aggregate"])
async def test_an_operation_without_a_documented_shape_takes_any_json(
    sandbox: Sandbox, zenovay: Zenovay, name: str
) -> None:
    endpoint = next(endpoint for endpoint in ENDPOINTS if endpoint.name == name)
    for given in ({"a": [1, 2.5, None, True]}, ["x"], "text", 5, [z.HeatmapPage(url="/", total_interactions=1)]):
        sandbox.respond(name, given, website_id=sandbox.website_ids[0])
        assert await endpoint.call(zenovay, sandbox.website_ids[0]) == json.loads(
            msgspec.json.encode(given).replace(b',"last_updated":null', b"")
        )


async def test_undocumented_fields_are_sent_beside_the_others_where_results_keep_them(
    sandbox: Sandbox, zenovay: Zenovay
) -> None:
    row = z.DailyStats(date=NOON.date(), total_visitors=3, extra={"bounces": 1})
    sandbox.respond(
        "analytics.overview",
        {"website": {"id": "w"}, "summary": {}, "daily_stats": [row, {"date": "2026-02-08", "new": 2}]},
    )
    overview = await zenovay.analytics.overview(sandbox.website_ids[0])
    assert [day.extra for day in overview.daily_stats] == [{"bounces": 1}, {"new": 2}]
    assert overview.daily_stats[0] == row


@pytest.mark.parametrize(
    ("operation", "given", "message"),
    [
        ("heatmaps.pages", {}, "data: required field is missing: 'pages'; given none"),
        (
            "analytics.overview",
            {"summary": {"unique_visitors": 1}},
            "data: required fields are missing: 'website', 'daily_stats'; given 'summary'",
        ),
        ("heatmaps.pages", {"page": []}, "data.page: unknown field, did you mean 'pages'?"),
        ("heatmaps.pages", {"pages": [], "zzz": 1}, "data.zzz: unknown field; expected pages"),
        ("heatmaps.pages", [1], "data: expected object, got array; given [1]"),
        ("heatmaps.pages", None, "data: expected object, got null; given None"),
        ("heatmaps.pages", z.CountryList(countries=()), "data: expected a HeatmapPages or a dict, given a CountryList"),
        (
            "heatmaps.pages",
            {"pages": z.HeatmapPages(pages=())},
            "data.pages: expected array, got object; given {'pages': []}",
        ),
        ("heatmaps.pages", {"pages": {5: 1}}, "data.pages: expected names of type str, given 5"),
        ("heatmaps.pages", {"pages": [{1, 2}]}, "data.pages[0]: expected object, got array; given [1, 2]"),
        ("heatmaps.pages", {"pages": [object]}, "data.pages[0]: expected a value that JSON has, given <class 'object'"),
        ("heatmaps.pages", {"pages": [float("nan")]}, "data.pages[0]: expected a value that JSON has, given nan"),
        ("heatmaps.pages", z.HeatmapPages, "expected data or a plain function, given the class HeatmapPages"),
        ("heatmaps.pages", asyncio.sleep, "expected data or a plain function, given the async function sleep"),
        ("websites.get", z.Website(id="w"), "data: expected a WebsiteDetail or a dict, given a Website"),
        ("websites.get", {"id": "w"}, "data.id: unknown field; expected website"),
        (
            "analytics.visitors",
            {"visitors": [], "pagination": {"has_more": 1}},
            "data.pagination.has_more: expected bool, got int; given 1",
        ),
        ("stats.aggregate", {"now": object()}, "data.now: expected a value that JSON has, given <object"),
    ],
)
def test_wrong_data_are_an_error_where_they_are_given(operation: str, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'respond({operation!r}): {message}')}"):
        Sandbox().respond(operation, given)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ({"url": "/", "total_interactions": "many"}, "[0].total_interactions: expected int, got str; given 'many'"),
        ({"url": "/", "total_interactions": 5.5}, "[0].total_interactions: expected int, got float; given 5.5"),
        ({"url": "/"}, "[0]: required field is missing: 'total_interactions'; given 'url'"),
        ({"urI": "/", "total_interactions": 1}, "[0].urI: unknown field, did you mean 'url'?"),
        (
            {"url": "/", "total_interactions": 1, "last_updated": NOON.replace(tzinfo=None)},
            "[0].last_updated: expected ",
        ),
        ({"url": "/", "total_interactions": 1, "last_updated": "noon"}, "[0].last_updated: invalid RFC3339 "),
    ],
)
def test_a_wrong_field_in_a_list_is_named_with_its_path(page: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"respond('heatmaps.pages'): data.pages{message}")):
        Sandbox().respond("heatmaps.pages", {"pages": [page]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"operation": "heatmap.pages"},
            "operation='heatmap.pages': there is no such operation, did you mean 'heatmaps.pages'?",
        ),
        ({"operation": "x"}, "operation='x': there is no such operation; expected one of usage, websites.list, "),
        ({"operation": ""}, "operation='': there is no such operation; expected one of "),
        ({"website_id": "nobody"}, "website_id='nobody': the sandbox has 3 websites, such as "),
        ({"operation": "usage", "website_id": "nobody"}, "website_id='nobody': usage concerns no single website"),
        ({"times": 0}, "times=0: expected an int >= 1"),
    ],
)
def test_wrong_arguments_are_an_error(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"operation": "heatmaps.pages", "data": pages("/")}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Sandbox().respond(**given | arguments)


async def test_a_misspelled_website_is_an_error_that_names_the_nearest(sandbox: Sandbox) -> None:
    site = sandbox.website_ids[1]
    with pytest.raises(ValueError, match=f"did you mean '{site}'"):
        sandbox.respond("heatmaps.pages", pages("/"), website_id=site[:-1])


async def test_data_are_sent_as_they_were_given_though_they_change_later(sandbox: Sandbox) -> None:
    given = pages("/a")
    sandbox.respond("heatmaps.pages", given)
    given["pages"].clear()
    assert (await data(sandbox, f"/heatmaps/{sandbox.website_ids[0]}/pages"))["pages"][0]["url"] == "/a"


async def test_a_newer_response_goes_first_until_it_is_used_and_one_for_the_website_before_one_for_all(
    sandbox: Sandbox,
) -> None:
    async def url(index: int) -> str:
        found = await data(sandbox, f"/heatmaps/{sandbox.website_ids[index]}/pages")
        return str(found["pages"][0]["url"])

    generated = await url(1)
    sandbox.respond("heatmaps.pages", pages("/one"), website_id=sandbox.website_ids[0])
    assert [await url(0), await url(1)] == ["/one", generated]
    sandbox.respond("heatmaps.pages", pages("/all"))
    sandbox.respond("heatmaps.pages", pages("/newer"), times=2)
    assert [await url(0)] + [await url(1) for _ in range(3)] == ["/one", "/newer", "/newer", "/all"]
    sandbox.reset()
    assert await url(1) == generated


async def test_a_response_is_used_by_no_request_that_does_not_get_it(sandbox: Sandbox) -> None:
    path = f"/heatmaps/{sandbox.website_ids[0]}/pages"
    sandbox.respond("heatmaps.pages", pages("/own"), times=1)
    limited, other = sandbox.add_key("limited", monthly_limit=0), sandbox.add_key("other", website_id="another")
    sandbox.fault(Fault.status(500), times=1)
    statuses = [
        (await get(sandbox, path))[0],
        (await get(sandbox, path, "zv_wrong"))[0],
        (await get(sandbox, path, limited))[0],
        (await get(sandbox, path, other))[0],
        (await get(sandbox, f"{path}?limit=0"))[0],
    ]
    assert statuses == [500, 401, 429, 403, 400]
    assert (await data(sandbox, path))["pages"][0]["url"] == "/own"
    assert (await data(sandbox, path))["pages"][0]["url"] != "/own"


async def test_a_function_gets_the_request_and_returns_its_data(sandbox: Sandbox, zenovay: Zenovay) -> None:
    seen: list[OperationRequest] = []

    def respond(request: OperationRequest) -> z.HeatmapPages:
        seen.append(request)
        return z.HeatmapPages(pages=(z.HeatmapPage(url=f"/{request.website_id}", total_interactions=1),))

    sandbox.respond("heatmaps.pages", respond)
    site = sandbox.website_ids[0]
    assert (await zenovay.heatmaps.pages(site, limit=5)).pages[0].url == f"/{site}"
    (request,) = seen
    assert (request.operation, request.website_id, dict(request.query), request.body) == (
        "heatmaps.pages",
        site,
        {"limit": "5"},
        None,
    )


async def test_a_function_gets_the_question(sandbox: Sandbox) -> None:
    sandbox.respond("query", lambda request: {"question": request.body["question"].upper()})
    status, body, _ = await ask(sandbox, {"question": "Who?"})
    assert (status, body["data"]) == (200, {"question": "WHO?"})


def bad_key(_: OperationRequest) -> Any:
    raise KeyError("absent")


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda _: {"pages": 5}, ValueError, "data.pages: expected array, got int; given 5"),
        (bad_key, KeyError, "absent"),
        (lambda _: pytest.fail("not so"), pytest.fail.Exception, "not so"),
        (lambda _: sys.exit("ended"), SystemExit, "ended"),
    ],
)
@pytest.mark.parametrize("where", ["thread", "loop", "assert"])
async def test_a_function_that_fails_is_a_500_and_the_error_of_the_test(
    function: Any, error: type[BaseException], message: str, where: str
) -> None:
    async def use(sandbox: Sandbox) -> None:
        sandbox.respond("heatmaps.pages", function)
        status, body, _ = await get(sandbox, f"/heatmaps/{sandbox.website_ids[0]}/pages")
        assert (status, body["error"]["code"]) == (500, "GENERIC_ERROR")
        assert body["error"]["message"].startswith(f"The sandbox could not send an own response: {error.__name__}: ")
        assert sandbox.requests[-1].error == body["error"]["message"]
        if where == "assert":
            sandbox.assert_requests(1)

    with pytest.raises(error, match=message):
        if where == "thread":
            with Sandbox() as sandbox:
                await use(sandbox)
        else:
            async with Sandbox() as sandbox:
                await use(sandbox)


async def test_an_error_that_ends_the_block_is_noted_to_come_from_the_function() -> None:
    with pytest.raises(AssertionError) as caught:
        async with Sandbox() as sandbox:
            sandbox.respond("heatmaps.pages", bad_key)
            status, _, _ = await get(sandbox, f"/heatmaps/{sandbox.website_ids[0]}/pages")
            assert status == 200
    assert caught.value.__notes__ == ["In the sandbox, an own response could not be sent: KeyError: 'absent'"]


async def test_after_a_reset_a_failed_function_is_forgotten() -> None:
    async with Sandbox() as sandbox:
        sandbox.respond("usage", bad_key)
        assert (await get(sandbox, "/usage"))[0] == 500
        sandbox.reset()
        assert (await get(sandbox, "/usage"))[0] == 200
        sandbox.assert_own_responses()


def test_an_interrupt_in_a_function_ends_the_test_at_once() -> None:
    def respond(_: OperationRequest) -> Any:
        raise KeyboardInterrupt

    sandbox = Sandbox()

    async def main() -> None:
        async with sandbox:
            sandbox.respond("usage", respond)
            await get(sandbox, "/usage")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    sandbox.assert_own_responses()


async def test_a_list_in_pages_is_sent_in_the_pages_that_are_asked_for(sandbox: Sandbox, zenovay: Zenovay) -> None:
    site = sandbox.website_ids[0]
    sandbox.respond("analytics.visitors", visitors(7))
    page = await data(sandbox, f"/analytics/{site}/visitors?limit=3&offset=3")
    assert [visitor["id"] for visitor in page["visitors"]] == ["v3", "v4", "v5"]
    assert page["pagination"] == {"limit": 3, "offset": 3, "has_more": True}
    assert (await data(sandbox, f"/analytics/{site}/visitors?offset=5"))["pagination"]["has_more"] is False
    assert [visitor.id async for visitor in zenovay.analytics.visitors(site, limit=2)] == [f"v{n}" for n in range(7)]
    assert len((await zenovay.analytics.visitors(site)).visitors) == 7
    sandbox.respond("analytics.visitors", visitors(0))
    assert [visitor async for visitor in zenovay.analytics.visitors(site)] == []


async def test_a_list_in_pages_without_a_documented_position_is_cut_as_well(sandbox: Sandbox, zenovay: Zenovay) -> None:
    example = next(endpoint for endpoint in DOCUMENTED if endpoint.name == "insights.list").body()["data"]
    (first, *_) = example["insights"]
    sandbox.respond("insights.list", {"insights": [first | {"id": f"i{number}"} for number in range(5)]})
    found = [insight.id async for insight in zenovay.insights.list(sandbox.website_ids[0], limit=2)]
    assert found == ["i0", "i1", "i2", "i3", "i4"]
    assert set(await data(sandbox, f"/insights/{sandbox.website_ids[0]}?limit=2")) == {"insights"}


async def test_a_page_that_states_its_position_is_sent_as_it_is(sandbox: Sandbox) -> None:
    given = {**visitors(3), "pagination": {"has_more": True, "offset": 40}}
    sandbox.respond("analytics.visitors", given)
    assert await data(sandbox, f"/analytics/{sandbox.website_ids[0]}/visitors?limit=1&offset=2") == given


async def test_other_lists_are_sent_as_they_are(sandbox: Sandbox) -> None:
    sandbox.respond("heatmaps.pages", pages("/a", "/b", "/c"))
    assert await data(sandbox, f"/heatmaps/{sandbox.website_ids[0]}/pages?limit=1") == pages("/a", "/b", "/c")


async def test_own_responses_are_charged_and_stated_in_the_headers(sandbox: Sandbox) -> None:
    sandbox.respond("query", {"question": "?"})
    url = f"{sandbox.url}/query/{sandbox.website_ids[0]}"
    headers = {"X-API-Key": sandbox.api_key}
    async with aiohttp.request("POST", url, headers=headers, json={"question": "Who?"}) as response:
        assert (response.status, response.headers["X-Usage-Monthly"]) == (200, "3")
