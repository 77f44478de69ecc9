"""Owns the connections: opens and closes them, and hands out slots for requests in flight."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import aiohttp

from zenovay_async._limits.event_loop import running_loop
from zenovay_async._session.aiohttp_tuning import make_session
from zenovay_async._session.connection_pool import ConnectionPool, Route, as_headers, parse_url
from zenovay_async._session.connections import Connections
from zenovay_async._session.deadlines import UntilClosed
from zenovay_async._session.network import Network
from zenovay_async.exceptions import APITimeoutError, ClientClosedError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from ssl import SSLContext

    from multidict import CIMultiDict

_DIRECT = Network()

# Pools that a forked process inherited. They are neither used nor freed there, as their sockets, and the event loop's
# list of them, are shared with the parent.
_inherited: list[tuple[ConnectionPool, AsyncGenerator[aiohttp.ClientSession] | None]] = []

# Sessions that are not closed yet. Otherwise a client that is freed in a cycle, as with an error whose traceback refers
# to it, would take its session along, which then warns before it is closed.
_open_sessions: set[aiohttp.ClientSession] = set()


class Transport:
    """Owns the connections: of the caller's aiohttp session, which stays the caller's, or of one made when needed.

    A session made here lives on the event loop of the first request and is closed by :meth:`close`, or with that
    loop, as ``asyncio.run`` does at its end. After that, the next request makes a new one.

    Args:
        base_url: Base URL of the API.
        user_agent: The ``User-Agent`` to send.
        session: The caller's session, which is never closed here; ``None`` to make one.
        max_connections: Requests in flight at once; further ones wait for a slot.
        network: How a session made here reaches the API.
    """

    def __init__(
        self,
        base_url: str,
        user_agent: str,
        session: aiohttp.ClientSession | None,
        *,
        max_connections: int,
        network: Network = _DIRECT,
    ) -> None:
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise ConfigurationError(f"session={session!r}: expected an aiohttp.ClientSession")
        self._given = session
        url = parse_url(base_url)
        # Host comes first (RFC 9110 section 7.2); aiohttp decodes these encodings without an extra.
        host = {"Host": url.host_port_subcomponent or ""} if session is None else {}
        encodings = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        self._headers = as_headers({**host, "User-Agent": user_agent, **encodings})
        self._route = None if network.proxy is None else Route(network.proxy, is_tunnel=url.scheme == "https")
        if self._route is not None and not self._route.is_tunnel:
            self._headers.update(self._route.headers)
        self._max_connections = max_connections
        self._tls = network.tls
        self._closed = False
        self._entered = 0
        self._watchers: WeakKeyDictionary[asyncio.Future[None], bool] = WeakKeyDictionary()
        self._pool: ConnectionPool | None = None
        self._owner: AsyncGenerator[aiohttp.ClientSession] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    async def open(self, *, owned: bool) -> None:
        """Make the session on the running loop, unless there is one; a closed transport opens again.

        Args:
            owned: Whether the caller will :meth:`leave`.

        Raises:
            ClientClosedError: The transport, or the caller's session, is in use on another event loop.
        """
        self._closed = False
        await self._start(running_loop())
        self._entered += owned

    async def leave(self) -> None:
        """Close, unless others that opened it have not left yet."""
        self._entered = max(0, self._entered - 1)
        if not self._entered:
            self._notify([watcher for watcher, is_inside in self._watchers.items() if is_inside])
            await self._close()

    async def close(self) -> None:
        """End all calls, and close the session if it was made here; a second call does nothing."""
        self._notify(list(self._watchers))
        await self._close()

    def watch(self) -> asyncio.Future[None]:
        """A future that is done when the transport is closed; kept by the caller alone.

        One that was made outside of all blocks outlasts those that begin later, as each call may have one of its own.
        """
        watcher = running_loop().create_future()
        self._watchers[watcher] = self._entered > 0
        return watcher

    def _notify(self, watchers: list[asyncio.Future[None]]) -> None:
        for watcher in watchers:
            loop = watcher.get_loop()
            if not loop.is_closed() and loop is running_loop() and not watcher.done():
                watcher.set_result(None)

    async def _close(self) -> None:
        self._closed = True
        owner, self._owner = self._owner, None
        pool, self._pool = self._pool, None
        if pool is None or pool.loop.is_closed() or pool.loop is not running_loop():
            return
        pool.deadline_timer.close()
        if owner is not None:
            await owner.aclose()

    def check_open(self) -> None:
        """Check that the transport was not closed, before a call waits for anything.

        Raises:
            ClientClosedError: It was.
        """
        if self._closed:
            raise ClientClosedError("The client is closed; call it inside its 'async with' block")

    def acquire_slot_nowait(self, loop: asyncio.AbstractEventLoop) -> ConnectionPool | None:
        """Acquire a slot if one is available.

        Args:
            loop: The running loop.

        Returns:
            The pool to send one request with, which releases the slot; ``None`` if the caller has to wait.
        """
        pool = self._pool
        return pool if pool is not None and pool.loop is loop and pool.slots.acquire_nowait() else None

    async def acquire_slot(self, deadline: float | None) -> ConnectionPool:
        """Wait for a slot.

        Args:
            deadline: Time of the event loop until which to wait; ``None`` for no bound.

        Returns:
            The pool to send one request with, which releases the slot.

        Raises:
            APITimeoutError: No slot was released in time.
            ClientClosedError: The transport was closed, or is in use on another event loop.
        """
        pool = await self._start(running_loop())
        try:
            async with asyncio.timeout_at(deadline):
                await pool.slots.acquire()
        except TimeoutError:
            error = APITimeoutError(f"Timed out waiting for a connection: all {pool.bound} are in use")
            error.sent = False
            raise error from None
        return pool

    async def until_closed(self) -> UntilClosed:
        """A block that may wait, and that :meth:`close` ends with a ``ClientClosedError``.

        Raises:
            ClientClosedError: The transport was closed, or is in use on another event loop.
        """
        pool = await self._start(running_loop())
        return UntilClosed(pool.deadline_timer)

    async def sleep(self, seconds: float) -> None:
        """Wait, unless the transport is closed.

        Raises:
            ClientClosedError: It was closed, before or meanwhile.
        """
        with await self.until_closed():
            await asyncio.sleep(seconds)

    async def _start(self, loop: asyncio.AbstractEventLoop) -> ConnectionPool:
        self.check_open()
        old = self._pool
        if old is not None and old.process != os.getpid():
            _inherited.append((old, self._owner))
            old = self._pool = self._owner = None
            self._entered = 0
        if old is not None and old.loop is loop and not old.session.closed:
            return old
        if old is not None and old.loop is not loop and not old.loop.is_closed():
            raise ClientClosedError("The client is in use on another event loop; create one client for each loop")
        given = self._given
        if given is not None:
            _check_loop(given, loop)
            slots, bound = _slots_of(given, self._max_connections)
            self._pool = ConnectionPool(loop, given, slots, bound, headers=self._headers)
            return self._pool
        connections = Connections()
        self._owner = _own_session(self._max_connections, self._headers, connections, self._tls)
        session = await anext(self._owner)
        slots, bound = self._max_connections, f"{self._max_connections} (max_connections)"
        self._pool = ConnectionPool(loop, session, slots, bound, connections=connections, route=self._route)
        return self._pool


async def _own_session(
    max_connections: int, headers: CIMultiDict[str], connections: Connections, tls: SSLContext | None
) -> AsyncGenerator[aiohttp.ClientSession]:
    """Yield a session that is closed with its event loop, or when this generator is garbage collected.

    An event loop closes asynchronous generators when they are garbage collected, and all others when it shuts down
    (``asyncio.loop.shutdown_asyncgens``, PEP 525). So a client that was not closed causes no warning.
    """
    for left in list(_open_sessions):
        if left._loop.is_closed():  # noqa: SLF001 - its public name is deprecated
            _open_sessions.discard(left)
    session = make_session(max_connections, headers, connections, tls)
    _open_sessions.add(session)
    try:
        yield session
    finally:
        _open_sessions.discard(session)
        await session.close()


def _check_loop(session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop) -> None:
    """Check that a caller's session belongs to the running loop.

    Raises:
        ClientClosedError: It belongs to another one.
    """
    # Its public name is deprecated.
    own: asyncio.AbstractEventLoop | None = getattr(session, "_loop", None)
    if own is not None and own is not loop:
        which = "an event loop that is closed" if own.is_closed() else "another event loop"
        raise ClientClosedError(f"The session (session=) belongs to {which}; make it in the loop that makes the calls")


def _slots_of(session: aiohttp.ClientSession, max_connections: int) -> tuple[int, str]:
    """How many requests may be in flight over a caller's session, and what bounds them.

    Further ones would wait inside aiohttp, where their timeouts run.
    """
    slots, name = max_connections, "max_connections"
    for limit in ("limit", "limit_per_host"):
        allowed: int = getattr(session.connector, limit, 0) or 0  # zero is no limit
        if 0 < allowed < slots:
            slots, name = allowed, f"{limit} of the session's connector"
    return slots, f"{slots} ({name})"
