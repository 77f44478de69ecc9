"""Websites that failed: named as they fail, kept in ``--failures FILE``, read again by ``--ids-from``."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from datetime import datetime
from io import FileIO
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import (
    IDS,
    PAGES,
    contents,
    is_summary,
    main_at,
    on_terminal,
    read_terminal,
    results_in,
    run_at,
)
from cli_process import Process

from zenovay_async.cli import main
from zenovay_async.cli.failures import describe_failure, open_failures
from zenovay_async.cli.ids import StreamedIds
from zenovay_async.cli.log_lines import LogLines
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from zenovay_async.sandbox import Sandbox

NOBODY = [f"nobody-{number}" for number in range(11)]


def lines_of(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_off_a_terminal_every_failed_website_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, *NOBODY, IDS[0], "--sandbox", "3"]) == 1
    *named, last = capsys.readouterr().err.splitlines()
    assert {line.partition(": ")[0] for line in named} == set(NOBODY)
    assert is_summary(last, 12, failed=11)


async def test_a_website_is_named_as_it_fails(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.latency(60), path=IDS[0])
    env = {**os.environ, "ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
    with Process(*PAGES, IDS[0], "nobody", env=env) as process:
        line = await asyncio.to_thread(process.stderr.readline)
    assert line.startswith(b"nobody: Website not found")


def test_a_terminal_sees_three_of_them_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "failed"
    for options, rest in (([], b"... and 8 more\r\n"), (["--failures", str(file)], b"... and 8 more in ")):
        with on_terminal(*NOBODY, "--sandbox", "3", *options) as (process, parent, _):
            seen = read_terminal(parent, until=b"11 failed")
            assert process.wait() == 1
        assert seen.count(b": Website not found") == 3
        assert rest in seen


def test_off_a_terminal_each_is_named_and_is_a_line_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "failed.ndjson"
    assert main([*PAGES, *NOBODY, IDS[0], "--sandbox", "3", "--failures", str(file)]) == 1
    *named, last = capsys.readouterr().err.splitlines()
    assert {line.partition(":")[0] for line in named} == set(NOBODY)
    assert is_summary(last, 12, failed=11)
    lines = lines_of(file)
    assert {line["website_id"] for line in lines} == set(NOBODY)
    for line in lines:
        assert list(line) == ["website_id", "error", "status", "code", "request_id", "attempts", "message", "at"]
        assert (line["error"], line["status"], line["code"]) == ("NotFoundError", 404, "NOT_FOUND")
        assert line["attempts"] == 1
        assert line["message"].startswith("Website not found")
        assert line["request_id"]
        assert datetime.fromisoformat(line["at"]).tzinfo is not None


async def test_the_failed_websites_of_a_run_are_the_ids_of_the_next(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, again = tmp_path / "failed", tmp_path / "again"
    sandbox.fault(Fault.status(404, "Not yet", "NOT_FOUND"), path=IDS[1])
    given = [*IDS, "a#b", "a b", "{", sandbox.api_key, "x" * 2000]
    assert await main_at(sandbox, monkeypatch, *given, "--failures", str(file)) == 1
    assert len(lines_of(file)) == 6
    sandbox.clear_faults()
    before = sandbox.count()
    capsys.readouterr()
    options = ["--format", "ndjson", "--failures", str(again)]
    assert await main_at(sandbox, monkeypatch, "--ids-from", str(file), *options) == 1
    assert [result["website_id"] for result in results_in(capsys.readouterr().out)] == [IDS[1]]
    # The rest is no ID, neither then nor now, and costs nothing; but one that only looks odd.
    assert sandbox.count() == before + 2
    assert {line["website_id"] for line in lines_of(again)} == {
        line["website_id"] for line in lines_of(file) if line["website_id"] != IDS[1]
    }


async def test_a_file_of_failures_is_written_as_they_come_and_emptied_before(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "failed"
    file.write_text("of yesterday\n")
    sandbox.fault(Fault.latency(60), path=IDS[0])
    env = {**os.environ, "ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
    with Process(*PAGES, IDS[0], "nobody", "--failures", str(file), env=env) as process:
        await asyncio.to_thread(process.stderr.readline)
    assert [line["website_id"] for line in lines_of(file)] == ["nobody"]


def test_a_file_of_failures_stays_empty_where_none_failed(tmp_path: Path) -> None:
    file = tmp_path / "failed"
    file.write_text("of yesterday\n")
    assert main([*PAGES, "--sandbox", "3", "--failures", str(file)]) == 0
    assert file.read_text() == ""
    assert main([*PAGES, "--ids-from", str(file), "--sandbox", "3"]) == 0


@pytest.mark.parametrize("problem", ["--ids-from /nowhere/ids", "--resume", "--base-url x"])
def test_a_run_that_does_not_begin_leaves_the_failures_of_the_last_one(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_x")
    file = tmp_path / "failed"
    file.write_text("of yesterday\n")
    assert main([*PAGES, "x", "--failures", str(file), *problem.split()]) == 2
    assert file.read_text() == "of yesterday\n"


@pytest.mark.parametrize("option", ["--failures", "--report"])
@pytest.mark.parametrize("other", ["ids", "out", "out.partial", "out.journal", "link", "hard", "./ids", "new"])
async def test_a_file_is_not_another_one_of_the_same_run(
    option: str,
    other: str,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids, out, new = tmp_path / "ids", tmp_path / "out", tmp_path / "new"
    ids.write_text(IDS[0])
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "hard").hardlink_to(ids)
    monkeypatch.chdir(tmp_path)
    more = [{"--failures": "--report", "--report": "--failures"}[option], "new"] if other == "new" else []
    assert await main_at(sandbox, monkeypatch, "--ids-from", "ids", "-o", "out", option, other, *more) == 2
    printed = capsys.readouterr().err
    assert "; expected another one" in printed
    assert ids.read_text() == IDS[0]
    assert not out.exists()
    assert not new.exists()
    assert sandbox.count() == 0


async def test_the_file_that_is_standard_input_is_not_emptied(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "failed"
    file.write_text(IDS[0])
    env = {**os.environ, "ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
    command = [*PAGES, "--ids-from", "-", "--failures", str(file)]
    with file.open() as stdin, Process(*command, stdin=stdin, env=env) as process:
        _, errors = await asyncio.to_thread(process.communicate)
    assert (process.returncode, file.read_text()) == (2, IDS[0])
    assert b"this is the file of --ids-from" in errors


def test_a_file_of_failures_that_cannot_be_written_is_invalid_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "missing" / "x", "No such file or directory")):
        assert main([*PAGES, "--sandbox", "1", "--failures", str(path)]) == 2
        assert capsys.readouterr().err == f"zenovay-async: --failures {path}: {reason}\n"
    for name in ("", "-", "--format"):
        assert main([*PAGES, "--sandbox", "1", "--failures", name]) == 2
        assert capsys.readouterr().err == f"zenovay-async: --failures {name!r}: expected a file\n"


def test_a_disk_that_is_full_for_the_failures_loses_no_result_and_names_them_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [*PAGES, *NOBODY, IDS[0], "--sandbox", "3", "--format", "json", "--failures", "/dev/full"]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 12
    first, *named, _ = printed.err.splitlines()
    assert first == f"--failures /dev/full: {os.strerror(errno.ENOSPC)}"
    assert len(named) == 11


def test_neither_a_key_nor_a_line_without_end_comes_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "sk-0123456789secret")
    file = tmp_path / "failed"
    with open_failures(file, LogLines()) as failures:
        failures.add("x" * 5000, ValueError("sk-0123456789secret"))
        failures.add("sk-0123456789secret", ValueError("no \ud800"))
    long, key = lines_of(file)
    assert 256 < len(long["website_id"]) < 2000
    assert (long["message"], key["website_id"], key["message"]) == ("<secret>", "<secret>", "no \ufffd")


async def test_a_key_among_the_ids_comes_into_no_file(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["-o", str(tmp_path / "out"), "--failures", str(tmp_path / "failed"), "--report", str(tmp_path / "did")]
    assert await main_at(sandbox, monkeypatch, IDS[0], sandbox.api_key, *options, "--format", "ndjson") == 1
    files = contents(tmp_path)
    assert {"out", "out.journal", "failed", "did"} <= set(files)
    assert all(sandbox.api_key.encode() not in content for content in files.values())


@pytest.mark.parametrize("through", ["a file", "a pipe"])
async def test_a_line_in_json_is_its_website_id(through: str, sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "ids"
    failure = json.dumps(describe_failure(IDS[1], ValueError("#1 { of 2")))
    wrong = ['{"website_id": 1}', '{"id": "x"}', '{"website_id": ""}', '{"website_id": "x"', "{", '{"a":' + "[" * 5000]
    lines = [
        f"\ufeff {IDS[0]} # mine",
        failure,
        *wrong,
        f'  {{"pages": ["{"#" * 100_000}"], "website_id": "{IDS[2]}"}}',
    ]
    file.write_text("\n".join(lines))
    given = str(file) if through == "a file" else "-"
    stdin = "" if through == "a file" else file.read_text()
    done = await run_at(sandbox, "--ids-from", given, "--format", "ndjson", stdin=stdin)
    assert done.returncode == 1
    assert {result["website_id"] for result in results_in(done.stdout)} == set(IDS)
    assert done.stderr.count(": expected an ID, or a JSON object with a website_id\n") == len(wrong)
    assert sandbox.count() == 3


async def test_a_line_in_json_that_does_not_end_is_bounded_and_no_id() -> None:
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as file, open(write, "wb") as pipe:  # noqa: ASYNC230, PTH123 - a pipe

        def feed() -> None:
            with pipe:
                pipe.write(b'{"website_id": "x", "a": "' + b"x" * 3_000_000 + b'"}\nlast')

        writing = asyncio.create_task(asyncio.to_thread(feed))
        found = [website_id async for website_id in StreamedIds([], FileIO(file.fileno(), closefd=False))]
        await writing
    assert len(found[0]) < 1_200_000
    assert found[0].startswith('{"website_id"')
    assert found[1] == "last"


async def test_results_as_lines_are_the_ids_of_another_command(sandbox: Sandbox) -> None:
    results = await run_at(sandbox, *IDS, "--format", "ndjson")
    done = await run_at(sandbox, "--ids-from", "-", "--format", "ndjson", stdin=results.stdout)
    assert done.returncode == 0
    assert {result["website_id"] for result in results_in(done.stdout)} == set(IDS)
