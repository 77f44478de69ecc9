"""A test asserts what the sandbox received, and is shown the requests if it is not so; a 404 says what comes near."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from cli_helpers import controls_in
from sandbox_calls import ask, get

from zenovay_async.sandbox import Fault, RecordedRequest, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_calls_are_the_requests_of_an_operation(sandbox: Sandbox) -> None:
    one, two, _ = sandbox.website_ids
    for path in (
        f"/heatmaps/{one}/pages?limit=2",
        f"/heatmaps/{two}/pages",
        f"/stats/aggregate?site_id={two}",
        "/usage",
    ):
        await get(sandbox, path)
    await ask(sandbox, {"question": "Who?"})
    first, second = sandbox.calls("heatmaps.pages")
    assert (first.website_id, first.query, first.operation, first.fault) == (one, "limit=2", "heatmaps.pages", None)
    assert sandbox.calls("heatmaps.pages", website_id=two) == [second]
    assert [request.website_id for request in sandbox.calls("stats.aggregate")] == [two]
    assert [request.website_id for request in sandbox.calls("usage")] == [None]
    assert [request.method for request in sandbox.calls("query", website_id=one)] == ["POST"]
    assert sandbox.calls("anomalies.list") == []


async def test_requests_that_failed_are_calls_too_with_the_reason(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.status(503), times=1)
    sandbox.fault(Fault.latency(0), times=1)
    for path in ("/usage", "/usage", "/heatmaps/nobody/pages", "/stats/aggregate"):
        await get(sandbox, path)
    faulty, slow = sandbox.calls("usage")
    assert (faulty.status, faulty.fault, faulty.error) == (503, "503", "")
    assert (slow.status, slow.fault, slow.error) == (200, "latency", "")
    (unknown,) = sandbox.calls("heatmaps.pages", website_id="nobody")
    assert unknown.error.startswith("Website not found ('nobody': the sandbox has 3 websites, such as ")
    (missing,) = sandbox.calls("stats.aggregate")
    assert (missing.website_id, missing.error) == (None, "Missing site_id")


@pytest.mark.parametrize(
    "use",
    [
        lambda sandbox: sandbox.calls("heatmap.pages"),
        lambda sandbox: sandbox.count(operation="heatmap.pages"),
        lambda sandbox: sandbox.assert_requests(0, operation="heatmap.pages"),
    ],
)
def test_a_misspelled_operation_is_an_error_rather_than_one_without_requests(use: Callable[[Sandbox], Any]) -> None:
    with pytest.raises(ValueError, match=r"'heatmap\.pages'.* did you mean 'heatmaps\.pages'\?"):
        use(Sandbox())


async def test_the_number_of_requests_is_asserted(sandbox: Sandbox) -> None:
    sandbox.assert_requests(0)
    for path in ("/usage", "/usage?a=1", "/websites"):
        await get(sandbox, path)
    sandbox.assert_requests(3)
    sandbox.assert_requests(2, operation="usage")
    assert sandbox.count(operation="usage", status=200) == 2
    with pytest.raises(AssertionError) as caught:
        sandbox.assert_requests(1, operation="usage")
    assert str(caught.value) == (
        "expected 1 request of usage, received 2:\n  GET /usage -> 200\n  GET /usage?a=1 -> 200"
    )
    with pytest.raises(AssertionError, match=re.escape("expected 2 requests, received 3:\n")):
        sandbox.assert_requests(2)
    with pytest.raises(AssertionError, match=re.escape("expected 1 request of query, received 0:\n  none")):
        sandbox.assert_requests(1, operation="query")


async def test_of_many_requests_the_last_twenty_are_listed(sandbox: Sandbox) -> None:
    for number in range(22):
        await get(sandbox, f"/usage?number={number}")
    with pytest.raises(AssertionError) as caught:
        sandbox.assert_requests(5)
    first, *lines = str(caught.value).splitlines()
    assert first == "expected 5 requests, received 22:"
    assert lines == ["  ... 2 before", *[f"  GET /usage?number={number} -> 200" for number in range(2, 22)]]


async def test_it_is_asserted_that_nothing_was_rate_limited() -> None:
    async with Sandbox(websites=1, rate_limit=1, rate_limit_window=1e6) as sandbox:
        await get(sandbox, "/usage")
        sandbox.assert_no_429()
        await get(sandbox, "/websites")
        sandbox.fault(Fault.rate_limited("7"), times=1)
        await get(sandbox, "/usage?again")
        with pytest.raises(AssertionError) as caught:
            sandbox.assert_no_429()
    first, *lines = str(caught.value).splitlines()
    assert first == "expected no 429, sent 2:"
    assert re.fullmatch(r"  GET /websites -> 429: Rate limit exceeded \(1 requests/minute\).*", lines[0])
    assert lines[1:] == ["  GET /usage?again -> 429 (fault 429)"]


async def test_it_is_asserted_that_nothing_was_paid_for_twice(sandbox: Sandbox) -> None:
    site = sandbox.website_ids[0]
    sandbox.fault(Fault.status(500), times=1)
    for path in ("/websites", "/websites", f"/analytics/{site}?range=7d&a=", f"/analytics/{site}?range=30d&a="):
        await get(sandbox, path)
    for _ in range(2):
        await ask(sandbox, {"question": "Who?"})
        await get(sandbox, "/nothing")
        await get(sandbox, "/openapi.json")
    sandbox.assert_no_repeats()
    await get(sandbox, f"/analytics/{site}?a=&range=7d")
    with pytest.raises(AssertionError) as caught:
        sandbox.assert_no_repeats()
    assert str(caught.value) == f"expected no request twice, repeated 1:\n  GET /analytics/{site}?a=&range=7d -> 200"


async def test_a_recorded_request_is_shown_in_one_line_without_controls(sandbox: Sandbox) -> None:
    url = f"{sandbox.url}/heat%1b%5b2J%0amaps/%e2%80%ae/pages?a=%1b"
    async with aiohttp.request("GET", url, headers={"X-API-Key": sandbox.api_key}) as response:
        assert response.status == 404
        assert controls_in((await response.json())["error"]["message"]) == set()
    (request,) = sandbox.requests
    for text in (str(request), repr(request)):
        assert controls_in(text) == set()
        assert len(text.splitlines()) == 1


def test_a_recorded_request_without_a_response_says_so() -> None:
    request = RecordedRequest("GET", "/usage", "", 0, 1.0, "id", operation="usage", fault="reset")
    assert repr(request) == "<RecordedRequest GET /usage -> no response (fault reset)>"


async def test_faults_for_a_number_of_requests_that_no_request_met_are_known(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.status(500), times=2, path="/websites")
    sandbox.fault(Fault.status(503), times=1, path="/usage")
    sandbox.fault(Fault.latency(0))
    sandbox.fault(Fault.reset(), times=0)
    await get(sandbox, "/usage")
    assert sandbox.unused_faults == ["500, times=2, path='/websites'"]
    await get(sandbox, "/websites")
    assert sandbox.unused_faults == []
    sandbox.fault(Fault.html(), times=1)
    assert sandbox.unused_faults == ["html, times=1"]
    sandbox.clear_faults()
    assert sandbox.unused_faults == []


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/heatmap/{id}/pages", "did you mean GET /api/external/v1/heatmaps/{website_id}/pages?"),
        ("GET", "/heatmaps/{id}/page", "did you mean GET /api/external/v1/heatmaps/{website_id}/pages?"),
        ("GET", "/heatmaps/{id}", "did you mean GET /api/external/v1/heatmaps/{website_id}/pages?"),
        ("GET", "/heatmaps/pages", "did you mean GET /api/external/v1/heatmaps/{website_id}/pages?"),
        ("GET", "/heatmaps//pages", "did you mean GET /api/external/v1/heatmaps/{website_id}/pages?"),
        ("GET", "/website", "did you mean GET /api/external/v1/websites?"),
        ("GET", "/replay/{id}/session", "did you mean GET /api/external/v1/replays/{website_id}/sessions?"),
        ("GET", "/api/external/v1/usage", "it has /api/external/v1 twice"),
        ("GET", "/xyzxyzxyzxyzxyz", "/api/external/v1/openapi.json lists all paths"),
        ("POST", "/usage", "the method is GET"),
        ("GET", "/query/{id}", "the method is POST"),
    ],
)
async def test_a_path_that_is_not_found_is_explained(sandbox: Sandbox, method: str, path: str, message: str) -> None:
    given = path.format(id=sandbox.website_ids[0])
    async with aiohttp.request(method, f"{sandbox.url}{given}", headers={"X-API-Key": sandbox.api_key}) as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (404, "NOT_FOUND")
    assert error["message"] == f"Not found ({method} /api/external/v1{given}: {message})"
    assert sandbox.requests[-1].error == error["message"]


@pytest.mark.parametrize("path", ["/usage", "/api/external/v2/usage", "/api/external/v1"])
async def test_a_path_outside_the_base_path_is_explained(sandbox: Sandbox, path: str) -> None:
    url = sandbox.url.removesuffix("/api/external/v1")
    async with aiohttp.request("GET", f"{url}{path}", headers={"X-API-Key": sandbox.api_key}) as response:
        message = (await response.json())["error"]["message"]
    assert message == f"Not found (GET {path}: paths begin with /api/external/v1, as in the url of the sandbox)"


async def test_a_long_path_is_cut_in_the_message(sandbox: Sandbox) -> None:
    _, body, _ = await get(sandbox, "/" + "x" * 500)
    assert len(body["error"]["message"]) < 200


@pytest.mark.parametrize(
    ("websites", "message"),
    [
        (0, "Website not found ('nobody': the sandbox has 0 websites)"),
        (1, "Website not found ('nobody': the sandbox has 1 website, such as {})"),
        (1_200, "Website not found ('nobody': the sandbox has 1,200 websites, such as {})"),
    ],
)
async def test_a_website_that_is_not_found_is_explained(websites: int, message: str) -> None:
    async with Sandbox(websites=websites) as sandbox:
        _, body, _ = await get(sandbox, "/analytics/nobody")
    assert body["error"]["message"] == message.format(*sandbox.website_ids[:1])


async def test_the_nearest_website_is_named(sandbox: Sandbox) -> None:
    site = sandbox.website_ids[2]
    _, body, _ = await get(sandbox, f"/analytics/{site.upper()[:4]}{site[4:-1]}")
    assert body["error"]["message"].endswith(f": did you mean {site!r}?)")


async def test_a_key_in_a_url_is_not_shown(sandbox: Sandbox) -> None:
    await get(sandbox, f"/usage?api_key={sandbox.api_key}&a=1")
    await get(sandbox, f"/{sandbox.api_key}/usage")
    shown = [str(request) for request in sandbox.requests]
    assert shown[0] == "GET /usage?api_key=zv_...&a=1 -> 200"
    assert not any(sandbox.api_key[3:] in text for text in shown)
