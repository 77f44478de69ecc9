"""Responses are checked for schema drift once a second, and each client logs and emits each drift once."""

from __future__ import annotations

import gc
import itertools
import logging
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from zenovay_async import Event, NotFoundError, SchemaDrift, Zenovay
from zenovay_async._protocol.auth import Auth, Secret
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL
from zenovay_async._protocol.call import Call, Endpoint
from zenovay_async._protocol.decoding import Decoder
from zenovay_async._protocol.leniency import Drift
from zenovay_async._session.drift import DriftReporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioresponses import aioresponses

KEY = "zv_0123456789secret"
AUTH = Auth(Secret(KEY))
NOW = 1_780_000_000.0
URL = f"{DEFAULT_BASE_URL}/new/x"
STRING = Drift("$.data.count", "a string, documented as an integer")
_names = map("Data{}".format, itertools.count())


class Fresh(msgspec.Struct):
    count: int


def new_call(path: str = "x") -> Call[Any]:
    return Endpoint("test.endpoint", path, Decoder(Fresh)).call()


def reporter(on_event: Callable[[Event], None] | None = None) -> DriftReporter:
    return DriftReporter(on_event)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time of day, as sessions see it."""
    clock = SimpleNamespace(now=NOW)
    monkeypatch.setattr("zenovay_async._session.session.time", SimpleNamespace(time=lambda: clock.now))
    return clock


def paths(events: list[Event]) -> list[str]:
    return [event.path for event in events if isinstance(event, SchemaDrift)]


def test_each_drift_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    events: list[Event] = []
    reporting, call = reporter(events.append), new_call()
    other = Drift("$.data.more", "unknown field")
    for drifts in ([STRING], [STRING, other], [other], []):
        reporting.report(call, drifts, AUTH)
    assert paths(events) == ["$.data.count", "$.data.more"]
    assert len(caplog.records) == 2


def test_a_drift_is_reported_once_for_each_endpoint_and_not_for_each_path() -> None:
    events: list[Event] = []
    reporting = reporter(events.append)
    endpoint = Endpoint("test.endpoint", "x/{website_id}", Decoder(Fresh))
    for call in (endpoint.call("a"), endpoint.call("b"), new_call()):
        reporting.report(call, [STRING], AUTH)
    assert [event.call for event in events if isinstance(event, SchemaDrift)] == ["GET x/a", "GET x"]


def test_without_a_listener_drift_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    reporter().report(new_call(), [STRING], AUTH)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_listener_that_raises_stops_no_report() -> None:
    calls: list[Event] = []

    def fail(event: Event) -> None:
        calls.append(event)
        raise LookupError

    reporting = reporter(fail)
    for _ in range(2):
        reporting.report(new_call(), [STRING, Drift("$.data.more", "unknown field")], AUTH)
    assert len(calls) == 4


@pytest.mark.parametrize("key", [KEY, KEY.upper()])
def test_the_key_is_redacted_from_every_report(key: str, caplog: pytest.LogCaptureFixture) -> None:
    events: list[Event] = []
    reporter(events.append).report(new_call(), [Drift(f"$.data.{key}", f"a fraction ({key})")], AUTH)
    assert [(event.path, event.problem) for event in events if isinstance(event, SchemaDrift)] == [
        ("$.data.<secret>", "a fraction (<secret>)")
    ]
    for shown in (repr(events), caplog.text):
        assert "<secret>" in shown
        assert "0123456789" not in shown


def test_each_decoder_is_due_for_a_check_once_a_second() -> None:
    reporting, one, other = reporter(), Decoder(Fresh), Decoder(Fresh)
    times = [0.0, 0.5, 0.99, 1.0, 1.5, 2.0, 60.0, 60.5]
    assert [time for time in times if reporting.is_due(one, NOW + time)] == [0.0, 1.0, 2.0, 60.0]
    assert reporting.is_due(other, NOW + 60.5)
    assert reporter().is_due(one, NOW + 60.5)


def test_memory_is_bounded_however_many_fields_are_new() -> None:
    events: list[Event] = []
    reporting, call = reporter(events.append), new_call()
    for number in range(1200):
        reporting.report(call, [Drift(f"$.data.f{number}", "unknown field")], AUTH)
    assert 0 < len(events) <= 1000
    before = len(events)
    reporting.report(call, [Drift("$.data.one_more", "unknown field")], AUTH)
    assert len(events) == before


def test_memory_is_bounded_however_many_paths_are_deprecated() -> None:
    events: list[Event] = []
    reporting = reporter(events.append)
    for number in range(1200):
        reporting.report_deprecation(new_call(f"{number}/x"), {"Deprecation": "true"}, AUTH)
    assert 0 < len(events) <= 1000


def test_memory_is_bounded_however_many_types_are_decoded() -> None:
    """A program may make a class for each call; no client keeps more than a few hundred of them."""
    reporting = reporter()

    def decode_one_more(number: int) -> weakref.ref[type]:
        made = msgspec.defstruct(next(_names), [("count", int)])
        assert reporting.is_due(Decoder(made), NOW + number)
        return weakref.ref(made)

    classes = [decode_one_more(number) for number in range(600)]
    gc.collect()
    assert sum(reference() is not None for reference in classes) < 500


async def test_a_client_logs_and_emits_each_drift_once(
    canned: aioresponses, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    canned.get(URL, payload={"success": True, "data": {"count": "5"}}, repeat=True)
    async with Zenovay(KEY, on_event=events.append) as zenovay:
        for _ in range(3):
            assert (await zenovay.request("GET", "new/x", result_type=Fresh)).count == 5
            clock.now += 1
    problem = "a string, documented as an integer"
    assert [event for event in events if isinstance(event, SchemaDrift)] == [
        SchemaDrift(operation="request", call="GET new/x", path="$.data.count", problem=problem)
    ]
    assert [record.getMessage() for record in caplog.records] == [
        f"GET new/x: response does not match the documented schema: $.data.count: {problem}"
    ]


async def test_unknown_fields_are_checked_for_once_a_second_for_good(
    canned: aioresponses, clock: SimpleNamespace
) -> None:
    events: list[Event] = []
    async with Zenovay(KEY, on_event=events.append) as zenovay:
        for seconds, more, reported in (
            (0, {}, []),
            (0.9, {"more": 1}, []),
            (1, {"more": 1}, ["$.data.more"]),
            (1.5, {"other": 1}, ["$.data.more"]),
            (2, {"other": 1}, ["$.data.more", "$.data.other"]),
        ):
            clock.now = NOW + seconds
            canned.get(URL, payload={"success": True, "data": {"count": 5, **more}})
            await zenovay.request("GET", "new/x", result_type=Fresh)
            assert paths(events) == reported


async def test_an_error_response_does_not_delay_the_next_check(canned: aioresponses, clock: SimpleNamespace) -> None:
    events: list[Event] = []
    canned.get(URL, status=404, payload={"success": False, "error": {"message": "m", "code": "NOT_FOUND"}})
    canned.get(URL, payload={"success": True, "data": {"count": 5, "more": 1}})
    async with Zenovay(KEY, on_event=events.append) as zenovay:
        with pytest.raises(NotFoundError):
            await zenovay.request("GET", "new/x", result_type=Fresh)
        clock.now += 0.5
        await zenovay.request("GET", "new/x", result_type=Fresh)
    assert paths(events) == ["$.data.more"]
