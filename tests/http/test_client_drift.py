"""Schema drift belongs to the client: its listener hears each drift that it meets, once."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from helpers import URL, make_client, unique_key

from zenovay_async import Event, SchemaDrift, Zenovay

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioresponses import aioresponses

DRIFTED: dict[str, Any] = {
    "success": True,
    "data": {"pages": [{"url": "/", "total_interactions": "5", "last_updated": "2026-02-07T12:00:00Z"}]},
}


def drifts(events: list[Event]) -> list[SchemaDrift]:
    return [event for event in events if isinstance(event, SchemaDrift)]


async def test_each_client_hears_the_drift_that_it_meets_once(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    canned.get(URL, payload=DRIFTED, repeat=True)
    heard: list[list[Event]] = [[], []]
    # One key, and so one budget, which makes no difference to the drift.
    key = unique_key()
    async with (
        Zenovay(key, rate_limit=None, on_event=heard[0].append) as one,
        Zenovay(key, rate_limit=None, on_event=heard[1].append) as two,
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
    lambda zenovay: zenovay.with_options(api_key=unique_key()),
]


@pytest.mark.parametrize("make_sibling", OPTIONS, ids=["timeout", "auth and rate limit", "another key"])
async def test_siblings_with_one_listener_report_a_drift_once(
    canned: aioresponses, make_sibling: Callable[[Zenovay], Zenovay]
) -> None:
    canned.get(URL, payload=DRIFTED, repeat=True)
    heard: list[Event] = []
    async with make_client(on_event=heard.append) as zenovay:
        await make_sibling(zenovay).heatmaps.pages("x")
        await zenovay.heatmaps.pages("x")
        await make_sibling(zenovay).heatmaps.pages("x")
    assert len(drifts(heard)) == 1


async def test_a_sibling_with_its_own_listener_hears_the_drift_itself(canned: aioresponses) -> None:
    canned.get(URL, payload=DRIFTED, repeat=True)
    heard: list[Event] = []
    heard_by_sibling: list[Event] = []
    async with make_client(on_event=heard.append) as zenovay:
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


async def test_types_to_decode_to_are_not_kept(canned: aioresponses) -> None:
    """A client that decodes to ever new types does not keep them all."""
    canned.get(URL, payload={"success": True, "data": {}}, repeat=True)
    types: list[weakref.ref[type]] = []
    async with make_client() as zenovay:
        for number in range(500):
            result_type = msgspec.defstruct(f"Result{number}", [])
            types.append(weakref.ref(result_type))
            await zenovay.request("GET", "heatmaps/x/pages", result_type=result_type)
        gc.collect()
        assert types[0]() is None
