"""A server of raw bytes: it records what really arrives on each connection, and responds as the path or a test says."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import struct
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl

PAGES = '{"success": true, "data": {"pages": []}, "timestamp": "2026-02-07T12:00:00.000Z"}'


class RawServer:
    """Serves a free port of this machine inside its ``async with`` block, and records the requests that arrive.

    Args:
        tls: For TLS; ``None`` for none.

    Attributes:
        host: Host and port.
        url: Where it is.
        received: The bytes of each request that arrived whole.
        connections: Connections accepted.
        closed: Connections of which both sides are closed.
        response: Sent in place of what the path asks for; ``None`` for that.
        per_connection: Requests on each connection, after which it is closed without a word.
        resets: Whether connections are reset where they would be closed.
        reads: Whether requests are read.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.host = self.url = ""
        self.received: list[bytes] = []
        self.connections = self.closed = 0
        self.response: bytes | None = None
        self.per_connection: int | None = None
        self.resets = False
        self.reads = True
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.url = f"{'http' if self._tls is None else 'https'}://{self.host}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    @property
    def requests(self) -> int:
        return len(self.received)

    def head(self, number: int = -1) -> list[str]:
        """The lines of a request's head."""
        return self.received[number].partition(b"\r\n\r\n")[0].decode().split("\r\n")

    def header(self, name: str, number: int = -1) -> list[str]:
        """The values of a header of a request."""
        return [
            line.partition(": ")[2] for line in self.head(number)[1:] if line.lower().startswith(f"{name.lower()}: ")
        ]

    def close_idle(self) -> None:
        """Close all connections, or reset them; they are taken to be idle."""
        for writer in list(self._writers):
            self._close(writer)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        handler = asyncio.ensure_future(self._serve(reader, writer))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        served = 0
        try:
            while self.reads and (self.per_connection is None or served < self.per_connection):
                request = await reader.readuntil(b"\r\n\r\n")
                if (length := re.search(rb"(?i)\r\ncontent-length: (\d+)", request)) is not None:
                    request += await reader.readexactly(int(length[1]))
                self.received.append(request)
                if b"/stale/" in request:
                    break
                served += 1
                writer.write(_response(request) if self.response is None else self.response)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._close(writer)
            self.closed += 1

    def _close(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        if self.resets:
            sock = writer.get_extra_info("socket")
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        writer.close()


def _response(request: bytes) -> bytes:
    encoding = b"Content-Encoding: gzip\r\n" if b"/packed/" in request or b"/nonsense/" in request else b""
    body = gzip.compress(PAGES.encode()) if b"/packed/" in request else PAGES.encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
    return head % (encoding, len(body)) + body
