"""Progress off a terminal: ``--progress``."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import IDS, PAGES, is_summary, main_at, on_terminal, read_terminal

from zenovay_async.cli import main
from zenovay_async.cli.failures import FailureReporter
from zenovay_async.cli.log_lines import LogFormat, LogLines
from zenovay_async.cli.progress import ProgressReporter
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox


def reporter_of(total: int | None, kind: Any = "auto", log_format: LogFormat = "text") -> ProgressReporter:
    lines = LogLines(log_format)
    return ProgressReporter(total, kind=kind, bar=True, lines=lines, failures=FailureReporter(lines))


@pytest.mark.looptime
async def test_off_a_terminal_there_is_a_line_a_minute_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter_of(2000) as reporter:
        for _ in range(39):
            for _ in range(30):
                reporter.advance()
            await asyncio.sleep(60)
        await asyncio.sleep(1)
        reporter.summarize()
    *lines, last = capsys.readouterr().err.splitlines()
    assert len(lines) == 39
    assert lines[0] == "30 of 2,000 websites, 0 failed, 30/min, about 66 minutes left"
    assert lines[-1] == "1,170 of 2,000 websites, 0 failed, 30/min, about 28 minutes left"
    assert last == "1,170 websites in 2,341.0 s, 30/min, 0 failed"


@pytest.mark.looptime
async def test_a_run_that_only_waits_has_its_line_a_minute_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter_of(2000) as reporter:
        await asyncio.sleep(121)
        reporter.record_failure("x", ValueError("no"))
        for _ in range(299):
            reporter.advance()
        await asyncio.sleep(60)
    assert capsys.readouterr().err.splitlines() == [
        "0 of 2,000 websites, 0 failed, 0/min",
        "0 of 2,000 websites, 0 failed, 0/min",
        "x: no",
        "300 of 2,000 websites, 1 failed, 2/s, about 17 minutes left",
    ]


@pytest.mark.looptime
async def test_the_rate_is_that_of_late_and_without_results_of_an_earlier_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with reporter_of(10_000) as reporter:
        for _ in range(5000):
            reporter.advance(replayed=True)
        for _ in range(600):
            reporter.advance()
        for _ in range(8):
            await asyncio.sleep(60)
            for _ in range(30):
                reporter.advance()
        await asyncio.sleep(60)
        reporter.summarize()
    *_, line, last = capsys.readouterr().err.splitlines()
    assert line == "5,840 of 10,000 websites, 0 failed, 30/min, about 2 hours left"
    assert last == "5,840 websites (5,000 of an earlier run) in 540.0 s, 2/s, 0 failed"


@pytest.mark.looptime
async def test_where_the_number_of_websites_is_unknown_none_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter_of(None) as reporter:
        reporter.advance()
        await asyncio.sleep(61)
    assert capsys.readouterr().err == "1 website, 0 failed, 1/min\n"


@pytest.mark.looptime
@pytest.mark.parametrize(("kind", "lines"), [("auto", 2), ("log", 2), ("bar", 1), ("none", 0)])
async def test_progress_is_as_chosen(kind: str, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A bar that cannot be drawn leaves the line at the end."""
    with reporter_of(2, kind) as reporter:
        await asyncio.sleep(61)
        reporter.advance()
        reporter.summarize()
    assert len(capsys.readouterr().err.splitlines()) == lines


@pytest.mark.looptime
async def test_no_line_of_progress_comes_after_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter_of(2, "log") as reporter:
        reporter.clear()
        await asyncio.sleep(200)
    assert capsys.readouterr().err == ""


@pytest.mark.looptime
async def test_progress_in_json_has_its_numbers_as_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter_of(40, log_format="json") as reporter:
        for _ in range(30):
            reporter.advance()
        await asyncio.sleep(61)
    line = json.loads(capsys.readouterr().err)
    assert line.pop("at")
    assert line == {
        "level": "info",
        "message": "30 of 40 websites, 0 failed, 30/min, about 20 seconds left",
        "done": 30,
        "total": 40,
        "failed": 0,
        "replayed": 0,
        "per_minute": 30.0,
        "seconds_left": 20,
    }


async def test_lines_come_while_the_first_response_does_not(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zenovay_async.cli.progress._INTERVAL", 0.01)
    sandbox.fault(Fault.latency(0.2), times=3)
    assert await main_at(sandbox, monkeypatch, *IDS) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "0 of 3 websites, 0 failed, 0/min"
    assert is_summary(lines[-1], 3)


@pytest.mark.parametrize("kind", ["auto", "log", "bar"])
def test_a_run_that_goes_well_off_a_terminal_is_one_line(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--progress", kind]) == 0
    assert is_summary(capsys.readouterr().err, 3)


def test_without_progress_a_run_that_goes_well_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--progress", "none"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*PAGES, "nobody", "--sandbox", "3", "--progress", "none"]) == 1
    assert re.fullmatch("nobody: Website not found .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("kind", ["log", "none"])
def test_a_terminal_has_no_bar_where_none_is_wanted(kind: str) -> None:
    with on_terminal("--sandbox", "20", "--progress", kind) as (process, parent, _):
        seen = read_terminal(parent, until=b"0 failed" if kind == "log" else b"\\r?\\n(.*\\r?\\n){20}")
        assert process.wait() == 0
    assert "\u2501".encode() not in seen
    assert (b"20 websites in " in seen) == (kind == "log")
