"""Every Python block of docs/observability.md runs, and does what the page says."""

from __future__ import annotations

import ast
import inspect
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from helpers import ROOT, python_blocks

from zenovay_async import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    NotFoundError,
    ServerReachable,
    ServerUnreachable,
    Wait,
    Zenovay,
)
from zenovay_async.events import CallEvent
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from zenovay_async.sandbox import Sandbox

PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
BLOCKS = python_blocks("observability.md")
# The tests of a source distribution may run without them.
NEEDS = {
    "structlog": "structlog",
    "Count requests and measure latency": "prometheus_client",
    "OpenTelemetry": "opentelemetry.sdk",
}


@pytest.fixture(autouse=True)
def _environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Blocks set up the logging of the whole process."""
    root = logging.getLogger()
    names = [name for name in root.manager.loggerDict if name.startswith("zenovay_async")]
    loggers = [root, logging.getLogger("zenovay_async"), *map(logging.getLogger, names)]
    before = [(logger, logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    yield
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


@pytest.fixture
async def names(sandbox: Sandbox) -> AsyncIterator[dict[str, Any]]:
    """What the page takes for granted."""
    async with Zenovay() as zenovay:
        yield {"zenovay": zenovay, "website_id": sandbox.website_ids[0]}


async def run(title: str, names: dict[str, Any]) -> None:
    """Run the blocks of a section as a notebook would."""
    if title in NEEDS:
        pytest.importorskip(NEEDS[title])
    for block in BLOCKS[title]:
        code = compile(
            block, f"docs/observability.md: {title}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        ran = eval(code, names)  # noqa: S307 - our own page
        if inspect.isawaitable(ran):
            await ran


def logged(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def requests_in(text: str) -> list[dict[str, Any]]:
    return [line for line in logged(text) if line["logger"] == "zenovay_async.http"]


@pytest.mark.parametrize("title", BLOCKS)
async def test_every_section_runs_by_itself(title: str, names: dict[str, Any]) -> None:
    await run(title, names)


async def test_a_call_is_explained_as_the_page_shows(
    names: dict[str, Any], sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.fault(Fault.status(502), times=1)
    await run("Why was a call slow?", names)
    succeeded, failed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"0\.0 s attempt 1: 502 in .+; waited .+; attempt 2: 200 in .+", succeeded)
    assert re.fullmatch(r"0\.0 s attempt 1: 404 in .+", failed)


async def test_slow_calls_alone_are_logged(names: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    await run("Why was a call slow?", names)
    assert not caplog.records
    event: Any = CallEnded(
        call_id=1,
        operation="usage",
        method="GET",
        template="usage",
        call="GET usage",
        outcome="succeeded",
        seconds=28.0,
        status=200,
        error=None,
        request_id=None,
        cost=1,
        cache=None,
        history=(),
        waits=(),
    )
    names["log_slow_calls"](event)
    assert caplog.messages == ["GET usage took 28.0 s: 0.0 s no request was sent"]


async def test_the_metrics_count_requests_calls_and_waits_without_a_website(
    names: dict[str, Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run("Count requests and measure latency", names)
    registry, site = names["registry"], sandbox.website_ids[0]
    sandbox.fault(Fault.status(502), times=1)
    monkeypatch.setattr("zenovay_async._session.retry.wait_random_exponential", lambda **_: lambda _: 0.01)
    async with Zenovay(on_event=names["measure"], rate_limit=None) as zenovay:
        response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(site)
        with pytest.raises(NotFoundError):
            await zenovay.heatmaps.pages("gone")

    def count(name: str, **labels: str) -> float | None:
        value: float | None = registry.get_sample_value(name, labels)
        return value

    requests = {
        status: count("zenovay_request_seconds_count", operation="heatmaps.pages", status=status)
        for status in ("200", "404", "502")
    }
    assert requests == {"200": 2, "404": 1, "502": 1}
    outcome = {"operation": "heatmaps.pages", "cache": "none"}
    assert count("zenovay_call_seconds_count", outcome="succeeded", **outcome) == 2
    assert count("zenovay_call_seconds_count", outcome="failed", **outcome) == 1
    waited = sum(wait.seconds for attempt in response.history for wait in attempt.waits if wait.reason == "backoff")
    assert waited > 0
    assert count("zenovay_wait_seconds_total", reason="backoff") == pytest.approx(waited)
    assert (count("zenovay_quota_remaining") or 0) > 0
    exported = names["generate_latest"](registry).decode()
    assert site not in exported
    assert sandbox.api_key not in exported
    queried = set(re.findall(r"\bzenovay_\w+", PAGE.partition("| panel |")[2].partition("###")[0]))
    assert {name for name in queried if f"{name}{{" not in exported} == set()


async def test_what_calls_in_flight_together_waited_for_is_counted_once(names: dict[str, Any]) -> None:
    await run("Count requests and measure latency", names)
    fields: dict[str, Any] = {"call_id": 1, "operation": "o", "method": "GET", "template": "t", "call": "GET t"}
    fields |= {"outcome": "canceled", "seconds": 5.0, "status": None, "error": None, "request_id": None, "cost": 1}
    for cache in (None, "joined"):
        names["measure"](CallEnded(**fields, cache=cache, history=(), waits=(Wait("rate_limit", 5.0),)))
    assert names["registry"].get_sample_value("zenovay_wait_seconds_total", {"reason": "rate_limit"}) == 5


async def test_each_request_is_a_line_of_json_with_its_fields(
    names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    await run("JSON", names)
    (line,) = requests_in(capsys.readouterr().err)
    (shown,) = logged(re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)[0])
    assert list(line) == list(shown)
    assert {**line, **dict.fromkeys(("at", "message", "call", "request_id", "seconds"))} == {
        **shown,
        **dict.fromkeys(("at", "message", "call", "request_id", "seconds")),
    }
    shape = re.sub(r"[\da-f]{8}(-[\da-f-]+)?|0\.\d{3}", "_", shown["message"])
    assert re.sub(r"[\da-f]{8}(-[\da-f-]+)?|0\.\d{3}", "_", line["message"]) == shape


async def test_what_a_listener_raises_is_json_as_well(
    names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise ValueError("a slip")

    await run("JSON", names)
    capsys.readouterr()
    await names["zenovay"].with_options(on_event=fail).usage()
    lines = logged(capsys.readouterr().err)
    assert "ValueError: a slip" in lines[0]["traceback"]


async def test_structlog_shows_the_message_and_the_fields(
    names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    await run("structlog", names)
    (line,) = requests_in(capsys.readouterr().err)
    assert re.search(r"/pages: HTTP 200 in ", line["event"])
    assert (line["operation"], line["status"], line["attempt"]) == ("heatmaps.pages", 200, 1)
    assert (line["level"], line["logger"]) == ("debug", "zenovay_async.http")


async def test_the_health_endpoint_says_what_is_known_and_sends_no_request(
    names: dict[str, Any], sandbox: Sandbox
) -> None:
    await run("A health endpoint", names)
    app = names["app"]
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://site") as client,
    ):
        fresh = (await client.get("/health")).json()
        assert (fresh["server"], fresh["last_call"], fresh["quota_remaining"]) == ("unknown", None, None)
        await app.state.zenovay.usage()
        served = (await client.get("/health")).json()
        assert served["server"] == "reachable"
        assert (served["last_call"]["operation"], served["last_call"]["status"]) == ("usage", 200)
        assert served["quota_remaining"] > 0
        assert served["rate_limit_remaining"] >= 0
        app.state.health.on_event(ServerUnreachable(kind="failing", reason="Bad gateway", status=502))
        assert (await client.get("/health")).json()["server"] == "failing"
        app.state.health.on_event(ServerReachable(seconds=1.0))
        assert (await client.get("/health")).json()["server"] == "reachable"
    assert sandbox.count() == 1


@pytest.mark.parametrize("event", [CallStarted, AttemptStarted, AttemptEnded, CallEnded])
def test_the_table_of_events_has_each_with_its_fields(event: type[CallEvent]) -> None:
    row = re.search(rf"(?m)^\| `{event.__name__}` \| .+? \| (.+) \|$", PAGE)
    assert row is not None
    own = [name for name in event.__struct_fields__ if name not in CallEvent.__struct_fields__]
    assert re.findall(r"`(\w+)`", row[1]) == own


async def test_spans_are_printed_as_the_page_shows(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    await run("OpenTelemetry", names)
    section = PAGE.partition("\n## OpenTelemetry\n")[2].partition("\n### ")[0]
    assert re.findall(r"```text\n(.+?)```", section, re.DOTALL) == [capsys.readouterr().out]
