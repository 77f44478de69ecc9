"""Processes of one key, on a real server that counts: no 429s, whatever becomes of their store or of one of them."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import TYPE_CHECKING

import budget_worker
import msgspec
import pytest
from budget_worker import Order, Report
from helpers import until

from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis_server import RedisServer

PROCESSES = 3
LIMIT, WINDOW = 20, 1.0
# A busy machine may delay a request by more than the margin of so short a window.
FEW = 4


@pytest.fixture(params=["machine", "Redis"])
def store(request: pytest.FixtureRequest, redis_server: RedisServer) -> str:
    return redis_server.url if request.param == "Redis" else "machine"


class Processes:
    """Processes that use the key of a server; its key is another one in each test, as stores outlive these."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._started: list[Process] = []

    async def start(self, store: str, calls: int) -> list[Process]:
        """Start them, and let them call once all are ready; returns when a few of their calls were received."""
        workers = await asyncio.gather(*(self._start(store, calls) for _ in range(PROCESSES)))
        before = self.sandbox.count()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(b"go\n")
        await until(lambda: self.sandbox.count() > before + 2)
        return workers

    async def close(self) -> None:
        for process in self._started:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def _start(self, store: str, calls: int) -> Process:
        order = Order(self.sandbox.api_key, self.sandbox.url, self.sandbox.website_ids[0], store, WINDOW, calls)
        script = str(Path(budget_worker.__file__))
        process = await asyncio.create_subprocess_exec(sys.executable, script, stdin=PIPE, stdout=PIPE)
        self._started.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        assert await process.stdout.readline() == b"ready\n"
        return process


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    async with Sandbox(
        websites=1, rate_limiter="sliding", rate_limit=LIMIT, rate_limit_window=WINDOW, latency=0.01
    ) as sandbox:
        processes = Processes(sandbox)
        yield processes
        await processes.close()


async def reports(workers: list[Process]) -> list[Report]:
    async def report(worker: Process) -> Report:
        written, _ = await worker.communicate()
        assert worker.returncode == 0
        return msgspec.json.decode(written, type=Report)

    return await asyncio.gather(*(report(worker) for worker in workers))


async def test_processes_that_share_a_budget_are_not_rate_limited(processes: Processes, store: str) -> None:
    found = await reports(await processes.start(store, 12))
    assert [(each.succeeded, each.errors) for each in found] == [(12, [])] * PROCESSES
    assert processes.sandbox.count(status=429) <= FEW


async def test_a_process_that_is_killed_costs_the_others_no_call(processes: Processes, store: str) -> None:
    *others, killed = await processes.start(store, 12)
    killed.kill()
    found = await reports(others)
    assert [(each.succeeded, each.errors) for each in found] == [(12, [])] * len(others)
    assert processes.sandbox.count(status=429) <= FEW


async def test_a_process_that_is_stopped_for_a_while_costs_no_call(processes: Processes, store: str) -> None:
    """Neither the others, which pass it over, nor itself, which goes on with what these know."""
    *others, stopped = await processes.start(store, 12)
    stopped.send_signal(signal.SIGSTOP)
    found = await reports(others)
    stopped.send_signal(signal.SIGCONT)
    found += await reports([stopped])
    assert [(each.succeeded, each.errors) for each in found] == [(12, [])] * PROCESSES
    assert processes.sandbox.count(status=429) <= FEW


async def test_a_redis_that_is_killed_and_comes_back_empty_costs_no_call(
    processes: Processes, redis_server: RedisServer
) -> None:
    """Each process says so once, and goes on with its share meanwhile."""
    workers = await processes.start(redis_server.url, 20)
    redis_server.kill()
    before = processes.sandbox.count()
    # More than the permits that were acquired before.
    await until(lambda: processes.sandbox.count() > before + LIMIT + PROCESSES)
    redis_server.start()
    found = await reports(workers)
    assert [(each.succeeded, each.errors) for each in found] == [(20, [])] * PROCESSES
    assert max(each.lost for each in found) == 1
    assert all(each.back <= each.lost for each in found)
    assert processes.sandbox.count(status=429) <= FEW


ENDS = """
import asyncio, contextlib, sys
from zenovay_async import Zenovay, ZenovayError

url, key, site, store = sys.argv[1:]

async def main(calls, seconds, fails):
    # Else a busy machine is reported, as the event loop is in debug mode.
    asyncio.get_running_loop().slow_callback_duration = 60
    zenovay = Zenovay(key, base_url=url, rate_limit_store=store, timeout=None, trust_env=False)

    async def call():
        try:
            await zenovay.heatmaps.pages(site)
        finally:
            with contextlib.suppress(ZenovayError):
                await zenovay.heatmaps.pages(site, timeout=0.1)

    tasks = [asyncio.create_task(call()) for _ in range(calls)]
    await asyncio.sleep(seconds)
    if fails:
        raise KeyError

for calls in (1, 12):
    for seconds in (0.0, 0.01, 0.06):
        for fails in (False, True):
            with contextlib.suppress(KeyError):
                asyncio.run(main(calls, seconds, fails))
"""


async def test_an_event_loop_that_ends_while_calls_wait_leaves_nothing(store: str) -> None:
    """Neither a task nor a connection, of which Python would warn, although nobody closes the client."""
    async with Sandbox(websites=1, rate_limit=5, latency=0.02) as sandbox:
        arguments = [sandbox.url, sandbox.api_key, sandbox.website_ids[0], store]
        options = ["-X", "dev", "-W", "error", "-c", ENDS]
        run = await asyncio.create_subprocess_exec(sys.executable, *options, *arguments, stderr=PIPE)
        _, errors = await run.communicate()
    assert errors.decode() == ""
    assert run.returncode == 0
