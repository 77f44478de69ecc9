"""A client owns what it made and nothing else, works from one event loop to the next, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import gzip
import subprocess
import sys
import warnings
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

import zenovay_async
from zenovay_async import (
    APIConnectionError,
    APITimeoutError,
    ClientClosedError,
    ConfigurationError,
    HeatmapPages,
    NotFoundError,
    Zenovay,
    ZenovayError,
)
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.events import Event, RateLimitUpdated
from zenovay_async.sandbox import Fault, Sandbox
from zenovay_async.sandbox.faults import NAMED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zenovay_async._protocol.auth import AuthStyle

PAGES = '{"success": true, "data": {"pages": []}, "timestamp": "2026-02-07T12:00:00.000Z"}'


async def test_pages_come_typed_sorted_and_limited(zenovay: Zenovay, sandbox: Sandbox) -> None:
    report = await zenovay.heatmaps.pages(sandbox.website_ids[0], limit=3)
    assert isinstance(report, HeatmapPages)
    counts = [page.total_interactions for page in report.pages]
    assert len(counts) == 3
    assert counts == sorted(counts, reverse=True)
    assert all(page.last_updated.tzinfo for page in report.pages)


async def test_without_a_limit_the_servers_default_holds(zenovay: Zenovay, sandbox: Sandbox) -> None:
    assert len((await zenovay.heatmaps.pages(sandbox.website_ids[0])).pages) <= 20
    assert sandbox.requests[-1].query == ""


@pytest.mark.parametrize("limit", [0, -1, 101, 1.5, "10", True])
async def test_a_limit_that_the_api_refuses_costs_no_request(zenovay: Zenovay, sandbox: Sandbox, limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"limit={limit!r}"):
        await zenovay.heatmaps.pages(sandbox.website_ids[0], limit=limit)
    assert sandbox.count() == 0


@pytest.mark.parametrize("website_id", ["", "  ", ".", "..", None, 5])
async def test_an_id_that_cannot_be_one_costs_no_request(zenovay: Zenovay, sandbox: Sandbox, website_id: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not an id"):
        await zenovay.heatmaps.pages(website_id)
    assert sandbox.count() == 0


@pytest.mark.parametrize("website_id", ["a/../../usage", "a?limit=1", "a#b", "ü/ö", "a%2Fb", "a b"])
async def test_an_id_cannot_reach_beyond_its_place_in_the_path(zenovay: Zenovay, website_id: str) -> None:
    with pytest.raises(NotFoundError):
        await zenovay.heatmaps.pages(website_id)


async def test_what_came_with_an_answer_is_within_reach(zenovay: Zenovay, sandbox: Sandbox) -> None:
    response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(sandbox.website_ids[0], limit=1)
    assert len(response.data.pages) == 1
    assert response.status == 200
    assert response.request_id == sandbox.requests[-1].request_id
    assert response.attempts == 1
    assert response.waits == ()
    assert response.timestamp is not None
    assert response.rate_limit.limit is not None
    assert response.usage.monthly == 1
    assert response.json()["data"]["pages"][0]["url"] == response.data.pages[0].url


async def test_only_methods_of_this_client_have_a_raw_response(zenovay: Zenovay) -> None:
    async with Zenovay("zv_other") as other:
        methods: list[Any] = [print, other.heatmaps.pages, asyncio.sleep]
        for method in methods:
            with pytest.raises(ConfigurationError, match="not a method of this client"):
                zenovay.with_raw_response(method)


async def test_an_endpoint_without_a_method_is_called_by_its_path(zenovay: Zenovay, sandbox: Sandbox) -> None:
    path = f"heatmaps/{sandbox.website_ids[0]}/pages"
    typed = await zenovay.request("GET", path, params={"limit": 2, "range": None}, result_type=HeatmapPages)
    plain = await zenovay.request("GET", f"/{path}", params={"limit": 2})
    assert [page.url for page in typed.pages] == [page["url"] for page in plain["pages"]]


@pytest.mark.parametrize("path", ["", "a//b", "../x", "a/../b", "https://elsewhere.example/x", "a?b=c"])
async def test_a_path_that_leads_elsewhere_is_refused(zenovay: Zenovay, path: str) -> None:
    with pytest.raises(ConfigurationError, match="path="):
        await zenovay.request("GET", path)


async def test_a_session_that_was_passed_in_stays_open(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as session:
        async with Zenovay(sandbox.api_key, base_url=sandbox.url, session=session) as zenovay:
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
        assert not session.closed


async def test_a_session_that_was_passed_in_and_closed_is_named_as_the_cause(sandbox: Sandbox) -> None:
    session = aiohttp.ClientSession()
    await session.close()
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, session=session) as zenovay:
        with pytest.raises(ClientClosedError, match="session was closed"):
            await zenovay.heatmaps.pages(sandbox.website_ids[0])


@pytest.mark.parametrize("fault", [None, *NAMED])
async def test_a_session_that_raises_for_status_by_itself_makes_no_difference(
    sandbox: Sandbox, fault: str | None
) -> None:
    """Its error is aiohttp's, and has the key among its headers."""
    if fault is not None:
        sandbox.fault(NAMED[fault](), times=1)

    async def outcome(session: aiohttp.ClientSession | None) -> tuple[str, int | None]:
        options: dict[str, Any] = {"max_attempts": 1, "rate_limit": None, "timeout": 0.2}
        key = sandbox.add_key("another")
        async with Zenovay(key, base_url=sandbox.url, session=session, **options) as zenovay:
            try:
                await zenovay.heatmaps.pages(sandbox.website_ids[0])
            except ZenovayError as error:
                return type(error).__name__, error.status
        return "", 200

    async with aiohttp.ClientSession(raise_for_status=True) as session:
        strict = await outcome(session)
    if fault is not None:
        sandbox.clear_faults()
        sandbox.fault(NAMED[fault](), times=1)
    assert strict == await outcome(None)


async def test_an_auth_of_the_session_that_was_passed_in_beside_a_bearer_key_is_a_configuration_error(
    sandbox: Sandbox,
) -> None:
    limiter = WindowLimiter()
    with warnings.catch_warnings():
        # aiohttp 4 will have none.
        warnings.simplefilter("ignore", DeprecationWarning)
        made = aiohttp.ClientSession(auth=aiohttp.BasicAuth("user", "password"))
    async with made as session:
        options: dict[str, Any] = {"base_url": sandbox.url, "session": session, "rate_limit": limiter}
        async with Zenovay(sandbox.api_key, auth="bearer", **options) as zenovay:
            with pytest.raises(ConfigurationError, match="refuses to send"):
                await zenovay.heatmaps.pages(sandbox.website_ids[0])
        async with Zenovay(sandbox.api_key, **options) as zenovay:
            assert (await zenovay.heatmaps.pages(sandbox.website_ids[0])).pages
    assert sandbox.count() == 1
    assert limiter._pacer.in_flight == 0


async def test_the_middlewares_of_a_session_that_was_passed_in_still_run(sandbox: Sandbox) -> None:
    seen: list[str] = []

    async def note(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        seen.append(request.url.path)
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=[note]) as session:
        await Zenovay(sandbox.api_key, base_url=sandbox.url, session=session).heatmaps.pages(sandbox.website_ids[0])
    assert len(seen) == 1


async def test_a_call_after_the_end_of_the_block_says_so(sandbox: Sandbox) -> None:
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        pass
    with pytest.raises(ClientClosedError, match="inside its 'async with' block"):
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    await zenovay.close()


def remaining(zenovay: Zenovay) -> int:
    """Permits that could be had now without waiting."""
    assert zenovay.rate_limit is not None
    return zenovay.rate_limit.remaining


@pytest.mark.parametrize("given", [False, True], ids=["own session", "the caller's session"])
async def test_calls_on_a_closed_client_take_no_permit(sandbox: Sandbox, given: bool) -> None:  # noqa: FBT001 - a table's column
    session = aiohttp.ClientSession() if given else None
    zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, session=session, rate_limit=WindowLimiter())
    async with zenovay:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
        before = remaining(zenovay)
        assert before > 100
        if session is not None:
            await session.close()
            with pytest.raises(ClientClosedError, match="session was closed"):
                await zenovay.heatmaps.pages(sandbox.website_ids[0])
    for _ in range(10):
        with pytest.raises(ClientClosedError):
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert remaining(zenovay) == before
    assert zenovay._budget.quota.in_flight == 0


async def test_callers_who_go_away_while_they_wait_for_a_place_on_the_wire_take_no_permit(sandbox: Sandbox) -> None:
    site, limiter = sandbox.website_ids[0], WindowLimiter()
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, max_connections=1, rate_limit=limiter) as zenovay:
        await zenovay.heatmaps.pages(site)
        sandbox.fault(Fault.latency(0.5))
        first = asyncio.create_task(zenovay.heatmaps.pages(site))
        await asyncio.sleep(0.02)
        before = remaining(zenovay)
        waiting = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(10)]
        await asyncio.sleep(0.02)
        assert remaining(zenovay) == before - 10
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert remaining(zenovay) == before
        with pytest.raises(APITimeoutError, match="No place got free in time"):
            await zenovay.heatmaps.pages(site, timeout=0.02)
        assert remaining(zenovay) == before
        await first
        await zenovay.heatmaps.pages(site)
    assert sandbox.count() == 3
    assert limiter._pacer.in_flight == 0


async def test_who_waits_for_a_place_when_the_client_is_closed_takes_no_permit(sandbox: Sandbox) -> None:
    site, limiter = sandbox.website_ids[0], WindowLimiter()
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, max_connections=1, rate_limit=limiter) as zenovay:
        await zenovay.heatmaps.pages(site)
        sandbox.fault(Fault.latency(0.5))
        before = remaining(zenovay)
        calls = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(5)]
        await asyncio.sleep(0.02)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, ZenovayError) for error in ended)
    assert [type(error) for error in ended].count(ClientClosedError) >= 4
    # One request was on its way, which the server may have counted.
    assert remaining(zenovay) == before - 1
    assert limiter._pacer.in_flight == 0


async def test_a_listener_that_raises_is_logged_and_neither_a_call_nor_a_permit_is_lost(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []

    def listener(event: Event) -> None:
        heard.append(event)
        raise LookupError("a slip in the caller's own function")

    site = sandbox.website_ids[0]
    key = sandbox.add_key("small", monthly_limit=12)
    async with Zenovay(key, base_url=sandbox.url, rate_limit_window=1.0, on_event=listener) as zenovay:
        limiter = zenovay._budget.limiter
        assert isinstance(limiter, WindowLimiter)
        sandbox.fault(Fault.rate_limited("0.05"), times=1)
        sandbox.fault(Fault.status(503), times=1)
        assert (await zenovay.heatmaps.pages(site)).pages
        ended = await asyncio.gather(*(zenovay.heatmaps.pages(site) for _ in range(20)), return_exceptions=True)
    assert not any(isinstance(error, LookupError) for error in ended)
    assert {type(event).__name__ for event in heard} == {
        "RateLimited",
        "RetryScheduled",
        "RateLimitUpdated",
        "QuotaThresholdReached",
        "QuotaExhausted",
    }
    assert caplog.text.count("on_event failed on ") == len(heard)
    assert "a slip in the caller's own function" in caplog.text
    assert limiter._pacer.in_flight == 0


async def test_a_class_to_decode_to_that_raises_what_it_likes_costs_no_permit(sandbox: Sandbox) -> None:
    class Picky(msgspec.Struct):
        pages: list[Any]

        def __post_init__(self) -> None:
            raise LookupError("a slip in the caller's own class")

    site, limiter = sandbox.website_ids[0], WindowLimiter()
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=limiter) as zenovay:
        with pytest.raises(LookupError):
            await zenovay.request("GET", f"heatmaps/{site}/pages", result_type=Picky)
    assert limiter._pacer.in_flight == 0


async def test_a_listener_that_refers_to_its_client_does_not_keep_it_alive(sandbox: Sandbox) -> None:
    class Watch:
        def __init__(self) -> None:
            self.zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, on_event=self.note)
            self.heard: list[Event] = []

        def note(self, event: Event) -> None:
            self.heard.append(event)

    watch = Watch()
    await watch.zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert [type(event) for event in watch.heard] == [RateLimitUpdated]
    budget = watch.zenovay._budget
    await watch.zenovay.close()
    gone = weakref.ref(watch), weakref.ref(watch.zenovay)
    del watch
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    assert not budget._shared.listeners


@pytest.mark.parametrize("blocks", [True, False])
def test_one_client_works_in_one_event_loop_after_another(blocks: bool, unused_tcp_port: int) -> None:  # noqa: FBT001 - a table's column
    zenovay = Zenovay("zv_loops", base_url=f"http://127.0.0.1:{unused_tcp_port}/api/external/v1")

    async def main() -> int:
        async with Sandbox(websites=1, api_key="zv_loops", port=unused_tcp_port) as sandbox:
            if blocks:
                async with zenovay:
                    return len((await zenovay.heatmaps.pages(sandbox.website_ids[0], limit=5)).pages)
            return len((await zenovay.heatmaps.pages(sandbox.website_ids[0], limit=5)).pages)

    assert [asyncio.run(main()), asyncio.run(main())] == [5, 5]


async def test_two_event_loops_at_once_are_refused_with_advice(zenovay: Zenovay, sandbox: Sandbox) -> None:
    await zenovay.heatmaps.pages(sandbox.website_ids[0])

    def elsewhere() -> None:
        asyncio.run(zenovay.heatmaps.pages(sandbox.website_ids[0]))

    with pytest.raises(ClientClosedError, match="one client for each loop"):
        await asyncio.to_thread(elsewhere)


SCRIPT = """
import asyncio, gc
from zenovay_async import Zenovay
from zenovay_async.sandbox import Sandbox

async def main():
    async with Sandbox(websites=2) as sandbox:
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url)
        {body}
        gc.collect()

asyncio.run(main())
print("done")
"""
CLOSED_EARLY = """
        task = asyncio.create_task(zenovay.heatmaps.pages('x'))
        await asyncio.sleep(0)
        await zenovay.close()
        await asyncio.gather(task, return_exceptions=True)
"""
CALL = "await zenovay.heatmaps.pages(sandbox.website_ids[0])"


@pytest.mark.parametrize(
    "body",
    [
        f"async with zenovay: {CALL}",
        f"{CALL}; await zenovay.close()",
        CALL,
        f"{CALL}; del zenovay; gc.collect(); await asyncio.sleep(0)",
        "pass",
        CLOSED_EARLY,
    ],
    ids=["block", "closed by hand", "left to the loop", "dropped", "never used", "closed with a call on its way"],
)
def test_no_end_of_a_client_warns_of_anything(body: str) -> None:
    run = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-W", "error", "-X", "dev", "-c", SCRIPT.format(body=body)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.stdout, run.stderr) == ("done\n", "")


class ConnectionPool:
    """A server that does as told with each connection and counts the requests that really came."""

    def __init__(self) -> None:
        self.requests = 0
        self.connections = 0
        self.heads: list[list[str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                self.heads.append(request.decode().removesuffix("\r\n\r\n").split("\r\n"))
                if b"/stale/" in request:
                    break
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                body = PAGES.encode()
                if b"/packed/" in request:
                    head += b"Content-Encoding: gzip\r\n"
                    body = gzip.compress(body)
                if b"/nonsense/" in request:
                    head += b"Content-Encoding: gzip\r\n"
                writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def wire(unused_tcp_port: int) -> AsyncIterator[ConnectionPool]:
    made = ConnectionPool()
    server = await asyncio.start_server(made.serve, "127.0.0.1", unused_tcp_port)
    yield made
    server.close()
    await asyncio.sleep(0.05)


@pytest.mark.parametrize("own_session", [True, False])
async def test_no_request_is_sent_that_is_not_counted(wire: ConnectionPool, unused_tcp_port: int, own_session: bool) -> None:  # noqa: FBT001 - a table's column
    """By itself, aiohttp sends a GET again, unseen, when a kept-alive connection dies under it."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with aiohttp.ClientSession() as session:
        given = None if own_session else session
        async with Zenovay("zv_x", base_url=url, max_attempts=1, rate_limit=None, session=given) as zenovay:
            await zenovay.heatmaps.pages("good")
            with pytest.raises(APIConnectionError) as caught:
                await zenovay.heatmaps.pages("stale")
        assert caught.value.attempts == 1
        assert wire.requests == 2

        if not own_session:
            async with session.get(f"{url}/heatmaps/good/pages") as response:
                await response.read()
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.get(f"{url}/heatmaps/stale/pages")
            assert wire.requests == 2 + 1 + 2, "aiohttp no longer repeats by itself: _SendOnce can go"


async def test_connections_are_kept_alive(wire: ConnectionPool, unused_tcp_port: int) -> None:
    async with Zenovay("zv_x", base_url=f"http://127.0.0.1:{unused_tcp_port}", rate_limit=None) as zenovay:
        for _ in range(5):
            await zenovay.heatmaps.pages("good")
    assert (wire.requests, wire.connections) == (5, 1)


def header(head: list[str], name: str) -> list[str]:
    """The values of a header in the head of a request."""
    return [line.partition(": ")[2] for line in head if line.lower().startswith(f"{name.lower()}: ")]


@pytest.mark.parametrize("auth", ["x-api-key", "bearer"])
@pytest.mark.parametrize("own_session", [True, False])
async def test_each_header_is_on_the_wire_once_and_the_host_first(
    wire: ConnectionPool,
    unused_tcp_port: int,
    own_session: bool,  # noqa: FBT001 - a table's column
    auth: AuthStyle,
) -> None:
    async with aiohttp.ClientSession() as session:
        given = None if own_session else session
        url = f"http://127.0.0.1:{unused_tcp_port}"
        async with Zenovay("zv_x", base_url=url, auth=auth, session=given) as zenovay:
            await zenovay.heatmaps.pages("good", limit=2)
    head = wire.heads[0]
    assert head[0] == "GET /heatmaps/good/pages?limit=2 HTTP/1.1"
    if own_session:
        assert head[1] == f"Host: 127.0.0.1:{unused_tcp_port}"
    names = [line.partition(":")[0].lower() for line in head[1:]]
    assert len(names) == len(set(names))
    assert header(head, "Host") == [f"127.0.0.1:{unused_tcp_port}"]
    assert header(head, "Accept") == ["application/json"]
    assert header(head, "Accept-Encoding") == ["gzip, deflate"]
    key = header(head, "X-API-Key") if auth == "x-api-key" else header(head, "Authorization")
    assert key == (["zv_x"] if auth == "x-api-key" else ["Bearer zv_x"])
    (agent,) = header(head, "User-Agent")
    assert agent.startswith(f"zenovay-async/{zenovay_async.__version__} ")


async def test_a_body_is_sent_with_its_type_and_length(wire: ConnectionPool, unused_tcp_port: int) -> None:
    async with Zenovay("zv_x", base_url=f"http://127.0.0.1:{unused_tcp_port}") as zenovay:
        await zenovay.request("POST", "query/x", json={"question": "?"})
    head = wire.heads[0]
    assert header(head, "Content-Type") == ["application/json"]
    assert header(head, "Content-Length") == ["16"]
    assert header(head, "Transfer-Encoding") == []


@pytest.mark.parametrize("own_session", [True, False])
async def test_a_compressed_answer_is_read(wire: ConnectionPool, unused_tcp_port: int, own_session: bool) -> None:  # noqa: FBT001 - a table's column
    async with aiohttp.ClientSession() as session:
        given, url = None if own_session else session, f"http://127.0.0.1:{unused_tcp_port}"
        async with Zenovay("zv_x", base_url=url, session=given, max_attempts=1, rate_limit=None) as zenovay:
            assert (await zenovay.heatmaps.pages("packed")).pages == ()
            with pytest.raises(APIConnectionError, match="cut short"):
                await zenovay.heatmaps.pages("nonsense")
    assert wire.requests == 2


async def test_waiting_for_a_free_connection_does_not_eat_the_time_of_an_attempt(unused_tcp_port: int) -> None:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(0.2)
        return web.Response(text=PAGES, content_type="application/json")

    app = web.Application()
    app.router.add_get("/heatmaps/x/pages", slow)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    url = f"http://127.0.0.1:{unused_tcp_port}"
    options: dict[str, Any] = {"base_url": url, "rate_limit": None, "max_connections": 1, "max_attempts": 1}
    async with Zenovay("zv_x", attempt_timeout=0.9, **options) as zenovay:
        await asyncio.gather(*(zenovay.heatmaps.pages("x") for _ in range(5)))
        ended = await asyncio.gather(
            *(zenovay.heatmaps.pages("x", timeout=0.5) for _ in range(5)), return_exceptions=True
        )
    await runner.cleanup()
    late = [error for error in ended if isinstance(error, APITimeoutError)]
    assert 1 <= len(late) <= 4
    unsent = [error for error in late if "No place got free in time" in str(error)]
    assert unsent
    assert all(error.attempts == 0 and not error.sent for error in unsent)


def test_the_public_names_are_those_that_are_exported_and_each_is_documented() -> None:
    modules = {name for name, value in vars(zenovay_async).items() if isinstance(value, ModuleType)}
    names = {name for name in vars(zenovay_async) if not name.startswith("_")} - modules
    assert names == {name for name in zenovay_async.__all__ if not name.startswith("_")}
    for name in names - {"NOT_GIVEN", "BatchResult"}:
        assert getattr(zenovay_async, name).__doc__, name


def test_sibling_clients_share_connections_and_differ_in_what_was_given() -> None:
    zenovay = Zenovay("zv_one", timeout=5)
    other = zenovay.with_options(api_key="zv_two", max_attempts=1)
    assert other._transport is zenovay._transport
    assert other._options.timeout == 5
    assert (zenovay._options.max_attempts, other._options.max_attempts) == (4, 1)
    assert other._budget is not zenovay._budget
    assert zenovay.with_options(timeout=None)._budget is zenovay._budget
    assert Zenovay("zv_one")._budget is zenovay._budget


async def test_each_sibling_calls_with_its_own_key(sandbox: Sandbox, zenovay: Zenovay) -> None:
    other = zenovay.with_options(api_key="zv_of_somebody_else")
    await zenovay.heatmaps.pages(sandbox.website_ids[0])
    with pytest.raises(zenovay_async.AuthenticationError):
        await other.heatmaps.pages(sandbox.website_ids[0])
    await other.close()
    await zenovay.heatmaps.pages(sandbox.website_ids[0])
