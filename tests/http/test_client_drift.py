"""Schema drift belongs to the client: it emits each drift in its responses, once."""

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


async def test_each_client_emits_the_drift_in_its_responses_once(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    """Also with the same key, at the same time or one after the other; a client without responses emits nothing."""
    canned.get(URL, payload=DRIFTED, repeat=True)
    emitted: list[list[Event]] = [[], [], [], []]
    # One key, and so one budget, which makes no difference to the drift.
    key = unique_key()
    async with (
        Zenovay(key, rate_limit=None, on_event=emitted[0].append) as one,
        Zenovay(key, rate_limit=None, on_event=emitted[1].append) as two,
    ):
        for zenovay in (one, two, one, two):
            assert (await zenovay.heatmaps.pages("x")).pages[0].total_interactions == 5
    async with (
        Zenovay(key, rate_limit=None, on_event=emitted[2].append) as three,
        Zenovay(key, rate_limit=None, on_event=emitted[3].append),
    ):
        await three.heatmaps.pages("x")
    for events in emitted[:3]:
        (drift,) = drifts(events)
        assert (drift.operation, drift.call) == ("heatmaps.pages", "GET heatmaps/x/pages")
        assert drift.path == "$.data.pages[].total_interactions"
    assert emitted[3] == []
    assert caplog.text.count("does not match the documented schema") == 3


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
    emitted: list[Event] = []
    async with make_client(on_event=emitted.append) as zenovay:
        await make_sibling(zenovay).heatmaps.pages("x")
        await zenovay.heatmaps.pages("x")
        await make_sibling(zenovay).heatmaps.pages("x")
    assert len(drifts(emitted)) == 1


async def test_each_listener_of_siblings_gets_each_drift_once(canned: aioresponses) -> None:
    """A listener that is given again is the same one."""
    canned.get(URL, payload=DRIFTED, repeat=True)
    shared: list[Event] = []
    own: list[Event] = []
    listener = shared.append
    async with make_client(on_event=listener) as zenovay:
        siblings = [zenovay.with_options(on_event=own.append), zenovay.with_options(on_event=listener)]
        for client in (zenovay, *siblings, zenovay, *siblings):
            await client.heatmaps.pages("x")
    assert (len(drifts(shared)), len(drifts(own))) == (1, 1)


async def test_a_drift_shows_no_key_of_any_sibling(canned: aioresponses, caplog: pytest.LogCaptureFixture) -> None:
    """A server that echoes the key as the name of a field does not get it into an event or the log."""
    emitted: list[Event] = []
    async with Zenovay("zv_secret_one", rate_limit=None, on_event=emitted.append) as zenovay:
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
    assert any("<secret>" in drift.path for drift in drifts(emitted))
    assert "zv_secret" not in repr(emitted)
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
