"""Failures: an exit code for each kind, a sentence on standard error, and never a traceback."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
from subprocess import DEVNULL
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from cli_helpers import IDS, PAGES, is_summary, on_terminal, read_terminal, results_in, run, run_at
from cli_process import Process
from helpers import unique_key
from proxy_server import ProxyServer

from zenovay_async import RateLimited, ServerUnreachable
from zenovay_async.cli import main
from zenovay_async.cli.log_lines import LogLines
from zenovay_async.cli.messages import MessageReporter
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from aioresponses import aioresponses


@pytest.mark.parametrize(
    "arguments",
    [[], ["--limit", "0", "--sandbox", "1"], ["--limit", "x"], ["--format", "xml"], ["--sandbox", "0"], ["--nonsense"]],
)
def test_invalid_usage_is_exit_code_2_and_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("key", ["zv_0123456789secret", "sk-0123456789secret"])
@pytest.mark.parametrize(
    "command",
    [
        "usage {key}",
        "{key}",
        "usage --{key}",
        "usage --timeout {key}",
        "usage --format {key}",
        "usage --base-url {key}",
        "heatmaps pages x --limit {key}",
        "heatmaps pages x --ids-from {key}",
        "heatmaps pages x --output /nowhere/{key}",
        "heatmaps pages {key} --sandbox 1",
        "heatmaps pages a23456789012345678901234567890123456789012345678901234{key} --sandbox 1",
        "heatmaps pages name={key} --sandbox 1 --format ndjson",
        "stats aggregate --param {key}",
    ],
)
def test_a_key_in_the_place_of_another_argument_is_not_shown(
    command: str, key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", key)
    assert main(command.format(key=key).split()) in {1, 2}
    printed = capsys.readouterr()
    assert "<secre" in printed.err
    assert key[:5] not in printed.out + printed.err


async def test_a_key_among_the_ids_is_no_id_and_ends_no_run(sandbox: Sandbox) -> None:
    done = await run_at(sandbox, IDS[0], sandbox.api_key, f"ZENOVAY_API_KEY={sandbox.api_key}", "--format", "ndjson")
    assert done.returncode == 1
    assert len(results_in(done.stdout)) == sandbox.count() == 1
    assert done.stderr.count("<secret>: contains an API key; expected an ID\n") == 2


def test_without_a_key_the_command_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "x"]) == 2
    printed = capsys.readouterr().err
    assert printed == "zenovay-async: ZENOVAY_API_KEY is not set; export ZENOVAY_API_KEY=zv_..., or try --sandbox 3\n"


def test_a_base_url_without_encryption_is_rejected_with_what_the_command_line_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_x")
    assert main(["usage", "--base-url", "http://example.com"]) == 2
    printed = capsys.readouterr().err
    assert printed == (
        "zenovay-async: --base-url 'http://example.com' would send the API key unencrypted; "
        "use https, or --allow-http on a trusted network\n"
    )


async def test_a_rejected_key_is_exit_code_3_and_not_shown(sandbox: Sandbox) -> None:
    env = {"ZENOVAY_API_KEY": "zv_wrong_and_secret", "ZENOVAY_BASE_URL": sandbox.url}
    done = await asyncio.to_thread(run, "x", "y", env=env)
    assert done.returncode == 3
    assert "Invalid API key" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("kind", ["table", "json", "ndjson", "csv"])
async def test_a_quota_exhausted_in_the_middle_is_exit_code_4_and_what_was_paid_is_printed(
    kind: str, sandbox: Sandbox
) -> None:
    key = sandbox.add_key("small", monthly_limit=2)
    done = await run_at(sandbox, "nobody", *IDS, "--format", kind, "--limit", "1", "--concurrency", "1", key=key)
    assert done.returncode == 4
    assert IDS[0] in done.stdout
    assert IDS[1] not in done.stdout
    if kind == "json":
        assert [found.get("error") for found in json.loads(done.stdout)] == ["NotFoundError", None]
    failed, warned, stopped, why = done.stderr.splitlines()
    assert warned == "95 % of the monthly quota used: 2 of 2 requests"
    assert failed.startswith("nobody: Website not found")
    assert stopped == "stopped: 2 of 4 done, 1 failed"
    assert why.startswith("zenovay-async: Monthly limit exceeded")
    assert re.search(r"; the quota resets at \d{4}-\d\d-01 00:00 UTC$", why)


async def test_a_response_that_does_not_come_in_time_is_exit_code_1(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    sandbox.fault(Fault.latency(60))
    assert await asyncio.to_thread(main, ["usage", "--timeout", "0.1"]) == 1
    assert "zenovay-async: " in capsys.readouterr().err


def test_no_server_is_exit_code_4_and_ends_the_run(unused_tcp_port: int) -> None:
    env = {"ZENOVAY_API_KEY": "zv_x", "ZENOVAY_BASE_URL": f"http://127.0.0.1:{unused_tcp_port}"}
    done = run("x", "y", "--max-outage", "0.1", env=env)
    assert done.returncode == 4
    away, stopped, why = done.stderr.splitlines()
    assert re.fullmatch(r"Server unreachable: No connection could be made: .*; waiting up to 0.1 s", away)
    assert stopped == "stopped: 0 of 2 done, 0 failed"
    assert re.fullmatch(r"zenovay-async: No connection could be made: .*; the server has been unreachable for .*", why)
    assert done.stdout == ""


def test_a_single_call_without_a_server_is_exit_code_1(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_x")
    monkeypatch.setenv("ZENOVAY_BASE_URL", f"http://127.0.0.1:{unused_tcp_port}")
    assert main(["usage", "--timeout", "0.2"]) == 1
    away, why = capsys.readouterr().err.splitlines()
    assert away.endswith("; waiting up to 0.2 s")
    assert why.startswith("zenovay-async: No connection could be made")


async def test_a_server_that_is_away_and_back_is_a_line_each_on_standard_error(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}/api/external/v1"
    env = {**os.environ, "ZENOVAY_API_KEY": "zv_x", "ZENOVAY_BASE_URL": url}
    with Process(*PAGES, *IDS, "--format", "ndjson", env=env) as process:
        away = await asyncio.to_thread(process.stderr.readline)
        assert away.startswith(b"Server unreachable: No connection could be made")
        assert away.endswith(b"; waiting up to 300 s\n")
        async with Sandbox(websites=3, port=unused_tcp_port, api_key="zv_x"):
            out, back = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0
    assert len(out.splitlines()) == 3
    reachable, summary = back.decode().splitlines()
    assert re.fullmatch(r"Server reachable again after \d+ s", reachable)
    assert is_summary(summary, 3)


@pytest.mark.parametrize("value", ["-1", "x"])
def test_a_max_outage_that_makes_no_sense_is_exit_code_2(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "x", "--max-outage", value]) == 2
    assert "max-outage" in capsys.readouterr().err


def test_a_reason_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = MessageReporter(5.0, LogLines())
    reporter.on_event(ServerUnreachable(kind="failing", reason="\x1b[2J", status=502))
    assert capsys.readouterr().err == "Server failing: HTTP 502: \ufffd[2J; waiting up to 5 s\n"


def test_a_wait_without_a_bound_names_none(capsys: pytest.CaptureFixture[str]) -> None:
    MessageReporter(float("inf"), LogLines()).on_event(
        ServerUnreachable(kind="unreachable", reason="Refused", status=None)
    )
    assert capsys.readouterr().err == "Server unreachable: Refused; waiting\n"


def test_a_long_wait_for_the_rate_limit_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = MessageReporter(5.0, LogLines())
    for seconds in (9.0, 45.0, 45.5, 44.0):
        reporter.on_event(RateLimited(seconds=seconds, from_server=True))
    printed = capsys.readouterr().err
    assert re.fullmatch(r"Rate limited: the server asked to wait 45 s, until [\d: -]{8,}\n", printed)
    reporter.on_event(RateLimited(seconds=100_000.0, from_server=False))
    assert re.fullmatch(r"Rate limited: waiting 100000 s, until \d{4}-\d\d-\d\d .*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("retry_after", "line"),
    [
        (45, rb"Rate limited: the server asked to wait 45 s, until [\d: -]+\r?\n"),
        (3600, rb"Rate limited for 3600 s, longer than the window of 60 s; trying again in \d+ s, at [\d: -]+\r?\n"),
    ],
)
@pytest.mark.parametrize("terminal", [True, False])
async def test_a_run_that_is_rate_limited_for_long_says_so_at_once(
    terminal: bool,  # noqa: FBT001 - from a table
    retry_after: int,
    line: bytes,
    sandbox: Sandbox,
) -> None:
    sandbox.fault(Fault.rate_limited(retry_after=str(retry_after)))
    env = {"ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}

    def errors() -> bytes:
        if terminal:
            with on_terminal(*IDS, env=env) as (process, parent, _):
                seen = read_terminal(parent, until=line)
                process.send_signal(signal.SIGINT)
                seen += read_terminal(parent, until=b"interrupted: ")
                process.wait()
                return seen
        with Process(*PAGES, *IDS, env={**os.environ, **env}) as process:
            seen = process.stderr.readline()
            process.send_signal(signal.SIGINT)
            return seen + process.stderr.read()

    printed = await asyncio.to_thread(errors)
    assert re.search(line, printed)
    assert printed.count(b"Rate limit") == 1


async def test_a_run_that_waits_for_its_own_pace_says_so_once() -> None:
    async with Sandbox(websites=40, rate_limit=30) as sandbox:
        env = {**os.environ, "ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}

        def errors() -> bytes:
            with Process(*PAGES, *sandbox.website_ids, stdout=DEVNULL, env=env) as process:
                seen = process.stderr.readline()
                process.send_signal(signal.SIGINT)
                return seen + process.stderr.read()

        first, last = (await asyncio.to_thread(errors)).splitlines()
    assert re.fullmatch(rb"Rate limit of 30 in 60 s reached: waiting \d+ s, until [\d: -]+", first)
    assert last.startswith(b"interrupted: ")


async def test_a_parameter_that_the_server_rejects_is_invalid_usage(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    sandbox.fault(Fault.status(400, "Unknown range", "VALIDATION_ERROR"))
    assert await asyncio.to_thread(main, ["stats", "aggregate", "--param", "range=3d"]) == 2
    assert capsys.readouterr().err.startswith("zenovay-async: Unknown range")


def test_http_to_another_machine_has_an_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], canned: aioresponses
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    canned.get("http://sandbox:8787/websites", payload={"success": True, "data": {"websites": []}})
    command = ["websites", "list", "--base-url", "http://sandbox:8787", "--format", "json"]
    assert main(command) == 2
    assert main([*command, "--allow-http"]) == 0
    assert json.loads(capsys.readouterr().out)["websites"] == []


async def test_a_proxy_is_an_option(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    async with ProxyServer(urlsplit(sandbox.url).netloc) as proxy:
        assert await asyncio.to_thread(main, ["usage", "--proxy", proxy.url]) == 0
        assert len(proxy.forwarded) == 1
    command = ["usage", "--proxy", "ftp://user:password@proxy.example"]
    assert await asyncio.to_thread(main, command) == 2
    assert "password" not in capsys.readouterr().err


def test_a_warning_is_printed_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("zenovay_async")
    with MessageReporter(5.0, LogLines()):
        logger.warning("one\n\x1b[2J")
        logger.info("two")
    assert capsys.readouterr().err == "one\n\ufffd[2J\n"
