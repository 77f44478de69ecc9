"""The processes of a measurement: the server, those that use its keys, and a Redis."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import aiohttp
import msgspec
from redis_server import RedisServer

from .messages import Access, Batch, Counted, Done, Order, Report, Setting

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncGenerator, Sequence

    from .messages import AnyTask

ROOT = Path(__file__).parents[3]
_PACKAGE = "tests.benchmarks.sharing"
# A line has the outcome of each call.
_LINE = 1 << 24

_numbers = itertools.count()


class WorkerEnded(Exception):  # noqa: N818 - it was killed on purpose
    """The process was ended before its task was done."""


class Worker:
    """A process that carries out tasks."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        self._process, self._input = process, process.stdin
        self._pending: dict[int, asyncio.Future[Done]] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls) -> Self:
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"{_PACKAGE}.worker"), stdin=pipe, stdout=pipe, cwd=ROOT, limit=_LINE
            )
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    async def do(self, task: AnyTask) -> Done:
        """Let the process carry out a task.

        Raises:
            WorkerEnded: It ended before.
        """
        number = next(_numbers)
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        self._input.write(msgspec.json.encode(Order(number, task)) + b"\n")
        return await future

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def stop(self) -> None:
        """End the process, as soon as its tasks are done."""
        if self._process.returncode is None:
            self._input.close()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            report = msgspec.json.decode(line, type=Report)
            self._pending.pop(report.number).set_result(report.done)
        for future in self._pending.values():
            future.set_exception(WorkerEnded())


@contextlib.asynccontextmanager
async def workers(count: int) -> AsyncGenerator[Sequence[Worker], None]:
    """Processes that carry out tasks."""
    started = await asyncio.gather(*(Worker.start() for _ in range(count)))
    try:
        yield started
    finally:
        await asyncio.gather(*(worker.stop() for worker in started))


class Server:
    """The server, in a process of its own."""

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self._session = session
        self.url = f"{origin}/api/external/v1"

    async def add_key(self, setting: Setting) -> str:
        """A new key."""
        key = f"zv_sharing_{os.getpid()}_{next(_numbers)}"
        async with self._session.put(f"/keys/{key}", data=msgspec.json.encode(setting)):
            return key

    async def counted(self, key: str) -> Counted:
        async with self._session.get(f"/keys/{key}") as response:
            return msgspec.json.decode(await response.read(), type=Counted)


@contextlib.asynccontextmanager
async def serving() -> AsyncGenerator[Server, None]:
    """The server, while it runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"{_PACKAGE}.server"), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        origin = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(origin) as session:
            yield Server(session, origin)
    finally:
        process.terminate()
        await process.wait()


async def warm_up(server: Server, started: Sequence[Worker], stores: Sequence[str | None]) -> None:
    """Let each process make a call with each store, as the first one imports, compiles and opens what it needs."""
    for store in stores:
        key = await server.add_key(Setting(kind="sliding", limit=100, window=1.0))
        access = Access(key=key, url=server.url, window=1.0, store=store, counts=True)
        await asyncio.gather(
            *(
                process.do(Batch(access=access, start_at=time.monotonic(), calls=1, concurrency=1))
                for process in started
            )
        )


@contextlib.asynccontextmanager
async def redis_running() -> AsyncGenerator[RedisServer, None]:
    """A Redis, while it runs."""
    with tempfile.TemporaryDirectory() as folder:
        redis = await asyncio.to_thread(RedisServer, Path(folder))
        try:
            yield redis
        finally:
            redis.kill()
