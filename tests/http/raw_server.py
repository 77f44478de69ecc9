"""A server of raw bytes: it records what really arrives on each connection, and responds as the path says."""

from __future__ import annotations

import asyncio
import gzip
import re

PAGES = '{"success": true, "data": {"pages": []}, "timestamp": "2026-02-07T12:00:00.000Z"}'


class RawServer:
    """Serves one port of this machine, and counts the requests that arrived.

    Attributes:
        url: Where it is; its path is the root.
        received: The bytes of each request.
        connections: Connections accepted.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.received: list[bytes] = []
        self.connections = 0

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

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"(?i)\r\ncontent-length: (\d+)", request)
                if length is not None:
                    request += await reader.readexactly(int(length[1]))
                self.received.append(request)
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
