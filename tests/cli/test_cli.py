"""The command line puts data on standard output and nothing else there, and says by its exit code how it went."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import pytest
from endpoints import ENDPOINTS

from zenovay_async.cli import main
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(autouse=True)
def _one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of a test are at the same time, however the clock ticks between them, and so have the same figures."""
    monkeypatch.setattr("zenovay_async.sandbox.Sandbox", partial(Sandbox, now=datetime.now(UTC)))


PAGES = ["heatmaps", "pages"]
COMMAND = [sys.executable, "-m", "zenovay_async", *PAGES]


def run(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **(env or {})},
    )


async def run_at(
    sandbox: Sandbox, *arguments: str, key: str | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    env = {"ZENOVAY_API_KEY": key or sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
    return await asyncio.to_thread(run, *arguments, stdin=stdin, env=env)


IDS = Sandbox(websites=3).website_ids


def test_all_websites_of_the_sandbox_come_as_one_json_array(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--limit", "2", "--format", "json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert {website["website_id"] for website in found} == set(IDS)
    assert all(len(website["pages"]) == 2 for website in found)


def test_ndjson_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--format", "ndjson"]) == 0
    assert {json.loads(line)["website_id"] for line in capsys.readouterr().out.splitlines()} == set(IDS)


def test_csv_has_a_row_for_each_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--limit", "2", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 6
    assert list(rows[0]) == ["website_id", "url", "total_interactions", "last_updated"]


def test_a_table_of_many_has_a_line_for_each_and_no_colours_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3
    assert "\x1b" not in "".join(lines)
    totals = [int(line.split()[2].replace(",", "")) for line in lines[1:]]
    assert totals == sorted(totals, reverse=True)


def test_a_table_of_one_has_a_line_for_each_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, IDS[0], "--sandbox", "3", "--limit", "4"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 4


def test_one_bad_id_among_good_ones_is_told_and_the_others_come(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, IDS[0], "nobody", "--sandbox", "3", "--format", "ndjson"]) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    assert "nobody: Website not found" in printed.err
    assert "1 failed" in printed.err


def test_a_table_says_whose_rows_it_shows_when_only_one_of_several_came(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, IDS[0], "nobody", "--sandbox", "3"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 1
    assert lines[1].startswith(IDS[0])


def test_an_id_that_cannot_be_one_fails_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for command in OF_A_WEBSITE + FREE:
        kind = "csv" if command in OF_A_WEBSITE else "ndjson"
        assert main([*command.split(), "..", *IDS[:2], "", "--sandbox", "3", "--format", kind]) == 1
        printed = capsys.readouterr()
        assert "'..' is not an id" in printed.err
        assert "2 failed" in printed.err
        assert all(website_id in printed.out for website_id in IDS[:2])


@pytest.mark.parametrize("kind", ["table", "json", "ndjson", "csv"])
async def test_a_parameter_that_is_wrong_for_all_ends_the_run_before_a_request(kind: str, sandbox: Sandbox) -> None:
    done = await run_at(sandbox, "..", *IDS, "--limit", "1000", "--concurrency", "1", "--format", kind)
    assert (done.returncode, done.stdout) == (2, "")
    assert "limit=1000" in done.stderr
    assert "stopped" not in done.stderr
    assert sandbox.count() == 0


def test_ids_come_from_a_file_without_its_comments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ids"
    file.write_text(f"# mine\n{IDS[0]}\n\n  {IDS[1]}  # the shop\n")
    assert main([*PAGES, "--ids-from", str(file), "--sandbox", "3", "--format", "ndjson"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_ids_come_from_a_pipe() -> None:
    done = run("--ids-from", "-", "--sandbox", "3", "--format", "ndjson", stdin="\n".join(IDS))
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3


def test_ids_that_are_named_come_with_those_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ids"
    file.write_text(IDS[2])
    command = [*PAGES, *IDS[:2], "--ids-from", str(file), "--sandbox", "3", "--format", "ndjson", "--concurrency", "1"]
    assert main(command) == 0
    assert [json.loads(line)["website_id"] for line in capsys.readouterr().out.splitlines()] == IDS


@pytest.mark.parametrize("through", ["a file", "standard input", "a pipe"])
def test_ids_in_any_bytes_give_no_traceback(through: str, tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf%s\r\ncaf\xe9\n%s\n%s" % (IDS[0].encode(), b"x" * 200_000, IDS[1].encode())
    file = tmp_path / "ids"
    file.write_bytes(content)
    command = [
        *COMMAND,
        "--sandbox",
        "3",
        "--format",
        "ndjson",
        "--ids-from",
        str(file) if through == "a file" else "-",
    ]
    if through == "a pipe":
        done = subprocess.run(command, input=content, capture_output=True, check=False)  # noqa: S603 - our own command
    else:
        with file.open() as own:
            done = subprocess.run(command, stdin=own, capture_output=True, check=False)  # noqa: S603 - our own command
    told = done.stderr.decode()
    assert done.returncode == 1
    assert {json.loads(line)["website_id"] for line in done.stdout.splitlines()} == set(IDS[:2])
    assert "caf\ufffd: this is not UTF-8" in told
    assert "xxx...: 200,000 characters are too many for an id" in told
    assert len(told) < 500


def test_no_ids_at_all_are_soon_done() -> None:
    command = [*COMMAND, "--sandbox", "3", "--ids-from", "-"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)  # noqa: S603 - our own command
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_results_come_while_the_ids_still_do(tmp_path: Path) -> None:
    fifo = tmp_path / "ids"
    os.mkfifo(fifo)
    command = [*COMMAND, "--sandbox", "3", "--format", "ndjson", "--ids-from", str(fifo)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, fifo.open("w") as ids:  # noqa: S603 - our own command
        assert process.stdout is not None
        for website_id in IDS:
            print(website_id, file=ids, flush=True)
            assert json.loads(process.stdout.readline())["website_id"] == website_id
        ids.close()
        assert process.wait(10) == 0


def test_a_file_of_ids_that_is_not_there_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        assert main([*PAGES, "x", "--ids-from", str(path), "--sandbox", "1"]) == 2
        assert f"--ids-from {path}: " in capsys.readouterr().err


def test_a_file_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    assert main([*PAGES, "--sandbox", "3", "--format", "json", "-o", str(file)]) == 0
    assert len(json.loads(file.read_text())) == 3
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_file_has_the_mode_that_any_new_file_has_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch()
    old.chmod(0o604)
    before = os.umask(0o027)
    try:
        for file in (new, old):
            assert main([*PAGES, "--sandbox", "1", "-o", str(file)]) == 0
            assert file.read_text()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(file.stat().st_mode) for file in (new, old)] == [0o640, 0o604]


def test_a_link_stays_a_link_to_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "out", tmp_path / "link"
    link.symlink_to(file)
    for _ in range(2):
        assert main([*PAGES, "--sandbox", "1", "-o", str(link)]) == 0
        assert link.is_symlink()
        assert file.read_text()
        file.write_text("")


def test_a_fifo_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen([*COMMAND, "--sandbox", "3", "--format", "json", "-o", str(fifo)]) as process:  # noqa: S603 - our own command
        assert len(json.loads(fifo.read_text())) == 3
        assert process.wait(10) == 0
    assert fifo.is_fifo()


def test_a_place_that_cannot_be_written_is_named_as_it_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, reason in ((tmp_path / "missing" / "out", "No such file or directory"), (tmp_path, "Is a directory")):
        assert main([*PAGES, "--sandbox", "1", "-o", str(path)]) == 2
        assert capsys.readouterr().err == f"zenovay-async: --output {path}: {reason}\n"


@pytest.mark.parametrize("kind", ["table", "json", "ndjson", "csv"])
def test_a_full_disk_is_exit_code_1_and_a_sentence(kind: str) -> None:
    with Path("/dev/full").open("w") as full:
        for output in ([], ["-o", "/dev/full"]):
            done = subprocess.run(  # noqa: S603 - our own command
                [*COMMAND, "--sandbox", "3", "--format", kind, *output],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stderr) == (1, "zenovay-async: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    "arguments",
    [[], ["--limit", "0", "--sandbox", "1"], ["--limit", "x"], ["--format", "xml"], ["--sandbox", "0"], ["--nonsense"]],
)
def test_wrong_usage_is_exit_code_2_and_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err
    assert "Traceback" not in printed.err


OF_A_WEBSITE = [
    "websites get",
    "analytics overview --range 30d",
    "analytics visitors --limit 5",
    "analytics countries --range 24h --limit 3",
    "heatmaps pages --limit 3",
    "replays sessions --limit 3 --offset 1",
    "errors groups --status resolved --limit 3",
    "insights list --range 90d --severity info",
    "anomalies list --range 90d --no-resolved",
    "retention cohorts --granularity weekly --periods 3",
    "revenue ltv --granularity monthly",
    "query Where?",
]
ONCE = ["usage", "websites list"]
FREE = ["analytics pages --param range=7d", "analytics technology"]
STATS = [f"stats {name} --param site_id={IDS[0]}" for name in ("aggregate", "timeseries", "breakdown")]


@pytest.mark.parametrize("command", OF_A_WEBSITE)
def test_every_command_has_its_data_in_every_format(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(kind: str, *ids: str) -> str:
        assert main([*command.split(), *ids, "--sandbox", "3", "--format", kind]) == 0
        return capsys.readouterr().out

    objects = json.loads(printed("json", IDS[0]))
    assert [found["website_id"] for found in objects] == [IDS[0]]
    assert json.loads(printed("ndjson", IDS[0])) == objects[0]
    rows = list(csv.DictReader(printed("csv", IDS[0]).splitlines()))
    assert rows
    assert {row["website_id"] for row in rows} == {IDS[0]}
    assert None not in rows[0]
    assert len(printed("table", IDS[0]).splitlines()) == 1 + len(rows)
    assert len(printed("table").splitlines()) == 1 + 3


@pytest.mark.parametrize("command", ONCE)
def test_what_is_of_no_website_needs_no_ids(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("table", "json", "ndjson", "csv"):
        assert main([*command.split(), "--sandbox", "3", "--format", kind]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        if kind == "json":
            assert isinstance(json.loads(printed.out), dict)
        if kind == "csv":
            assert len(list(csv.DictReader(printed.out.splitlines()))) in {1, 3}


@pytest.mark.parametrize("command", [*FREE, *STATS])
def test_what_has_no_documented_shape_is_json_and_has_no_csv(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--sandbox", "3"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main([*command.split(), "--sandbox", "3", "--format", "csv"]) == 2
    assert "use ndjson" in capsys.readouterr().err


def test_usage_shows_plan_minute_and_month_at_a_glance(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--sandbox", "1"]) == 0
    shown = capsys.readouterr().out
    for text in ("enterprise", "6,000 requests a minute", "1 of 1,000,000 requests", "999,999", "UTC, in"):
        assert text in shown


def test_take_goes_on_over_pages_until_there_are_so_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analytics", "visitors", IDS[0], "--sandbox", "3", "--take", "1200", "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 1200


def test_all_goes_on_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["anomalies", "list", IDS[0], "--sandbox", "3", "--range", "90d", "--format", "csv"]
    assert main([*command, "--limit", "5"]) == 0
    one_page = capsys.readouterr().out.splitlines()
    assert main([*command, "--limit", "5", "--all"]) == 0
    every_page = capsys.readouterr().out.splitlines()
    assert len(one_page) == 1 + 5 < len(every_page)
    assert every_page[:6] == one_page


@pytest.mark.parametrize("param", ["site_id", "=x", ""])
def test_a_free_parameter_has_a_name_and_a_value(param: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "aggregate", "--sandbox", "1", "--param", param]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("command", [*FREE, *STATS])
async def test_a_free_parameter_is_sent_whatever_its_name(
    command: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    names = ["self", "website_id", "timeout", "endpoint", "ids", "common", "params", "path", "job", "zenovay", "a b"]
    words = [*command.split(), *(word for name in names for word in ("--param", f"{name}=5"))]
    ids = [sandbox.website_ids[0]] if command in FREE else []
    assert await asyncio.to_thread(main, [*words, *ids]) == 0
    assert set(parse_qsl(sandbox.requests[-1].query)) >= {(name, "5") for name in names}


def test_every_endpoint_has_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    tried = {" ".join(word for word in command.split()[:2]) for command in [*OF_A_WEBSITE, *ONCE, *FREE, *STATS]}
    named = {" ".join(endpoint.name.split(".")) for endpoint in ENDPOINTS}
    assert {"query" if name.startswith("query") else name for name in tried} == named
    for name in named:
        assert main([*name.split(), "--help"]) == 0
        assert "--sandbox" in capsys.readouterr().out


def test_without_a_key_the_command_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "x"]) == 2
    assert "ZENOVAY_API_KEY is not set" in capsys.readouterr().err


async def test_a_refused_key_is_exit_code_3_and_not_shown(sandbox: Sandbox) -> None:
    env = {"ZENOVAY_API_KEY": "zv_wrong_and_secret", "ZENOVAY_BASE_URL": sandbox.url}
    done = await asyncio.to_thread(run, "x", "y", env=env)
    assert done.returncode == 3
    assert "Invalid API key" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("kind", ["table", "json", "ndjson", "csv"])
async def test_what_was_paid_for_is_printed_when_the_month_is_used_up_in_the_middle(
    kind: str, sandbox: Sandbox
) -> None:
    key = sandbox.add_key("small", monthly_limit=2)
    done = await run_at(sandbox, "nobody", *IDS, "--format", kind, "--limit", "1", "--concurrency", "1", key=key)
    assert done.returncode == 3
    assert IDS[0] in done.stdout
    assert IDS[1] not in done.stdout
    if kind == "json":
        assert len(json.loads(done.stdout)) == 1
    failed, stopped, why = done.stderr.splitlines()
    assert failed.startswith("nobody: Website not found")
    assert stopped == "stopped: 2 of 4 done, 1 failed"
    assert why.startswith("zenovay-async: Monthly limit exceeded")


async def test_a_file_is_left_as_it_was_by_a_run_that_is_stopped_and_that_is_said(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "out"
    file.write_text("of yesterday")
    key = sandbox.add_key("small", monthly_limit=2)
    done = await run_at(sandbox, *IDS, "--concurrency", "1", "-o", str(file), key=key)
    assert done.returncode == 3
    assert done.stderr.splitlines()[:2] == ["stopped: 2 of 3 done, 0 failed", f"nothing was written to {file}"]
    assert file.read_text() == "of yesterday"


async def test_an_answer_that_does_not_come_in_time_is_exit_code_1(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    sandbox.fault(Fault.latency(60))
    assert await asyncio.to_thread(main, ["usage", "--timeout", "0.1"]) == 1
    assert "zenovay-async: " in capsys.readouterr().err


def test_no_server_is_exit_code_1_and_a_sentence_for_each(unused_tcp_port: int) -> None:
    env = {"ZENOVAY_API_KEY": "zv_x", "ZENOVAY_BASE_URL": f"http://127.0.0.1:{unused_tcp_port}"}
    done = run("x", "--timeout", "0.2", env=env)
    assert done.returncode == 1
    assert "x: No connection could be made" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pipe_sees_nothing_of_progress_unless_something_failed() -> None:
    for env in ({}, {"FORCE_COLOR": "1"}):
        assert run("--sandbox", "20", env=env).stderr == ""
        done = run(IDS[0], "nobody", "--sandbox", "3", env=env)
        assert [line.split()[0] for line in done.stderr.splitlines()] == ["nobody:", "2"]
        assert "\x1b" not in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    command = [*COMMAND, "--sandbox", "500", "--format", "ndjson"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603 - our own command
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        process.wait(30)
    assert (process.returncode, errors) == (0, b"")


@contextlib.contextmanager
def on_terminal(
    *arguments: str, columns: int = 140, env: dict[str, str] | None = None
) -> Generator[tuple[subprocess.Popen[bytes], int, int]]:
    """The command on a terminal of its own, with both ends of that."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (40, columns))
    known = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    command = [*COMMAND, *arguments]
    with subprocess.Popen(  # noqa: S603 - our own command
        command,
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
        env={**known, "TERM": "xterm", **(env or {})},
    ) as process:
        try:
            yield process, parent, child
        finally:
            process.kill()
            os.close(child)
            os.close(parent)


def read(terminal: int, *, until: bytes) -> bytes:
    """What comes on a terminal until a pattern matches it."""
    seen, give_up = b"", time.monotonic() + 20
    while not re.search(until, seen):
        assert time.monotonic() < give_up, seen[-2000:]
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 65536)
    return seen


def test_a_terminal_sees_progress_and_ctrl_c_says_what_was_done(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    # Far more websites than the sandbox's limit lets through at once: there is time to interrupt.
    with on_terminal("--sandbox", "9000", "--format", "json", "-o", str(file)) as (process, parent, _):
        seen = read(parent, until=b"/9000")
        assert b"/s" in seen
        process.send_signal(signal.SIGINT)
        seen += read(parent, until=b"nothing was written")
        assert process.wait(10) == 130
    assert b"interrupted: " in seen
    assert b"Traceback" not in seen
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l"), "the cursor is back"
    assert list(tmp_path.iterdir()) == [], "no half-written file"


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_bar_is_gone_when_the_table_comes(interrupted: bool) -> None:  # noqa: FBT001 - from a table
    with on_terminal("--sandbox", "9000" if interrupted else "20") as (process, parent, _):
        if interrupted:
            read(parent, until=rb"[1-9]\d*/9000")
            process.send_signal(signal.SIGINT)
        seen = read(parent, until=b"interrupted: " if interrupted else b"0 failed")
        process.wait(10)
    assert b"\x1b[?25h" in seen[: seen.index(b"website id")]
    assert "\u2501".encode() not in seen[seen.index(b"website id") :]


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_lines_that_come_on_a_terminal_have_no_bar_among_them(kind: str) -> None:
    with on_terminal("--sandbox", "20", "--format", kind) as (process, parent, _):
        seen = read(parent, until=b"0 failed")
        assert process.wait(10) == 0
    assert b"\x1b" not in seen
    assert seen.splitlines()[-1].startswith(b"20 websites in ")


def test_a_narrow_terminal_has_fewer_columns_and_whole_ids() -> None:
    for columns, last in ((80, b"top url"), (140, b"last updated")):
        with on_terminal("--sandbox", "3", "--limit", "5", columns=columns) as (process, parent, _):
            seen = read(parent, until=b"0 failed")
            process.wait(10)
        title, *rows, _ = seen[seen.index(b"website id") :].decode().splitlines()
        assert last.decode() in title
        assert {row.split()[0] for row in rows} == set(IDS)
        assert all(len(row) <= columns for row in rows)


def test_ids_can_be_typed_and_ctrl_c_leaves_the_terminal_as_it_was() -> None:
    with on_terminal("--sandbox", "3", "--format", "ndjson", "--ids-from", "-") as (process, parent, child):
        for website_id in IDS[:2]:
            os.write(parent, f"{website_id}\n".encode())
            read(parent, until=b'"website_id":"' + website_id.encode())
        process.send_signal(signal.SIGINT)
        read(parent, until=b"interrupted: 2 done, 0 failed")
        assert process.wait(5) == 130
        assert os.get_blocking(child)


async def test_a_long_run_says_beforehand_what_it_takes() -> None:
    async with Sandbox(websites=200, rate_limit=30) as sandbox:
        env = {"ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}

        def told() -> bytes:
            with on_terminal(*sandbox.website_ids, env=env) as (process, parent, _):
                seen = read(parent, until=b"a minute")
                process.send_signal(signal.SIGINT)
                read(parent, until=b"interrupted: ")
                process.wait(10)
            return seen

        assert b"200 requests, about 6 minutes at 30 a minute" in await asyncio.to_thread(told)


def test_without_the_extra_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['cyclopts'] = None; from zenovay_async.cli import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 2
    assert "pip install 'zenovay-async[cli]'" in done.stderr


def test_the_package_alone_needs_no_extra() -> None:
    script = "import sys, zenovay_async, zenovay_async.sandbox; assert not {'rich', 'cyclopts'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - our own
