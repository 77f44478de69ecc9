"""Runs of the command line that are ended in every way, and go on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from helpers import ROOT

from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

WEBSITES = 500
CONCURRENCY = 8
KEY = "zv_nightly"

SIGNALS = {"SIGKILL": -signal.SIGKILL, "SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129}
"""Exit code of a run that a signal ends."""
WAYS = {**SIGNALS, "month": 4, "key": 3, "disk": 4}
"""Exit code of a run that ends in each way."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, negative for a signal, and its standard error."""

    code: int
    stderr: str


class Worker:
    """Starts processes of the command line, one at a time."""

    def __enter__(self) -> Self:
        command = [sys.executable, str(ROOT / "tests" / "cli_worker.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.stdin and self._process.stdin.close()

    async def start(self, job: dict[str, Any]) -> int:
        """Start a process; returns its ID."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return await self._read()

    async def wait(self) -> int:
        """Wait for the end of the process; returns its exit code."""
        return os.waitstatus_to_exitcode(await self._read())

    async def _read(self) -> int:
        assert self._process.stdout is not None
        return int(await asyncio.to_thread(self._process.stdout.readline))


@contextlib.asynccontextmanager
async def make_sandbox(websites: int = WEBSITES) -> AsyncGenerator[Sandbox]:
    """A sandbox whose figures stay the same, slow enough to end a run in the middle."""
    now = datetime(2026, 11, 1, tzinfo=UTC)
    async with Sandbox(
        websites=websites, api_key=KEY, now=now, rate_limit=100_000, latency=0.001, jitter=0.004
    ) as sandbox:
        yield sandbox


class Site:
    """A file of results and the runs that write it."""

    def __init__(self, sandbox: Sandbox, worker: Worker, folder: Path, kind: str, *, name: str = "results") -> None:
        self.sandbox = sandbox
        self.worker = worker
        self.kind = kind
        self.file = folder / name
        self.partial, self.journal = folder / f"{name}.partial", folder / f"{name}.journal"
        (folder / "ids").write_text("\n".join(sandbox.website_ids))
        self._arguments = ["heatmaps", "pages", "--limit", "5", "--format", kind, "-o", name]
        self._arguments += ["--ids-from", "ids", "--concurrency", str(CONCURRENCY)]

    async def run(
        self, *arguments: str, file_size: int | None = None, kill: int = 0, after: int | None = None
    ) -> Ended:
        """Run the command, ended by a signal after so many more requests."""
        stderr = self.file.parent / "stderr"
        environment = {"ZENOVAY_API_KEY": KEY, "ZENOVAY_BASE_URL": self.sandbox.url, "ZENOVAY_RATE_LIMIT_STORE": ""}
        came = asyncio.Event()
        if after is not None:
            self.sandbox.fault(_call_at(after, came.set))
        process = await self.worker.start(
            {
                "arguments": [*self._arguments, *arguments],
                "environment": environment,
                "folder": str(self.file.parent),
                "stderr": str(stderr),
                "file_size": file_size,
            }
        )
        ended = asyncio.create_task(self.worker.wait())
        if after is not None:
            waits = asyncio.create_task(came.wait())
            await asyncio.wait({waits, ended}, return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()
            if not ended.done():
                os.kill(process, kill)
        code = await ended
        self.sandbox.clear_faults()
        return Ended(code, stderr.read_text())

    async def interrupt(self, way: str, rng: random.Random, *arguments: str) -> Ended:
        """Run the command, ended in one of the ways at a random moment."""
        sandbox, left = self.sandbox, max(1, WEBSITES - len(self.kept()))
        after = rng.randrange(left)
        if way in SIGNALS:
            return await self.run(*arguments, kill=signal.Signals[way], after=after)
        if way == "disk":
            return await self.run(*arguments, file_size=rng.randrange(20_000, 2_000_000))
        if way == "month":
            sandbox.add_key("nightly", api_key=KEY, rate_limit=100_000, monthly_limit=after)
        else:
            sandbox.fault(_call_at(after, lambda: sandbox.add_key("nightly", api_key=KEY, plan="free")))
        ended = await self.run(*arguments)
        sandbox.add_key("nightly", api_key=KEY, rate_limit=100_000)
        return ended

    def kept(self) -> set[str]:
        """IDs of the websites that the journal has."""
        if not self.journal.exists():
            return set()
        with contextlib.closing(sqlite3.connect(self.journal)) as journal:
            return {key for (key,) in journal.execute("SELECT key FROM items WHERE state = 'done'")}


def _call_at(number: int, act: Callable[[], object]) -> Fault:
    """A fault that does something when a request comes after so many others, and leaves the response as it is."""
    numbers = itertools.count()

    async def respond(_: object) -> None:
        if next(numbers) == number:
            act()

    return Fault("call-at", respond)


def content(file: Path, kind: str) -> Any:
    """What a file of results says, whatever the order of its websites."""
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(file)) as database:
            return sorted(database.execute("SELECT * FROM heatmaps_pages"))
    if kind == "parquet":
        import pyarrow.parquet  # noqa: PLC0415 - an extra

        return sorted(map(str, pyarrow.parquet.read_table(file).to_pylist()))
    text = file.read_text(encoding="utf-8")
    if kind == "json":
        return sorted(json.loads(text), key=lambda row: row["website_id"])
    return sorted(text.splitlines())
