"""The lines of the log, their fields, and who writes them."""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import EVIL, controls_in
from helpers import ROOT, URL, make_client

from zenovay_async import (
    APITimeoutError,
    Cache,
    CacheStoreBack,
    CacheStoreLost,
    EndpointDeprecated,
    Event,
    QuotaExceededError,
    QuotaExhausted,
    QuotaThresholdReached,
    RateLimited,
    RateLimitUpdated,
    RetryScheduled,
    SchemaDrift,
    ServerReachable,
    ServerUnreachable,
    SharedBudgetBack,
    SharedBudgetLost,
    Zenovay,
    ZenovayError,
)
from zenovay_async._protocol.log_fields import event_fields
from zenovay_async.events import CallEvent
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioresponses import aioresponses

    from zenovay_async.sandbox import Sandbox

PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
EMPTY = {"success": True, "data": {"pages": []}}
STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}
LEVELS = {"debug", "info", "warning", "error", "exception"}
LOGGED: list[Event] = [
    RateLimitUpdated(before=30, limit=60),
    RateLimited(seconds=1.0, from_server=True),
    ServerUnreachable(kind="failing", reason="Bad gateway", status=502),
    ServerReachable(seconds=1.0),
    QuotaThresholdReached(used=80, limit=100, percent=80),
    QuotaExhausted(resets_at=datetime(2999, 1, 1, tzinfo=UTC)),
    SharedBudgetLost(reason="Refused", members=2, limit=15),
    SharedBudgetBack(seconds=1.0),
    CacheStoreLost(reason="Refused"),
    CacheStoreBack(seconds=1.0),
    SchemaDrift(operation="usage", call="GET usage", path="$.data", problem="expected an object"),
    EndpointDeprecated(
        operation="usage",
        call="GET usage",
        deprecated_at=datetime(2026, 7, 1, tzinfo=UTC),
        sunset_at=datetime(2026, 12, 31, tzinfo=UTC),
        link="https://docs.example/usage",
    ),
]
"""An event of each kind that the log says as well."""


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


def documented(heading: str) -> list[str]:
    """The names in the first column of the table below a heading of the guide."""
    table = PAGE.partition(f"\n{heading}\n")[2].partition("\n| ")[2].partition("\n\n")[0]
    return [name for row in table.splitlines() for name in re.findall(r"`([\w.]+)`", row.split(" | ")[0])]


def sources() -> Iterator[ast.Module]:
    for path in (ROOT / "zenovay_async").rglob("*.py"):
        yield ast.parse(path.read_text(encoding="utf-8"))


def calls_in(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """The calls in a module, with what is called."""
    return ((ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def lines_in_the_package() -> set[tuple[str, str]]:
    """The logger and the method of each line that is logged."""
    found: set[tuple[str, str]] = set()
    for tree in sources():
        calls = list(calls_in(tree))
        methods = {called.removeprefix("_logger.") for called, _ in calls if called.startswith("_logger.")}
        names = [ast.literal_eval(call.args[0]) for called, call in calls if called == "logging.getLogger"]
        found |= {(name, method) for name in names for method in methods & LEVELS}
    return found


def fields_in_the_package() -> set[str]:
    """The names of the fields that are not those of an event."""
    found: set[str] = set()
    for tree in sources():
        for called, call in calls_in(tree):
            if called in {"call_fields", "attempt_fields"}:
                found |= {keyword.arg for keyword in call.keywords if keyword.arg is not None}
            extra = [keyword.value for keyword in call.keywords if keyword.arg == "extra"]
            found |= {
                ast.literal_eval(key) for value in extra if isinstance(value, ast.Dict) for key in value.keys if key
            }
    return found | {"operation", "call"}


async def test_each_attempt_is_a_debug_line_with_its_fields(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "zenovay_async")
    site = sandbox.website_ids[0]
    sandbox.fault(Fault.status(502), times=1)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None) as zenovay:
        response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(site)
    failed, succeeded = [record for record in caplog.records if record.name == "zenovay_async.http"]
    assert {failed.levelname, succeeded.levelname} == {"DEBUG"}
    first, second = response.history
    assert fields_of(failed) == {
        "operation": "heatmaps.pages",
        "call": f"GET heatmaps/{site}/pages",
        "attempt": 1,
        "status": 502,
        "error": "ServerError",
        "request_id": first.request_id,
        "seconds": pytest.approx(first.seconds, abs=0.01),
    }
    assert fields_of(succeeded) == {
        "operation": "heatmaps.pages",
        "call": f"GET heatmaps/{site}/pages",
        "attempt": 2,
        "status": 200,
        "request_id": second.request_id,
        "seconds": pytest.approx(second.seconds, abs=0.01),
    }
    assert re.search(r": HTTP 502 in 0\.\d{3} s, attempt 1, request \S+$", failed.getMessage())


async def test_an_attempt_without_a_response_is_a_line_as_well(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "zenovay_async.http")
    sandbox.fault(Fault.latency(60))
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=0.2) as zenovay:
        with pytest.raises(APITimeoutError):
            await zenovay.usage()
    (record,) = caplog.records
    assert re.search(r"GET usage: APITimeoutError in 0\.\d{3} s, attempt 1, request without ID$", record.getMessage())
    assert "status" not in fields_of(record)


@pytest.mark.looptime
async def test_a_retry_is_an_info_line_with_the_failed_attempt_and_the_wait(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zenovay_async")
    canned.get(URL, status=500, headers={"x-request-id": "req_1"}, payload={"error": {"message": "Broken"}})
    canned.get(URL, payload=EMPTY)
    async with make_client() as zenovay:
        await zenovay.heatmaps.pages("x")
    (record,) = caplog.records
    fields = fields_of(record)
    assert (record.name, record.levelname) == ("zenovay_async.retry", "INFO")
    assert (fields["event_type"], fields["attempt"], fields["status"]) == ("RetryScheduled", 1, 500)
    assert (fields["request_id"], fields["error"]) == ("req_1", "ServerError")
    assert fields["wait"] >= 0
    assert fields["seconds"] >= 0


async def test_a_response_of_the_cache_has_its_age(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "zenovay_async.cache")
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, cache=Cache(ttl=60)) as zenovay:
        for _ in range(2):
            await zenovay.usage()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("zenovay_async.cache", "DEBUG")
    assert fields_of(record).keys() == {"operation", "call", "status", "age"}


@pytest.mark.looptime
async def test_a_pause_is_an_info_line_and_a_time_beyond_the_window_a_warning(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zenovay_async.limits")
    for seconds in ("20", "7200"):
        canned.get(URL, status=429, headers={"Retry-After": seconds})
    canned.get(URL, payload=EMPTY)
    async with make_client(rate_limit="auto", timeout=None) as zenovay:
        await zenovay.heatmaps.pages("x")
    pause, long_pause = caplog.records
    assert (pause.levelname, long_pause.levelname) == ("INFO", "WARNING")
    assert fields_of(pause) == {"event_type": "RateLimited", "seconds": 20.0, "from_server": True}
    assert fields_of(long_pause) == {"seconds": 60.0, "retry_after": 7200.0}


@pytest.mark.looptime
async def test_the_quota_is_a_warning_when_it_runs_low_and_when_it_is_exhausted(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    reset = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    headers = {"X-Usage-Monthly": "8", "X-Usage-Limit": "10", "X-Usage-Reset": reset.isoformat()}
    canned.get(URL, payload=EMPTY, headers=headers)
    canned.get(URL, status=429, payload={"error": {"code": "MONTHLY_LIMIT_EXCEEDED", "message": "Over"}}, repeat=True)
    async with make_client() as zenovay:
        await zenovay.heatmaps.pages("x")
        for _ in range(2):
            with pytest.raises(QuotaExceededError):
                await zenovay.heatmaps.pages("x")
    low, exhausted = caplog.records
    assert {low.levelname, exhausted.levelname} == {"WARNING"}
    assert fields_of(low) == {"event_type": "QuotaThresholdReached", "used": 8, "limit": 10, "percent": 80}
    assert fields_of(exhausted) == {"event_type": "QuotaExhausted", "resets_at": reset.isoformat()}
    when = reset.isoformat(timespec="minutes")
    assert exhausted.getMessage() == f"Monthly quota exhausted until {when}; calls fail without a request"


async def test_neither_a_key_nor_controls_of_a_server_are_in_a_line_or_a_field(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "zenovay_async")
    key = "zv_0123456789abcdef"
    headers = {"x-request-id": f"{key} \x1b[2J\u202e", "Retry-After": "0"}
    error = {"message": f"{key} {EVIL}", "code": key.upper()}
    for status in (401, 503, 429, 200):
        canned.get(URL, status=status, headers=headers, payload={"error": error})
        canned.get(URL, payload={**EMPTY, f"{key}{EVIL}": f"{key}{EVIL}"}, headers=headers)
    async with Zenovay(key, rate_limit="auto") as zenovay:
        for _ in range(4):
            with contextlib.suppress(ZenovayError):
                await zenovay.heatmaps.pages("x")
    assert {record.levelname for record in caplog.records} >= {"DEBUG", "INFO"}
    for record in caplog.records:
        shown = f"{record.getMessage()} {fields_of(record)}"
        assert "0123456789" not in shown
        assert controls_in(shown) == set()
    assert any("<secret>" in fields_of(record).get("request_id", "") for record in caplog.records)


@pytest.mark.parametrize("event", LOGGED, ids=lambda event: type(event).__name__)
def test_the_fields_of_an_event_are_plain_values(event: Event) -> None:
    fields = event_fields(event)
    assert fields["event_type"] == type(event).__name__
    assert all(isinstance(value, (str, int, float, bool)) for value in fields.values())
    assert json.loads(json.dumps(fields)) == fields


def test_every_event_that_is_logged_is_tried() -> None:
    own = [event for event in Event.__subclasses__() if event.__module__ == Event.__module__]
    of_calls = {CallEvent, RetryScheduled}
    assert {type(event) for event in LOGGED} == {*own} - of_calls


def test_every_logger_is_in_the_guide() -> None:
    used = {name for name, _ in lines_in_the_package()}
    assert sorted(documented("### Loggers")) == sorted(used)


def test_every_level_of_a_logger_is_in_the_guide() -> None:
    levels = {(name, "ERROR" if level == "exception" else level.upper()) for name, level in lines_in_the_package()}
    rows = re.findall(r"(?m)^\| `(zenovay_async[.a-z]*)` \| (.+) \|$", PAGE)
    assert {(name, level) for name, text in rows for level in re.findall(r"`([A-Z]+)`", text)} == levels


def test_every_field_is_in_the_guide_and_no_attribute_of_a_record() -> None:
    fields = documented("### Fields")
    assert sorted(fields) == sorted(
        {*fields_in_the_package(), *(name for event in LOGGED for name in event_fields(event))}
    )
    assert not STANDARD & set(fields)
