"""The store of a cache on a real Redis or Valkey that is killed, frozen and emptied."""

from __future__ import annotations

import asyncio
import itertools
import re
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from helpers import until
from redis import Redis as BlockingRedis
from redis.asyncio import Redis, RedisCluster
from redis_server import HOST, RedisServer

from zenovay_async import ConfigurationError
from zenovay_async._cache.stores import check_cache_store, make_cache_store
from zenovay_async._cache.stores import redis as redis_store
from zenovay_async._cache.stores.machine import MachineCacheStore
from zenovay_async._cache.stores.redis import RedisCacheStore
from zenovay_async._limits.stores import redis_connection
from zenovay_async._limits.stores.redis_connection import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from zenovay_async import RedisClient

_numbers = itertools.count()
SECRET = "s3cret"

METHODS: dict[str, Callable[[RedisCacheStore, str], Awaitable[object]]] = {
    "find": lambda store, name: store.find(name),
    "acquire": lambda store, name: store.acquire_lease(name, background=False),
    "put": lambda store, name: store.put(name, b"value", 60),
    "remove": lambda store, name: store.remove(name),
    "invalidate": lambda store, _name: store.invalidate("scope", 60),
}


@pytest.fixture
def name() -> str:
    return f"{next(_numbers):064x}"


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisCacheStore]:
    redis_server.command("FLUSHALL")
    store = RedisCacheStore(redis_server.url)
    yield store
    await store.aclose()


@pytest.fixture
async def other(redis_server: RedisServer) -> AsyncIterator[RedisCacheStore]:
    """That of another process."""
    other = RedisCacheStore(redis_server.url)
    yield other
    await other.aclose()


def scripts_run(server: RedisServer) -> int:
    found = re.search(r"cmdstat_evalsha:calls=(\d+)", server.command("INFO", "commandstats"))
    return int(found[1]) if found else 0


def lease_key(name: str) -> str:
    return f"zenovay-async:{{cache}}:{name}:lease"


@pytest.mark.parametrize("method", METHODS)
async def test_each_method_is_one_round_trip(
    method: str, store: RedisCacheStore, redis_server: RedisServer, name: str
) -> None:
    await store.find(name)
    await METHODS[method](store, name)
    before = scripts_run(redis_server)
    await METHODS[method](store, name)
    assert scripts_run(redis_server) == before + 1


@pytest.mark.parametrize("method", METHODS)
async def test_a_server_that_forgot_the_scripts_is_sent_them_again(
    method: str, store: RedisCacheStore, redis_server: RedisServer, name: str
) -> None:
    await METHODS[method](store, name)
    redis_server.command("SCRIPT", "FLUSH")
    await METHODS[method](store, name)


async def test_all_keys_expire_by_themselves(store: RedisCacheStore, redis_server: RedisServer, name: str) -> None:
    await store.put(name, b"value", 1000)
    assert await store.acquire_lease(name, background=False)
    await store.invalidate("long", 500)
    await store.invalidate("short", 5)
    keys = re.findall(r"zenovay-async\S+", redis_server.command("KEYS", "*"))
    assert len(keys) == 3
    left = {key: int(redis_server.command("PTTL", key)[1:]) for key in keys}
    assert 0 < left[lease_key(name)] <= 5000
    assert 900_000 < left[f"zenovay-async:{{cache}}:{name}"] <= 1_000_000
    assert 400_000 < left["zenovay-async:{cache}:invalidations"] <= 500_000


@pytest.mark.parametrize("method", METHODS)
async def test_a_server_that_is_killed_and_back_empty_is_lost_meanwhile(
    method: str, store: RedisCacheStore, redis_server: RedisServer, name: str
) -> None:
    await store.put(name, b"value", 60)
    redis_server.kill()
    for _ in range(2):
        with pytest.raises(StoreError, match="Redis: Connection refused"):
            await METHODS[method](store, name)
    redis_server.start()
    await METHODS[method](store, name)


async def test_a_server_that_is_frozen_is_lost_after_one_timeout(
    store: RedisCacheStore, redis_server: RedisServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks something up waits for one; whoever writes tries twice."""
    await store.find(name)
    tries: list[str] = []
    real = store._run

    async def run(*arguments: Any) -> Any:
        tries.append("")
        return await real(*arguments)

    monkeypatch.setattr(store, "_run", run)
    monkeypatch.setattr(redis_connection, "TIMEOUT", 0.1)
    redis_server.stop()
    try:
        for what, method in METHODS.items():
            tries.clear()
            with pytest.raises(StoreError, match=r"no response within 0\.1 s"):
                await method(store, name)
            assert len(tries) == (1 if what in {"find", "acquire"} else 2)
    finally:
        redis_server.cont()
        monkeypatch.undo()
    await until(lambda: "PONG" in redis_server.command("PING"))
    assert (await store.find(name)).lease in {None, "direct"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://store.invalid", "its host was not found"),
        ("unix:///nowhere/redis.sock", "No such file or directory"),
    ],
)
async def test_a_server_that_cannot_be_reached_is_said_in_a_few_words(url: str, reason: str, name: str) -> None:
    store = RedisCacheStore(url)
    for method in METHODS.values():
        with pytest.raises(StoreError, match=f"^Redis: {reason}$"):
            await method(store, name)
    await store.aclose()


async def test_a_server_that_takes_no_writes_is_lost_for_writes_alone(
    store: RedisCacheStore, redis_server: RedisServer, name: str
) -> None:
    await store.put(name, b"value", 60)
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        for method in ("acquire", "put", "invalidate"):
            with pytest.raises(StoreError, match="Redis: OutOfMemoryError"):
                await METHODS[method](store, name)
        assert (await store.find(name)).value == b"value"
    finally:
        redis_server.command("CONFIG", "SET", "maxmemory", "0")
    await store.put(name, b"value", 60)


async def test_a_connection_that_the_server_closed_meanwhile_is_no_failure(
    store: RedisCacheStore, redis_server: RedisServer, name: str
) -> None:
    await store.find(name)
    redis_server.command("CLIENT", "KILL", "TYPE", "normal")
    await store.find(name)


async def test_a_password_shows_nowhere(redis_server: RedisServer, name: str) -> None:
    """Neither in what tools show of the variables of a traceback."""
    redis_server.command("CONFIG", "SET", "requirepass", "another")
    store = RedisCacheStore(f"redis://:{SECRET}@{HOST}:{redis_server.port}")
    shown = [repr(store), repr(vars(store))]
    try:
        for method in METHODS.values():
            with pytest.raises(StoreError, match=r"^Redis: AuthenticationError") as caught:
                await method(store, name)
            shown += traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
        await store.aclose()
    finally:
        redis_server.restart()
    assert SECRET not in "".join(shown)


async def test_leases_are_renewed_by_one_timer_while_they_are_held(
    store: RedisCacheStore, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "_RENEWAL", 0.01)
    names = [f"lease-{number}" for number in range(3)]
    for each in names:
        assert await store.acquire_lease(each, background=False)
    for each in names:
        redis_server.command("PEXPIRE", lease_key(each), "1000")
    await until(lambda: all(int(redis_server.command("PTTL", lease_key(each))[1:]) > 1500 for each in names))
    before = scripts_run(redis_server)
    await until(lambda: scripts_run(redis_server) >= before + 3)
    assert len([task for task in asyncio.all_tasks() if "leases" in task.get_name()]) <= 1
    for each in names:
        await store.release_lease(each)
    await until(lambda: store._timer is None and store._renewing is None)


async def test_a_lease_that_was_stolen_is_renewed_no_more(
    store: RedisCacheStore, other: RedisCacheStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "_RENEWAL", 0.01)
    assert await store.acquire_lease(name, background=True)
    assert await other.acquire_lease(name, background=False, steal=True)
    await until(lambda: not store._leases)
    assert (await store.find(name)).lease == "direct"


async def test_leases_are_renewed_again_once_the_server_is_back(
    store: RedisCacheStore, redis_server: RedisServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are lost with what it had, and the timer goes on only while there is something to renew."""
    monkeypatch.setattr(redis_store, "_RENEWAL", 0.01)
    assert await store.acquire_lease(name, background=True)
    redis_server.kill()
    await asyncio.sleep(0.05)
    assert store._leases == {name}
    redis_server.start()
    await until(lambda: not store._leases and store._timer is None)
    assert (await store.find(name)).lease is None


async def test_closing_ends_a_renewal(store: RedisCacheStore, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_store, "_RENEWAL", 0.0)
    assert await store.acquire_lease(name, background=True)
    await until(lambda: store._renewing is not None)
    await store.aclose()
    assert not [task for task in asyncio.all_tasks() if "leases" in task.get_name()]


async def test_many_lookups_at_once_use_a_few_connections(redis_server: RedisServer, name: str) -> None:
    store = RedisCacheStore(f"{redis_server.url}?client_name=many")
    await asyncio.gather(*(store.find(name) for _ in range(300)))
    assert 1 <= redis_server.command("CLIENT", "LIST").count("name=many ") <= 10
    await store.aclose()


@pytest.mark.looptime
async def test_lookups_that_wait_for_a_connection_are_no_store_that_is_lost() -> None:
    """Such as those of a burst, where each round trip takes a while."""

    class SlowRedis(Redis):
        async def execute_command(self, *_: Any, **__: Any) -> Any:
            await asyncio.sleep(0.1)
            return [b"0", b"0", None, None, []]

    store = RedisCacheStore(SlowRedis())
    found = await asyncio.gather(*(store.find(f"{number}") for number in range(100)))
    assert {one.value for one in found} == {None}


async def test_a_client_of_ones_own_is_used_and_never_closed(redis_server: RedisServer, name: str) -> None:
    """Such as that of a Sentinel, which no URL names."""
    redis_server.command("FLUSHALL")
    client = Redis.from_url(redis_server.url)
    await use(client, name)
    assert await client.ping()
    await client.connection_pool.disconnect()


async def test_a_cluster_keeps_responses(tmp_path: Path, name: str) -> None:
    server = RedisServer(tmp_path, {"cluster-enabled": "yes"})
    server.command("CLUSTER", "ADDSLOTS", *map(str, range(16384)))
    await until(lambda: "cluster_state:ok" in server.command("CLUSTER", "INFO"))
    async with RedisCluster(host=HOST, port=server.port) as client:
        await use(client, name)
    server.kill()


async def use(client: RedisClient, name: str) -> None:
    """Use all methods."""
    store = RedisCacheStore(client)
    assert await store.acquire_lease(name, background=False)
    await store.invalidate("scope", 60)
    await store.put(name, b"value", 60)
    found = await store.find(name)
    assert (found.value, list(found.invalidations), found.lease) == (b"value", ["scope"], None)
    for each in ("a", "b"):
        assert await store.acquire_lease(each, background=False)
    store.renew_leases()
    await until(lambda: store._renewing is None)
    assert store._leases == {"a", "b"}
    await store.remove(name)
    await store.aclose()


def test_a_store_is_made_of_each_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    check_cache_store(None)
    check_cache_store("machine")
    assert isinstance(make_cache_store("machine", max_entries=10, max_bytes=1000), MachineCacheStore)
    client: Any = Redis()
    for option in ("redis://h", "valkeys://:pw@h/3", "unix:///run/redis.sock", client):
        check_cache_store(option)
        store = make_cache_store(option, max_entries=10, max_bytes=1000)
        assert repr(store) == "RedisCacheStore(<secret>)"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("", "expected 'machine' or the URL of a Redis .*, not an empty text"),
        ("memcached://:s3cret@h", "not a URL of memcached://"),
        (7, "expected 'machine', .*, a client of redis.asyncio, or None for this process alone, not int"),
        ("redis://:s3cret/x@h", "percent-encoded"),
        (Redis(decode_responses=True), r"one of redis\.asyncio, made with decode_responses=False"),
        (BlockingRedis(), r"one of redis\.asyncio, made with decode_responses=False"),
    ],
)
def test_another_store_is_refused_with_what_is_expected(option: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^Cache.store: .*{message}") as caught:
        check_cache_store(option, "Cache.store")
    assert SECRET not in str(caught.value)
