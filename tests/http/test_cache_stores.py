"""What the stores of a cache have in common: on files, and on a real Redis or Valkey."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest
from cache_store_worker import make_store, value_of
from helpers import until

from zenovay_async._cache.invalidation import Scope
from zenovay_async._cache.stores.invalidations import MAX_SCOPES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis_server import RedisServer

    from zenovay_async._cache.store import CacheStore

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    return f"{next(_numbers):064x}"


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


@pytest.fixture
async def other(where: str) -> AsyncIterator[CacheStore]:
    """That of another process."""
    other = make_store(where)
    yield other
    await other.aclose()


async def lease(store: CacheStore, name: str) -> str | None:
    return (await store.find(name)).lease


async def test_what_one_keeps_all_find(store: CacheStore, other: CacheStore, name: str) -> None:
    found = await other.find(name)
    assert (found.value, found.invalidations, found.lease) == (None, {}, None)
    for value in (value_of(1), b"", bytes(range(256)) * 4000):
        await store.put(name, value, 60)
        assert (await other.find(name)).value == value
    await other.remove(name)
    await other.remove(name)
    assert (await store.find(name)).value is None


async def test_a_value_expires_by_itself(store: CacheStore, other: CacheStore, name: str) -> None:
    await store.put(name, b"value", 0.001)
    async with asyncio.timeout(10):
        while (await other.find(name)).value is not None:  # noqa: ASYNC110 - time passes
            await asyncio.sleep(0.001)
    await store.put(name, b"value", 60)
    assert (await other.find(name)).value == b"value"


@pytest.mark.parametrize("kind", ["background", "direct"])
async def test_one_of_all_has_the_lease_and_all_see_for_what(
    kind: str, store: CacheStore, other: CacheStore, name: str
) -> None:
    assert await store.acquire_lease(name, background=kind == "background")
    assert not await other.acquire_lease(name, background=kind == "direct")
    assert [await lease(each, name) for each in (store, other)] == [kind, kind]
    assert await lease(store, name + "0") is None


async def test_whoever_has_the_lease_may_acquire_it_again_for_something_else(
    store: CacheStore, other: CacheStore, name: str
) -> None:
    assert await store.acquire_lease(name, background=True)
    assert await store.acquire_lease(name, background=False)
    assert await lease(other, name) == "direct"
    await store.release_lease(name)
    assert await lease(other, name) is None


@pytest.mark.parametrize("how", ["put", "release_lease", "remove", "aclose"])
async def test_the_lease_ends_with_what_is_done_next(how: str, store: CacheStore, other: CacheStore, name: str) -> None:
    assert await store.acquire_lease(name, background=False)
    match how:
        case "put":
            await store.put(name, b"value", 60)
        case "release_lease":
            await store.release_lease(name)
        case "remove":
            await store.remove(name)
        case _:
            await store.aclose()
    found = await other.find(name)
    assert (found.value, found.lease) == (b"value" if how == "put" else None, None)
    assert await other.acquire_lease(name, background=False)


@pytest.mark.parametrize("how", ["put", "release_lease", "remove", "aclose"])
async def test_whoever_lost_the_lease_does_not_release_that_of_the_next(
    how: str, store: CacheStore, other: CacheStore, name: str
) -> None:
    assert await store.acquire_lease(name, background=True)
    assert await other.acquire_lease(name, background=False, steal=True)
    await {
        "put": lambda: store.put(name, b"value", 60),
        "release_lease": lambda: store.release_lease(name),
        "remove": lambda: store.remove(name),
        "aclose": store.aclose,
    }[how]()
    assert await lease(store, name) == "direct"
    assert not await store.acquire_lease(name, background=False)
    await other.release_lease(name)
    assert await store.acquire_lease(name, background=False)


async def test_a_lease_that_is_free_may_be_stolen_as_well(store: CacheStore, other: CacheStore, name: str) -> None:
    assert await store.acquire_lease(name, background=False, steal=True)
    assert await store.acquire_lease(name, background=False, steal=True)
    assert not await other.acquire_lease(name, background=False)


async def test_the_lease_of_a_direct_call_is_not_stolen(store: CacheStore, other: CacheStore, name: str) -> None:
    """It may have been stolen itself a moment ago, by a process that was faster."""
    assert await store.acquire_lease(name, background=True)
    assert await other.acquire_lease(name, background=False, steal=True)
    assert not await store.acquire_lease(name, background=False, steal=True)
    await other.release_lease(name)
    assert await store.acquire_lease(name, background=False, steal=True)


async def test_nobody_releases_a_lease_that_it_does_not_have(store: CacheStore, other: CacheStore, name: str) -> None:
    assert await store.acquire_lease(name, background=False)
    await other.release_lease(name)
    await other.put(name, b"value", 60)
    await other.remove(name)
    assert await lease(other, name) == "direct"


async def test_an_invalidation_is_seen_by_the_next_of_all_lookups(
    store: CacheStore, other: CacheStore, name: str
) -> None:
    """Each of them, however fast they follow each other."""
    for number in range(100):
        await store.invalidate("a", 60)
        first = (await other.find(name)).invalidations["a"]
        await other.invalidate(f"b{number}", 60)
        await other.invalidate("a", 60)
        second = (await store.find(name)).invalidations
        assert second["a"] > first
        assert f"b{number}" in second


async def test_an_invalidation_has_the_time_of_the_process_that_asks(store: CacheStore, name: str) -> None:
    await store.find(name)
    before = time.monotonic()
    await store.invalidate("a", 60)
    after = time.monotonic()
    found = await store.find(name)
    # A round trip says what time it is to half of it.
    error = 0.0 if found.offset == 0 else after - before
    assert before - error <= found.invalidations["a"] - found.offset <= after + error


async def test_an_invalidation_is_forgotten_once_that_is_allowed(
    store: CacheStore, other: CacheStore, name: str
) -> None:
    await store.invalidate("short", 0.001)
    async with asyncio.timeout(10):
        while True:
            await store.invalidate("long", 60)
            found = (await other.find(name)).invalidations
            if "short" not in found:
                break
            await asyncio.sleep(0.001)
    assert set(found) == {"long"}


async def test_more_invalidations_than_are_kept_are_one_for_all(
    store: CacheStore, other: CacheStore, name: str
) -> None:
    for number in range(MAX_SCOPES):
        await store.invalidate(f"scope-{number}", 60)
    await store.invalidate("scope-0", 60)
    found = (await other.find(name)).invalidations
    assert len(found) == MAX_SCOPES
    await store.invalidate("one more", 60)
    (only,) = (await other.find(name)).invalidations.items()
    assert only[0] == Scope().name
    assert only[1] >= max(found.values())
    await store.invalidate("next", 60)
    assert set((await other.find(name)).invalidations) == {Scope().name, "next"}


async def test_what_is_too_much_is_merged_for_the_key_that_has_most_of_it(
    store: CacheStore, other: CacheStore, name: str
) -> None:
    """Responses of other keys stay; if there are too many keys, all is invalidated."""
    few = Scope('w,"]', "x", account="b" * 16).name
    await store.invalidate(few, 60)
    for number in range(MAX_SCOPES - 1):
        await store.invalidate(Scope(f"w{number}", account="a" * 16).name, 60)
    before = (await other.find(name)).invalidations
    assert len(before) == MAX_SCOPES
    last = Scope(operation="y", account="c" * 16).name
    await other.invalidate(last, 60)
    after = (await store.find(name)).invalidations
    assert set(after) == {few, last, Scope(account="a" * 16).name}
    assert after[few] == before[few]
    assert after[Scope(account="a" * 16).name] >= max(before.values())
    for number in range(MAX_SCOPES):
        await store.invalidate(Scope(account=f"{number:016x}").name, 60)
    assert Scope().name in (await store.find(name)).invalidations


async def test_many_lookups_at_once_are_all_served(store: CacheStore, other: CacheStore, name: str) -> None:
    await store.put(name, b"value", 60)
    found = await asyncio.gather(*(other.find(name) for _ in range(500)))
    assert {each.value for each in found} == {b"value"}


async def test_of_many_who_want_a_lease_at_once_one_gets_it(where: str, name: str) -> None:
    stores = [make_store(where) for _ in range(20)]
    got = await asyncio.gather(*(store.acquire_lease(name, background=False) for store in stores))
    assert sum(got) == 1
    for store in stores:
        await store.aclose()


async def test_a_store_that_was_closed_opens_again(store: CacheStore, name: str) -> None:
    await store.put(name, b"value", 60)
    await store.aclose()
    await store.aclose()
    assert (await store.find(name)).value == b"value"


def test_a_store_works_on_one_event_loop_after_another(where: str, name: str) -> None:
    """Leases end with the loop in which they were acquired."""
    store = make_store(where)

    async def use(*, close: bool) -> bool:
        await store.put(name, b"value", 60)
        found = await store.find(name)
        assert found.value == b"value"
        is_acquired = await store.acquire_lease(name + "0", background=False)
        if close:
            await store.aclose()
        return is_acquired

    for close in (True, False, True):
        asyncio.run(use(close=close))


def test_a_store_that_nobody_closes_ends_with_its_event_loop(where: str, name: str) -> None:
    """A connection or file that is left would be a warning, and a failure of this test."""

    async def use() -> None:
        store = make_store(where)
        await store.put(name, b"value", 60)
        await store.invalidate("a", 60)
        await store.find(name)
        assert await store.acquire_lease(name, background=False)

    asyncio.run(use())
    gc.collect()


async def test_a_store_that_nobody_has_any_more_ends_while_the_event_loop_runs(where: str, name: str) -> None:
    """Also one that only the garbage collector finds."""
    stores: list[Any] = [make_store(where)]
    await stores[0].find(name)
    assert await stores[0].acquire_lease(name, background=False)
    stores.append(stores)
    del stores
    gc.collect()
    # A task that closes the connections.
    await asyncio.sleep(0)
    await until(lambda: len(asyncio.all_tasks()) == 1)
    gc.collect()


def test_a_store_shows_nothing_of_where_it_is(where: str) -> None:
    assert repr(make_store(where)) in {"MachineCacheStore()", "RedisCacheStore(<secret>)"}
