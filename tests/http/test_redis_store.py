"""The store of all machines, on a real Redis or Valkey that is killed, frozen and emptied."""

from __future__ import annotations

import asyncio
import gc
import itertools
import re
import ssl
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import store_worker
import trustme
from helpers import unique_key, until
from redis import Redis as BlockingRedis
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError
from redis_server import HOST, RedisServer, find_server
from store_worker import encode, increment, number, read

from zenovay_async import ConfigurationError, RedisClient, Zenovay
from zenovay_async._limits.stores import redis as redis_store
from zenovay_async._limits.stores.redis import RedisStore
from zenovay_async._limits.stores.redis_connection import ServerClock, StoreError
from zenovay_async.rate_limits import StoreWrite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


WORKER = Path(store_worker.__file__)
PASSWORD = "pa/ss:w@rd#1"
QUOTED = "pa%2Fss%3Aw%40rd%231"

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    return f"key-{next(_numbers)}"


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis_server.url)
    yield store
    await store.aclose()


@pytest.fixture
async def other(redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    """Another process."""
    other = RedisStore(redis_server.url)
    yield other
    await other.aclose()


@pytest.fixture
def protected(redis_server: RedisServer) -> Iterator[RedisServer]:
    """The server, once it asks for a password."""
    redis_server.command("CONFIG", "SET", "requirepass", PASSWORD)
    yield redis_server
    redis_server.restart()


async def run(url: str, name: str, what: str, times: int = 1) -> None:
    command = [sys.executable, str(WORKER), url, name, what]
    workers = [await asyncio.create_subprocess_exec(*command) for _ in range(times)]
    assert [await worker.wait() for worker in workers] == [0] * times


def scripts_run(server: RedisServer) -> int:
    found = re.search(r"cmdstat_evalsha:calls=(\d+)", server.command("INFO", "commandstats"))
    return int(found[1]) if found else 0


async def test_processes_that_change_one_value_overwrite_none_of_each_other(
    store: RedisStore, redis_server: RedisServer, name: str
) -> None:
    await run(redis_server.url, name, "count", times=3)
    assert number(await read(store, name)) == 3 * store_worker.TIMES


async def test_a_forked_process_uses_no_connection_of_its_parent(
    store: RedisStore, redis_server: RedisServer, name: str
) -> None:
    await run(redis_server.url, name, "fork")
    assert number(await read(store, name)) == 1 + 2 * store_worker.TIMES


async def test_a_change_is_one_round_trip_and_two_after_another_process_wrote(
    store: RedisStore, other: RedisStore, redis_server: RedisServer, name: str
) -> None:
    assert not store.update_nowait(name, increment)
    await store.update(name, increment)
    await other.update(name, increment)
    await store.update(name, increment)
    before = scripts_run(redis_server)
    await store.update(name, increment)
    assert scripts_run(redis_server) == before + 1
    await other.update(name, increment)
    assert scripts_run(redis_server) == before + 3
    assert number(await read(store, name)) == 5


async def test_a_change_that_writes_nothing_has_seen_the_current_value(
    store: RedisStore, other: RedisStore, name: str
) -> None:
    await store.update(name, increment)
    await other.update(name, increment)
    assert number(await read(store, name)) == 2
    seen: list[int] = []
    await other.update(name, lambda value, _now: seen.append(number(value)))
    assert seen == [2]


async def test_a_write_whose_response_is_lost_is_written_once(
    store: RedisStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.update(name, increment)
    real, lost = store._run, [True]

    async def lose_first(*arguments: Any) -> Any:
        found = await real(*arguments)
        if lost.pop() if lost else False:
            raise TimeoutError
        return found

    monkeypatch.setattr(store, "_run", lose_first)
    await store.update(name, increment)
    assert not lost
    assert number(await read(store, name)) == 2


async def test_a_server_that_forgot_the_script_is_sent_it_again(
    store: RedisStore, redis_server: RedisServer, name: str
) -> None:
    await store.update(name, increment)
    redis_server.command("SCRIPT", "FLUSH")
    await store.update(name, increment)
    assert number(await read(store, name)) == 2


@pytest.mark.parametrize("command", ["FLUSHALL", "SET"])
async def test_a_value_that_was_lost_or_overwritten_is_none(
    command: str, store: RedisStore, redis_server: RedisServer, name: str
) -> None:
    """As by a server that evicts, or by a person."""
    await store.update(name, increment)
    words = {"FLUSHALL": ("FLUSHALL",), "SET": ("SET", f"zenovay-async:{{{name}}}", "x")}[command]
    redis_server.command(*words)
    assert await read(store, name) is None
    await store.update(name, increment)
    assert number(await read(store, name)) == 1


async def test_a_server_that_is_killed_and_back_empty_is_lost_meanwhile(
    store: RedisStore, redis_server: RedisServer, name: str
) -> None:
    await store.update(name, increment)
    redis_server.kill()
    for _ in range(2):
        with pytest.raises(StoreError, match="Redis: Connection refused"):
            await store.update(name, increment)
    redis_server.start()
    seen: list[bytes | None] = []
    await store.update(name, lambda value, _now: seen.append(value))
    assert seen[-1] is None


async def test_a_server_that_is_frozen_is_lost_in_bounded_time(
    store: RedisStore, redis_server: RedisServer, name: str
) -> None:
    await store.update(name, increment)
    redis_server.stop()
    try:
        async with asyncio.timeout(20):
            with pytest.raises(StoreError, match=r"no response within 0\.5 s"):
                await store.update(name, increment)
    finally:
        redis_server.cont()
    # It may have written what it received.
    assert number(await read(store, name)) in {1, 2}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://store.invalid", "its host was not found"),
        ("unix:///nowhere/redis.sock", "No such file or directory"),
    ],
)
async def test_a_server_that_cannot_be_reached_is_said_in_a_few_words(url: str, reason: str, name: str) -> None:
    store = RedisStore(url)
    with pytest.raises(StoreError, match=f"^Redis: {reason}$"):
        await store.update(name, increment)
    await store.aclose()


async def test_a_server_whose_certificate_is_not_trusted_gets_no_password(name: str) -> None:
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(100))
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with await asyncio.start_server(serve, HOST, 0, ssl=context) as server:
        store = RedisStore(f"rediss://:s3cret@localhost:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(StoreError, match=r"^Redis: TLS: CERTIFICATE_VERIFY_FAILED$"):
            await store.update(name, increment)
        await store.aclose()
    assert received == []


async def test_changes_at_the_same_time_in_one_process_overwrite_none_of_each_other(
    store: RedisStore, name: str
) -> None:
    await asyncio.gather(*(store.update(name, increment) for _ in range(20)))
    assert number(await read(store, name)) == 20


async def test_a_change_that_is_canceled_leaves_the_store_in_order(
    store: RedisStore, redis_server: RedisServer, name: str
) -> None:
    await store.update(name, increment)
    redis_server.stop()
    update = asyncio.create_task(store.update(name, increment))
    await asyncio.sleep(0.01)
    update.cancel()
    with pytest.raises(asyncio.CancelledError):
        await update
    redis_server.cont()
    # It may have been written.
    written = number(await read(store, name))
    await store.update(name, increment)
    assert number(await read(store, name)) == written + 1


@pytest.mark.parametrize(
    ("begin", "end", "reason"),
    [
        (("REPLICAOF", HOST, "1"), ("REPLICAOF", "NO", "ONE"), "ReadOnlyError"),
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "OutOfMemoryError"),
    ],
)
async def test_a_server_that_takes_no_writes_is_lost_meanwhile(
    begin: tuple[str, ...], end: tuple[str, ...], reason: str, store: RedisStore, redis_server: RedisServer, name: str
) -> None:
    await store.update(name, increment)
    redis_server.command(*begin)
    try:
        with pytest.raises(StoreError, match=f"Redis: {reason}"):
            await store.update(name, increment)
    finally:
        redis_server.command(*end)
    await store.update(name, increment)


async def test_a_ring_arrives_from_another_process_and_after_the_connection_was_lost(
    store: RedisStore, redis_server: RedisServer, name: str
) -> None:
    rung = asyncio.Event()
    address = await store.listen(name, rung.set)
    second = asyncio.Event()
    assert await store.listen(f"{name}-2", second.set)
    await until(lambda: "\r\n:1\r\n" in redis_server.command("PUBSUB", "NUMSUB", address))
    await store.update(name, lambda _value, _now: StoreWrite(address.encode()))
    await run(redis_server.url, name, "ring")
    async with asyncio.timeout(10):
        await rung.wait()
    assert not second.is_set()
    rung.clear()
    redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
    async with asyncio.timeout(20):
        while not rung.is_set():
            # Until it listens again, rings are lost.
            await store.update(name, lambda _value, _now: StoreWrite(b"", (address,)))
            await asyncio.sleep(0.01)


async def test_a_user_who_may_use_no_channel_has_no_rings_and_loses_no_write(
    redis_server: RedisServer, name: str
) -> None:
    words = ("on", ">secret", "~*", "+@all", "resetchannels")
    redis_server.command("ACL", "SETUSER", "limited", *words)
    store = RedisStore(f"redis://limited:secret@{HOST}:{redis_server.port}")
    address = await store.listen(name, lambda: None)
    await store.update(name, lambda _value, _now: StoreWrite(encode(7), (address,)))
    assert number(await read(store, name)) == 7
    await store.aclose()


async def failure(store: RedisStore, name: str) -> StoreError | None:
    try:
        await store.update(name, increment)
    except StoreError as error:
        return error
    return None


@pytest.mark.parametrize("login", [f":{QUOTED}", f"default:{QUOTED}", f"default:{QUOTED}x", QUOTED, ""])
async def test_no_password_shows_in_errors_or_reprs(
    login: str, protected: RedisServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in what tools show of the variables of a traceback."""
    store = RedisStore(f"redis://{login}@{HOST}:{protected.port}")
    error = await failure(store, name)
    assert (error is None) == (login in {f":{QUOTED}", f"default:{QUOTED}"})
    shown = [repr(store), repr(vars(store)), *(f"{each.exc_info} {each.getMessage()}" for each in caplog.records)]
    if error is not None:
        assert str(error).startswith("Redis: AuthenticationError")
        shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    await store.aclose()
    text = "".join(shown)
    assert not [part for part in (PASSWORD, QUOTED, "w@rd", "40rd") if part in text]


async def test_options_of_the_url_that_change_responses_break_nothing(redis_server: RedisServer, name: str) -> None:
    query = "decode_responses=true&socket_timeout=0.001&protocol=3&client_name=web"
    store = RedisStore(f"{redis_server.url.replace('redis', 'valkey')}?{query}")
    for _ in range(2):
        await store.update(name, increment)
    assert number(await read(store, name)) == 2
    await store.aclose()


async def test_all_see_the_clock_of_the_server(
    store: RedisStore, redis_server: RedisServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the clock of their own machine says."""
    monkeypatch.setattr("time.time", lambda: 0.0)
    seen: list[float] = []

    def server_time() -> float:
        seconds, micros = re.findall(r"^(\d+)\r$", redis_server.command("TIME"), re.MULTILINE)
        return int(seconds) + int(micros) / 1e6

    before = server_time()
    await store.update(name, lambda _value, now: seen.append(now))
    after = server_time()
    assert before - store._clock.round_trip <= seen[-1] <= after + store._clock.round_trip


def test_the_fastest_of_the_last_round_trips_says_what_time_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    clock = ServerClock()
    clock.learn(1000.2, 100.0, 100.4)
    assert clock.now() == pytest.approx(1000.0)
    clock.learn(1001.05, 101.0, 101.1)
    assert clock.now() == pytest.approx(1000.0)
    # Slower, and so less exact.
    clock.learn(1002.0, 102.0, 102.4)
    assert clock.now() == pytest.approx(1000.0)
    # The fastest is old.
    clock.learn(1012.0, 112.0, 112.4)
    assert clock.now() == pytest.approx(999.8)


@pytest.mark.parametrize("jump", [-60.0, 60.0])
def test_a_clock_that_jumps_is_a_store_that_is_lost_once(jump: float) -> None:
    clock = ServerClock()
    clock.learn(1000.0, 0.0, 0.01)
    with pytest.raises(StoreError, match="the clock of the server jumped by 60 s"):
        clock.learn(1001.0 + jump, 1.0, 1.1)
    clock.learn(1002.0 + jump, 2.0, 2.1)


def test_a_store_that_nobody_closes_ends_with_its_event_loop(redis_server: RedisServer, name: str) -> None:
    """A connection that is left would be a warning, and a failure of this test."""

    async def use() -> None:
        store = RedisStore(redis_server.url)
        await store.listen(name, lambda: None)
        await store.update(name, increment)

    asyncio.run(use())
    gc.collect()


async def test_a_listener_that_hears_nothing_for_long_still_listens(
    store: RedisStore, other: RedisStore, redis_server: RedisServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "_LISTEN", 0.01)
    rung = asyncio.Event()
    address = await store.listen(name, rung.set)
    await until(lambda: "\r\n:1\r\n" in redis_server.command("PUBSUB", "NUMSUB", address))
    connections = redis_server.command("CLIENT", "LIST", "TYPE", "pubsub").count("id=")
    await asyncio.sleep(0.2)
    await other.update(name, lambda _value, _now: StoreWrite(b"", (address,)))
    async with asyncio.timeout(10):
        await rung.wait()
    assert redis_server.command("CLIENT", "LIST", "TYPE", "pubsub").count("id=") == connections == 1


def test_a_store_works_on_one_event_loop_after_another(redis_server: RedisServer, name: str) -> None:
    store = RedisStore(redis_server.url)

    async def use() -> None:
        await store.listen(name, lambda: None)
        await store.update(name, increment)
        assert number(await read(store, name))
        await store.aclose()

    for _ in range(2):
        asyncio.run(use())


def test_what_holds_no_server_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of shared budgets fail without a server rather than being skipped."""
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(RuntimeError, match="install redis-server or valkey-server"):
        find_server()


async def test_a_client_of_ones_own_is_used_and_never_closed(redis_server: RedisServer, name: str) -> None:
    """Such as that of a Sentinel, which no URL names: values and rings go through it, and it stays open."""
    client = Redis.from_url(redis_server.url)
    await keep_and_ring(client, redis_server, name)
    assert await client.exists(f"zenovay-async:{{{name}}}")
    await client.connection_pool.disconnect()


async def test_a_cluster_keeps_values_and_rings(tmp_path: Path, name: str) -> None:
    """The keys and scripts of one name are on one node, and its client connects when it is first used."""
    server = RedisServer(tmp_path, {"cluster-enabled": "yes"})
    server.command("CLUSTER", "ADDSLOTS", *map(str, range(16384)))
    await until(lambda: "cluster_state:ok" in server.command("CLUSTER", "INFO"))
    async with RedisCluster(host=HOST, port=server.port) as client:
        await keep_and_ring(client, server, name)
    server.kill()


async def test_a_client_without_subscribers_keeps_values(redis_server: RedisServer, name: str) -> None:
    """Processes then wake by their timers, and the errors of a client may be its own."""
    redis: Any = Redis.from_url(redis_server.url)

    class Client:
        """That of another package, whose error only has the same name."""

        async def execute_command(self, *args: Any, **options: Any) -> Any:
            try:
                return await redis.execute_command(*args, **options)
            except NoScriptError:
                raise type("NoScriptError", (Exception,), {}) from None

    redis_server.command("SCRIPT", "FLUSH")
    store = RedisStore(Client())
    assert await store.listen(name, lambda: None) == ""
    await store.update(name, increment)
    assert number(await read(store, name)) == 1
    await store.aclose()
    await redis.connection_pool.disconnect()


async def keep_and_ring(client: RedisClient, server: RedisServer, name: str) -> None:
    store, rings = RedisStore(client), asyncio.Event()
    address = await store.listen(name, rings.set)
    await store.update(name, increment)
    if hasattr(client, "pubsub"):  # which the client of a Cluster has in the newer releases of redis-py alone
        await until(lambda: address in server.command("PUBSUB", "CHANNELS"))
        await store.update(name, lambda value, _now: StoreWrite(value or b"", ring=(address,)))
        await rings.wait()
    assert number(await read(store, name)) == 1
    await store.aclose()


@pytest.mark.parametrize("client", [Redis(decode_responses=True), BlockingRedis()])
def test_a_client_that_cannot_be_used_is_refused(client: RedisClient) -> None:
    """One that decodes responses, or is not asynchronous."""
    with pytest.raises(ConfigurationError, match=r"one of redis\.asyncio, made with decode_responses=False"):
        Zenovay(unique_key(), rate_limit_store=client)
