"""What is sent on a connection: each request once, with the right headers, and the time that waiting takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from raw_server import PAGES, RawServer

import zenovay_async
from zenovay_async import APIConnectionError, APITimeoutError, Zenovay
from zenovay_async._session import aiohttp_tuning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zenovay_async import AuthStyle


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with RawServer() as running:
        yield running


@pytest.mark.parametrize("own_session", [True, False])
@pytest.mark.parametrize("has_switch", [True, False], ids=["this aiohttp", "an aiohttp without the switch"])
async def test_every_request_that_is_sent_is_counted(
    server: RawServer,
    monkeypatch: pytest.MonkeyPatch,
    own_session: bool,  # noqa: FBT001 - a table's column
    has_switch: bool,  # noqa: FBT001 - same
) -> None:
    """Without ``send_once``, aiohttp resends a GET, unseen, when a kept-alive connection turns out to be dead."""
    if not has_switch:
        monkeypatch.setattr(aiohttp_tuning, "hasattr", lambda *_: False, raising=False)
    async with aiohttp.ClientSession() as session:
        given = None if own_session else session
        async with Zenovay("zv_x", base_url=server.url, max_attempts=1, rate_limit=None, session=given) as zenovay:
            await zenovay.heatmaps.pages("good")
            with pytest.raises(APIConnectionError) as caught:
                await zenovay.heatmaps.pages("stale")
        assert caught.value.attempts == 1
        assert server.requests == 2

        if not own_session:
            async with session.get(f"{server.url}/heatmaps/good/pages") as response:
                await response.read()
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.get(f"{server.url}/heatmaps/stale/pages")
            assert server.requests == 2 + 1 + 2, "aiohttp no longer resends a request: remove send_once"


async def test_connections_are_kept_alive(server: RawServer) -> None:
    async with Zenovay("zv_x", base_url=server.url, rate_limit=None) as zenovay:
        for _ in range(5):
            await zenovay.heatmaps.pages("good")
    assert (server.requests, server.connections) == (5, 1)


@pytest.mark.parametrize("auth", ["x-api-key", "bearer"])
@pytest.mark.parametrize("own_session", [True, False])
async def test_each_header_is_sent_once_and_the_host_first(
    server: RawServer,
    own_session: bool,  # noqa: FBT001 - a table's column
    auth: AuthStyle,
) -> None:
    async with aiohttp.ClientSession() as session:
        given = None if own_session else session
        async with Zenovay("zv_x", base_url=server.url, auth=auth, session=given) as zenovay:
            await zenovay.heatmaps.pages("good", limit=2)
    head = server.head()
    assert head[0] == "GET /heatmaps/good/pages?limit=2 HTTP/1.1"
    if own_session:
        assert head[1] == f"Host: {server.host}"
    names = [line.partition(":")[0].lower() for line in head[1:]]
    assert len(names) == len(set(names))
    assert server.header("Host") == [server.host]
    assert server.header("Accept") == ["application/json"]
    assert server.header("Accept-Encoding") == ["gzip, deflate"]
    assert server.header("X-API-Key") == (["zv_x"] if auth == "x-api-key" else [])
    assert server.header("Authorization") == (["Bearer zv_x"] if auth == "bearer" else [])
    (agent,) = server.header("User-Agent")
    assert agent.startswith(f"zenovay-async/{zenovay_async.__version__} ")


async def test_a_body_is_sent_with_its_type_and_length(server: RawServer) -> None:
    async with Zenovay("zv_x", base_url=server.url) as zenovay:
        await zenovay.request("POST", "query/x", json={"question": "?"})
    assert server.header("Content-Type") == ["application/json"]
    assert server.header("Content-Length") == ["16"]
    assert server.header("Transfer-Encoding") == []
    assert server.received[0].endswith(b'\r\n\r\n{"question":"?"}')


@pytest.mark.parametrize("auth", ["x-api-key", "bearer"])
async def test_the_tuned_request_class_sends_the_same_bytes(
    server: RawServer, auth: AuthStyle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tuned request class sends the same bytes as aiohttp's own, byte for byte."""

    async def calls() -> list[bytes]:
        start = server.requests
        async with Zenovay("zv_x", base_url=server.url, auth=auth, rate_limit=None) as zenovay:
            await zenovay.heatmaps.pages("good")
            await zenovay.heatmaps.pages("ü/ö", limit=2, timeout=5)
            await zenovay.request("POST", "query/good", json={"question": "Où?"})
        return server.received[start:]

    used: list[type] = []

    class Plain(aiohttp.ClientRequest):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            used.append(type(self))
            super().__init__(*args, **kwargs)

    tuned = await calls()
    monkeypatch.setattr(aiohttp_tuning, "PreparedRequest", Plain)
    assert await calls() == tuned
    assert used == [Plain] * 3
    assert [request.partition(b" ")[0] for request in tuned] == [b"GET", b"GET", b"POST"]


@pytest.mark.parametrize("own_session", [True, False])
async def test_a_compressed_response_is_read(server: RawServer, own_session: bool) -> None:  # noqa: FBT001 - a table's column
    async with aiohttp.ClientSession() as session:
        given = None if own_session else session
        async with Zenovay("zv_x", base_url=server.url, session=given, max_attempts=1, rate_limit=None) as zenovay:
            assert (await zenovay.heatmaps.pages("packed")).pages == ()
            with pytest.raises(APIConnectionError, match="Content-Encoding says gzip"):
                await zenovay.heatmaps.pages("nonsense")
    assert server.requests == 2


async def test_waiting_for_a_connection_takes_no_time_from_an_attempt(unused_tcp_port: int) -> None:
    """Waiting for a free connection does not count against the timeout of an attempt."""

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
    async with Zenovay("zv_x", attempt_timeout=0.9, coalesce=False, **options) as zenovay:
        await asyncio.gather(*(zenovay.heatmaps.pages("x") for _ in range(5)))
        ended = await asyncio.gather(
            *(zenovay.heatmaps.pages("x", timeout=0.5) for _ in range(5)), return_exceptions=True
        )
    await runner.cleanup()
    late = [error for error in ended if isinstance(error, APITimeoutError)]
    assert 1 <= len(late) <= 4
    unsent = [error for error in late if not error.sent]
    assert unsent
    assert all(error.attempts == 0 and not error.sent for error in unsent)
