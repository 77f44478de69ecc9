"""Which connection a request goes out on, and what is known of both: was it dead, and did the request leave?

A server closes a connection that was idle for some seconds, often without a word. A request that goes out on it just
then fails, through no fault of anybody's (RFC 9112, section 9.3.1). So a connection is reused only if

- it was idle for less than the server's ``Keep-Alive: timeout=`` allows, with a margin;
- it shows no sign of its end, at which :class:`Connector` looks where its last request is 0.1 s old or older, as the
  event loop may not have seen it: while Python computes, it sees nothing;
- no other connection, last used as long ago, has just turned out to be dead;
- for a request that must not be sent twice, it was used a moment ago.

What still fails is told apart by an :class:`Exchange`: a request on a reused connection that brought not one byte of a
response can be sent again at once. What was written of a body is known from :class:`RequestBody`.

Only ``_factory``, in :class:`Connector`, is not public in aiohttp. Without it, nothing is known of a connection, and
its failures are judged as those over a caller's session are.
"""

from __future__ import annotations

import math
import re
import select
from contextvars import ContextVar
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict

if TYPE_CHECKING:
    import asyncio

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection

# The methods that may be sent twice (RFC 9110, section 9.2.2).
IDEMPOTENT_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})

# Seconds since a connection's last request left, after which it is looked at before reuse. Where calls follow each
# other faster, the event loop has seen a connection's end in time, and the look would cost 2 µs of each call.
LOOK_AFTER = 0.1

# Seconds for which a connection may be idle and still take a request that must not be sent twice. Keep-alive timeouts
# are of whole seconds.
MAX_IDLE_ONCE = 0.25

_KEEP_ALIVE = re.compile(r"(?:^|[\s,;])timeout\s*=\s*\"?([0-9]{1,6})(?![\w.])", re.IGNORECASE)

_APART = CIMultiDict({"zenovay-async": "once"})

# Without super(), which costs a microsecond.
_connect = aiohttp.TCPConnector.connect
_data_received = ResponseHandler.data_received


class TrackedProtocol(ResponseHandler):
    """A connection that knows when it was used.

    Attributes:
        sent_at: When its last request left, by ``time.monotonic``; ``None`` before the first.
        received_at: When its last byte arrived; ``None`` if none came since that request.
    """

    # Attributes of aiohttp's class stay as fast as they were.
    __slots__ = ("received_at", "sent_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.sent_at: float | None = None
        self.received_at: float | None = None

    def data_received(self, data: bytes) -> None:
        """Note the time, and parse."""
        self.received_at = monotonic()
        _data_received(self, data)

    def is_readable(self) -> bool:
        """Whether an idle connection has something to read: its end, most likely, and nothing that is wanted."""
        transport = self.transport
        if transport is None:
            return True
        sock = transport.get_extra_info("socket")
        return sock is not None and _is_readable(sock.fileno())


class Exchange:
    """One request over one connection, as far as it came.

    Args:
        sent_at: The time of the event loop.

    Attributes:
        sent_at: When the request left, in the time of the event loop, if it did.
        is_connected: Whether a connection is there; ``None`` if none was asked for, as with a session that is mocked.
        protocol: The connection; ``None`` if nothing is known of it.
        is_reused: Whether the connection had served before, or may have.
    """

    # Class attributes, which cost no assignment.
    is_connected: bool | None = None
    protocol: TrackedProtocol | None = None
    is_reused = False

    def __init__(self, sent_at: float) -> None:
        self.sent_at = sent_at


CURRENT_EXCHANGE: ContextVar[Exchange] = ContextVar("zenovay_async_exchange")
"""The exchange that a task is about to make."""


class Connector(aiohttp.TCPConnector):
    """Connects, and reuses only connections that are likely to be alive.

    Args:
        options: Those of ``aiohttp.TCPConnector``.

    Attributes:
        max_idle: Seconds for which a connection may be idle and is reused.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: partial[Any] = partial(TrackedProtocol, loop=self._loop)
        self.max_idle = math.inf
        self._keep_alive = ""
        self._distrusted_until = -math.inf

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Connect for one request, and note in the current exchange over what it goes, and when."""
        exchange = CURRENT_EXCHANGE.get()
        exchange.is_connected = False
        is_once = req.method not in IDEMPOTENT_METHODS
        if is_once and req.proxy is None:
            # A part of the key by which connections are found. Those that are found are reused or closed, so requests
            # that accept few have connections of their own.
            req.proxy_headers = _APART
        while True:
            connection = await _connect(self, req, traces, timeout)
            protocol = connection.protocol
            if not isinstance(protocol, TrackedProtocol):
                exchange.is_reused = True
                exchange.sent_at = self._loop.time()
                break
            now = monotonic()
            if protocol.sent_at is None:
                exchange.sent_at = self._loop.time()
            elif self._may_reuse(protocol, now, is_once):
                exchange.is_reused = True
            else:
                connection.close()
                continue
            exchange.protocol = protocol
            protocol.sent_at = now
            protocol.received_at = None
            break
        exchange.is_connected = True
        return connection

    def read_keep_alive(self, header: str) -> None:
        """Read a ``Keep-Alive`` header: for how long the server keeps idle connections open; garbage says nothing.

        The connection is dropped a fifth of that time earlier, at most a second, for what the network takes.
        """
        if header == self._keep_alive:
            return
        self._keep_alive = header
        found = _KEEP_ALIVE.search(header)
        if found is not None:
            seconds = int(found[1])
            self.max_idle = seconds - min(1.0, seconds / 5)

    def distrust_idle(self) -> None:
        """Reuse no connection that was last used before now: one of them turned out to be dead."""
        self._distrusted_until = monotonic()

    def _may_reuse(self, protocol: TrackedProtocol, now: float, is_once: bool) -> bool:  # noqa: FBT001 - by position, in the path of every call
        sent_at, received_at = protocol.sent_at, protocol.received_at
        if sent_at is None or received_at is None or received_at <= self._distrusted_until:
            return False
        if now - received_at > (MAX_IDLE_ONCE if is_once else self.max_idle):
            return False
        if now - sent_at < LOOK_AFTER and not is_once:
            return True
        # Responses that nobody asked for, as 408 before the end, are something to read as well.
        return not protocol.should_close and not protocol.is_readable()


class RequestBody(aiohttp.Payload):
    """A body that knows how much of it was written: all bytes that aiohttp can have of it come from here.

    Attributes:
        is_begun: Whether aiohttp began to write it.
        is_written: Whether the whole of it was written, as far as the event loop knows.
    """

    _autoclose = True

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._content = content
        self._size = len(content)
        self.is_begun = self.is_written = False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text; whoever has it may send it."""
        self.is_written = True
        return self._content.decode(encoding, errors)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002 - aiohttp's signature
        """The body; whoever has it may send it."""
        self.is_written = True
        return self._content

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body; fails if the connection breaks while a part of it waits."""
        self.is_begun = True
        await writer.write(self._content)
        self.is_written = True

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:  # noqa: ARG002 - always the whole
        """Write the body."""
        await self.write(writer)


def _is_readable(descriptor: int) -> bool:
    if descriptor < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    # Windows, where descriptors are not bounded by FD_SETSIZE.
    return bool(select.select([descriptor], [], [], 0)[0])
