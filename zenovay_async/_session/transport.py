"""Sends one request: status, headers and bytes out.

What aiohttp does, and what this module does about it:

- It resends an idempotent request when a kept-alive connection turns out to be dead, on another that may be as dead.
  Attempts would be miscounted, so ``aiohttp_tuning`` prevents it. Instead, ``connections`` avoids dead connections;
  where one is met all the same, the error is ``stale``, and the session sends the request again at once on a fresh one.
- Its timeouts run while a request waits for a connection. So callers wait for a slot first, in
  :meth:`Transport.acquire_slot`; with a slot, a connection of a session made here is free.
- Its timeouts cost a timer for each request. Attempts are bounded by one timer for all (``deadlines``).
- Its errors hold the request's headers. They are kept as causes, but stripped of their tracebacks, so that no frame
  with headers among its variables stays reachable.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from zenovay_async._protocol.response import RawResponse
from zenovay_async._session.aiohttp_tuning import (
    CONNECT_TIMEOUT,
    ResendSuppressed,
    body_nowait,
    connect_timeout,
    make_session,
    send_once,
)
from zenovay_async._session.connection_errors import is_connecting, translate
from zenovay_async._session.connections import Connections, Exchange, RequestBody
from zenovay_async._session.deadlines import CLOSED, Deadline, DeadlineTimer, UntilClosed
from zenovay_async._session.event_loop import running_loop
from zenovay_async._session.slots import Slots
from zenovay_async.exceptions import APIConnectionError, APITimeoutError, ClientClosedError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from zenovay_async.exceptions import ZenovayError


# Pools that a forked process inherited. They are neither used nor freed there, as their sockets, and the event loop's
# list of them, are shared with the parent.
_inherited: list[tuple[ConnectionPool, AsyncGenerator[aiohttp.ClientSession] | None]] = []


class Transport:
    """Owns the connections: of the caller's aiohttp session, which stays the caller's, or of one made when needed.

    A session made here lives on the event loop of the first request and is closed by :meth:`close`, or with that
    loop, as ``asyncio.run`` does at its end. After that, the next request makes a new one.

    Args:
        base_url: Base URL of the API.
        user_agent: The ``User-Agent`` to send.
        session: The caller's session, which is never closed here; ``None`` to make one.
        max_connections: Requests in flight at once; further ones wait for a slot.
    """

    def __init__(
        self,
        base_url: str,
        user_agent: str,
        session: aiohttp.ClientSession | None,
        *,
        max_connections: int,
    ) -> None:
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise ConfigurationError(f"session={session!r}: expected an aiohttp.ClientSession")
        self._given = session
        # Host comes first (RFC 9110 section 7.2); aiohttp decodes these encodings without an extra.
        host = {"Host": _parse_url(base_url).host_port_subcomponent or ""} if session is None else {}
        encodings = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        self._headers = as_headers({**host, "User-Agent": user_agent, **encodings})
        self._max_connections = max_connections
        self._closed = False
        self._entered = 0
        self._pool: ConnectionPool | None = None
        self._owner: AsyncGenerator[aiohttp.ClientSession] | None = None

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
            await self.close()

    async def close(self) -> None:
        """End all calls, and close the session if it was made here; a second call does nothing."""
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
        self._owner = _own_session(self._max_connections, self._headers, connections)
        session = await anext(self._owner)
        slots, bound = self._max_connections, f"{self._max_connections} (max_connections)"
        self._pool = ConnectionPool(loop, session, slots, bound, connections=connections)
        return self._pool


class ConnectionPool:
    """One aiohttp session on one event loop.

    Args:
        loop: The event loop.
        session: The session.
        slots: Requests in flight at once.
        bound: What bounds them, with the figure.
        headers: Headers of all requests; ``None`` for a session made here, which has them, and all other settings.
        connections: The connections of a session made here.

    Attributes:
        loop: As given.
        session: As given.
        slots: The slots of the requests in flight.
        bound: As given.
        deadline_timer: Ends requests that take too long, and all of them with the transport.
        process: The process that it belongs to.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: aiohttp.ClientSession,
        slots: int,
        bound: str,
        *,
        headers: CIMultiDict[str] | None = None,
        connections: Connections | None = None,
    ) -> None:
        self.loop = loop
        self.session = session
        self.slots = Slots(slots)
        self.bound = bound
        self.deadline_timer = DeadlineTimer(loop)
        self.process = os.getpid()
        self._headers = headers
        self._connections = connections
        # Each option of a request costs a microsecond in aiohttp.
        self._options: dict[str, Any] = {"allow_redirects": False}
        if headers is not None:
            # Middlewares of a request replace those of its session, so the session's are named again.
            middlewares = (send_once, *getattr(session, "_middlewares", ()))
            default = connect_timeout(math.inf)
            self._options |= {"timeout": default, "raise_for_status": False, "middlewares": middlewares}

    async def send(
        self,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes | None,
        *,
        attempt_timeout: float | None,
        deadline: float | None,
    ) -> RawResponse:
        """Send one request, once, and receive its whole response; releases the slot.

        Args:
            method: HTTP method.
            url: From :func:`url_builder`.
            headers: Headers of this request, from :func:`as_headers`; the key among them is a ``Secret``.
            body: Body; ``None`` for none.
            attempt_timeout: Seconds from connecting to the last byte; ``None`` for no bound.
            deadline: Time of the event loop at which the call ends; ``None`` for none.

        Raises:
            APITimeoutError: ``attempt_timeout`` or the deadline passed.
            APIConnectionError: No complete response came.
            ClientClosedError: The session was closed.
            ConfigurationError: aiohttp rejects the request, as with an ``auth=`` of the caller's session.
        """
        now = self.loop.time()
        due = math.inf if attempt_timeout is None else now + attempt_timeout
        if deadline is not None and deadline < due:
            due = deadline
        options: dict[str, Any] = self._options
        connections = self._connections
        exchange = None if connections is None else connections.begin(method, now, self.loop)
        if self._headers is not None:
            headers = CIMultiDict([*self._headers.items(), *headers.items()])
        data = None if body is None else RequestBody(body)
        if data is not None or due - now <= CONNECT_TIMEOUT:
            options = {**options, "data": data, "timeout": connect_timeout(due - now)}
        # What the caller is handling, whose traceback is the caller's.
        handled = sys.exception()
        response: aiohttp.ClientResponse | None = None
        try:
            with Deadline(self.deadline_timer, due):
                # Reading the body whole releases the connection, and a failure closes it: 'async with' would do the
                # same once more.
                response = await self.session.request(method, url, headers=headers, **options)
                content = body_nowait(response) if exchange is not None and data is None else None
                if content is None:
                    content = await response.read()
        except (aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            cause = _cause_of(error)
            if isinstance(cause, TimeoutError):
                limit = "timeout" if due == deadline else f"attempt_timeout={attempt_timeout}"
                raise self._timed_out(cause, limit, due - now) from _without_tracebacks(cause, handled)
            raise self._translate(cause, exchange, data, response) from _without_tracebacks(cause, handled)
        finally:
            self.slots.release()
            if connections is not None and exchange is not None:
                connections.end(exchange)
        if connections is None or exchange is None:
            return RawResponse(response.status, response.headers, content)
        # A server says the same with each response of a connection.
        if exchange.is_fresh:
            connections.read_keep_alive(response.headers.get("Keep-Alive", ""))
        return RawResponse(response.status, response.headers, content, exchange.sent_at)

    def _timed_out(self, error: Exception, limit: str, seconds: float) -> ZenovayError:
        if self.deadline_timer.is_closed:
            closed = ClientClosedError(CLOSED)
            closed.sent = True
            return closed
        connecting = is_connecting(error)
        if connecting and seconds > CONNECT_TIMEOUT:
            limit = f"{CONNECT_TIMEOUT:g} s"
        elif math.isinf(seconds):
            limit = "the time that something else allowed"
        translated = APITimeoutError(f"No {'connection' if connecting else 'complete response'} within {limit}")
        translated.sent, translated.unreachable = not connecting, connecting
        return translated

    def _translate(
        self,
        error: Exception,
        exchange: Exchange | None,
        body: RequestBody | None,
        response: aiohttp.ClientResponse | None,
    ) -> ZenovayError:
        translated = translate(error, self.session, exchange, body, has_response=response is not None)
        if isinstance(translated, APIConnectionError) and translated.stale and self._connections is not None:
            self._connections.close_idle()
        return translated


def url_builder(base_url: str) -> Callable[[str, str], URL]:
    """Make the function that builds URLs from a quoted path and an encoded query, parsing the base URL only once."""
    base = _parse_url(base_url)
    scheme, authority, root = base.scheme, base.raw_authority, base.raw_path.rstrip("/")

    def build(path: str, query: str) -> URL:
        return URL.build(scheme=scheme, authority=authority, path=f"{root}/{path}", query_string=query, encoded=True)

    return build


def _parse_url(base_url: str) -> URL:
    try:
        return URL(base_url)
    except ValueError:
        # As of characters that vanish from host names. The reason would show the URL, which may be a key.
        raise ConfigurationError("base_url: a host with characters that no host name may have") from None


def as_headers(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Headers as the type that aiohttp uses, so that it need not convert them."""
    return CIMultiDict(headers)


async def _own_session(
    max_connections: int, headers: CIMultiDict[str], connections: Connections
) -> AsyncGenerator[aiohttp.ClientSession]:
    """Yield a session that is closed with its event loop, or when this generator is garbage collected.

    An event loop closes asynchronous generators when they are garbage collected, and all others when it shuts down
    (``asyncio.loop.shutdown_asyncgens``, PEP 525). So a client that was not closed causes no warning.
    """
    session = make_session(max_connections, headers, connections)
    try:
        yield session
    finally:
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


def _cause_of(error: Exception) -> Exception:
    """The error that another stands for, if it does."""
    return error.error if isinstance(error, ResendSuppressed) else error


def _without_tracebacks(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """The error as a cause, stripped of its tracebacks; ``None`` if it holds headers, or the URL of a proxy."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and link is not handled and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return None if isinstance(error, (aiohttp.ClientResponseError, aiohttp.InvalidURL)) else error
