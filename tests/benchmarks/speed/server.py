# ruff: noqa: T201 - it prints its port
"""A server that responds with documented headers and ready-made bodies, in a process of its own.

It does without asyncio and reads of a request only the number of pages, so that it costs a fraction of what any
client costs; the report states what it used per call. Only sockets without a client come near what it can serve:
their calls per second are a lower bound. The counts in its headers move with each response, as the API's do, so
that no client gets away with reading them once.
"""

from __future__ import annotations

import re
import selectors
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from .machine import pin

if TYPE_CHECKING:
    from collections.abc import Generator

# So high that nobody waits, whatever the client believes.
RATE_LIMIT = 1_000_000_000
_MONTH = 900_000_000
_LIMIT = re.compile(rb"limit=(\d+)")
_CPU = b"GET /cpu "


def body_of(pages: int) -> bytes:
    """The body of a response with this many pages."""
    data = {
        "pages": [
            {
                "url": f"/blog/2026/{number:03d}-how-we-count",
                "total_interactions": 12_345 - 17 * number,
                "last_updated": f"2026-03-{1 + number % 28:02d}T{number % 24:02d}:15:42.{number:03d}Z",
            }
            for number in range(pages)
        ]
    }
    return msgspec.json.encode({"success": True, "data": data, "timestamp": "2026-03-29T10:11:12.345Z"})


def _head(length: int) -> tuple[bytes, bytes, bytes]:
    """The parts of the head around the two counts."""
    first = (
        "HTTP/1.1 200 OK\r\n"
        "Date: Sun, 29 Mar 2026 10:11:12 GMT\r\n"
        "Content-Type: application/json; charset=utf-8\r\n"
        f"Content-Length: {length}\r\n"
        "Connection: keep-alive\r\n"
        "Cache-Control: no-store\r\n"
        "Vary: Origin\r\n"
        "Server: cloudflare\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "x-request-id: 7f3c9a52-8f1e-4a63-9d27-0c5b1e8f4a10\r\n"
        f"X-RateLimit-Limit: {RATE_LIMIT}\r\n"
        "X-RateLimit-Remaining: "
    )
    second = "\r\nX-Usage-Monthly: "
    third = (
        f"\r\nX-Usage-Limit: {_MONTH}\r\nX-Usage-Reset: 2026-04-01T00:00:00.000Z\r\nX-Usage-Total: 123456789\r\n\r\n"
    )
    return first.encode(), second.encode(), third.encode()


class _Responses:
    def __init__(self) -> None:
        self._ready: dict[bytes, tuple[bytes, bytes, bytes]] = {}
        self._count = 0

    def to(self, request: bytes) -> bytes:
        """The bytes to send back."""
        if request.startswith(_CPU):
            body = b"%.6f" % time.process_time()
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        asked = _LIMIT.search(request)
        pages = asked[1] if asked else b"20"
        parts = self._ready.get(pages)
        if parts is None:
            body = body_of(int(pages))
            first, second, third = _head(len(body))
            parts = self._ready[pages] = first, second, third + body
        self._count += 1
        return b"%b%d%b%d%b" % (parts[0], RATE_LIMIT - self._count, parts[1], self._count, parts[2])


def serve() -> None:
    """Listen on a free port, print it, and respond until standard input ends."""
    responses = _Responses()
    with selectors.DefaultSelector() as selector, socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        print(listener.getsockname()[1], flush=True)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(connection, selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket):
                    _respond(key.fileobj, responses, selector)
                else:
                    return


def _respond(connection: socket.socket, responses: _Responses, selector: selectors.BaseSelector) -> None:
    # The sockets block: a request is one small packet, and its response fits the socket's buffer.
    try:
        request = connection.recv(65_536)
        while request and not request.endswith(b"\r\n\r\n"):
            more = connection.recv(65_536)
            request = request + more if more else b""
        if request:
            connection.sendall(responses.to(request))
            return
    except ConnectionError:
        pass
    selector.unregister(connection)
    connection.close()


class Server:
    """The running server.

    Attributes:
        url: Its base URL, as the clients take it.
    """

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"
        self.url = f"{self._root}/api/external/v1"

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        with urllib.request.urlopen(f"{self._root}/cpu") as response:  # noqa: S310 - the address is its own
            return float(response.read())


@contextmanager
def serving() -> Generator[Server]:
    """Run the server in a process of its own, for the block."""
    command = [sys.executable, "-m", __spec__.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this module
        if process.stdout is None:
            raise RuntimeError("the server's output is not there")
        try:
            yield Server(int(process.stdout.readline()))
        finally:
            process.terminate()


if __name__ == "__main__":
    pin(-1)
    serve()
