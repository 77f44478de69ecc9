"""Runs of the command line that are ended in every way, and go on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import signal
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cli_process import Process
from helpers import until

from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

WEBSITES = 500
CONCURRENCY = 8
KEY = "zv_nightly"
LIMIT = 100_000
"""Requests a minute, so that no run waits."""

FORMATS = ("ndjson", "json", "csv", "table", "sqlite", "parquet")
SIGNALS = {"SIGKILL": -signal.SIGKILL, "SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129}
"""Exit code of a run that a signal ends; negative for a process that could not exit itself."""
WAYS = {**SIGNALS, "month": 4, "key": 3, "disk": 4}
"""Exit code of a run that ends in each way."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Its exit code; negative for a signal.
        stderr: What it wrote to standard error.
    """

    code: int
    stderr: str


@contextlib.asynccontextmanager
async def make_sandbox(websites: int = WEBSITES) -> AsyncGenerator[Sandbox]:
    """A sandbox whose figures stay the same, and whose responses take turns."""
    now = datetime(2026, 11, 1, tzinfo=UTC)
    async with Sandbox(
        websites=websites, api_key=KEY, now=now, rate_limit=LIMIT, latency=0.001, jitter=0.003
    ) as sandbox:
        yield sandbox


class Night:
    """A file of results, and the runs that write it.

    Args:
        sandbox: The API.
        folder: Where the files are.
        kind: The format.
        output: The file, as it is given to ``-o``.

    Attributes:
        file: The file.
        partial: What a run that ended early leaves.
        journal: What the next run goes on from.
        ways: How runs ended early, one after the other.
    """

    def __init__(self, sandbox: Sandbox, folder: Path, kind: str, output: str = "results") -> None:
        folder.mkdir(exist_ok=True)
        (folder / "ids").write_text("\n".join(sandbox.website_ids))
        self.sandbox = sandbox
        self.kind = kind
        self.file = folder / output
        # Other commands may write to the same database.
        name = f"{self.file.name}.heatmaps.pages" if kind == "sqlite" else self.file.name
        self.partial, self.journal = self.file.with_name(f"{name}.partial"), self.file.with_name(f"{name}.journal")
        self.ways: list[str] = []
        self._folder = folder
        self._output = output
        self._before = sandbox.count()

    @property
    def requests(self) -> int:
        """Requests that the runs sent."""
        return self.sandbox.count() - self._before

    @property
    def kept(self) -> int:
        """Websites that the journal has."""
        # It is empty where there was no room for its first page.
        if not self.journal.exists() or not self.journal.stat().st_size:
            return 0
        with contextlib.closing(sqlite3.connect(self.journal)) as journal:
            (count,) = journal.execute("SELECT count(*) FROM items WHERE state = 'done'").fetchone()
        return int(count)

    def files(self) -> list[str]:
        """Names of the files in the folder."""
        return [path.name for path in self._folder.iterdir()]

    def content(self, file: Path | None = None) -> Any:
        """What a file of results says, whatever the order of its websites."""
        return content(self.file if file is None else file, self.kind)

    async def run(
        self,
        *arguments: str,
        file_size: int | None = None,
        kill: tuple[int, int] | None = None,
        kill_at_size: int | None = None,
    ) -> Ended:
        """Run the command.

        Args:
            arguments: Further arguments.
            file_size: Bytes that a file may have.
            kill: A signal that ends it, and after how many requests.
            kill_at_size: Bytes of the partial file from which on it is killed.
        """
        started: asyncio.Future[Process] = asyncio.get_running_loop().create_future()

        async def end(number: int) -> None:
            (await started).send_signal(number)
            # No response, or the run might be whole before it has the signal.
            await asyncio.sleep(60)

        if kill is not None:
            self.sandbox.fault(_at(kill[1], lambda: end(kill[0])))
        options = ["--limit", "5", "--format", self.kind, "-o", self._output, "--ids-from", "ids", "--progress", "none"]
        environment = {"ZENOVAY_API_KEY": KEY, "ZENOVAY_BASE_URL": self.sandbox.url, "ZENOVAY_RATE_LIMIT_STORE": ""}
        with Process(
            *("heatmaps", "pages", *options, "--concurrency", str(CONCURRENCY), *arguments),
            env={**os.environ, **environment},
            folder=self._folder,
            file_size=file_size,
        ) as process:
            started.set_result(process)
            if kill_at_size is not None:
                await until(lambda: self.partial.stat().st_size >= kill_at_size)
                process.kill()
            _, stderr = await asyncio.to_thread(process.communicate)
            code = process.wait()
        self.sandbox.clear_faults()
        return Ended(code, stderr.decode())

    async def interrupt(self, way: str, after: int, *arguments: str, file_size: int = 0) -> Ended:
        """Run the command, alone, ended in one of the ways.

        Args:
            way: The way.
            after: After how many requests, but for a full disk.
            arguments: Further arguments.
            file_size: How many bytes a file may have, where the disk is full.
        """
        self.ways.append(way)
        ended = await self._interrupt(way, after, *arguments, file_size=file_size)
        # Or what was in flight would count as of the next run.
        server = self.sandbox._runner and self.sandbox._runner.server
        await until(lambda: not (server and server.connections))
        return ended

    async def _interrupt(self, way: str, after: int, *arguments: str, file_size: int) -> Ended:
        if way in SIGNALS:
            return await self.run(*arguments, kill=(signal.Signals[way], after))
        if way == "disk":
            return await self.run(*arguments, file_size=file_size)
        if way == "month":
            self._set_key(monthly_limit=after)
        else:
            self.sandbox.fault(_at(after, self._revoke_key))
        ended = await self.run(*arguments)
        self._set_key()
        return ended

    async def _revoke_key(self) -> None:
        self._set_key(plan="free")

    def _set_key(self, **options: Any) -> None:
        self.sandbox.add_key("nightly", api_key=KEY, rate_limit=LIMIT, **options)


def _at(number: int, act: Callable[[], Any]) -> Fault:
    """A fault that does something when a request comes after so many others."""
    numbers = itertools.count()

    async def respond(_: object) -> None:
        if next(numbers) == number:
            await act()

    return Fault("at", respond)


async def check_chain(sandbox: Sandbox, folder: Path, kind: str, ways: Sequence[str], seed: int) -> None:
    """End a run in several ways, one after the other at random moments, and let it go on each time.

    It is as it should be at each end, and in the end the file is as that of a run that nothing disturbs.
    """
    rng = random.Random(seed)
    ways = rng.sample(ways, len(ways))
    whole = Night(sandbox, folder / "whole", kind)
    if not whole.file.exists():
        assert await whole.run() == Ended(0, "")
    night = Night(sandbox, folder / f"ended-{seed}", kind)
    websites = len(sandbox.website_ids)
    moments = sorted(rng.sample(range(websites - CONCURRENCY), len(ways)))
    arguments: list[str] = []
    for way, moment in zip(ways, moments, strict=True):
        before = night.kept
        # Less than what the results take, so that it is reached.
        size = rng.randrange(whole.file.stat().st_size // 2)
        ended = await night.interrupt(way, max(0, moment - before), *arguments, file_size=size)
        check_early_end(night, way, ended, before)
        arguments = ["--resume"]
    assert await night.run(*arguments) == Ended(0, "")
    assert night.content() == whole.content()
    assert not night.partial.exists()
    assert not night.journal.exists()
    assert night.requests <= websites + CONCURRENCY * len(night.ways)


def check_early_end(night: Night, way: str, ended: Ended, before: int) -> None:
    """Nothing is lost, and what the run says of it is true."""
    assert ended.code == WAYS[way], (way, ended)
    assert night.kept >= before
    is_database = night.kind == "sqlite"
    assert is_database or not night.file.exists()
    if way == "SIGKILL":
        return
    websites = len(night.sandbox.website_ids)
    found = re.search(rf"^kept (\d+) of {websites} in (\S+); go on with --resume$", ended.stderr, re.MULTILINE)
    if found is None:
        if way != "disk" or not re.search("what was recorded stays|cannot be read or written", ended.stderr):
            assert (night.kept, f"nothing was written to {night.file.name}" in ended.stderr) == (0, True), (way, ended)
        return
    kept = int(found[1])
    assert kept == night.kept, (way, night.kept, ended)
    if found[2] == night.journal.name:
        assert way == "disk"
        return
    file = night.file if is_database else night.partial
    assert found[2] == file.name
    # What was in flight when the journal could not be written is in the file alone; in a database it stays.
    unkept = [each for each in (night.ways if is_database else [way]) if each in {"disk", "SIGKILL"}]
    assert 0 <= count_websites(file, night.kind) - kept <= CONCURRENCY * len(unkept)


def content(file: Path, kind: str) -> Any:
    """What a file of results says, whatever the order of its websites."""
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(file)) as database:
            return sorted(database.execute("SELECT * FROM heatmaps_pages").fetchall())
    if kind == "parquet":
        rows = import_module("pyarrow.parquet").read_table(file).to_pylist()
        return sorted(rows, key=lambda row: (row["website_id"], row["url"]))
    text = file.read_text(encoding="utf-8")
    if kind == "json":
        return sorted(json.loads(text), key=lambda row: str(row["website_id"]))
    if kind == "table":
        return text
    return sorted(text.splitlines())


def count_websites(file: Path, kind: str) -> int:
    """How many websites a file of results has."""
    found = content(file, kind)
    match kind:
        case "csv":
            return len({line.partition(",")[0] for line in found} - {"website_id"})
        case "table":
            return len(set(re.findall(r"^[0-9a-f]{8}\b", found, re.MULTILINE)))
        case "sqlite":
            return len({row[0] for row in found})
        case "parquet":
            return len({row["website_id"] for row in found})
        case _:
            return len(found)
