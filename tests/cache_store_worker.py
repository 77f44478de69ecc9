"""What tests of a cache's stores run in processes of their own: ``python cache_store_worker.py WHERE NAME WHAT``.

``WHERE`` is a folder, or the URL of a Redis; ``WHAT`` is the name of a function below.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenovay_async._cache.stores import lease_file, redis
from zenovay_async._cache.stores.machine import MachineCacheStore
from zenovay_async._cache.stores.redis import RedisCacheStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from zenovay_async._cache.store import CacheStore

TIMES = 100

# Seconds until a lease ends that is not renewed, and between renewals: shorter here, as tests wait for it.
LEASE = 1.0
_RENEWAL = 0.1


def make_store(where: str) -> CacheStore:
    return RedisCacheStore(where) if ":" in where else MachineCacheStore(Path(where))


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def value_of(number: int) -> bytes:
    """A value that repeats its number to its end, of more than a page of memory."""
    return (b"%09d" % number) * 1000


async def acquire(store: CacheStore, name: str) -> None:
    """Say that it is ready; acquire the lease as soon as a line is read, and keep it until the next one."""
    await store.find(name)
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    say(await store.acquire_lease(name, background=False))
    await asyncio.to_thread(sys.stdin.readline)
    await store.aclose()


async def release_later(store: CacheStore, name: str) -> None:
    """Acquire the lease; when a line is read, which may be after it was taken, release it."""
    lease_file.RENEWAL = redis._RENEWAL = _RENEWAL
    redis._LEASE = LEASE
    say(await store.acquire_lease(name, background=True))
    await asyncio.to_thread(sys.stdin.readline)
    await store.release_lease(name)
    say("released")
    await store.aclose()


async def put_many(store: CacheStore, name: str) -> None:
    """Put values of a few names, read them meanwhile, and invalidate: each value is whole."""
    for number in range(TIMES):
        await store.put(f"{name}{number % 3}", value_of(number), 60)
        found = (await store.find(f"{name}{(number + 1) % 3}")).value
        assert found is None or found == value_of(int(found[:9]))
        await store.invalidate(f"{os.getpid()}-{number % 5}", 60)
    await store.aclose()


async def put_forever(store: CacheStore, name: str) -> None:
    """Put values and take leases until killed, without a pause."""
    say("ready")
    for number in range(sys.maxsize):
        await store.acquire_lease(name, background=True, steal=True)
        await store.put(name, value_of(number % 1000), 60)
        await store.invalidate("scope", 60)


async def fork(store: CacheStore, name: str) -> None:
    """A child uses the store of its parent, and ends; the parent still has its lease."""
    assert await store.acquire_lease(name, background=False)
    pid = os.fork()
    if pid == 0:
        asyncio.events._set_running_loop(None)
        asyncio.set_event_loop(None)
        status = 1
        try:
            asyncio.run(_use_in_child(store, name))
            status = 0
        finally:
            os._exit(status)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert status == 0
    found = await store.find(name)
    assert (found.lease, found.value) == ("direct", b"child")
    await store.release_lease(name)
    assert (await store.find(name)).lease is None
    await store.aclose()


async def _use_in_child(store: CacheStore, name: str) -> None:
    assert not await store.acquire_lease(name, background=True)
    await store.put(name, b"child", 60)
    await store.release_lease(name)
    assert (await store.find(name)).lease == "direct"
    await store.aclose()


WHAT: dict[str, Callable[[CacheStore, str], Coroutine[Any, Any, None]]] = {
    each.__name__: each for each in (acquire, release_later, put_many, put_forever, fork)
}

if __name__ == "__main__":
    asyncio.run(WHAT[sys.argv[3]](make_store(sys.argv[1]), sys.argv[2]))
