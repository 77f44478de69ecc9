"""The sandbox responds as the API's documentation says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from endpoints import ENDPOINTS
from sandbox_calls import ask, data, get

from zenovay_async.sandbox.routes import ROUTES
from zenovay_async.sandbox.routing import Router

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox
    from zenovay_async.sandbox.keys import Plan
    from zenovay_async.sandbox.routing import ApiRequest


async def test_responses_carry_the_documented_envelope_and_headers(sandbox: Sandbox) -> None:
    status, body, headers = await get(sandbox, f"/heatmaps/{sandbox.website_ids[0]}/pages?limit=1")
    assert status == 200
    assert set(body) == {"success", "data", "timestamp"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
    assert set(body["data"]["pages"][0]) == {"url", "total_interactions", "last_updated"}
    assert {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-Usage-Monthly", "X-Usage-Limit"} <= set(headers)
    assert {"X-Usage-Reset", "X-Usage-Total", "x-request-id"} <= {*headers, *map(str.lower, headers)}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/heatmaps/{id}/pages?limit=0", 400, "VALIDATION_ERROR"),
        ("/heatmaps/{id}/pages?limit=101", 400, "VALIDATION_ERROR"),
        ("/heatmaps/{id}/pages?limit=ten", 400, "VALIDATION_ERROR"),
        ("/analytics/{id}?range=2d", 400, "VALIDATION_ERROR"),
        ("/insights/{id}?range=1y", 400, "VALIDATION_ERROR"),
        ("/insights/{id}?type=rumour", 400, "VALIDATION_ERROR"),
        ("/insights/{id}?severity=high", 400, "VALIDATION_ERROR"),
        ("/anomalies/{id}?severity=", 400, "VALIDATION_ERROR"),
        ("/anomalies/{id}?severity=Critical", 400, "VALIDATION_ERROR"),
        ("/anomalies/{id}?resolved=True", 400, "VALIDATION_ERROR"),
        ("/errors/{id}/groups?status=open", 400, "VALIDATION_ERROR"),
        ("/heatmaps/nobody/pages", 404, "NOT_FOUND"),
        ("/nothing", 404, "NOT_FOUND"),
        ("/stats/aggregate", 400, "MISSING_SITE_ID"),
        ("/stats/timeseries?site_id=", 400, "MISSING_SITE_ID"),
        ("/stats/breakdown?site_id=nobody", 404, "NOT_FOUND"),
    ],
)
async def test_wrong_requests_get_the_documented_errors(sandbox: Sandbox, path: str, status: int, code: str) -> None:
    got, body, _ = await get(sandbox, path.format(id=sandbox.website_ids[0]))
    assert (got, body["error"]["code"], body["success"]) == (status, code, False)


@pytest.mark.parametrize("context", [{"compare_to": "last_week"}, {"compare_to": ""}, {"time_range": "1y"}, [], "7d"])
async def test_a_question_in_an_undocumented_context_is_rejected(sandbox: Sandbox, context: Any) -> None:
    status, body, _ = await ask(sandbox, {"question": "Who?", "context": context})
    assert (status, body["error"]["code"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(("plan", "status"), [("enterprise", 200), ("scale", 200), ("pro", 403)])
async def test_a_question_costs_three_and_needs_the_scale_plan(sandbox: Sandbox, plan: Plan, status: int) -> None:
    key = sandbox.add_key(plan, plan=plan)
    got, _, headers = await ask(sandbox, {"question": "Who?"}, key)
    assert (got, headers["X-Usage-Monthly"]) == (status, "3")


async def test_a_filter_returns_the_matching_rows_and_no_others(sandbox: Sandbox) -> None:
    site = sandbox.website_ids[0]
    for path, name, field, values in (
        ("insights", "type", "type", ("anomaly", "trend", "recommendation", "prediction")),
        ("insights", "severity", "severity", ("info", "warning", "critical")),
        ("anomalies", "severity", "severity", ("info", "warning", "critical")),
        ("anomalies", "metric", "metric_name", ("visitors", "page_views", "bounce_rate", "error_rate")),
        ("anomalies", "resolved", "is_resolved", ("true", "false")),
    ):
        whole = (await data(sandbox, f"/{path}/{site}?range=90d&limit=200"))[path]
        found: list[Any] = []
        for value in values:
            some = (await data(sandbox, f"/{path}/{site}?range=90d&limit=200&{name}={value}"))[path]
            assert {str(row[field]).lower() for row in some} <= {value}
            found += some
        assert sorted(row["id"] for row in found) == sorted(row["id"] for row in whole)


@pytest.mark.parametrize("path", ["/websites/{}", "/analytics/{}", "/insights/{}", "/stats/aggregate?site_id={}"])
async def test_a_key_of_one_website_reads_no_other(sandbox: Sandbox, path: str) -> None:
    own, other = sandbox.website_ids[:2]
    key = sandbox.add_key("own", website_id=own)
    assert (await get(sandbox, path.format(own), key))[0] == 200
    status, body, _ = await get(sandbox, path.format(other), key)
    assert (status, body["error"]["code"]) == (403, "FORBIDDEN")


async def test_pages_of_visitors_have_no_gap_or_overlap(sandbox: Sandbox) -> None:
    site = sandbox.website_ids[0]
    ids: list[str] = []
    more = True
    while more:
        _, body, _ = await get(sandbox, f"/analytics/{site}/visitors?range=24h&limit=300&offset={len(ids)}")
        ids += [visitor["id"] for visitor in body["data"]["visitors"]]
        more = body["data"]["pagination"]["has_more"]
    _, overview, _ = await get(sandbox, f"/analytics/{site}?range=24h")
    assert len(set(ids)) == len(ids) == overview["data"]["summary"]["total_visitors"]


async def test_the_openapi_document_needs_no_key(sandbox: Sandbox) -> None:
    async with aiohttp.request("GET", f"{sandbox.url}/openapi.json") as response:
        assert (await response.json())["openapi"] == "3.1.0"


@pytest.mark.parametrize("path", [path for path, methods in ROUTES.openapi()["paths"].items() if "get" in methods])
async def test_each_listed_path_is_served(sandbox: Sandbox, path: str) -> None:
    site = sandbox.website_ids[0]
    assert await data(sandbox, f"{path.format(website_id=site)}?site_id={site}")


async def test_malformed_json_is_rejected(sandbox: Sandbox) -> None:
    url = f"{sandbox.url}/query/{sandbox.website_ids[0]}"
    headers = {"X-API-Key": sandbox.api_key}
    async with aiohttp.request("POST", url, headers=headers, data=b"{") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("body", [[], {}, {"question": ""}, {"question": 1}, {"question": "x" * 501}])
async def test_a_question_has_1_to_500_characters(sandbox: Sandbox, body: Any) -> None:
    status, response, _ = await ask(sandbox, body)
    assert (status, response["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_the_free_plan_has_no_api_access(sandbox: Sandbox) -> None:
    status, body, _ = await get(sandbox, "/usage", sandbox.add_key("free", plan="free"))
    assert (status, body["code"]) == (403, "API_PAID_PLAN_REQUIRED")


async def test_a_key_of_one_website_lists_that_website(sandbox: Sandbox) -> None:
    own = sandbox.website_ids[1]
    _, body, _ = await get(sandbox, "/websites", sandbox.add_key("own", website_id=own))
    assert ([website["id"] for website in body["data"]["websites"]], body["data"]["total"]) == ([own], 1)


async def test_a_route_is_served_charged_and_listed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decorated function is all that a new endpoint needs."""
    routes = Router()

    @routes.route("/goals/{website_id}/steps/{step_id}", operation="goals.step", cost=2)
    def _step(request: ApiRequest) -> dict[str, Any]:
        return {"website": request.website_id, "step": request.arguments["step_id"]}

    for module in ("api", "server"):
        monkeypatch.setattr(f"zenovay_async.sandbox.{module}.ROUTES", routes)
    site = sandbox.website_ids[0]
    status, body, headers = await get(sandbox, f"/goals/{site}/steps/one")
    assert (status, body["data"], headers["X-Usage-Monthly"]) == (200, {"website": site, "step": "one"}, "2")
    assert (await get(sandbox, "/goals/nobody/steps/one"))[0] == 404
    _, document, _ = await get(sandbox, "/openapi.json")
    assert document["paths"] == {"/goals/{website_id}/steps/{step_id}": {"get": {}}}


def test_the_openapi_document_lists_every_endpoint() -> None:
    paths = ROUTES.openapi()["paths"]
    assert paths.keys() == {endpoint.path for endpoint in ENDPOINTS}
    assert paths["/query/{website_id}"] == {"post": {}}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/usage"), ("GET", "/query/x"), ("GET", "/websites/"), ("GET", "/heatmaps//pages"), ("GET", "/usage/x")],
)
def test_another_method_or_path_matches_no_route(method: str, path: str) -> None:
    assert ROUTES.match(method, path) is None
