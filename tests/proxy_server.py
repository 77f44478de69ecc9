"""A proxy: it connects to servers (CONNECT) and forwards plain HTTP, and records what it was asked for."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    import ssl


class ProxyServer:
    """Serves a free port of this machine inside its ``async with`` block.

    Args:
        server: Host and port to connect to, whatever server a client asks for.
        tls: For TLS to the proxy itself; ``None`` for none.
        user: With ``password``, the credentials that it wants; ``None`` for none.
        password: See ``user``.

    Attributes:
        host: Host and port.
        url: Where it is, with the credentials.
        connects: The servers that clients asked it to connect to.
        forwarded: The request lines of plain HTTP that it got.
        heads: The heads of all requests that it got.
        response: Sent in place of a connection; ``None`` to connect. Without a byte, it closes the connection.
        is_silent: Whether it never responds.
        closed: Connections that it has closed.
    """

    def __init__(
        self,
        server: str = "",
        *,
        tls: ssl.SSLContext | None = None,
        user: str | None = None,
        password: str = "",
    ) -> None:
        self.host = self.url = ""
        self.connects: list[str] = []
        self.forwarded: list[str] = []
        self.heads: list[str] = []
        self.response: bytes | None = None
        self.is_silent = False
        self.closed = 0
        self._server = server
        self._tls = tls
        self._user, self._password = user, password
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.host = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        credentials = "" if self._user is None else f"{quote(self._user, '')}:{quote(self._password, '')}@"
        self.url = f"{'http' if self._tls is None else 'https'}://{credentials}{self.host}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            response = self._receive(head)
            if self.is_silent:
                await asyncio.Event().wait()
            if response is None:
                await self._connect(head, reader, writer)
            else:
                writer.write(response)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.closed += 1

    def _receive(self, head: bytes) -> bytes | None:
        """Record a request; returns the response to it, or ``None`` to connect."""
        self.heads.append(head.decode())
        line = self.heads[-1].partition("\r\n")[0]
        method, target, _ = line.split(" ")
        if method == "CONNECT":
            self.connects.append(target)
        else:
            self.forwarded.append(line)
        if self._user is not None:
            given = re.search(r"(?i)\r\nproxy-authorization: (.*)\r\n", self.heads[-1])
            if given is None or given[1] != f"Basic {b64encode(f'{self._user}:{self._password}'.encode()).decode()}":
                status = b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                return status + b'Proxy-Authenticate: Basic realm="proxy"\r\nContent-Length: 0\r\n\r\n'
        return self.response

    async def _connect(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._server.rpartition(":")
        from_server, to_server = await asyncio.open_connection(host, int(port))
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            method, target, rest = head.split(b" ", 2)
            url = urlsplit(target.decode())
            to_server.write(b"%s %s %s" % (method, f"{url.path}?{url.query}".rstrip("?").encode(), rest))
        await asyncio.gather(_pipe(reader, to_server), _pipe(from_server, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
