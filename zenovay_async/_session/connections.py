"""Which connection a request goes out on, whether that connection was dead, and whether the request left.

A server closes a connection that was idle for some seconds, often without a word. A request that goes out on it just
then fails, through no fault of anybody's (RFC 9112, section 9.3.1). So a connection is reused only if

- it was idle for less than the server's ``Keep-Alive: timeout=`` allows, with a margin;
- it shows no sign of its end, for which it is looked at if its last request is 0.1 s old or older, as the event loop
  may not have seen it: while Python computes, it sees nothing;
- no other connection, last used as long ago, has just turned out to be dead;
- for a request that must not be sent twice, it was used a moment ago.

An :class:`Exchange` classifies what still fails: a request on a reused connection that brought not one byte of a
response can be sent again at once. :class:`RequestBody` knows how much of a body was written.

aiohttp asks an idle connection whether it is connected before it is reused, in the task that sends, and prepares each
new one for its first response. :class:`TrackedProtocol` overrides both methods, which costs no coroutine. They are not
public; ``aiohttp_tuning`` says what happens with an aiohttp that lacks them.
"""

from __future__ import annotations

import asyncio
import math
import re
import select
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

# The methods that may be sent twice (RFC 9110, section 9.2.2).
IDEMPOTENT_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})

# Seconds since a connection's last request left, after which it is looked at before reuse. Where calls follow each
# other faster, the event loop has seen a connection's end in time, and the look would cost 2 µs of each call.
LOOK_AFTER = 0.1

# Seconds for which a connection may be idle and still take a request that must not be sent twice. Keep-alive timeouts
# are of whole seconds.
MAX_IDLE_ONCE = 0.25

_KEEP_ALIVE = re.compile(r"(?:^|[\s,;])timeout\s*=\s*\"?([0-9]{1,6})(?![\w.])", re.IGNORECASE)

# Without super(), which costs half a microsecond.
_data_received = ResponseHandler.data_received


class Exchange:
    """One request over one connection, as far as it came.

    Attributes:
        protocol: The connection; ``None`` before it was made, or if nothing is known of it.
        is_reused: Whether the connection had served before.
        sent_at: When the request left, in the time of the event loop.
        is_once: Whether the request must not be sent twice.
    """

    # Class attributes, which cost no assignment.
    protocol: TrackedProtocol | None = None
    is_reused = False
    is_once = False
    sent_at: float


class Connections:
    """What the connections of one session have in common.

    Attributes:
        exchanges: The exchange that each task is about to make.
        max_idle: Seconds for which a connection may be idle and is reused.
        distrusted_until: By ``time.monotonic``; what was last used before is not reused.
    """

    def __init__(self) -> None:
        self.exchanges: dict[asyncio.Task[Any] | None, Exchange] = {}
        self.max_idle = math.inf
        self.distrusted_until = -math.inf
        self._keep_alive = ""

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
        self.distrusted_until = monotonic()


class TrackedProtocol(ResponseHandler):
    """A connection that knows when it was used, and is not taken for connected where it may be dead.

    Args:
        connections: What it has in common with the others of its session.
        loop: The event loop.

    Attributes:
        sent_at: When its last request left, by ``time.monotonic``.
        received_at: When its last byte arrived; ``None`` if none came since that request.
    """

    # Attributes of aiohttp's class stay as fast as they were.
    __slots__ = ("_connections", "_is_once", "received_at", "sent_at")

    def __init__(self, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.sent_at = 0.0
        self.received_at: float | None = None
        self._connections = connections
        self._is_once = False
        # Of the instance, and only for the first request, as handing on its arguments takes 4 µs.
        self.set_response_params = self._set_first_response_params  # type: ignore[method-assign] # deleted by it

    def _set_first_response_params(self, **params: Any) -> None:
        """Begin the first exchange: aiohttp sends the request next."""
        del self.set_response_params
        exchange = self._connections.exchanges.get(asyncio.current_task(self._loop))
        if exchange is not None:
            exchange.sent_at = self._loop.time()
            exchange.protocol = self
            # aiohttp may have asked one that was alive, and dropped it as idle for too long.
            exchange.is_reused = False
            self._is_once = exchange.is_once
        self.sent_at = monotonic()
        self.received_at = None
        self.set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Note the time, and parse."""
        self.received_at = monotonic()
        _data_received(self, data)

    def is_connected(self) -> bool:
        """Whether the connection is there, and may be reused if it is idle; then begin the exchange of this task."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        received_at = self.received_at
        if received_at is None:
            return True
        now = monotonic()
        connections = self._connections
        if received_at <= connections.distrusted_until or now - received_at > connections.max_idle:
            return False
        if (now - self.sent_at > LOOK_AFTER or self._is_once) and not self._looks_alive(now - received_at):
            return False
        exchange = connections.exchanges.get(asyncio.current_task(self._loop))
        if exchange is not None:
            exchange.protocol = self
            exchange.is_reused = True
            self.sent_at = now
            self.received_at = None
        return True

    def _looks_alive(self, idle: float) -> bool:
        if self._is_once and idle > MAX_IDLE_ONCE:
            return False
        # Responses that nobody asked for, as 408 before the end, are something to read as well.
        return not self.should_close and not self.is_readable()

    def is_readable(self) -> bool:
        """Whether an idle connection has something to read: its end, most likely, and nothing that is wanted."""
        transport = self.transport
        if transport is None:
            return True
        sock = transport.get_extra_info("socket")
        return sock is not None and _is_readable(sock.fileno())


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
