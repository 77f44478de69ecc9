"""While a server is away, the client waits as a whole, and nothing is lost: real servers, which stop and start."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from helpers import make_client, objects_of, unique_key, until
from raw_server import RawServer

from zenovay_async import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    NotFoundError,
    ServerError,
    ServerReachable,
    ServerUnreachable,
    Zenovay,
    ZenovayError,
    is_fatal,
)
from zenovay_async._limits.patience import ServerUnavailable
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from aiohttp import web

    from zenovay_async.events import Event


def client_of(url: str, key: str | None = None, **options: Any) -> Zenovay:
    """A client that probes a hundred times as often as usual."""
    options.setdefault("rate_limit", None)
    # The tests make equal calls, each of which is to wait for itself.
    options.setdefault("coalesce", False)
    zenovay = Zenovay(key or unique_key(), base_url=url, **options)
    outage = zenovay._budget._shared.outage_gate.outage
    outage.first_wait, outage.longest_wait = 0.005, 0.08
    return zenovay


def is_away(zenovay: Zenovay) -> bool:
    return zenovay._budget._shared.outage_gate.outage.kind is not None


def waiting(zenovay: Zenovay) -> int:
    gate = zenovay._budget._shared.outage_gate
    return len(gate._direct) + len(gate._background)


class Server:
    """A sandbox that can go away, and come back on the same port with the same key."""

    def __init__(self, port: int, **options: Any) -> None:
        self.options: dict[str, Any] = {"port": port, "api_key": unique_key(), **options}
        self.sandbox = Sandbox(**self.options)
        self.url = f"http://127.0.0.1:{port}/api/external/v1"
        self.key = self.sandbox.api_key
        self.ids = self.sandbox.website_ids

    async def start(self) -> Sandbox:
        self.sandbox = Sandbox(**self.options)
        return await self.sandbox.__aenter__()

    async def stop(self) -> None:
        await self.sandbox.__aexit__(None, None, None)


@pytest.mark.parametrize("rate_limit", ["auto", None])
async def test_a_batch_over_a_server_that_is_away_for_a_moment_gives_every_item(
    unused_tcp_port: int, rate_limit: Any
) -> None:
    server = Server(unused_tcp_port, websites=40)
    events: list[Event] = []
    values: list[str] = []
    taken: list[str] = []
    tasks: list[asyncio.Task[int]] = []

    def items() -> Any:
        for website_id in server.ids:
            taken.append(website_id)
            yield website_id

    await server.start()
    async with client_of(server.url, server.key, rate_limit=rate_limit, on_event=events.append) as zenovay:
        async with zenovay.batch(items(), zenovay.heatmaps.pages, concurrency=4) as results:
            async for result in results:
                assert result.error is None
                values.append(result.item)
                if len(values) == 10:
                    await server.stop()
                    tasks.append(asyncio.create_task(come_back(server, zenovay, taken)))
            assert await tasks[0] <= 4, "items taken while the server was away"
        assert zenovay._budget.statistics().in_flight == 0
    await server.stop()
    assert sorted(values) == sorted(server.ids)
    changes = [event for event in events if isinstance(event, (ServerUnreachable, ServerReachable))]
    assert [type(event) for event in changes] == [ServerUnreachable, ServerReachable]


async def come_back(server: Server, zenovay: Zenovay, taken: list[str]) -> int:
    """Start the server again after a few probes; returns the items taken meanwhile."""
    outage = zenovay._budget._shared.outage_gate.outage
    await until(lambda: is_away(zenovay))
    before = len(taken)
    await until(lambda: outage.backoffs >= 4)
    meanwhile = len(taken) - before
    await server.start()
    return meanwhile


async def test_a_batch_that_begins_before_the_server_gives_every_item(unused_tcp_port: int) -> None:
    server = Server(unused_tcp_port, websites=20)
    async with client_of(server.url, server.key, max_attempts=1) as zenovay:

        async def fetch_all() -> list[Any]:
            async with zenovay.batch(server.ids, zenovay.heatmaps.pages, concurrency=8) as results:
                return [result.error async for result in results]

        batch = asyncio.create_task(fetch_all())
        await until(lambda: waiting(zenovay) >= 7)
        sandbox = await server.start()
        assert await batch == [None] * 20
        assert sandbox.count() == 20
    await server.stop()


async def test_a_direct_call_waits_for_the_server_and_succeeds(unused_tcp_port: int) -> None:
    server = Server(unused_tcp_port)
    async with client_of(server.url, server.key) as zenovay:
        calls = [asyncio.create_task(zenovay.heatmaps.pages(server.ids[0])) for _ in range(10)]
        await until(lambda: waiting(zenovay) >= 9)
        await server.start()
        await asyncio.gather(*calls)
        assert zenovay._budget.statistics().retries_left == 20
    await server.stop()


async def test_attempts_without_a_connection_are_not_counted_against_max_attempts(unused_tcp_port: int) -> None:
    server = Server(unused_tcp_port)
    async with client_of(server.url, server.key, max_attempts=2) as zenovay:
        call = asyncio.create_task(zenovay.with_raw_response(zenovay.heatmaps.pages)(server.ids[0]))
        outage = zenovay._budget._shared.outage_gate.outage
        await until(lambda: outage.backoffs > 4)
        sandbox = await server.start()
        sandbox.fault(Fault.status(500), times=1)
        response = await call
        assert response.attempts >= 7
        assert sandbox.count() == 2
    await server.stop()


async def test_a_direct_call_fails_at_its_deadline_with_the_error_of_its_last_attempt(unused_tcp_port: int) -> None:
    async with client_of(f"http://127.0.0.1:{unused_tcp_port}", timeout=0.3) as zenovay:
        began = time.monotonic()
        with pytest.raises(APIConnectionError, match=r"No connection could be made: .*; the server has been unre") as e:
            await zenovay.heatmaps.pages("x")
        assert time.monotonic() - began >= 0.2
    error = e.value
    assert error.attempts > 1
    assert len(error.waits) == error.attempts - 1
    assert not error.sent
    assert error.__cause__ is not None
    assert error.retry_after is not None
    assert (error.operation, error.outage, is_fatal(error)) == ("heatmaps.pages", None, False)


async def test_a_direct_call_with_one_attempt_fails_at_once(unused_tcp_port: int) -> None:
    async with client_of(f"http://127.0.0.1:{unused_tcp_port}") as zenovay:
        outage = zenovay._budget._shared.outage_gate.outage
        outage.first_wait = outage.longest_wait = 1000.0
        single = zenovay.with_options(max_attempts=1)
        for _ in range(3):
            with pytest.raises(APIConnectionError, match="No connection could be made") as caught:
                await single.heatmaps.pages("x")
            assert (caught.value.attempts, caught.value.sent) == (1, False)
        ended = await asyncio.gather(*(single.heatmaps.pages("x") for _ in range(50)), return_exceptions=True)
    errors = [error for error in ended if isinstance(error, APIConnectionError)]
    assert len(errors) == 50
    assert all("No connection could be made" in error.message and not error.sent for error in errors)
    assert sum(error.attempts for error in errors) < 50, "they share an attempt"


async def test_the_error_of_a_call_that_made_no_attempt_names_the_cause(unused_tcp_port: int) -> None:
    async with client_of(f"http://127.0.0.1:{unused_tcp_port}") as zenovay:
        outage = zenovay._budget._shared.outage_gate.outage
        outage.first_wait = outage.longest_wait = 100.0
        other = asyncio.create_task(zenovay.heatmaps.pages("x", timeout=None))
        await until(lambda: waiting(zenovay) == 1)
        with pytest.raises(APIConnectionError, match=r"No connection could be made: .* unreachable for 0\.") as caught:
            await zenovay.heatmaps.pages("x", timeout=5)
        assert (caught.value.attempts, caught.value.sent) == (0, False)
        assert caught.value.retry_after == pytest.approx(75, rel=0.4)
        other.cancel()


async def test_callers_do_not_storm_a_server_that_is_back(unused_tcp_port: int) -> None:
    server = Server(unused_tcp_port)
    in_flight, most = 0, 0
    released = asyncio.Event()

    async def hold(_: web.Request) -> None:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await released.wait()
        in_flight -= 1

    async with client_of(server.url, server.key) as zenovay:
        calls = [asyncio.create_task(zenovay.heatmaps.pages(server.ids[0])) for _ in range(50)]
        await until(lambda: waiting(zenovay) >= 49)
        sandbox = await server.start()
        sandbox.fault(Fault("hold", hold))
        await until(lambda: in_flight == 1)
        assert waiting(zenovay) == 49
        assert most == 1
        # One response lets two go on.
        released.set()
        released.clear()
        await until(lambda: in_flight >= 2)
        assert most == 2
        released.set()
        await asyncio.gather(*calls)
    await server.stop()


async def test_a_post_that_never_left_is_sent_once_the_server_is_back(unused_tcp_port: int) -> None:
    server = Server(unused_tcp_port)
    async with client_of(server.url, server.key) as zenovay:
        calls = [asyncio.create_task(zenovay.query(server.ids[0], "Where?")) for _ in range(5)]
        await until(lambda: waiting(zenovay) >= 4)
        sandbox = await server.start()
        await asyncio.gather(*calls)
        assert sandbox.count() == 5
    await server.stop()


@pytest.mark.parametrize("max_outage", [0, 0.15])
async def test_a_batch_gives_up_on_a_server_that_stays_away(unused_tcp_port: int, max_outage: float) -> None:
    taken: list[int] = []

    def items() -> Any:
        for number in range(1000):
            taken.append(number)
            yield number

    async with client_of(f"http://127.0.0.1:{unused_tcp_port}") as zenovay:
        began = time.monotonic()
        with pytest.raises(APIConnectionError, match=r"No connection could be made: .* unreachable for ") as caught:
            async with zenovay.batch(
                items(), lambda _: zenovay.heatmaps.pages("x"), concurrency=4, max_outage=max_outage
            ) as results:
                async for result in results:
                    pytest.fail(f"an item was taken: {result}")
        assert time.monotonic() - began >= max_outage
        assert zenovay._budget.statistics().in_flight == 0
    assert caught.value.outage is not None
    assert caught.value.outage >= max_outage
    assert not caught.value.sent
    assert is_fatal(caught.value)
    assert len(taken) <= 4


@pytest.mark.parametrize("max_outage", [-1, "5", True, float("nan")])
def test_a_max_outage_that_makes_no_sense_is_rejected(max_outage: Any) -> None:
    zenovay = make_client()
    with pytest.raises(ConfigurationError, match="max_outage="):
        zenovay.batch(["x"], zenovay.heatmaps.pages, max_outage=max_outage)


async def test_a_batch_can_be_left_while_the_server_is_away(unused_tcp_port: int) -> None:
    async with client_of(f"http://127.0.0.1:{unused_tcp_port}") as zenovay:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), zenovay.batch(list("abcdefgh"), zenovay.heatmaps.pages) as results:
                async for result in results:
                    pytest.fail(f"an item was taken: {result}")
        assert waiting(zenovay) == 0
        assert zenovay._budget.statistics().in_flight == 0


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_a_website_that_alone_fails_stays_alone(sandbox: Sandbox, concurrency: int) -> None:
    broken, *good = sandbox.website_ids
    sandbox.fault(Fault.status(500), path=broken)
    events: list[Event] = []
    async with client_of(sandbox.url, sandbox.api_key, max_attempts=2, on_event=events.append) as zenovay:
        items = [broken, *good]
        async with zenovay.batch(items, zenovay.heatmaps.pages, concurrency=concurrency) as results:
            outcomes = [(result.item, type(result.error)) async for result in results]
    assert dict(outcomes) == {broken: ServerError, **dict.fromkeys(good, type(None))}
    assert not any(isinstance(event, ServerUnreachable) for event in events)


async def test_a_batch_slows_to_a_probe_while_every_response_is_an_error(sandbox: Sandbox) -> None:
    events: list[Event] = []
    items = list(enumerate(sandbox.website_ids * 20))
    async with client_of(sandbox.url, sandbox.api_key, max_attempts=50, on_event=events.append) as zenovay:
        sandbox.fault(Fault.bad_gateway())

        async def fetch_all() -> list[Any]:
            async with zenovay.batch(items, lambda item: zenovay.heatmaps.pages(item[1]), concurrency=8) as results:
                return [result.error async for result in results]

        batch = asyncio.create_task(fetch_all())
        outage = zenovay._budget._shared.outage_gate.outage
        await until(lambda: outage.backoffs >= 6)
        assert sandbox.count() <= 8 + 7
        # Direct calls go on.
        with pytest.raises(ServerError):
            await zenovay.with_options(max_attempts=1).heatmaps.pages("x")
        sandbox.clear_faults()
        assert await batch == [None] * 60
    away, back = [event for event in events if isinstance(event, (ServerUnreachable, ServerReachable))]
    assert isinstance(away, ServerUnreachable)
    assert (away.kind, away.status) == ("failing", 502)
    assert isinstance(back, ServerReachable)


async def test_a_batch_gives_up_on_a_server_that_stays_broken(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.bad_gateway())
    items = list(enumerate(sandbox.website_ids * 20))
    async with client_of(sandbox.url, sandbox.api_key, max_attempts=50) as zenovay:
        with pytest.raises(ServerError, match=r"; the server has been failing for ") as caught:
            async with zenovay.batch(items, lambda item: zenovay.heatmaps.pages(item[1]), max_outage=0.1) as results:
                async for result in results:
                    pytest.fail(f"an item was taken: {result}")
    assert caught.value.status == 502
    assert caught.value.outage is not None


async def test_a_server_that_closes_every_connection_is_an_outage_too() -> None:
    events: list[Event] = []
    async with RawServer() as server, client_of(server.url, max_attempts=50, on_event=events.append) as zenovay:
        paths = [f"stale/{number}" for number in range(8)]
        with pytest.raises(
            APIConnectionError, match=r"closed the connection .*; the server has been failing for "
        ) as e:
            async with zenovay.batch(paths, lambda path: zenovay.request("GET", path), max_outage=0.2) as results:
                async for result in results:
                    pytest.fail(f"an item was taken: {result}")
        assert e.value.sent
        assert server.requests < 8 + 20
    (away,) = [event for event in events if isinstance(event, ServerUnreachable)]
    assert (away.kind, away.status) == ("failing", None)


async def test_a_rejected_id_shows_that_the_server_is_up(unused_tcp_port: int) -> None:
    server = Server(unused_tcp_port)
    async with client_of(server.url, server.key) as zenovay:
        call = asyncio.create_task(zenovay.heatmaps.pages("nobody"))
        await until(lambda: is_away(zenovay))
        await server.start()
        with pytest.raises(NotFoundError):
            await call
        assert not is_away(zenovay)
    await server.stop()


async def test_callers_canceled_while_the_server_is_away_hold_up_nobody(unused_tcp_port: int) -> None:
    server = Server(unused_tcp_port)
    async with client_of(server.url, server.key) as zenovay:
        calls = [asyncio.create_task(zenovay.heatmaps.pages(server.ids[0])) for _ in range(30)]
        await until(lambda: waiting(zenovay) >= 29)
        for call in calls[:20]:
            call.cancel()
            await asyncio.sleep(0.005)
        await server.start()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert not any(isinstance(error, ZenovayError) for error in ended)
        assert not any(isinstance(error, BaseException) for error in ended[20:])
        assert waiting(zenovay) == 0
        assert zenovay._budget.statistics().in_flight == 0
    await server.stop()


async def test_an_error_of_an_outage_is_freed_with_its_last_reference(unused_tcp_port: int) -> None:
    async def call(zenovay: Zenovay) -> weakref.ref[APIConnectionError]:
        with pytest.raises(APIConnectionError) as caught:
            await zenovay.heatmaps.pages("x")
        reference = weakref.ref(caught.value)
        del caught
        return reference

    zenovay = client_of(f"http://127.0.0.1:{unused_tcp_port}", timeout=0.1)
    gc.collect()
    gc.disable()
    try:
        reference = await call(zenovay)
        assert reference() is None
        # The event loop holds what woke this task until its step ends.
        await asyncio.sleep(0)
        assert not objects_of(ServerUnavailable)
    finally:
        gc.enable()
        await zenovay.close()


async def test_a_batch_of_one_call_at_a_time_gives_up_on_a_server_that_stays_broken(sandbox: Sandbox) -> None:
    """Each call waits less than max_outage and fails; what counts is how long the batch waits."""
    sandbox.fault(Fault.status(500))
    items = list(enumerate(sandbox.website_ids * 20))
    failed = 0
    async with client_of(sandbox.url, sandbox.api_key, max_attempts=1) as zenovay:
        with pytest.raises(ServerError, match=r"; the server has been failing for ") as caught:
            async with zenovay.batch(
                items, lambda item: zenovay.heatmaps.pages(item[1]), concurrency=1, max_outage=0.1
            ) as results:
                async for result in results:
                    assert result.error is not None
                    failed += 1
    assert caught.value.outage is not None
    assert failed < len(items) / 2


@pytest.mark.parametrize("fault", [Fault.bad_gateway(), Fault.reset()], ids=lambda fault: fault.name)
async def test_a_batch_loses_nothing_while_a_proxy_cannot_reach_the_server(sandbox: Sandbox, fault: Fault) -> None:
    """However many probes each call makes."""
    items = sandbox.website_ids * 5
    async with client_of(sandbox.url, sandbox.api_key, max_attempts=2) as zenovay:
        outage = zenovay._budget._shared.outage_gate.outage
        for number in range(5):
            outage.on_failure(0.0, probe=0, path=str(number), reason="", status=502, jitter=0.0)
        sandbox.fault(fault)

        async def fetch_all() -> list[Any]:
            async with zenovay.batch(items, zenovay.heatmaps.pages, concurrency=2) as results:
                return [result.error async for result in results]

        batch = asyncio.create_task(fetch_all())
        await until(lambda: outage.backoffs >= 9)
        sandbox.clear_faults()
        assert await batch == [None] * len(items)


async def test_websites_that_alone_get_502_do_not_hold_back_the_others() -> None:
    """Called one after the other, three of them look like an outage; the batch goes on, and only they fail."""
    async with Sandbox(websites=6) as sandbox, client_of(sandbox.url, sandbox.api_key, max_attempts=2) as zenovay:
        bad, good = sandbox.website_ids[:3], sandbox.website_ids[3:]
        for website_id in bad:
            sandbox.fault(Fault.bad_gateway(), path=website_id)
        async with zenovay.batch([*bad, *good], zenovay.heatmaps.pages, concurrency=1) as results:
            outcomes = [(result.item, type(result.error)) async for result in results]
    assert outcomes == [*((item, ServerError) for item in bad), *((item, type(None)) for item in good)]


async def test_a_post_that_a_server_does_not_read_is_no_outage_of_all() -> None:
    """A connection could be made: it is the failure of that call, which has its attempts and no more."""
    events: list[Event] = []
    async with RawServer() as server, client_of(server.url, max_attempts=2, on_event=events.append) as zenovay:
        server.reads = False
        with pytest.raises(APIConnectionError) as caught:
            await zenovay.request("POST", "query", json={"question": "x" * 20_000_000})
        assert (caught.value.sent, caught.value.unreachable, caught.value.attempts) == (False, False, 2)
        assert not is_away(zenovay)
    assert not any(isinstance(event, ServerUnreachable) for event in events)


async def test_a_call_with_little_time_to_connect_says_nothing_of_the_server() -> None:
    """The calls of others, and batches, do not wait because one call was in a hurry."""
    async with RawServer() as server, client_of(server.url.replace("http:", "https:")) as zenovay:
        with pytest.raises(APITimeoutError, match=r"No connection within timeout=0\.\d+") as caught:
            await zenovay.request("GET", "x", timeout=0.2)
        assert (caught.value.unreachable, caught.value.attempts) == (True, 1)
        assert not is_away(zenovay)
