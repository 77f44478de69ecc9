"""``--log-format json``: every line on standard error is one JSON object."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import EVIL, IDS, PAGES, main_at, on_terminal, read_terminal

from zenovay_async import (
    QuotaThresholdReached,
    RateLimited,
    SchemaDrift,
    ServerReachable,
    ServerUnreachable,
    SharedBudgetBack,
    SharedBudgetLost,
)
from zenovay_async._limits.reports import report_pause
from zenovay_async._protocol.log_fields import event_fields
from zenovay_async.cli import main
from zenovay_async.cli.log_lines import LogLines
from zenovay_async.cli.messages import MessageReporter
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path


def logged(text: str) -> list[Any]:
    """The lines, each of which has a time with its zone and a level."""
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert list(line)[:3] == ["at", "level", "message"]
        assert datetime.fromisoformat(line["at"]).tzinfo is not None
        assert line["level"] in {"info", "warning", "error"}
    return lines


def test_a_run_that_goes_well_is_one_line_with_its_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--log-format", "json"]) == 0
    (line,) = logged(capsys.readouterr().err)
    assert line["level"] == "info"
    assert line["message"].startswith("3 websites in ")
    assert (line["done"], line["total"], line["failed"]) == (3, 3, 0)
    assert line["seconds"] >= 0


def test_a_website_that_failed_is_an_error_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "nobody", IDS[0], "..", "--sandbox", "3", "--log-format", "json"]) == 1
    lines = logged(capsys.readouterr().err)
    assert [line["level"] for line in lines] == ["error", "error", "info"]
    by_id = {line.get("website_id"): line for line in lines}
    assert by_id["nobody"]["message"].startswith("nobody: Website not found")
    assert (by_id["nobody"]["error"], by_id["nobody"]["status"]) == ("NotFoundError", 404)
    assert (by_id["nobody"]["code"], by_id["nobody"]["attempts"]) == ("NOT_FOUND", 1)
    assert "status" not in by_id[".."]


async def test_the_error_that_ends_a_run_has_its_exit_code(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["-o", str(tmp_path / "out"), "--max-requests", "2", "--log-format", "json"]
    assert await main_at(sandbox, monkeypatch, *IDS, *options) == 4
    stopped, kept, error = logged(capsys.readouterr().err)
    assert (stopped["level"], stopped["done"], stopped["total"]) == ("warning", 2, 3)
    assert stopped["message"] == "stopped: 2 of 3 done, 0 failed"
    assert (kept["level"], kept["kept"]) == ("info", 2)
    assert (error["level"], error["error"], error["exit_code"]) == ("error", "BatchStoppedError", 4)
    assert error["message"].startswith("Stopped after 2 requests (--max-requests 2)")


@pytest.mark.parametrize("command", ["usage --base-url x", "heatmaps pages x --ids-from /nowhere/x"])
def test_an_error_before_the_first_request_is_json_as_well(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_x")
    assert main([*command.split(), "--log-format", "json"]) == 2
    (line,) = logged(capsys.readouterr().err)
    assert (line["level"], line["error"], line["exit_code"]) == ("error", "ConfigurationError", 2)
    assert not line["message"].startswith("zenovay-async")


def test_an_error_in_the_options_themselves_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--log-format", "json", "--format", "xml"]) == 2
    assert capsys.readouterr().err.startswith("zenovay-async: ")


def test_events_and_warnings_are_json_on_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with MessageReporter(5.0, LogLines("json")) as reporter:
        reporter.on_event(ServerUnreachable(kind="failing", reason="Bad gateway", status=502))
        reporter.on_event(ServerReachable(seconds=12.3))
        reporter.on_event(RateLimited(seconds=45.0, from_server=True))
        reporter.on_event(QuotaThresholdReached(used=80, limit=100, percent=80))
        logging.getLogger("zenovay_async").warning("one\ntwo")
        logging.getLogger("zenovay_async").error("three")
    lines = logged(capsys.readouterr().err)
    assert [line["level"] for line in lines] == ["warning", "info", "warning", "warning", "warning", "error"]
    assert (lines[0]["event"], lines[0]["status"]) == ("ServerUnreachable", 502)
    assert (lines[1]["event"], lines[1]["seconds"]) == ("ServerReachable", 12.3)
    assert (lines[2]["event"], lines[2]["seconds"]) == ("RateLimited", 45.0)
    assert (lines[3]["used"], lines[3]["limit"]) == (80, 100)
    assert [line["message"] for line in lines[4:]] == ["one\ntwo", "three"]


def test_the_store_of_the_budget_is_a_line_with_its_fields_when_it_is_lost_and_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lost = SharedBudgetLost(reason="Refused", members=2, limit=15)
    with MessageReporter(5.0, LogLines("json")) as reporter:
        logging.getLogger("zenovay_async.sharing").warning("lost", extra=event_fields(lost))
        reporter.on_event(lost)
        reporter.on_event(SharedBudgetBack(seconds=12.34))
    first, second = logged(capsys.readouterr().err)
    assert (first["event"], first["members"], first["limit"]) == ("SharedBudgetLost", 2, 15)
    assert (second["event"], second["seconds"]) == ("SharedBudgetBack", 12.3)


def test_a_line_of_the_log_has_its_logger_and_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    drift = SchemaDrift(operation="usage", call="GET usage", path="$.data", problem="expected an object")
    with MessageReporter(5.0, LogLines("json")):
        logging.getLogger("zenovay_async.drift").warning("drift of %s", "usage", extra=event_fields(drift))
    (line,) = logged(capsys.readouterr().err)
    assert (line["logger"], line["message"]) == ("zenovay_async.drift", "drift of usage")
    fields = {name: line[name] for name in ("operation", "call", "path", "problem")}
    assert {"event_type": line["event"], **fields} == event_fields(drift)
    assert "event_type" not in line


@pytest.mark.parametrize(("window", "pause"), [(60.0, 60.0), (5.0, 5.0)], ids=["long", "short"])
def test_a_time_beyond_the_window_is_one_line_with_its_fields(
    window: float, pause: float, capsys: pytest.CaptureFixture[str]
) -> None:
    with MessageReporter(5.0, LogLines("json")) as reporter:
        report_pause(reporter.on_event, pause, 7200.0, window)
    (line,) = logged(capsys.readouterr().err)
    assert line["message"].startswith("Rate limited for 7200 s, longer than the window of ")
    assert (line["level"], line["logger"]) == ("warning", "zenovay_async.limits")
    assert (line["seconds"], line["retry_after"]) == (pause, 7200.0)


def test_text_of_strangers_is_whole_and_cannot_move_a_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    LogLines("json").write(f"{EVIL}é\ud800", website_id=f"{EVIL}\x85")
    printed = capsys.readouterr().err
    (line,) = logged(printed)
    assert (line["message"], line["website_id"]) == (f"{EVIL}é\ufffd", f"{EVIL}\x85")
    assert printed.count("\n") == 1
    assert printed.rstrip("\n").isprintable()


def test_no_line_has_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "sk-0123456789secret")
    LogLines("json").write("zv_0123456789 sk-0123456789secret", website_id="sk-0123456789secret")
    (line,) = logged(capsys.readouterr().err)
    assert (line["message"], line["website_id"]) == ("<secret> <secret>", "<secret>")


def test_a_terminal_has_json_and_no_bar() -> None:
    with on_terminal("nobody", "--sandbox", "20", "--log-format", "json") as (process, parent, _):
        seen = read_terminal(parent, until=rb"1 failed.*\n")
        assert process.wait() == 1
    assert b"\x1b" not in seen
    assert [line["failed"] for line in logged(seen.decode()) if "failed" in line] == [1]


async def test_ctrl_c_is_json_as_well() -> None:
    async with Sandbox(websites=40, rate_limit=30) as sandbox:
        env = {"ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
        options = ["--format", "csv", "-o", "/dev/null", "--log-format", "json"]

        def shown() -> bytes:
            with on_terminal(*sandbox.website_ids, *options, env=env) as (process, parent, _):
                # The wait for the rate limit.
                seen = read_terminal(parent, until=rb"\n")
                process.send_signal(signal.SIGINT)
                seen += read_terminal(parent, until=rb"interrupted: .*\n")
                assert process.wait() == 130
                return seen

        lines = logged((await asyncio.to_thread(shown)).decode())
    assert lines[-1]["level"] == "warning"
