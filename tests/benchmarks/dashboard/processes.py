"""The processes of a measurement: the API, the workers of the web application, and a Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from .settings import VARIABLE, ApiSettings, ApiStarted, Counted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from .settings import AppSettings, Command

ROOT = Path(__file__).parents[3]
_PACKAGE = "tests.benchmarks.dashboard"
_HOST = "127.0.0.1"
_START = 60.0
"""Seconds in which a worker starts, on a machine that does much else."""


class Api:
    """The API, in a process of its own.

    Attributes:
        url: Its base URL.
        website_ids: IDs of its websites.
    """

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._before = Counted(0, 0)
        self.url = ""
        self.website_ids: list[str] = []

    async def start(self) -> None:
        """Start it, on the port of before."""
        pipe, settings = asyncio.subprocess.PIPE, msgspec.json.encode(self._settings).decode()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"{_PACKAGE}.api", settings), stdin=pipe, stdout=pipe, cwd=ROOT
        )
        started = msgspec.json.decode(await self._read(), type=ApiStarted)
        self.url, self.website_ids = started.url, started.website_ids
        self._settings = msgspec.structs.replace(self._settings, port=started.port)

    async def kill(self) -> None:
        """Kill it: connections break, and no new one is accepted."""
        assert self._process is not None
        self._before = await self.do("count")
        self._process.kill()
        await self._process.wait()

    async def do(self, command: Command) -> Counted:
        """Let it carry out a command; returns what it has counted since it was started first."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(command) + b"\n")
        counted = msgspec.json.decode(await self._read(), type=Counted)
        before = self._before
        return Counted(before.requests + counted.requests, before.rate_limited + counted.rate_limited)

    async def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _read(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        return await self._process.stdout.readline()


@contextlib.asynccontextmanager
async def api_running(settings: ApiSettings) -> AsyncGenerator[Api, None]:
    """The API, while it runs."""
    api = Api(settings)
    try:
        await api.start()
        yield api
    finally:
        await api.stop()


class Worker:
    """A worker of the web application: uvicorn, on a port of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self._port = port
        self.url = f"http://{_HOST}:{port}"

    @classmethod
    async def start(cls, environment: dict[str, str]) -> Self:
        port = _free_port()
        options = ("--host", _HOST, "--port", str(port), "--no-access-log", "--log-level", "error")
        worker = cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "uvicorn", f"{_PACKAGE}.app:app", *options), cwd=ROOT, env=environment
            ),
            port,
        )
        try:
            await worker.wait_until_started()
        except BaseException:
            await worker.stop()
            raise
        return worker

    async def wait_until_started(self) -> None:
        deadline = time.monotonic() + _START
        while self._process.returncode is None and time.monotonic() < deadline:
            try:
                _, writer = await asyncio.open_connection(_HOST, self._port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            await writer.wait_closed()
            return
        raise RuntimeError("a worker of the web application does not start; its error stands above")

    async def stop(self) -> None:
        """End it as a deployment does: with SIGTERM."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        await self._process.wait()


class Site:
    """The web application with its workers, among which visitors are spread as by a load balancer.

    Attributes:
        workers: The workers.
    """

    def __init__(self, settings: AppSettings, api: Api, api_key: str, count: int) -> None:
        self._environment = {
            **os.environ,
            VARIABLE: msgspec.json.encode(settings).decode(),
            "ZENOVAY_API_KEY": api_key,
            "ZENOVAY_BASE_URL": api.url,
        }
        self._count = count
        self.workers: Sequence[Worker] = ()

    async def start(self) -> None:
        async with asyncio.TaskGroup() as group:
            starts = [group.create_task(Worker.start(self._environment)) for _ in range(self._count)]
        self.workers = [start.result() for start in starts]

    async def stop(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        self.workers = ()


@contextlib.asynccontextmanager
async def site_running(settings: AppSettings, api: Api, api_key: str, count: int) -> AsyncGenerator[Site, None]:
    """The web application, while it runs."""
    site = Site(settings, api, api_key, count)
    try:
        await site.start()
        yield site
    finally:
        await site.stop()


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as free:
        return int(free.getsockname()[1])
