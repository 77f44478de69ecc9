"""A server of raw bytes: it records what really arrives on each connection, and responds as the path says."""

from __future__ import annotations

import asyncio
import gzip
import re
from typing import Self

PAGES = '{"success": true, "data": {"pages": []}, "timestamp": "2026-02-07T12:00:00.000Z"}'


class RawServer:
    """Serves a free port of this machine inside its ``async with`` block, and records the requests that arrive.

    Attributes:
        host: Host and port.
        url: Where it is.
        received: The bytes of each request.
        connections: Connections accepted.
    """

    def __init__(self) -> None:
        self.host = self.url = ""
        self.received: list[bytes] = []
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.url = f"http://{self.host}"
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

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        handler = asyncio.ensure_future(self._serve(reader, writer))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                if (length := re.search(rb"(?i)\r\ncontent-length: (\d+)", request)) is not None:
                    request += await reader.readexactly(int(length[1]))
                self.received.append(request)
                if b"/stale/" in request:
                    return
                writer.write(_response(request))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def _response(request: bytes) -> bytes:
    encoding = b"Content-Encoding: gzip\r\n" if b"/packed/" in request or b"/nonsense/" in request else b""
    body = gzip.compress(PAGES.encode()) if b"/packed/" in request else PAGES.encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
    return head % (encoding, len(body)) + body
