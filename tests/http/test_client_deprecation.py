"""The end of an endpoint belongs to the client: it logs and emits what responses announce, once for each operation."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from helpers import URL, make_client, unique_key

from zenovay_async import APIStatusError, Cache, EndpointDeprecated, Event, Zenovay
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL
from zenovay_async.cli import main
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioresponses import aioresponses

    from zenovay_async.sandbox import Sandbox

JULY, YEAR_END = datetime(2026, 7, 1, tzinfo=UTC), datetime(2027, 12, 31, 23, 59, tzinfo=UTC)
PAGE = "https://docs.example/changes"
DEPRECATED = Fault.deprecated(JULY, YEAR_END, PAGE)
GOOD = {"success": True, "data": {"pages": []}}
OLD = {"Deprecation": "true"}


def deprecations(events: list[Event]) -> list[EndpointDeprecated]:
    return [event for event in events if isinstance(event, EndpointDeprecated)]


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_each_operation_is_reported_once_with_what_to_do(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    site, other = sandbox.website_ids[:2]
    sandbox.fault(DEPRECATED, path="/heatmaps")
    sandbox.fault(Fault.deprecated(), path="/usage")
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None, on_event=events.append) as zenovay:
        for website_id in (site, other, site):
            await zenovay.heatmaps.pages(website_id)
            await zenovay.websites.get(website_id)
            await zenovay.usage()
    call = f"GET heatmaps/{site}/pages"
    assert deprecations(events) == [
        EndpointDeprecated(operation="heatmaps.pages", call=call, deprecated_at=JULY, sunset_at=YEAR_END, link=PAGE),
        EndpointDeprecated(
            operation="usage",
            call="GET usage",
            deprecated_at=datetime(2026, 1, 1, tzinfo=UTC),
            sunset_at=None,
            link=None,
        ),
    ]
    advice = "update zenovay-async, or ask the support of the API what replaces it"
    announced = "the API announces that this endpoint is deprecated"
    assert warnings_in(caplog) == [
        f"{call}: {announced} from 2026-07-01 on and ends on 2027-12-31 23:59 UTC; {advice}: {PAGE}",
        f"GET usage: {announced} from 2026-01-01 on; {advice}",
    ]


async def test_the_headers_are_those_of_the_whole_response(zenovay: Zenovay, sandbox: Sandbox) -> None:
    sandbox.fault(DEPRECATED)
    response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(sandbox.website_ids[0])
    assert response.data.pages
    assert response.headers["deprecation"] == "@1782864000"
    assert response.headers["sunset"] == "Fri, 31 Dec 2027 23:59:00 GMT"


@pytest.mark.parametrize("status", [404, 410, 429, 500])
async def test_an_error_announces_it_as_well(canned: aioresponses, status: int) -> None:
    events: list[Event] = []
    canned.get(URL, status=status, headers={"Sunset": "Fri, 31 Dec 2027 23:59:00 GMT"}, repeat=True)
    async with make_client(on_event=events.append, max_attempts=1) as zenovay:
        for _ in range(2):
            with pytest.raises(APIStatusError) as caught:
                await zenovay.heatmaps.pages("x")
            assert caught.value.status == status
    (event,) = deprecations(events)
    assert (event.deprecated_at, event.sunset_at) == (None, YEAR_END)


async def test_two_clients_report_it_once_each(canned: aioresponses, caplog: pytest.LogCaptureFixture) -> None:
    """Also with one key, and so one budget; a client without responses reports nothing."""
    canned.get(URL, payload=GOOD, headers=OLD, repeat=True)
    emitted: list[list[Event]] = [[], [], []]
    key = unique_key()
    one, two, idle = (Zenovay(key, rate_limit=None, on_event=events.append) for events in emitted)
    async with one, two, idle:
        for zenovay in (one, two, one, two):
            await zenovay.heatmaps.pages("x")
    assert [len(deprecations(events)) for events in emitted] == [1, 1, 0]
    assert len(warnings_in(caplog)) == 2


SIBLINGS: list[Callable[[Zenovay], Zenovay]] = [
    lambda zenovay: zenovay.with_options(timeout=5),
    lambda zenovay: zenovay.with_options(api_key=unique_key()),
]


@pytest.mark.parametrize("make_sibling", SIBLINGS, ids=["timeout", "another key"])
async def test_siblings_with_one_listener_report_it_once_together(
    canned: aioresponses, make_sibling: Callable[[Zenovay], Zenovay], caplog: pytest.LogCaptureFixture
) -> None:
    canned.get(URL, payload=GOOD, headers=OLD, repeat=True)
    events: list[Event] = []
    async with make_client(on_event=events.append) as zenovay:
        for client in (make_sibling(zenovay), zenovay, make_sibling(zenovay)):
            await client.heatmaps.pages("x")
    assert len(deprecations(events)) == len(warnings_in(caplog)) == 1


async def test_without_a_listener_it_is_logged(canned: aioresponses, caplog: pytest.LogCaptureFixture) -> None:
    canned.get(URL, payload=GOOD, headers=OLD)
    async with make_client() as zenovay:
        await zenovay.heatmaps.pages("x")
    (warning,) = warnings_in(caplog)
    assert "GET heatmaps/x/pages: the API announces that this endpoint is deprecated; update" in warning


async def test_a_listener_that_raises_does_not_stop_the_call(canned: aioresponses) -> None:
    def fail(event: Event) -> None:
        raise LookupError(event)

    canned.get(URL, payload=GOOD, headers=OLD)
    async with make_client(on_event=fail) as zenovay:
        assert (await zenovay.heatmaps.pages("x")).pages == ()


async def test_the_parts_of_the_api_that_are_called_by_path_are_told_apart(canned: aioresponses) -> None:
    events: list[Event] = []
    for path in ("goals/a", "goals/b", "funnels/a"):
        canned.get(f"{DEFAULT_BASE_URL}/{path}", payload={"success": True, "data": {}}, headers=OLD)
    async with make_client(on_event=events.append) as zenovay:
        for path in ("goals/a", "goals/b", "funnels/a"):
            await zenovay.request("GET", path)
    assert [event.call for event in deprecations(events)] == ["GET goals/a", "GET funnels/a"]


async def test_headers_that_say_nothing_report_nothing(canned: aioresponses, caplog: pytest.LogCaptureFixture) -> None:
    """And do not hide what a later response announces."""
    events: list[Event] = []
    for headers in ({"Deprecation": "false"}, {"Sunset": "soon"}, {"Link": f'<{PAGE}>; rel="deprecation"'}, OLD):
        canned.get(URL, payload=GOOD, headers=headers)
    async with make_client(on_event=events.append) as zenovay:
        for reported in (0, 0, 0, 1):
            await zenovay.heatmaps.pages("x")
            assert len(deprecations(events)) == len(warnings_in(caplog)) == reported


async def test_the_key_is_redacted_and_no_control_reaches_the_log(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    key = "zv_0123456789secret"
    events: list[Event] = []
    links = (f"<https://docs.example/?key={key.upper()}>; rel=sunset", "<https://docs.example/\x1b[2J>; rel=sunset")
    for link in links:
        canned.get(URL, payload=GOOD, headers={**OLD, "Link": link})
    for _ in links:
        async with Zenovay(key, rate_limit=None, on_event=events.append) as zenovay:
            await zenovay.heatmaps.pages("x")
    assert [event.link for event in deprecations(events)] == ["https://docs.example/?key=<secret>", None]
    assert "0123456789" not in f"{events!r}{caplog.text}"
    assert "\x1b" not in caplog.text


async def test_a_response_that_was_kept_reports_nothing_and_the_next_request_does(sandbox: Sandbox) -> None:
    events: list[Event] = []
    site, cache = sandbox.website_ids[0], Cache(ttl=60)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, cache=cache, on_event=events.append) as zenovay:
        await zenovay.heatmaps.pages(site)
        sandbox.fault(DEPRECATED)
        await zenovay.heatmaps.pages(site)
        assert deprecations(events) == []
        await zenovay.with_options(max_age=0).heatmaps.pages(site)
    assert len(deprecations(events)) == 1


async def test_the_command_line_prints_it_once(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    sandbox.fault(DEPRECATED)
    assert await asyncio.to_thread(main, ["heatmaps", "pages", *sandbox.website_ids, "--format", "json"]) == 0
    assert capsys.readouterr().err.count("this endpoint is deprecated from 2026-07-01 on and ends on") == 1
