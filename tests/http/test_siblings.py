"""Clients made by ``with_options``: what they share, what is their own, and which drift each listener hears."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from zenovay_async import AuthenticationError, Event, SchemaDrift, Zenovay
from zenovay_async._protocol.auth import DEFAULT_BASE_URL

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioresponses import aioresponses

    from zenovay_async.sandbox import Sandbox

URL = f"{DEFAULT_BASE_URL}/heatmaps/x/pages"
DRIFTED: dict[str, Any] = {
    "success": True,
    "data": {"pages": [{"url": "/", "total_interactions": "5", "last_updated": "2026-02-07T12:00:00Z"}]},
}


def test_siblings_share_connections_and_differ_in_their_options() -> None:
    """Siblings share connections, and differ in the options that were given."""
    zenovay = Zenovay("zv_one", timeout=5)
    other = zenovay.with_options(api_key="zv_two", max_attempts=1)
    assert other._transport is zenovay._transport
    assert other._options.timeout == 5
    assert (zenovay._options.max_attempts, other._options.max_attempts) == (4, 1)
    assert other._budget is not zenovay._budget
    assert zenovay.with_options(timeout=None)._budget is zenovay._budget
    assert Zenovay("zv_one")._budget is zenovay._budget


async def test_each_sibling_calls_with_its_own_key(sandbox: Sandbox, zenovay: Zenovay) -> None:
    other = zenovay.with_options(api_key="zv_of_somebody_else")
    await zenovay.heatmaps.pages(sandbox.website_ids[0])
    with pytest.raises(AuthenticationError):
        await other.heatmaps.pages(sandbox.website_ids[0])
    await other.close()
    await zenovay.heatmaps.pages(sandbox.website_ids[0])


def drifts(events: list[Event]) -> list[SchemaDrift]:
    return [event for event in events if isinstance(event, SchemaDrift)]


async def test_each_client_hears_the_drift_that_it_meets_once(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    canned.get(URL, payload=DRIFTED, repeat=True)
    heard: list[list[Event]] = [[], []]
    # One key, and so one budget, which makes no difference to the drift.
    async with (
        Zenovay("zv_drift", rate_limit=None, on_event=heard[0].append) as one,
        Zenovay("zv_drift", rate_limit=None, on_event=heard[1].append) as two,
    ):
        for zenovay in (one, two, one, two):
            assert (await zenovay.heatmaps.pages("x")).pages[0].total_interactions == 5
    for events in heard:
        (drift,) = drifts(events)
        assert (drift.operation, drift.call) == ("heatmaps.pages", "GET heatmaps/x/pages")
        assert drift.path == "$.data.pages[].total_interactions"
    assert caplog.text.count("does not match the documented schema") == 2


OPTIONS: list[Callable[[Zenovay], Zenovay]] = [
    lambda zenovay: zenovay.with_options(timeout=5),
    lambda zenovay: zenovay.with_options(auth="bearer", rate_limit=30),
    lambda zenovay: zenovay.with_options(api_key="zv_drift_two"),
]


@pytest.mark.parametrize("make_sibling", OPTIONS, ids=["timeout", "auth and rate limit", "another key"])
async def test_siblings_with_one_listener_report_a_drift_once(
    canned: aioresponses, make_sibling: Callable[[Zenovay], Zenovay]
) -> None:
    canned.get(URL, payload=DRIFTED, repeat=True)
    heard: list[Event] = []
    async with Zenovay("zv_drift", rate_limit=None, on_event=heard.append) as zenovay:
        await make_sibling(zenovay).heatmaps.pages("x")
        await zenovay.heatmaps.pages("x")
        await make_sibling(zenovay).heatmaps.pages("x")
    assert len(drifts(heard)) == 1


async def test_a_sibling_with_its_own_listener_hears_the_drift_itself(canned: aioresponses) -> None:
    canned.get(URL, payload=DRIFTED, repeat=True)
    heard: list[Event] = []
    heard_by_sibling: list[Event] = []
    async with Zenovay("zv_drift", rate_limit=None, on_event=heard.append) as zenovay:
        sibling = zenovay.with_options(on_event=heard_by_sibling.append)
        for client in (zenovay, sibling, zenovay, sibling):
            await client.heatmaps.pages("x")
    assert (len(drifts(heard)), len(drifts(heard_by_sibling))) == (1, 1)


async def test_a_drift_shows_no_key_of_any_sibling(canned: aioresponses, caplog: pytest.LogCaptureFixture) -> None:
    """A server that echoes the key as the name of a field does not get it into an event or the log."""
    heard: list[Event] = []
    async with Zenovay("zv_secret_one", rate_limit=None, on_event=heard.append) as zenovay:
        for client, key in (
            (zenovay, "zv_secret_one"),
            (zenovay.with_options(api_key="zv_secret_two"), "zv_secret_two"),
        ):
            data = {"pages": [], key: 1}
            canned.get(URL, payload={"success": True, "data": data})
            # Any other body is compared with the schema once a second at most; this one does not decode as it is.
            canned.get(URL, payload={"success": True, "data": {**DRIFTED["data"], key: 1}})
            await client.heatmaps.pages("x")
            await client.heatmaps.pages("x")
    assert any("<secret>" in drift.path for drift in drifts(heard))
    assert "zv_secret" not in repr(heard)
    assert "zv_secret" not in caplog.text
