"""What tests of stores run in processes of their own: ``python store_worker.py WHERE NAME WHAT``.

``WHERE`` is a folder, or the URL of a Redis; ``WHAT`` is the name of a function below.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenovay_async._limits.stores.machine import MachineStore
from zenovay_async._limits.stores.redis import RedisStore
from zenovay_async.rate_limits import Store, StoreWrite

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# More than a page of memory, as a kernel writes page by page.
SIZE = 9000
TIMES = 300


def make_store(where: str) -> Store:
    return RedisStore(where) if ":" in where else MachineStore(Path(where))


def number(value: bytes | None) -> int:
    """The number in a value, which repeats it to its end."""
    if value is None:
        return 0
    found = int(value[:9])
    assert value == encode(found)
    return found


def encode(count: int) -> bytes:
    return (b"%09d" % count) * (SIZE // 9)


def increment(value: bytes | None, _now: float) -> StoreWrite:
    return StoreWrite(encode(number(value) + 1))


async def read(store: Store, name: str) -> bytes | None:
    """The value."""
    found: list[bytes | None] = []
    await store.update(name, lambda value, _: found.append(value))
    return found[-1]


async def count(store: Store, name: str) -> None:
    """Increment a number."""
    for _ in range(TIMES):
        await store.update(name, increment)
    await store.aclose()


async def ring(store: Store, name: str) -> None:
    """Ring at the address that the value is."""
    await store.update(name, lambda value, _: StoreWrite(b"rung", ((value or b"").decode(),)))
    await store.aclose()


async def listen(store: Store, name: str) -> None:
    """Listen until killed."""
    address = await store.listen(name, lambda: None)
    await store.update(name, lambda _value, _now: StoreWrite(address.encode()))
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def fork(store: Store, name: str) -> None:
    """Go on in a child and in the parent, both with what the parent had opened."""
    await store.update(name, increment)
    pid = os.fork()
    if pid == 0:
        asyncio.events._set_running_loop(None)
        asyncio.set_event_loop(None)
        status = 1
        try:
            asyncio.run(count(store, name))
            status = 0
        finally:
            os._exit(status)
    await count(store, name)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert status == 0
    await store.aclose()


async def fork_locked(store: Store, name: str) -> None:
    """Fork while the value is locked: the child must not get in."""

    def change(_value: bytes | None, _now: float) -> StoreWrite:
        pid = os.fork()
        if pid == 0:
            os._exit(store.update_nowait(name, increment))
        assert os.waitpid(pid, 0)[1] == 0
        return StoreWrite(encode(1))

    assert store.update_nowait(name, change)
    assert number(await read(store, name)) == 1


async def killed(store: Store, name: str) -> None:
    """Kill processes that do nothing but write, at any moment: each value is whole, and none goes back."""
    await store.update(name, increment)
    last = 1
    for _ in range(150):
        pid = os.fork()
        if pid == 0:
            while True:
                store.update_nowait(name, increment)
        await asyncio.sleep(random.uniform(0.001, 0.005))
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, pid, 0)
        value = await read(store, name)
        assert value is not None
        assert number(value) >= last
        last = number(value)
    assert last > 150


async def full(store: Store, name: str) -> None:
    """Write to a disk that gets full: an error, and the value stays."""
    await store.update(name, increment)
    for size in (1, 4096, 4096 + (1 << 18) + 100):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        try:
            store.update_nowait(name, increment)
        except OSError:
            assert number(await read(store, name)) == 1
        else:
            raise AssertionError(size)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.update(name, increment)
    assert number(await read(store, name)) == 2


WHAT: dict[str, Callable[[Store, str], Coroutine[Any, Any, None]]] = {
    each.__name__: each for each in (count, ring, listen, fork, fork_locked, killed, full)
}

if __name__ == "__main__":
    asyncio.run(WHAT[sys.argv[3]](make_store(sys.argv[1]), sys.argv[2]))
