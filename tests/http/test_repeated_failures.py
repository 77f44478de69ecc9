"""A failure that could only repeat is met once, and its error names the cause and what to do."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
import trustme
from raw_server import PAGES, RawServer

from zenovay_async import APIConnectionError, ConfigurationError, ResponseDecodeError, Zenovay, ZenovayError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

OK = b"HTTP/1.1 200 OK\r\n"
BODY = b"Content-Length: 5\r\n\r\nabcde"
HTTP_2 = bytes.fromhex("000012040000000000000300000080000400010000000500ffffff000004080000000000007fff0000")


async def failure(url: str, session: aiohttp.ClientSession | None = None, max_attempts: int = 2) -> ZenovayError:
    """The error of a call."""
    async with Zenovay("zv_x", base_url=url, session=session, max_attempts=max_attempts, rate_limit=None) as zenovay:
        with pytest.raises(ZenovayError) as caught:
            await zenovay.heatmaps.pages("x")
    return caught.value


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff is tested in virtual time elsewhere; here it would only take time."""
    monkeypatch.setattr("zenovay_async._session.retry.BACKOFF_FIRST", 0.002)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (OK + b"Content-Encoding: br\r\n" + BODY, "Content-Encoding is brotli (br), which was not asked for"),
        (OK + b"Content-Encoding: gzip\r\n" + BODY, "Content-Encoding says gzip, which its body is not"),
        (
            OK + b"X-Long: " + b"a" * 9000 + b"\r\n" + BODY,
            "headers exceed a limit of aiohttp's (more than 8190 bytes)",
        ),
        (b"HTTP/1.1 200 " + b"a" * 9000 + b"\r\n" + BODY, "headers exceed a limit of aiohttp's (more than 8190 bytes)"),
        (OK + b"X-\x01: a\r\n" + BODY, "The response is not valid HTTP: Invalid header"),
        (OK + b"Content-Length: 6\r\n" + BODY + b"f", "The response is not valid HTTP: Duplicate Content-Length"),
        (OK + b"Content-Length: -1\r\n\r\n", "The response is not valid HTTP: Invalid character in Content-Length"),
        (OK + b"Transfer-Encoding: chunked\r\n" + BODY, "Content-Length can't be present with Transfer-Encoding"),
        (
            OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
            "Transfer-Encoding can't be present with Content-Length",
        ),
        (b"HTTP/1.1 abc OK\r\n" + BODY, "The response is not valid HTTP: its status line is malformed"),
        (b"HTTP/3.7 200 OK\r\n" + BODY, "The response is not valid HTTP: its status line is malformed"),
        (HTTP_2, "The server does not speak HTTP/1.1: its response is binary, as that of HTTP/2 is"),
        (bytes.fromhex("15030100020246"), "it expects TLS, so use https://"),
    ],
    ids=[
        *("br", "no gzip", "long header", "long status line", "bad header", "two lengths", "length"),
        *("chunked with length", "length with chunked", "status", "version", "HTTP/2", "TLS"),
    ],
)
@pytest.mark.parametrize("own_session", [True, False])
async def test_a_response_that_cannot_be_read_is_requested_once(
    own_session: bool,  # noqa: FBT001 - a table's column
    response: bytes,
    message: str,
) -> None:
    """What the server is, or what it makes of every response, is the same the next time."""
    async with RawServer() as server, aiohttp.ClientSession() as session:
        server.response, server.per_connection = response, 1
        error = await failure(server.url, None if own_session else session)
        assert isinstance(error, APIConnectionError)
        assert (error.final, error.sent, error.stale, error.attempts) == (True, True, False, 1)
        assert message in error.message
        assert "\\x" not in str(error)
        assert "aaa" not in str(error)
        assert server.requests == 1


@pytest.mark.parametrize("coding", ["zstd", "snappy"])
async def test_a_response_in_an_unknown_coding_is_requested_once(coding: str) -> None:
    """The error names the coding; a body that is plain JSON in spite of it is read, unless aiohttp knows better."""
    head = OK + f"Content-Encoding: {coding}\r\n".encode()
    async with RawServer() as server:
        server.response, server.per_connection = head + b"Content-Length: 5\r\n\r\n(\xb5/\xfd\x04", 1
        error = await failure(server.url)
        assert isinstance(error, (APIConnectionError, ResponseDecodeError))
        assert coding in error.message
        assert "was not asked for" in error.message
        assert (error.attempts, server.requests) == (1, 1)


async def test_a_plain_response_under_an_unknown_coding_is_read() -> None:
    async with RawServer() as server, Zenovay("zv_x", base_url=server.url, rate_limit=None) as zenovay:
        head = f"Content-Encoding: snappy\r\nContent-Length: {len(PAGES)}\r\n\r\n"
        server.response = OK + (head + PAGES).encode()
        await zenovay.heatmaps.pages("x")


@pytest.mark.parametrize(
    "response",
    [
        OK + b"Content-Encoding: gzip\r\nContent-Length: 60\r\n\r\n" + gzip.compress(PAGES.encode())[:60],
        OK + b"Content-Encoding: gzip\r\nContent-Length: 90\r\n\r\n" + gzip.compress(PAGES.encode())[:60],
        OK + b"Content-Encoding: deflate\r\nContent-Length: 60\r\n\r\n" + zlib.compress(PAGES.encode())[:60],
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefg\r\n0\r\n\r\n",
        b"upstream connect error\n",
        OK,
    ],
    ids=["gzip", "gzip and length", "deflate", "chunks", "size of a chunk", "end of a chunk", "text", "head"],
)
async def test_a_response_that_was_cut_short_is_requested_again(response: bytes) -> None:
    """What broke on the way, and what a proxy in trouble says, may be another thing the next time."""
    async with RawServer() as server:
        server.response, server.per_connection = response, 1
        error = await failure(server.url)
        assert isinstance(error, (APIConnectionError, ResponseDecodeError))
        assert error.attempts == 2
        assert server.requests == 2


async def test_the_status_of_an_error_counts_more_than_its_coding() -> None:
    """An error in a coding that nobody knows is an error of its status."""
    async with RawServer() as server:
        server.response = b"HTTP/1.1 403 Forbidden\r\nContent-Encoding: snappy\r\n" + BODY
        assert (await failure(server.url)).status == 403


class Alerting(asyncio.Protocol):
    """Ends every TLS handshake with an alert."""

    def __init__(self, alert: int) -> None:
        self._alert = alert

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert data[0] == 0x16, "a handshake"
        self._transport.write(bytes([0x15, 3, 3, 0, 2, 2, self._alert]))
        self._transport.close()


@asynccontextmanager
async def listening(make: type[asyncio.Protocol], *args: int) -> AsyncGenerator[str]:
    server = await asyncio.get_running_loop().create_server(lambda: make(*args), "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("alert", "message", "final"),
    [
        (120, "The server does not speak HTTP/1.1", True),
        (40, "no version, cipher or name of TLS in common", True),
        (70, "no version, cipher or name of TLS in common", True),
        (80, "No connection could be made", False),
    ],
    ids=["no_application_protocol", "handshake_failure", "protocol_version", "internal_error"],
)
async def test_a_server_that_rejects_the_handshake_is_asked_once(alert: int, message: str, final: bool) -> None:  # noqa: FBT001 - a table's column
    """A rejected handshake is final, and no request was sent; an internal error of the server may pass."""
    async with listening(Alerting, alert) as host:
        error = await failure(f"https://{host}", max_attempts=2 if final else 1)
    assert isinstance(error, APIConnectionError)
    assert message in error.message
    assert (error.final, error.sent, error.stale) == (final, False, False)
    assert error.attempts == 1


async def test_a_port_without_tls_is_asked_once() -> None:
    """``https://`` for a port that speaks HTTP in the clear is final."""

    class Clear(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(Clear) as host:
        error = await failure(f"https://{host}")
    assert isinstance(error, APIConnectionError)
    assert "does not speak TLS on this port" in error.message
    assert (error.final, error.sent, error.attempts) == (True, False, 1)


async def test_a_certificate_that_is_not_trusted_or_of_another_host_is_met_once() -> None:
    """An untrusted certificate, one of another host, or of another fingerprint, is final, and no request was sent."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.2").configure_cert(tls)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with RawServer(tls) as server:
        for check in (True, trusting, aiohttp.Fingerprint(bytes(32))):
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=check)) as session:
                error = await failure(server.url, session)
            assert isinstance(error, APIConnectionError)
            assert "certificate" in error.message
            assert (error.final, error.sent, error.attempts) == (True, False, 1)
        assert server.requests == 0


@pytest.mark.parametrize(
    ("status", "message", "final"),
    [
        (407, "wants credentials (HTTP 407)", True),
        (403, "refused to connect to the server (HTTP 403)", True),
        (429, "refused to connect to the server (HTTP 429)", False),
        (502, "refused to connect to the server (HTTP 502)", False),
    ],
)
async def test_a_proxy_that_refuses_to_connect_is_named_without_its_password(
    status: int,
    message: str,
    final: bool,  # noqa: FBT001 - a table's column
) -> None:
    """A proxy that wants a password, or forbids the server, is asked once; no request was sent."""
    async with RawServer() as proxy:
        proxy.response = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status
        async with aiohttp.ClientSession(proxy=f"http://user:hidden@{proxy.host}") as session:
            error = await failure("https://api.example", session, max_attempts=2 if final else 1)
        assert proxy.head()[0] == "CONNECT api.example:443 HTTP/1.1"
    assert isinstance(error, APIConnectionError)
    assert error.message.startswith(f"The proxy {proxy.host} {message}")
    assert "hidden" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"
    assert (error.final, error.sent, error.attempts) == (final, False, 1)


async def test_a_proxy_that_is_no_url_is_a_configuration_error() -> None:
    """A proxy of the session that is no URL is rejected, and its password is not shown."""
    async with aiohttp.ClientSession(proxy="http://user:hidden@[") as session:
        error = await failure("https://api.example", session)
    assert isinstance(error, ConfigurationError)
    assert "hidden" not in f"{error!r} {error.__cause__!r}"
