"""The command line puts data on standard output and nothing else there, and says by its exit code how it went."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import pytest
from endpoints import ENDPOINTS

from zenovay_async.cli import main
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

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


IDS = Sandbox(websites=3).website_ids


def test_all_websites_of_the_sandbox_come_as_one_json_array(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--limit", "2", "--format", "json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert {website["website_id"] for website in found} == set(IDS)
    assert all(len(website["pages"]) == 2 for website in found)
    assert "3 websites" in printed.err


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


def test_ids_come_from_a_file_without_its_comments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ids"
    file.write_text(f"# mine\n{IDS[0]}\n\n  {IDS[1]}  # the shop\n")
    assert main([*PAGES, "--ids-from", str(file), "--sandbox", "3", "--format", "ndjson"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_ids_come_from_a_pipe() -> None:
    done = run("--ids-from", "-", "--sandbox", "3", "--format", "ndjson", stdin="\n".join(IDS))
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3


def test_a_file_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    assert main([*PAGES, "--sandbox", "3", "--format", "json", "-o", str(file)]) == 0
    assert len(json.loads(file.read_text())) == 3
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


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


@pytest.mark.parametrize("command", FREE)
def test_an_id_that_cannot_be_one_is_wrong_usage(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "..", "--sandbox", "1"]) == 2
    assert "'..' is not an id" in capsys.readouterr().err


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


def test_no_server_is_exit_code_1_and_a_sentence_for_each(unused_tcp_port: int) -> None:
    env = {"ZENOVAY_API_KEY": "zv_x", "ZENOVAY_BASE_URL": f"http://127.0.0.1:{unused_tcp_port}"}
    done = run("x", "--timeout", "0.2", env=env)
    assert done.returncode == 1
    assert "x: No connection could be made" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pipe_sees_no_progress() -> None:
    done = run("--sandbox", "20")
    assert len(done.stderr.splitlines()) == 1
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


def test_a_terminal_sees_progress_and_ctrl_c_says_what_was_done(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    parent, child = pty.openpty()
    # Far more websites than the sandbox's limit lets through at once: there is time to interrupt.
    command = [*COMMAND, "--sandbox", "9000", "--format", "json", "-o", str(file)]
    with subprocess.Popen(command, stdin=child, stdout=child, stderr=child, start_new_session=True) as process:  # noqa: S603 - our own command
        os.close(child)
        seen = _read(parent, until=b"/9000", seconds=20)
        assert b"/s" in seen
        process.send_signal(signal.SIGINT)
        seen += _read(parent, until=b"\x1b[?25h", seconds=10)
        assert process.wait(10) == 130
    os.close(parent)
    assert b"interrupted: " in seen
    assert b"Traceback" not in seen
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l"), "the cursor is back"
    assert list(tmp_path.iterdir()) == [], "no half-written file"


def _read(terminal: int, *, until: bytes, seconds: float) -> bytes:
    seen, give_up = b"", time.monotonic() + seconds
    while until not in seen and time.monotonic() < give_up:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:
                break
    assert until in seen, seen[-2000:]
    return seen


def test_without_the_extra_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['cyclopts'] = None; from zenovay_async.cli import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 2
    assert "pip install 'zenovay-async[cli]'" in done.stderr


def test_the_package_alone_needs_no_extra() -> None:
    script = "import sys, zenovay_async, zenovay_async.sandbox; assert not {'rich', 'cyclopts'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - our own
