"""The command line in tests: run in a process of its own, at a sandbox, or on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import re
import select
import sys
import termios
import time
from datetime import UTC, datetime
from functools import partial
from subprocess import PIPE, CompletedProcess
from typing import TYPE_CHECKING, Any

from cli_process import Process
from endpoints import OPERATIONS

from zenovay_async._protocol.base_url import DEFAULT_BASE_URL
from zenovay_async.cli import main
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import pytest

PAGES = ["heatmaps", "pages"]
COMMAND = [sys.executable, "-m", "zenovay_async", *PAGES]
IDS = Sandbox(websites=3).website_ids

_ARGUMENTS = {
    "analytics.overview": "--range 30d",
    "analytics.visitors": "--limit 5",
    "analytics.countries": "--range 24h --limit 3",
    "analytics.pages": "--param range=7d",
    "heatmaps.pages": "--limit 3",
    "replays.sessions": "--limit 3 --offset 1",
    "errors.groups": "--status resolved --limit 3",
    "insights.list": "--range 90d --severity info",
    "anomalies.list": "--range 90d --no-resolved",
    "retention.cohorts": "--granularity weekly --periods 3",
    "revenue.ltv": "--granularity monthly",
    "query": "Where?",
}
"""Arguments that some commands are tried with."""


class Terminal(io.StringIO):
    """A terminal in memory, which keeps what it shows."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def _commands(*, is_per_website: bool, is_free: bool, arguments: str = "") -> list[str]:
    return [
        " ".join([*operation.path, _ARGUMENTS.get(name, arguments)]).strip()
        for name, operation in OPERATIONS.items()
        if (operation.is_per_website, operation.is_free) == (is_per_website, is_free)
    ]


PER_WEBSITE = _commands(is_per_website=True, is_free=False)
SINGLE = _commands(is_per_website=False, is_free=False)
FREE = _commands(is_per_website=True, is_free=True)
STATS = _commands(is_per_website=False, is_free=True, arguments=f"--param site_id={IDS[0]}")


EVIL = "/\x1b]0;mine\x07\x1b[2J\x9b31m\x7f\u202e\u2066\u200b\r\n\t\x00end"
"""A path that a visitor may ask for: it would set a title, clear the screen, run backwards, hide."""


def controls_in(shown: str) -> set[str]:
    """The characters that control a terminal, but for line ends and what the progress bar itself needs."""
    own = re.compile(r"\x1b\[(?:\?25[lh]|[0-9;]*m|2K|1A)|\r*\n|\r(?=$|[\x1b\u2501\u257a])")
    return set(re.findall(r"[\x00-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f]", own.sub("", shown)))


def results_in(lines: str) -> list[Any]:
    """The results among lines of NDJSON, without the websites that failed."""
    return [result for line in lines.splitlines() if "error" not in (result := json.loads(line))]


def alike(value: Any) -> str:
    """A value as all formats agree on it: truth is 1 or 0, numbers are floats, times are in UTC."""
    if isinstance(value, datetime):
        value = value.isoformat()
    text = {"true": "1", "True": "1", "false": "0", "False": "0", "None": ""}.get(str(value), str(value))
    try:
        return str(float(text))
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat() if "T" in text else text
    except ValueError:
        return text


def is_summary(line: str, websites: int, failed: int = 0) -> bool:
    """Whether a line is the last one of a run off a terminal."""
    what = f"{websites:,} {'website' if websites == 1 else 'websites'}"
    return re.fullmatch(rf"{what} in [\d,]+\.\d s, [\d,]+/(s|min), {failed:,} failed\n?", line) is not None


def api_url(path: str) -> str:
    return f"{DEFAULT_BASE_URL}/{path}"


def freeze_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all runs of a test happen at the same moment, so that they have the same figures."""
    monkeypatch.setattr("zenovay_async.sandbox.Sandbox", partial(Sandbox, now=datetime.now(UTC)))


def run(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> CompletedProcess[str]:
    with Process(*PAGES, *arguments, stdin=PIPE, env={**os.environ, **(env or {})}) as process:
        out, errors = process.communicate(stdin.encode())
        return CompletedProcess(arguments, process.wait(), out.decode(), errors.decode())


async def run_at(sandbox: Sandbox, *arguments: str, key: str | None = None, stdin: str = "") -> CompletedProcess[str]:
    env = {"ZENOVAY_API_KEY": key or sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
    return await asyncio.to_thread(run, *arguments, stdin=stdin, env=env)


async def main_at(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, *arguments: object, key: str | None = None) -> int:
    """The command in this process, in a thread, as the sandbox has the event loop of this one."""
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key if key is None else key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    return await asyncio.to_thread(main, [*PAGES, *map(str, arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextlib.contextmanager
def on_terminal(
    *arguments: str | bytes, columns: int = 140, env: dict[str, str] | None = None
) -> Generator[tuple[Process, int, int]]:
    """The command on a terminal of its own, with both ends of that."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (40, columns))
    known = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    env = {**known, "TERM": "xterm", **(env or {})}
    with Process(*PAGES, *arguments, stdin=child, stdout=child, stderr=child, new_session=True, env=env) as process:
        try:
            yield process, parent, child
        finally:
            process.kill()
            os.close(child)
            os.close(parent)


def read_terminal(terminal: int, *, until: bytes) -> bytes:
    """What comes on a terminal until a pattern matches it."""
    seen, give_up = b"", time.monotonic() + 20
    while not re.search(until, seen):
        assert time.monotonic() < give_up, seen[-2000:]
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 65536)
    return seen
