"""Which connection a request goes out on, whether that connection was dead, and whether the request left.

A server closes a connection that was idle for some seconds, often without a word. A request that goes out on it just
then fails, through no fault of anybody's (RFC 9112, section 9.3.1). So idle connections are looked at ten times a
second while requests are sent, and before the first request after a pause: while Python computes, the event loop sees
no connection end. Closed are those

- that have something to read: their end, most likely;
- that were idle for longer than the server's ``Keep-Alive: timeout=`` allows, with a margin;
- all, once one of them has turned out to be dead.

A request that must not be sent twice takes only a connection that was used a moment ago. It has connections of its own,
so that it does not close those of others.

An :class:`Exchange` classifies what still fails: a request on a reused connection that brought no response can be sent
again at once. :class:`RequestBody` knows how much of a body was written.

aiohttp's idle connections, and the attribute by which :class:`TrackedProtocol` is put in place, are not public;
``aiohttp_tuning`` says what happens with an aiohttp that lacks them.
"""

from __future__ import annotations

import asyncio
import math
import re
import select
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

# The methods that may be sent twice (RFC 9110, section 9.2.2).
IDEMPOTENT_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})

# Seconds between looks at the idle connections: a look takes a system call, and 1 µs for each of them.
LOOK_EVERY = 0.1

# Seconds for which a connection may be idle and still take a request that must not be sent twice. Keep-alive timeouts
# are of whole seconds.
MAX_IDLE_ONCE = 0.25

# Seconds for which aiohttp keeps idle connections.
_MAX_IDLE = 15.0

_KEEP_ALIVE = re.compile(r"(?:^|[\s,;])timeout\s*=\s*\"?([0-9]{1,6})(?![\w.])", re.IGNORECASE)


class Exchange:
    """One request over one connection, as far as it came.

    Attributes:
        is_once: Whether the request must not be sent twice.
        is_fresh: Whether the connection was made for it; so it is taken to be if nothing is known of it.
        made: Connections made for it: that to the proxy counts as one, and that to the server behind it as another.
        sent_at: When the request left, in the time of the event loop.
        task: The task that makes it.
    """

    # Class attributes, which cost no assignment.
    is_once = False
    made = 0
    is_fresh: bool
    sent_at: float
    task: asyncio.Task[Any] | None


class Connections:
    """The connections of one session.

    Attributes:
        exchanges: The exchange that each task makes.
    """

    def __init__(self) -> None:
        self.exchanges: dict[asyncio.Task[Any] | None, Exchange] = {}
        self._look_at = -math.inf
        self._connector: Any = None

    def track(self, connector: aiohttp.TCPConnector) -> None:
        """Get to know the connections of a connector, if that is possible."""
        if not hasattr(connector, "_factory"):
            return
        factory: partial[Any] = partial(TrackedProtocol, self, connector._loop)  # noqa: SLF001 - see above
        connector._factory = factory  # noqa: SLF001 - same
        self._connector = connector

    def begin(self, method: str, now: float, loop: asyncio.AbstractEventLoop) -> Exchange:
        """Begin an exchange of the running task, to be ended; idle connections are looked at before, if it is time."""
        exchange = Exchange()
        exchange.sent_at = now
        exchange.is_fresh = self._connector is None
        exchange.task = task = asyncio.current_task(loop)
        self.exchanges[task] = exchange
        if method not in IDEMPOTENT_METHODS:
            exchange.is_once = True
            self.look(now)
        elif now >= self._look_at:
            self.look(now)
        return exchange

    def end(self, exchange: Exchange) -> None:
        """End an exchange."""
        del self.exchanges[exchange.task]

    def read_keep_alive(self, header: str) -> None:
        """Read a ``Keep-Alive`` header: for how long the server keeps idle connections open; garbage says nothing.

        The connection is dropped a fifth of that time earlier, at most a second, for what the network takes.
        """
        found = _KEEP_ALIVE.search(header)
        if found is not None and hasattr(self._connector, "_keepalive_timeout"):
            seconds = int(found[1])
            self._connector._keepalive_timeout = min(_MAX_IDLE, seconds - min(1.0, seconds / 5))  # noqa: SLF001 - same

    def look(self, now: float) -> None:
        """Close the idle connections that have ended, and those that were not used a moment ago and have to be."""
        self._look_at = now + LOOK_EVERY
        idle = self._idle()
        ended = _readable([descriptor for _, _, descriptor in idle])
        recent = monotonic() - MAX_IDLE_ONCE
        for protocol, released_at, descriptor in idle:
            # Responses that nobody asked for, as 408 before the end, are something to read as well.
            if descriptor in ended or protocol.should_close or (protocol.is_once and released_at < recent):
                protocol.close()

    def close_idle(self) -> None:
        """Close all idle connections: one of them turned out to be dead."""
        for protocol, _, _ in self._idle():
            protocol.close()

    def _idle(self) -> list[tuple[TrackedProtocol, float, int]]:
        """The idle connections: protocol, time of release by ``time.monotonic``, descriptor."""
        queues = getattr(self._connector, "_conns", {}).values()
        return [(protocol, released_at, _descriptor(protocol)) for queue in queues for protocol, released_at in queue]


class TrackedProtocol(ResponseHandler):
    """A connection that tells its first exchange that it is fresh.

    Args:
        connections: The connections of its session.
        loop: The event loop.

    Attributes:
        is_once: Whether it takes requests that must not be sent twice.
    """

    # Attributes of aiohttp's class stay as fast as they were.
    __slots__ = ("_connections", "is_once")

    def __init__(self, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.is_once = False
        self._connections = connections
        # Of the instance, and only for the first request, as handing on its arguments takes 4 µs.
        self.__dict__["set_response_params"] = self._set_first_response_params

    def _set_first_response_params(self, **params: Any) -> None:
        """Begin the first exchange: aiohttp sends the request next."""
        del self.__dict__["set_response_params"]
        exchange = self._connections.exchanges.get(asyncio.current_task(self._loop))
        if exchange is not None:
            exchange.is_fresh = True
            exchange.made += 1
            exchange.sent_at = self._loop.time()
            self.is_once = exchange.is_once
        self.set_response_params(**params)


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


def _descriptor(protocol: ResponseHandler) -> int:
    sock = None if protocol.transport is None else protocol.transport.get_extra_info("socket")
    return -1 if sock is None else int(sock.fileno())


def _readable(descriptors: list[int]) -> set[int]:
    """Those that have something to read, or are closed."""
    closed = {descriptor for descriptor in descriptors if descriptor < 0}
    open_ones = [descriptor for descriptor in descriptors if descriptor >= 0]
    if not open_ones:
        return closed
    if hasattr(select, "poll"):
        poll = select.poll()
        for descriptor in open_ones:
            poll.register(descriptor, select.POLLIN)
        return closed | {descriptor for descriptor, _ in poll.poll(0)}
    # Windows, where descriptors are not bounded by FD_SETSIZE.
    return closed | set(select.select(open_ones, [], [], 0)[0])
