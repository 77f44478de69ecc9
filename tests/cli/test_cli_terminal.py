"""Progress on a terminal, as it goes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
from cli_helpers import IDS, is_summary, on_terminal, read_terminal, run

from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path


def test_a_pipe_sees_a_line_at_the_end_after_what_failed() -> None:
    for env in ({}, {"FORCE_COLOR": "1"}):
        assert is_summary(run("--sandbox", "20", env=env).stderr, 20)
        done = run(IDS[0], "nobody", "--sandbox", "3", env=env)
        assert [line.split()[0] for line in done.stderr.splitlines()] == ["nobody:", "2"]
        assert "\x1b" not in done.stderr


def test_a_terminal_sees_progress_and_ctrl_c_says_what_was_done(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    # Far more websites than the sandbox's limit lets through at once: there is time to interrupt.
    with on_terminal("--sandbox", "9000", "--format", "json", "-o", str(file)) as (process, parent, _):
        seen = read_terminal(parent, until=rb"[1-9]\d*/9000")
        process.send_signal(signal.SIGINT)
        seen += read_terminal(parent, until=b"go on with --resume")
        assert process.wait() == 130
    assert re.search(rb"\d/(s|min)", seen)
    assert b"interrupted: " in seen
    assert b"Traceback" not in seen
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l"), "the cursor is back"
    assert not file.exists(), "no half-written file"
    kept = re.search(rb"kept ([\d,]+) of 9,000 in ", seen)
    assert kept is not None
    assert len(json.loads(file.with_name("out.json.partial").read_text())) == int(kept[1].replace(b",", b""))


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_bar_is_gone_when_the_table_comes(interrupted: bool) -> None:  # noqa: FBT001 - from a table
    with on_terminal("--sandbox", "9000" if interrupted else "20") as (process, parent, _):
        if interrupted:
            read_terminal(parent, until=rb"[1-9]\d*/9000")
            process.send_signal(signal.SIGINT)
        seen = read_terminal(parent, until=b"interrupted: " if interrupted else b"0 failed")
        process.wait()
    assert b"\x1b[?25h" in seen[: seen.index(b"domain ")]
    assert "\u2501".encode() not in seen[seen.index(b"domain ") :]


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_lines_that_come_on_a_terminal_have_no_bar_among_them(kind: str) -> None:
    with on_terminal("--sandbox", "20", "--format", kind) as (process, parent, _):
        seen = read_terminal(parent, until=b"0 failed")
        assert process.wait() == 0
    assert b"\x1b" not in seen
    assert seen.splitlines()[-1].startswith(b"20 websites in ")


def test_a_wide_terminal_has_more_columns_and_whole_ids() -> None:
    for columns, last in ((80, "top url"), (120, "last updated (UTC)"), (140, "website id")):
        with on_terminal("--sandbox", "3", "--limit", "5", columns=columns) as (process, parent, _):
            seen = read_terminal(parent, until=b"0 failed")
            process.wait()
        title, *rows, _ = seen[seen.index(b"domain ") :].decode().splitlines()
        assert title.removesuffix("\x1b[0m").endswith(last)
        assert all(len(re.sub(r"\x1b\[\d*m", "", row)) <= columns for row in rows)
        assert len(rows) == len(IDS)
        if last == "website id":
            assert {row.split()[-1] for row in rows} == set(IDS)


def test_ids_can_be_typed_and_ctrl_c_leaves_the_terminal_as_it_was() -> None:
    with on_terminal("--sandbox", "3", "--format", "ndjson", "--ids-from", "-") as (process, parent, child):
        for website_id in IDS[:2]:
            os.write(parent, f"{website_id}\n".encode())
            read_terminal(parent, until=b'"website_id":"' + website_id.encode())
        process.send_signal(signal.SIGINT)
        read_terminal(parent, until=b"interrupted: 2 done, 0 failed")
        assert process.wait() == 130
        assert os.get_blocking(child)


async def test_a_long_run_shows_an_estimate() -> None:
    async with Sandbox(websites=200, rate_limit=30) as sandbox:
        env = {"ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}

        def shown() -> bytes:
            with on_terminal(*sandbox.website_ids, env=env) as (process, parent, _):
                seen = read_terminal(parent, until=b"a minute")
                process.send_signal(signal.SIGINT)
                read_terminal(parent, until=b"interrupted: ")
                process.wait()
            return seen

        assert b"200 requests, about 6 minutes at 30 a minute" in await asyncio.to_thread(shown)
