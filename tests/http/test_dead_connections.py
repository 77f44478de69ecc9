"""A kept-alive connection that the server closed fails no call that may be sent again, and sends no POST twice.

Each test sends through the connection pool, where an attempt is one request, to a server that closes connections as it
likes. Python computes where the event loop is held up, by ``time.sleep``: that is what keeps it from seeing their end.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from typing import TYPE_CHECKING
from unittest.mock import AsyncMock

import aiohttp
import pytest
from helpers import until
from raw_server import PAGES, RawServer
from yarl import URL

from zenovay_async import APIConnectionError, APITimeoutError
from zenovay_async._session import connections
from zenovay_async._session.connection_errors import translate
from zenovay_async._session.connection_pool import as_headers
from zenovay_async._session.connections import RequestBody
from zenovay_async._session.deadlines import Bounds
from zenovay_async._session.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zenovay_async._protocol.response import RawResponse

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
RESPONSE = HEAD + b"Content-Length: %d\r\n\r\n" % len(PAGES) + PAGES.encode()


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with RawServer() as running:
        yield running


class Wire:
    """Sends single attempts to a server."""

    def __init__(self, server: RawServer, session: aiohttp.ClientSession | None = None) -> None:
        self.server = server
        self.transport = Transport(server.url, "test", session, max_connections=100)

    async def send(self, method: str = "GET", body: bytes | None = None) -> RawResponse:
        """Send one request, once."""
        pool = await self.transport.acquire_slot(None)
        url, headers = URL(f"{self.server.url}/x"), as_headers({"X-API-Key": "zv_x"})
        return await pool.send(method, url, headers, body, attempt_timeout=5, bounds=Bounds())

    async def fail(self, method: str = "GET", body: bytes | None = None) -> APIConnectionError:
        """Send one request that fails."""
        with pytest.raises(APIConnectionError) as caught:
            await self.send(method, body)
        return caught.value


@pytest.fixture
async def wire(server: RawServer) -> AsyncIterator[Wire]:
    wire = Wire(server)
    yield wire
    await wire.transport.close()


@pytest.fixture
def _no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if connections closed between the look and the request, as they do where the network takes time."""
    monkeypatch.setattr(connections, "_readable", lambda _: set[int]())


@pytest.mark.usefixtures("_no_look")
@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
async def test_a_dead_connection_is_no_failure_of_the_server(server: RawServer, wire: Wire, resets: bool) -> None:  # noqa: FBT001 - a table's column
    """Only a request on a connection that served before, without a byte of a response, is stale."""
    server.resets = resets
    await wire.send()
    server.per_connection = 1
    server.received.clear()
    server.response = b""
    first = await wire.fail()  # an empty response, and the connection's end
    assert (first.stale, first.sent, first.final) == (True, True, False)
    second = await wire.fail()  # the same on a fresh connection
    assert (second.stale, second.sent, second.final) == (False, True, False)
    assert server.requests == 2


# Of a connection that was reset, aiohttp does not say whether a part of the head had come.
@pytest.mark.parametrize(
    ("part", "resets"),
    [
        *((part, False) for part in (b"H", b"HTTP/1.1 200 OK\r\n", HEAD, RESPONSE[:-1])),
        (RESPONSE[:-1], True),
    ],
)
async def test_a_response_that_began_is_not_stale(server: RawServer, wire: Wire, part: bytes, resets: bool) -> None:  # noqa: FBT001 - a table's column
    """A part of a response, however short, shows that the connection lived."""
    await wire.send()
    server.response = part
    if resets:

        async def reset_later() -> None:
            await until(lambda: server.requests == 2)
            await asyncio.sleep(0.02)
            server.resets = True
            server.close_idle()

        resetting = asyncio.ensure_future(reset_later())
        error = await wire.fail()
        await resetting
    else:
        server.per_connection = 2
        error = await wire.fail()
    assert (error.stale, error.sent, error.final) == (False, True, False)
    assert "RawResponseMessage" not in error.message
    assert server.connections == 1


@pytest.mark.usefixtures("_no_look")
@pytest.mark.parametrize("own_session", [True, False])
async def test_an_immediate_second_attempt_goes_on_a_fresh_connection(server: RawServer, own_session: bool) -> None:  # noqa: FBT001 - a table's column
    """However many connections have died together, each request fails at most once."""
    async with aiohttp.ClientSession() as session:
        wire = Wire(server, None if own_session else session)
        await asyncio.gather(*(wire.send() for _ in range(20)))
        connected = server.connections
        server.close_idle()
        time.sleep(0.02)  # noqa: ASYNC251 - Python computes
        attempts: list[APIConnectionError] = []

        async def call() -> None:
            try:
                await wire.send()
            except APIConnectionError as error:
                attempts.append(error)
                await wire.send()

        await asyncio.gather(*(call() for _ in range(20)))
        assert all(error.stale for error in attempts)
        assert server.connections <= connected + 20
        await wire.transport.close()


async def test_connections_that_died_while_python_computed_are_not_used(server: RawServer, wire: Wire) -> None:
    """After a block of the event loop, no request goes out on a connection that the server closed meanwhile."""
    for method, body in [("GET", None), ("POST", b"{}")] * 2:
        await asyncio.gather(*(wire.send(method, body) for _ in range(8)))
        server.close_idle()
        await asyncio.sleep(0)
        time.sleep(connections.LOOK_EVERY + 0.02)  # noqa: ASYNC251 - Python computes
        await asyncio.gather(*(wire.send(method, body) for _ in range(8)))
    assert server.requests == 8 * 8


async def test_a_connection_in_steady_use_is_not_looked_at(
    server: RawServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look costs a system call, so there is none where calls follow each other."""
    looks: list[list[int]] = []

    def readable(descriptors: list[int]) -> set[int]:
        looks.append(descriptors)
        return set()

    monkeypatch.setattr(connections, "LOOK_EVERY", 60.0)
    monkeypatch.setattr(connections, "_readable", readable)
    for _ in range(5):
        await wire.send()
    assert looks == [[]]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("header", "connected"),
    [
        (b"timeout=1", 2),
        (b"timeout=1, max=100", 2),
        (b"max=5; Timeout = 1", 2),
        (b"timeout=0", 2),
        (b"timeout=60", 1),
        (b"timeout=-1", 1),
        (b"timeout=0.5", 1),
        (b"timeout=1e-3", 1),
        (b"timeout=99999999999999999999999", 1),
        (b"timeout=", 1),
        (b"mytimeout=1", 1),
        (b"\xff\xfe", 1),
        (b"", 1),
    ],
)
async def test_the_servers_keep_alive_time_is_kept(
    server: RawServer, wire: Wire, monkeypatch: pytest.MonkeyPatch, header: bytes, connected: int
) -> None:
    """A connection is not reused once it was idle for the server's ``Keep-Alive: timeout=``, less a margin."""
    server.response = RESPONSE.replace(b"\r\n\r\n", b"\r\nKeep-Alive: " + header + b"\r\n\r\n", 1)
    clock = time.monotonic
    await wire.send()
    monkeypatch.setattr("aiohttp.connector.monotonic", lambda: clock() + 0.9)
    await wire.send()
    assert server.connections == connected


async def test_a_post_goes_on_a_connection_that_was_just_used_or_is_fresh(
    server: RawServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A POST cannot be sent again, so it takes no connection that was idle; those for a GET stay open."""
    clock = time.monotonic
    await wire.send()
    for _ in range(3):
        await wire.send("POST", b"{}")
    assert server.connections == 2
    monkeypatch.setattr(connections, "monotonic", lambda: clock() + 1.0)
    await wire.send("POST", b"{}")
    await wire.send()
    assert server.connections == 3


@pytest.mark.usefixtures("_no_look")
@pytest.mark.parametrize("own_session", [True, False])
@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
async def test_a_post_that_arrived_is_never_called_unsent(server: RawServer, own_session: bool, resets: bool) -> None:  # noqa: FBT001 - a table's column
    """A server that read a whole POST and then closed the connection may have carried it out."""
    server.response, server.per_connection, server.resets = b"", 1, resets
    async with aiohttp.ClientSession() as session:
        wire = Wire(server, None if own_session else session)
        for body in (b"{}", b"x" * 300_000):
            error = await wire.fail("POST", body)
            assert error.sent
        assert server.requests == 2
        await wire.transport.close()


@pytest.mark.usefixtures("_no_look")
@pytest.mark.parametrize("own_session", [True, False])
@pytest.mark.parametrize("size", [2, 300_000, 20_000_000])
async def test_a_post_on_a_dead_connection_may_be_unsent_only_if_it_did_not_arrive(
    server: RawServer,
    own_session: bool,  # noqa: FBT001 - a table's column
    size: int,
) -> None:
    """Where a request is called unsent, the server has not read the whole of it."""
    unsent = 0
    async with aiohttp.ClientSession() as session:
        wire = Wire(server, None if own_session else session)
        for resets in (False, True):
            for _ in range(3):
                server.resets = resets
                await wire.send("POST", b"{}")
                server.received.clear()
                server.close_idle()
                await asyncio.sleep(0)
                (error,) = await asyncio.gather(wire.send("POST", b"x" * size), return_exceptions=True)
                if isinstance(error, APIConnectionError):
                    assert error.stale
                    if not error.sent:
                        unsent += 1
                        await asyncio.sleep(0.01)
                        assert server.requests == 0
        await wire.transport.close()
    if size > 1_000_000:
        assert unsent, "a body larger than any buffer cannot have been written to a dead connection"


@pytest.mark.parametrize("own_session", [True, False])
async def test_a_post_whose_body_the_server_does_not_read_is_unsent(server: RawServer, own_session: bool) -> None:  # noqa: FBT001 - a table's column
    """A server that closes the connection amid the body has not received the request."""
    server.reads = False
    async with aiohttp.ClientSession() as session:
        wire = Wire(server, None if own_session else session)
        error = await wire.fail("POST", b"x" * 20_000_000)
        assert not error.sent
        assert server.requests == 0
        await wire.transport.close()


async def test_a_broken_pipe_does_not_show_that_a_post_did_not_arrive() -> None:
    """Over TLS, it may be the end of the connection that was not written, after a request that arrived whole."""
    body = RequestBody(b"{}")
    writer = AsyncMock()
    async with aiohttp.ClientSession() as session:
        for written, sent in ((False, False), (True, True)):
            if written:
                await body.write(writer)
            body.is_begun = True
            error = translate(
                aiohttp.ClientOSError(errno.EPIPE, "Broken pipe"), session, None, body, has_response=False
            )
            assert isinstance(error, APIConnectionError)
            assert error.sent is sent
            assert not error.unreachable


async def test_a_request_is_dated_when_it_leaves(server: RawServer, wire: Wire) -> None:
    """The time of the event loop, after a connection was made; unknown over a session of the caller's."""
    loop = asyncio.get_running_loop()
    for _ in range(2):
        before = loop.time()
        raw = await wire.send()
        assert raw.sent_at is not None
        assert before <= raw.sent_at <= loop.time()
    async with aiohttp.ClientSession() as session:
        assert (await Wire(server, session).send()).sent_at is None


async def test_an_aiohttp_that_makes_its_own_protocols_is_used_as_it_is(
    server: RawServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the methods that are not public, requests are sent, and a dead connection is a failure like others."""
    monkeypatch.setattr(connections, "hasattr", lambda *_: False, raising=False)
    assert (await wire.send()).sent_at is not None
    server.response, server.per_connection = b"", 2
    error = await wire.fail()
    assert (error.stale, error.final) == (False, False)


async def test_a_connection_that_aiohttp_drops_itself_is_not_taken_for_the_one_used(
    server: RawServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp drops what was idle for 15 s, alive or not; the request then goes on a fresh connection."""
    clock = time.monotonic
    await wire.send()
    monkeypatch.setattr("aiohttp.connector.monotonic", lambda: clock() + 20)
    server.response, server.per_connection = b"", 1
    assert not (await wire.fail()).stale
    assert server.connections == 2


async def test_a_timeout_is_not_stale(server: RawServer, wire: Wire) -> None:
    """A server that is slow on a reused connection is no dead connection."""
    await wire.send()
    server.response = b"H"
    pool = await wire.transport.acquire_slot(None)
    with pytest.raises(APITimeoutError) as caught:
        await pool.send("GET", URL(f"{server.url}/x"), as_headers({}), None, attempt_timeout=0.05, bounds=Bounds())
    assert (caught.value.stale, caught.value.sent) == (False, True)


def test_a_closed_descriptor_is_not_reused() -> None:
    """Neither with ``poll`` nor, where there is none, with ``select``."""
    ours, theirs = socket.socketpair()
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(2):
            assert not connections._readable([ours.fileno()])
            patch.delattr("select.poll", raising=False)
        theirs.close()
        assert connections._readable([ours.fileno()])
    assert connections._readable([ours.fileno()])
    ours.close()
    assert connections._readable([ours.fileno()]) == {-1}
