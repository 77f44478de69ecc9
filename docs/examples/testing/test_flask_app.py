"""Tests of the Flask application, and of a client without any framework."""

import asyncio

import pytest
from flask_app import app

from zenovay_async import Zenovay
from zenovay_async.sandbox import Sandbox
from zenovay_async.testing import NoWaits


def test_visitors_of_last_week(zenovay_sandbox: Sandbox) -> None:
    response = app.test_client().get(f"/visitors/{zenovay_sandbox.website_ids[0]}")
    assert response.json is not None
    assert response.json["visitors"] > 0


def test_an_unknown_website_is_a_404(zenovay_sandbox: Sandbox) -> None:
    assert app.test_client().get("/visitors/nobody").status_code == 404
    zenovay_sandbox.assert_requests(1)


@pytest.mark.zenovay(websites=90, plan="pro", rate_limit=30)
def test_a_run_over_all_websites(zenovay: Zenovay, zenovay_sandbox: Sandbox, zenovay_no_waits: NoWaits) -> None:
    async def run() -> int:
        async with zenovay.batch(zenovay_sandbox.website_ids, zenovay.heatmaps.pages) as results:
            return sum([result.error is None async for result in results])

    assert asyncio.run(run()) == 90
    zenovay_sandbox.assert_no_429()
    assert zenovay_no_waits.skipped > 60
