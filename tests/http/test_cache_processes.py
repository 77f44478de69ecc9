"""Several processes on one store of a cache: killed, frozen, forked."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cache_store_worker
import pytest
from cache_store_worker import TIMES, make_store, value_of

from zenovay_async._cache.stores import lease_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis_server import RedisServer

    from zenovay_async._cache.store import CacheStore

WORKER = Path(cache_store_worker.__file__)
NAME = "0123456789abcdef" * 4


class Worker:
    """A process that runs a function of ``cache_store_worker.py``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, where: str, what: str) -> Worker:
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, str(WORKER), where, NAME, what]
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))

    async def read(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            return (await self.process.stdout.readline()).decode().strip()

    async def go_on(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        await self.process.stdin.drain()

    async def end(self, status: int = 0) -> None:
        """Wait for its end."""
        async with asyncio.timeout(60):
            await self.process.communicate()
        assert self.process.returncode == status

    async def kill(self) -> None:
        self.process.kill()
        await self.end(-signal.SIGKILL)


@pytest.fixture(params=["machine", "redis"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "machine":
        return str(tmp_path)
    server: RedisServer = request.getfixturevalue("redis_server")
    server.command("FLUSHALL")
    return server.url


@pytest.fixture
async def store(where: str) -> AsyncIterator[CacheStore]:
    store = make_store(where)
    yield store
    await store.aclose()


async def wait_for_end(store: CacheStore) -> None:
    """Wait until nobody has the lease."""
    async with asyncio.timeout(60):
        while (await store.find(NAME)).lease is not None:  # noqa: ASYNC110 - another process ends it
            await asyncio.sleep(0.01)


async def test_of_many_processes_that_want_a_lease_at_once_one_gets_it(where: str, store: CacheStore) -> None:
    workers = [await Worker.start(where, "acquire") for _ in range(4)]
    assert {await worker.read() for worker in workers} == {"ready"}
    for worker in workers:
        await worker.go_on()
    assert sorted([await worker.read() for worker in workers]) == ["False"] * 3 + ["True"]
    assert (await store.find(NAME)).lease == "direct"
    for worker in workers:
        await worker.go_on()
        await worker.end()
    assert (await store.find(NAME)).lease is None


async def test_a_lease_ends_with_its_process_when_that_is_killed(where: str, store: CacheStore) -> None:
    worker = await Worker.start(where, "release_later")
    assert await worker.read() == "True"
    assert (await store.find(NAME)).lease == "background"
    await worker.kill()
    await wait_for_end(store)
    assert await store.acquire_lease(NAME, background=False)


async def test_a_lease_is_kept_while_its_process_lives_and_ends_when_that_is_frozen(
    where: str, store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what wakes later releases no lease of another one."""
    monkeypatch.setattr(lease_file, "FROZEN", cache_store_worker.LEASE)
    worker = await Worker.start(where, "release_later")
    assert await worker.read() == "True"
    # Longer than one lasts that is not renewed.
    for _ in range(30):
        await asyncio.sleep(cache_store_worker.LEASE / 20)
        assert (await store.find(NAME)).lease == "background"
    os.kill(worker.process.pid, signal.SIGSTOP)
    assert not await store.acquire_lease(NAME, background=False)
    await wait_for_end(store)
    assert await store.acquire_lease(NAME, background=False)
    os.kill(worker.process.pid, signal.SIGCONT)
    await worker.go_on()
    assert await worker.read() == "released"
    await worker.end()
    assert (await store.find(NAME)).lease == "direct"


async def test_a_lease_of_a_frozen_process_may_be_stolen_at_once(where: str, store: CacheStore) -> None:
    worker = await Worker.start(where, "release_later")
    assert await worker.read() == "True"
    os.kill(worker.process.pid, signal.SIGSTOP)
    assert await store.acquire_lease(NAME, background=False, steal=True)
    await store.put(NAME, b"value", 60)
    await worker.kill()
    found = await store.find(NAME)
    assert (found.value, found.lease) == (b"value", None)


async def test_processes_that_write_at_once_leave_each_value_whole_and_each_invalidation(
    where: str, store: CacheStore
) -> None:
    workers = [await Worker.start(where, "put_many") for _ in range(3)]
    for worker in workers:
        await worker.end()
    last = [(await store.find(f"{NAME}{number}")).value for number in range(3)]
    assert set(last) <= {value_of(number) for number in range(TIMES)}
    invalidated = (await store.find(NAME)).invalidations
    assert set(invalidated) == {f"{worker.process.pid}-{number}" for worker in workers for number in range(5)}


async def test_processes_that_are_killed_at_any_moment_leave_a_store_that_works(where: str, store: CacheStore) -> None:
    for _ in range(4):
        worker = await Worker.start(where, "put_forever")
        assert await worker.read() == "ready"
        for _ in range(5):
            value = (await store.find(NAME)).value
            assert value is None or value == value_of(int(value[:9]))
            await asyncio.sleep(0.001)
        await worker.kill()
        await store.acquire_lease(NAME, background=False, steal=True)
        await store.put(NAME, value_of(7), 60)
        found = await store.find(NAME)
        assert (found.value, found.lease) == (value_of(7), None)
        await store.invalidate("scope", 60)


async def test_a_forked_process_neither_has_nor_releases_the_lease_of_its_parent(where: str) -> None:
    worker = await Worker.start(where, "fork")
    await worker.end()
