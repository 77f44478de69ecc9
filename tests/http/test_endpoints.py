"""Every endpoint can be called, takes its documented parameters, and returns what its documentation shows."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import parse_qsl

import msgspec
import pytest
from endpoints import BY_NAME, DOCUMENTED, ENDPOINTS, EXAMPLES, OPERATIONS, PAGED, Endpoint, documented_values, named
from helpers import make_client
from hypothesis import given
from hypothesis import strategies as st

import zenovay_async
from zenovay_async import (
    ConfigurationError,
    Event,
    PermissionDeniedError,
    Response,
    ResponseDecodeError,
    SchemaDrift,
    ServerError,
    Zenovay,
)
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL
from zenovay_async._protocol.parameters import encode_query
from zenovay_async.resources.base import Resource
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from aioresponses import aioresponses


def strict_client(**options: Any) -> Zenovay:
    return make_client(strict=True, max_attempts=1, **options)


def required_arguments(endpoint: Endpoint, site: str) -> dict[str, Any]:
    """What a call needs: the website's ID, where it takes one, and a question, where it asks one."""
    arguments = {"website_id": site} if OPERATIONS[endpoint.name].is_per_website else {}
    if endpoint.name.startswith("stats."):
        arguments["site_id"] = site
    if endpoint.name == "query":
        arguments["question"] = "Where from?"
    return arguments


def respond(canned: aioresponses, endpoint: Endpoint, body: Any) -> None:
    canned.add(DEFAULT_BASE_URL + endpoint.path_of("x"), method=endpoint.method, payload=body)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=named)
async def test_every_endpoint_is_called_over_http(sandbox: Sandbox, endpoint: Endpoint) -> None:
    site = sandbox.website_ids[0]
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, strict=True) as zenovay:
        result = await endpoint.call(zenovay, site)
    seen = sandbox.requests[-1]
    assert (seen.method, seen.path) == (endpoint.method, endpoint.path_of(site))
    assert isinstance(result, endpoint.result or dict)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=named)
async def test_every_endpoint_returns_its_whole_response_on_request(sandbox: Sandbox, endpoint: Endpoint) -> None:
    site = sandbox.website_ids[0]
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        method = zenovay.with_raw_response(attrgetter(endpoint.name)(zenovay))
        response = await method(**required_arguments(endpoint, site))
    assert isinstance(response, Response)
    assert isinstance(response.data, endpoint.result or dict)
    assert response.request_id == sandbox.requests[-1].request_id
    assert response.json()["success"] is True


@pytest.mark.parametrize("endpoint", DOCUMENTED, ids=named)
async def test_the_documented_example_decodes_with_no_drift(canned: aioresponses, endpoint: Endpoint) -> None:
    respond(canned, endpoint, endpoint.body())
    async with strict_client() as zenovay:
        result = await endpoint.call(zenovay, "x")
    assert type(result) is endpoint.result
    # The Struct has every field of the example.
    shown = msgspec.to_builtins(result)
    whole = endpoint.body()["data"]
    if endpoint.name == "websites.get":
        whole = whole["website"]
    assert _without_empty(_same_times(shown)) == _without_empty(_same_times(whole))


def _without_empty(value: Any) -> Any:
    """A value without its absent fields: ``None``, and an empty ``extra``."""
    if isinstance(value, dict):
        return {
            name: _without_empty(item)
            for name, item in value.items()
            if item is not None and not (name == "extra" and item == {})
        }
    return [_without_empty(item) for item in value] if isinstance(value, list | tuple) else value


def _same_times(value: Any) -> Any:
    return json.loads(json.dumps(value).replace(".000Z", "Z"))


async def test_the_newest_overview_without_exact_times_and_days_decodes(canned: aioresponses) -> None:
    data = json.loads((EXAMPLES / "analytics-overview.help-2026-06.data.json").read_text())
    canned.get(f"{DEFAULT_BASE_URL}/analytics/x", payload={"success": True, "data": data})
    async with strict_client() as zenovay:
        overview = await zenovay.analytics.overview("x")
    assert overview.summary.total_visitors == 1247
    assert overview.daily_stats == ()
    assert overview.date_range.start_date_time is None


async def test_undocumented_columns_of_a_daily_row_are_in_extra(canned: aioresponses) -> None:
    body = BY_NAME["analytics.overview"].body()
    body["data"]["daily_stats"][1]["bounce_rate"] = 41.2
    canned.get(f"{DEFAULT_BASE_URL}/analytics/x", payload=body)
    async with strict_client() as zenovay:
        days = (await zenovay.analytics.overview("x")).daily_stats
    assert [day.extra for day in days] == [{}, {"bounce_rate": 41.2}]
    assert days[1].page_views == 3451


@pytest.mark.parametrize(("operation", "items"), PAGED.items())
async def test_an_item_requires_only_its_id(canned: aioresponses, operation: str, items: str) -> None:
    endpoint = BY_NAME[operation]
    nulls = dict.fromkeys(endpoint.body()["data"][items][0])
    listed = [{"id": "bare"}, {**nulls, "id": "null"}]
    respond(canned, endpoint, {"success": True, "data": {items: listed}})
    async with strict_client() as zenovay:
        found = getattr(await endpoint.call(zenovay, "x"), items)
    assert [item.id for item in found] == ["bare", "null"]


async def test_undocumented_fields_after_a_list_are_in_extra(canned: aioresponses) -> None:
    body = BY_NAME["query"].body()
    body["data"]["answer_in_words"] = "Mostly Google."
    canned.post(f"{DEFAULT_BASE_URL}/query/x", payload=body)
    async with strict_client() as zenovay:
        assert (await zenovay.query("x", "Where from?")).extra == {"answer_in_words": "Mostly Google."}


PARAMETERS: list[tuple[Any, str]] = [
    (lambda c, site: c.analytics.visitors(site, range="30d", limit=1000, offset=5), "range=30d&limit=1000&offset=5"),
    (lambda c, site: c.analytics.pages(site, range="7d"), "range=7d"),
    (lambda c, site: c.analytics.technology(site, range="7d"), "range=7d"),
    (
        lambda c, site: c.insights.list(site, range="90d", type="trend", severity="info", limit=200),
        "range=90d&type=trend&severity=info&limit=200",
    ),
    (
        lambda c, site: c.anomalies.list(site, severity="critical", metric="visitors", resolved=False),
        "severity=critical&metric=visitors&resolved=false",
    ),
    (lambda c, site: c.anomalies.list(site, resolved=True, limit=1, offset=2), "resolved=true&limit=1&offset=2"),
    (lambda c, site: c.stats.breakdown(site_id=site, property="page", limit=5), "limit=5&property=page&site_id={}"),
]


@pytest.mark.parametrize(("call", "query"), PARAMETERS, ids=[query for _, query in PARAMETERS])
async def test_parameters_are_sent_as_documented(zenovay: Zenovay, sandbox: Sandbox, call: Any, query: str) -> None:
    site = sandbox.website_ids[0]
    await call(zenovay, site)
    assert sandbox.requests[-1].query == query.format(site)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=named)
async def test_every_documented_value_of_a_parameter_is_accepted(
    zenovay: Zenovay, sandbox: Sandbox, endpoint: Endpoint
) -> None:
    """One at a time; the sandbox rejects what is not documented."""
    values = list(documented_values(OPERATIONS[endpoint.name]))
    needed = required_arguments(endpoint, sandbox.website_ids[0])
    for name, value in values:
        await attrgetter(endpoint.name)(zenovay)(**needed, **{name: value})
    assert sandbox.count() == len(values)


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
INVALID: list[tuple[Any, str]] = [
    (lambda c: c.websites.get(""), "website_id='': expected an ID"),
    (lambda c: c.analytics.overview("x", range=""), "range=''"),
    (lambda c: c.analytics.overview("x", range=7), "range=7"),
    (lambda c: c.analytics.visitors("x", limit=1001), "limit=1001"),
    (lambda c: c.analytics.visitors("x", offset=-1), "offset=-1"),
    (lambda c: c.analytics.visitors("x").take(0), "take(0): expected an int >= 1"),
    (lambda c: c.anomalies.list("x", resolved="yes"), "resolved='yes'"),
    (lambda c: c.revenue.ltv("x", granularity=" "), "granularity=' '"),
    (lambda c: c.analytics.visitors("x").take(None), "take(None): expected an int >= 1"),
    (lambda c: c.stats.breakdown(site_id="x", metrics=["visitors"]), "metrics=['visitors']"),
    (lambda c: c.websites.get("\udcff"), r"website_id='\udcff': not valid Unicode"),
    (lambda c: c.analytics.overview("x", range="\udcff"), r"range='\udcff': not valid Unicode"),
    (lambda c: c.query("x", ""), "question=''"),
    (lambda c: c.query("x", None), "question=None"),
    (lambda c: c.query("x", 5), "question=5: expected a non-blank str"),
    (lambda c: c.query("x", "\udcff"), "question: cannot encode this dict as JSON"),
    (lambda c: c.query("x", "?" * 501), "501 characters"),
    (lambda c: c.query("x", "?", compare_to=""), "compare_to=''"),
    (lambda c: c.request("DELETE", "usage"), "method='DELETE'"),
    (lambda c: c.request(["GET"], "usage"), "method=['GET']"),
    (lambda c: c.request("GET", None), "path=None"),
    (lambda c: c.request("GET", b"usage"), "path=b'usage'"),
    (lambda c: c.request("GET", "\udcff"), r"path='\udcff': not valid Unicode"),
    (lambda c: c.stats.breakdown(site_id="\udcff"), r"site_id='\udcff': not valid Unicode"),
    (lambda c: c.request("GET", "usage", cost=-5), "cost=-5"),
    (lambda c: c.request("GET", "usage", cost=0), "cost=0"),
    (lambda c: c.request("GET", "usage", cost="3"), "cost='3'"),
    (lambda c: c.request("GET", "usage", cost=1.5), "cost=1.5"),
    (lambda c: c.request("GET", "usage", cost=True), "cost=True"),
    (lambda c: c.request("GET", "usage", cost=None), "cost=None"),
    (lambda c: c.request("GET", "usage", params=[]), "params=[]"),
    (lambda c: c.request("GET", "usage", params="range=7d"), "params='range=7d'"),
    (lambda c: c.request("GET", "usage", params={7: "days"}), "params={7: 'days'}"),
    (lambda c: c.request("GET", "usage", params={"range": {"days": 7}}), "range={'days': 7}"),
    (lambda c: c.request("POST", "query/x", json=object()), "json: cannot encode this object as JSON"),
    (lambda c: c.request("POST", "query/x", json={"at": object()}), "json: cannot encode this dict as JSON"),
    (lambda c: c.request("POST", "query/x", json=ENDLESS), "json: cannot encode this list as JSON"),
    (lambda c: c.request("GET", "usage", result_type=[int]), "result_type=[<class 'int'>]"),
    (lambda c: c.request("GET", "usage", result_type=Resource), "msgspec does not know this class"),
]


@pytest.mark.parametrize(("call", "named"), INVALID, ids=[name for _, name in INVALID])
async def test_an_invalid_argument_costs_no_request(zenovay: Zenovay, sandbox: Sandbox, call: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(named)):
        await call(zenovay)
    assert sandbox.count() == 0


async def test_an_undocumented_value_is_sent(canned: aioresponses) -> None:
    canned.get(f"{DEFAULT_BASE_URL}/analytics/x?range=5y", payload=BY_NAME["analytics.overview"].body())
    async with strict_client() as zenovay:
        await zenovay.analytics.overview("x", range="5y")


async def test_usage_updates_the_quota_even_without_headers(canned: aioresponses) -> None:
    canned.get(f"{DEFAULT_BASE_URL}/usage", payload=BY_NAME["usage"].body())
    async with strict_client() as zenovay:
        await zenovay.usage()
        assert (zenovay.quota.used, zenovay.quota.limit, zenovay.quota.remaining) == (4521, 100_000, 95_479)


async def test_a_question_is_sent_as_documented(canned: aioresponses) -> None:
    canned.post(f"{DEFAULT_BASE_URL}/query/x", payload=BY_NAME["query"].body())
    wanted = json.loads((EXAMPLES / "query.request.json").read_text())
    async with strict_client() as zenovay:
        await zenovay.query("x", wanted["question"], **wanted["context"])
    ((sent,),) = canned.requests.values()
    assert json.loads(sent.kwargs["data"].decode()) == wanted
    assert sent.kwargs["headers"]["Content-Type"] == "application/json"


async def test_a_question_takes_three_requests_of_the_rate_limit(sandbox: Sandbox) -> None:
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        await zenovay.usage()
        assert zenovay.rate_limit is not None
        before = zenovay.rate_limit.remaining
        await zenovay.query(sandbox.website_ids[0], "Where from?")
        assert before - zenovay.rate_limit.remaining == 3


async def test_a_question_that_may_have_run_is_not_retried(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.status(500), times=1)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        with pytest.raises(ServerError) as caught:
            await zenovay.query(sandbox.website_ids[0], "Where from?")
    assert (caught.value.attempts, sandbox.count()) == (1, 1)


async def test_a_question_needs_the_scale_plan(sandbox: Sandbox) -> None:
    key = sandbox.add_key("starter", plan="pro")
    async with Zenovay(key, base_url=sandbox.url) as zenovay:
        with pytest.raises(PermissionDeniedError):
            await zenovay.query(sandbox.website_ids[0], "Where from?")


class Total(msgspec.Struct):
    """A type of the caller's own."""

    total: int


async def test_an_endpoint_without_a_method_is_called_by_its_path(zenovay: Zenovay, sandbox: Sandbox) -> None:
    typed = await zenovay.request("GET", "websites", result_type=Total)
    assert typed == Total(3)
    plain = await zenovay.request("GET", f"heatmaps/{sandbox.website_ids[0]}/pages", params={"limit": 2})
    assert len(plain["pages"]) == 2


@dataclasses.dataclass
class TotalOfADataclass:
    """Likewise, but no Struct."""

    total: int


class TotalOfATypedDict(TypedDict):
    """Likewise."""

    total: int


async def test_schema_drift_is_coerced_in_structs_and_nothing_else(canned: aioresponses) -> None:
    events: list[Event] = []
    data = [{"total": "3", "new": True}]
    canned.get(f"{DEFAULT_BASE_URL}/totals", payload={"success": True, "data": data}, repeat=True)
    async with make_client(on_event=events.append) as zenovay:
        assert await zenovay.request("GET", "totals", result_type=list[Total]) == [Total(3)]
        paths = [event.path for event in events if isinstance(event, SchemaDrift)]
        assert paths == ["$.data[].total", "$.data[].new"]
        for other in (list[TotalOfADataclass], list[TotalOfATypedDict]):
            with pytest.raises(ResponseDecodeError):
                await zenovay.request("GET", "totals", result_type=other)


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1) | st.integers() | st.floats(allow_nan=False)))
def test_a_free_parameter_keeps_its_name_and_its_value(parameters: dict[str, Any]) -> None:
    assert parse_qsl(encode_query(parameters)) == [(name, str(value)) for name, value in parameters.items()]


def test_a_free_parameter_may_be_true_false_or_omitted() -> None:
    assert encode_query({"a": True, "b": False, "c": None}) == "a=true&b=false"


def test_results_copy_and_compare() -> None:
    page = zenovay_async.HeatmapPages(pages=())
    assert copy.deepcopy(page) == page
