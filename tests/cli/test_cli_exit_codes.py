"""Exit codes, which schedulers act on: each with what it means."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

import pytest
from cli_helpers import COMMAND, IDS, PAGES, run, run_at
from cli_process import Process

from zenovay_async import Journal
from zenovay_async.cli import main
from zenovay_async.cli.batch_run import BatchRun
from zenovay_async.cli.exit_codes import exit_code_of
from zenovay_async.cli.progress import ProgressReporter
from zenovay_async.cli.writer import Writer
from zenovay_async.exceptions import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    BatchStoppedError,
    ConfigurationError,
    JournalError,
    NotFoundError,
    ServerError,
    ZenovayError,
)
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("x", status=404), 1),
        (APIConnectionError("x"), 1),
        (ConfigurationError("x"), 2),
        (BadRequestError("x", status=400), 2),
        (BatchStoppedError("x"), 4),
        (JournalError("x"), 4),
    ],
)
def test_an_error_that_ends_a_run_has_an_exit_code(error: ZenovayError, code: int) -> None:
    assert exit_code_of(error) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (APIConnectionError("x"), 4),
        (ServerError("x", status=503), 4),
        (NotFoundError("x", status=404), 1),
        (AuthenticationError("x", status=401), 3),
    ],
)
def test_a_list_of_websites_that_may_come_later_is_4(error: ZenovayError, code: int) -> None:
    assert exit_code_of(error, is_batch=True) == code


def test_a_journal_that_is_damaged_needs_somebody_to_look() -> None:
    error, damage = JournalError("x"), sqlite3.DatabaseError("database disk image is malformed")
    error.__cause__, damage.sqlite_errorname = damage, "SQLITE_CORRUPT"
    assert exit_code_of(error) == 2


async def test_success_is_0_and_a_website_that_failed_is_1(sandbox: Sandbox) -> None:
    assert (await run_at(sandbox, *IDS)).returncode == 0
    assert (await run_at(sandbox, *IDS, "nobody")).returncode == 1


def test_invalid_usage_is_2() -> None:
    assert run("--sandbox", "3", "--limit", "1000").returncode == 2
    assert run("--sandbox", "3", "--nonsense").returncode == 2


async def test_a_key_that_is_rejected_is_3_and_so_is_its_plan(sandbox: Sandbox) -> None:
    assert (await run_at(sandbox, *IDS, key="zv_wrong")).returncode == 3
    async with Sandbox(websites=3, plan="free") as free:
        assert (await run_at(free, *IDS)).returncode == 3


async def test_a_quota_that_is_exhausted_is_4_and_next_month_the_run_goes_on(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "out"
    options = ["--format", "ndjson", "--concurrency", "1", "-o", str(file)]
    done = await run_at(sandbox, *IDS, *options, key=sandbox.add_key("small", monthly_limit=2))
    assert done.returncode == 4
    assert f"kept 2 of 3 in {file}.partial; go on with --resume" in done.stderr
    done = await run_at(sandbox, *IDS, *options, "--resume")
    assert done.returncode == 0
    assert sandbox.count(status=200) == 3
    assert {json.loads(line)["website_id"] for line in file.read_text().splitlines()} == set(IDS)


async def test_an_outage_that_lasts_is_4(unused_tcp_port: int) -> None:
    env = {"ZENOVAY_API_KEY": "zv_x", "ZENOVAY_BASE_URL": f"http://127.0.0.1:{unused_tcp_port}"}
    done = await asyncio.to_thread(run, "x", "--max-outage", "0.1", env=env)
    assert done.returncode == 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_a_run_with_128_and_its_number_and_keeps_what_came(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    file, report, failures = tmp_path / "out", tmp_path / "report", tmp_path / "failures"
    options = ["--format", "json", "-o", str(file), "--report", str(report), "--failures", str(failures)]
    async with Sandbox(websites=40, rate_limit=30) as sandbox:
        env = {**os.environ, "ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
        with Process(*PAGES, "..", *sandbox.website_ids, *options, env=env) as process:
            failed, waiting = [await asyncio.to_thread(process.stderr.readline) for _ in range(2)]
            assert failed.startswith(b"..: expected an ID")
            assert waiting.startswith(b"Rate limit of 30 in 60 s reached: waiting ")
            process.send_signal(number)
            errors = await asyncio.to_thread(process.stderr.read)
            assert process.wait() == code
    interrupted, kept = errors.decode().splitlines()
    # Some of the responses may not have come when the wait begins.
    done = json.loads(file.with_name("out.partial").read_text())
    assert 1 < len(done) <= 31
    assert interrupted == f"interrupted: {len(done)} of 41 done, 1 failed"
    assert kept == f"kept {len(done) - 1} of 41 in {file}.partial; go on with --resume"
    assert not file.exists()
    document = json.loads(report.read_text())
    assert (document["done"], document["exit_code"]) == (len(done), code)
    assert document["ended"] is not None
    assert json.loads(failures.read_text())["website_id"] == ".."


async def test_a_run_under_nohup_does_not_end_with_its_terminal() -> None:
    async with Sandbox(websites=40, rate_limit=30) as sandbox:
        env = {**os.environ, "ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
        process = await asyncio.create_subprocess_exec(
            # What nohup does.
            *("sh", "-c", 'trap "" HUP; exec "$@"', "sh", *COMMAND, *sandbox.website_ids),
            env=env,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
        )
        assert process.stderr is not None
        assert b"Rate limit" in await process.stderr.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        await process.communicate()
        assert process.returncode == 143


def raise_before(owner: type, name: str, patch: pytest.MonkeyPatch) -> None:
    """Let this process get SIGTERM whenever a method is called."""
    method = getattr(owner, name)

    def raise_first(*args: object, **options: object) -> object:
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        signal.raise_signal(signal.SIGTERM)
        return method(*args, **options)

    patch.setattr(owner, name, raise_first)


def test_a_second_signal_does_not_disturb_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, report = tmp_path / "out", tmp_path / "report"
    raise_before(Writer, "record_early_end", monkeypatch)
    raise_before(BatchRun, "_write", monkeypatch)
    raise_before(Journal, "__exit__", monkeypatch)
    arguments = [*PAGES, "--sandbox", "3", "--concurrency", "1", "--format", "ndjson"]
    assert main([*arguments, "-o", str(file), "--report", str(report)]) == 143
    assert "; go on with --resume" in capsys.readouterr().err
    assert json.loads(report.read_text())["exit_code"] == 143
    assert not file.with_name("out.journal-wal").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_when_all_is_done_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_before(ProgressReporter, "summarize", monkeypatch)
    assert main([*PAGES, "--sandbox", "3", "--format", "json", "-o", str(tmp_path / "out")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


async def start(command: list[str], *arguments: str, sandbox: Sandbox) -> asyncio.subprocess.Process:
    env = {**os.environ, "ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
    return await asyncio.create_subprocess_exec(
        *command, *arguments, env=env, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
    )


def test_the_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for code in ("0 success", "1 something failed", "2 invalid", "3 rejected", "4 stopped early", "129", "130", "143"):
        assert code in text
