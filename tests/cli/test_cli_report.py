"""``--report FILE``: what a run did, however it ended."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import IDS, PAGES, contents, main_at, run_at
from cli_process import Process

from zenovay_async import Journal
from zenovay_async.cli import main
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox


def report_in(file: Path) -> Any:
    return json.loads(file.read_text())


async def test_a_report_has_what_the_run_did(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.json"
    sandbox.fault(Fault.bad_gateway(), times=1)
    assert await main_at(sandbox, monkeypatch, *IDS, "nobody", "..", "--report", str(file)) == 1
    report = report_in(file)
    assert datetime.fromisoformat(report.pop("started")) <= datetime.fromisoformat(report.pop("ended"))
    assert report.pop("p50") <= report.pop("p95")
    assert report.pop("waited") >= 0
    assert report.pop("quota_remaining") > 0
    assert report == {
        "done": 5,
        "succeeded": 3,
        "failed": {"NotFoundError": 1, "ValueError": 1},
        "replayed": 0,
        "skipped": 0,
        "requests": 5,
        "retries": 1,
        "rate_limited": 0,
        "error": None,
        "message": None,
        "exit_code": 1,
    }
    assert file.read_text().endswith("}\n")
    assert list(contents(tmp_path)) == ["report.json"]


async def test_a_run_that_stops_early_has_a_report_and_so_has_the_one_that_goes_on(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "report"
    options = ["-o", str(tmp_path / "out"), "--report", str(file)]
    assert await main_at(sandbox, monkeypatch, *IDS, *options, "--max-requests", "2") == 4
    report = report_in(file)
    assert (report["done"], report["requests"], report["exit_code"]) == (2, 2, 4)
    assert report["error"] == "BatchStoppedError"
    assert "(--max-requests 2)" in report["message"]
    assert await main_at(sandbox, monkeypatch, *IDS, *options, "--resume") == 0
    report = report_in(file)
    assert (report["done"], report["replayed"], report["requests"], report["exit_code"]) == (3, 2, 1, 0)


@pytest.mark.parametrize("problem", ["--ids-from /nowhere/ids", "--resume", "--base-url x", "--limit 1000"])
def test_a_run_that_sends_nothing_has_a_report_as_well(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_x")
    file = tmp_path / "report"
    file.write_text("of yesterday")
    assert main([*PAGES, "x", "--report", str(file), *problem.split()]) == 2
    report = report_in(file)
    assert (report["requests"], report["exit_code"]) == (0, 2)
    assert report["started"] <= report["ended"]


async def test_a_run_that_is_refused_leaves_the_report_of_the_one_that_goes_on(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, output = tmp_path / "report", tmp_path / "out"
    file.write_text("of the run that goes on")
    with Journal(tmp_path / "out.journal"):
        output.with_name("out.partial").write_text("x")
        for option in ("--resume", "--restart", "--timeout=30"):
            assert await main_at(sandbox, monkeypatch, *IDS, "-o", str(output), "--report", str(file), option) == 2
    assert file.read_text() == "of the run that goes on"


async def test_a_run_that_is_killed_leaves_a_report_without_an_end(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "report"
    sandbox.fault(Fault.latency(60), path=IDS[0])
    env = {**os.environ, "ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
    with Process(*PAGES, IDS[0], "nobody", "--report", str(file), env=env) as process:
        await asyncio.to_thread(process.stderr.readline)
    report = report_in(file)
    assert report["started"]
    assert (report["ended"], report["exit_code"]) == (None, None)


async def test_a_report_that_cannot_be_written_is_invalid_usage_before_a_request(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "missing" / "x", "No such file or directory")):
        assert await main_at(sandbox, monkeypatch, *IDS, "--report", str(path)) == 2
        assert capsys.readouterr().err == f"zenovay-async: --report {path}: {reason}\n"
    assert await main_at(sandbox, monkeypatch, *IDS, "--report", str(tmp_path / ("n" * 300))) == 2
    assert await main_at(sandbox, monkeypatch, *IDS, "--report", "") == 2
    assert sandbox.count() == 0


def test_a_disk_that_is_full_at_the_end_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--report", "/dev/full"]) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) > 3
    assert printed.err.splitlines()[-1] == f"zenovay-async: --report /dev/full: {os.strerror(errno.ENOSPC)}"
    assert main([*PAGES, "--sandbox", "3", "--limit", "1000", "--report", "/dev/full"]) == 2


def test_a_report_keeps_the_mode_of_its_file_and_a_link_stays_one(tmp_path: Path) -> None:
    file, link = tmp_path / "report", tmp_path / "link"
    file.touch()
    file.chmod(0o604)
    link.symlink_to(file)
    assert main([*PAGES, "--sandbox", "1", "--report", str(link)]) == 0
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o604
    assert report_in(file)["exit_code"] == 0


def test_a_report_in_a_folder_that_cannot_be_written_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own, file = Path.open, tmp_path / "report"
    file.touch()

    def open_existing(path: Path, *args: Any, **options: Any) -> Any:
        # Root may write everywhere.
        if not path.exists():
            raise PermissionError(errno.EACCES, "Permission denied")
        return own(path, *args, **options)

    monkeypatch.setattr(Path, "open", open_existing)
    assert main([*PAGES, "--sandbox", "1", "--report", str(file)]) == 0
    assert report_in(file)["exit_code"] == 0
    capsys.readouterr()
    assert main([*PAGES, "--sandbox", "1", "--report", str(tmp_path / "new")]) == 2
    assert "Permission denied" in capsys.readouterr().err


async def test_a_report_may_go_to_a_fifo(sandbox: Sandbox, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    done, text = await asyncio.gather(run_at(sandbox, *IDS, "--report", str(fifo)), asyncio.to_thread(fifo.read_text))
    assert (done.returncode, json.loads(text)["done"]) == (0, 3)
