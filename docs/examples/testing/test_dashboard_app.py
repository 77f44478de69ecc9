"""Tests of the dashboard, whose code they do not touch."""

from collections.abc import Iterator

import httpx
import pytest
from dashboard_app import app
from fastapi.testclient import TestClient

from zenovay_async.sandbox import Fault, Sandbox
from zenovay_async.testing import NoWaits


@pytest.fixture
def browser(zenovay_sandbox: Sandbox) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def test_the_busiest_page_comes_first(browser: TestClient, zenovay_sandbox: Sandbox) -> None:
    site = zenovay_sandbox.website_ids[0]
    page = {"url": "/pricing", "total_interactions": 17, "last_updated": "2026-02-07T10:00:00Z"}
    zenovay_sandbox.respond("heatmaps.pages", {"pages": [page]}, website_id=site)
    pages = browser.get(f"/top/{site}").json()["pages"]
    assert (pages[0]["url"], pages[0]["total_interactions"]) == ("/pricing", 17)
    zenovay_sandbox.assert_requests(1)


def test_an_unknown_website_is_a_404(browser: TestClient) -> None:
    assert browser.get("/top/nobody").status_code == 404


def test_visitors_are_asked_to_come_later(browser: TestClient, zenovay_sandbox: Sandbox) -> None:
    zenovay_sandbox.fault(Fault.rate_limited("30"))
    response = browser.get(f"/top/{zenovay_sandbox.website_ids[0]}")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "30")


def test_a_short_pause_is_waited_out(browser: TestClient, zenovay_sandbox: Sandbox, zenovay_no_waits: NoWaits) -> None:
    zenovay_sandbox.fault(Fault.rate_limited("3"), times=1)
    assert browser.get(f"/top/{zenovay_sandbox.website_ids[0]}").status_code == 200
    assert zenovay_no_waits.skipped > 2


@pytest.mark.asyncio
@pytest.mark.zenovay(websites=1)
async def test_without_a_thread_for_the_application(zenovay_sandbox: Sandbox) -> None:
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app.example") as browser:
            response = await browser.get(f"/top/{zenovay_sandbox.website_ids[0]}")
    assert len(response.json()["pages"]) == 3
