"""The only module that touches aiohttp: one request in, status, headers and bytes out.

Five things aiohttp does that this module has an answer to:

- It sends an idempotent request a second time, unseen, when a kept-alive connection turns out to be dead. Attempts
  would be miscounted and the quota spent twice, so a client middleware makes of such an error one
  that aiohttp does not know (:func:`_send_once`); trying again is the session's to decide.
- Its timeouts run while a request waits for a free connection. So callers wait for a place above the pool, in
  :meth:`Transport.enter`, and find a connection free when they have one.
- They cost a timer for each request. Attempts are bounded here, by one timer for all (``zenovay_async._session.deadlines``).
- It reads sockets in 256 KiB steps, which costs a memory mapping for each answer (:class:`_Socket`).
- Its errors hold the request's headers. They are passed on as causes, but stripped of their tracebacks, so that no
  frame with headers among its variables stays reachable.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from zenovay_async._protocol.response import RawResponse
from zenovay_async._session.deadlines import Deadline, DeadlineTimer
from zenovay_async._session.slots import Slots
from zenovay_async.exceptions import (
    APIConnectionError,
    APITimeoutError,
    ClientClosedError,
    ConfigurationError,
    ZenovayError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

_CONNECT_TIMEOUT = 10.0
_RECV_BYTES = 64 * 1024


class Transport:
    """Sends requests over one aiohttp session: the caller's, which stays the caller's, or one made when needed.

    A session made here lives on the event loop of the first request and is closed by :meth:`close`, or with that
    loop, as ``asyncio.run`` does on its way out. After that, the next request makes a new one.

    Args:
        base_url: Where the API is.
        user_agent: The ``User-Agent`` to send.
        session: The caller's session; it is never closed here.
        max_connections: Requests on their way at once; further ones wait for a place.
    """

    def __init__(
        self,
        base_url: str,
        user_agent: str,
        session: aiohttp.ClientSession | None = None,
        *,
        max_connections: int = 100,
    ) -> None:
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise ConfigurationError(f"session={session!r}: expected an aiohttp.ClientSession")
        self._given = session
        # Host stands first (RFC 9110 section 7.2); the encodings are those that aiohttp can always read.
        host = {"Host": URL(base_url).host_port_subcomponent or ""} if session is None else {}
        encodings = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        self._headers = as_headers({**host, "User-Agent": user_agent, **encodings})
        self._max_connections = max_connections
        self._closed = False
        self._wire: ConnectionPool | None = None
        self._owner: AsyncGenerator[aiohttp.ClientSession] | None = None

    async def open(self) -> None:
        """Make the session on the running loop, unless there is one; a closed transport opens again."""
        self._closed = False
        await self._start(asyncio.get_running_loop())

    async def close(self) -> None:
        """Close the session if it was made here, with its connections; does nothing the second time."""
        self._closed = True
        owner, self._owner = self._owner, None
        wire, self._wire = self._wire, None
        if owner is not None and wire is not None and wire.loop is asyncio.get_running_loop():
            await owner.aclose()

    def acquire_slot_nowait(self, loop: asyncio.AbstractEventLoop) -> ConnectionPool | None:
        """A place among the requests on their way, if one is free; else ``None``, and :meth:`enter` is called.

        Args:
            loop: The running loop.
        """
        wire = self._wire
        if wire is None or wire.loop is not loop or not wire.places.free:
            return None
        wire.places.free -= 1
        return wire

    async def acquire_slot(self, deadline: float | None) -> ConnectionPool:
        """Wait for a place among the requests on their way.

        Args:
            deadline: Time of the event loop until which to wait; ``None`` for no bound.

        Returns:
            What to send with, once; that gives the place back.

        Raises:
            APITimeoutError: No place got free in time.
            ClientClosedError: The transport was closed.
        """
        loop, wire = asyncio.get_running_loop(), self._wire
        if wire is None or wire.loop is not loop or wire.session.closed:
            if self._closed:
                raise ClientClosedError("The client is closed; make the call inside its 'async with' block")
            wire = await self._start(loop)
        try:
            async with asyncio.timeout_at(deadline):
                await wire.places.take()
        except TimeoutError:
            error = APITimeoutError(f"No place got free in time: {self._max_connections} requests are on their way")
            error.sent = False
            raise error from None
        return wire

    async def _start(self, loop: asyncio.AbstractEventLoop) -> ConnectionPool:
        old = self._wire
        if old is not None and old.loop is loop and not old.session.closed:
            return old
        if old is not None and old.loop is not loop and not old.loop.is_closed():
            raise ClientClosedError(
                "The client is in use on another event loop that still exists; make one client for each loop"
            )
        if self._given is None:
            self._owner = _own_session(self._max_connections, self._headers)
            self._wire = ConnectionPool(loop, await anext(self._owner), self._max_connections)
        else:
            self._wire = ConnectionPool(loop, self._given, self._max_connections, headers=self._headers)
        return self._wire


class ConnectionPool:
    """One session on one event loop.

    Args:
        loop: The event loop.
        session: The session.
        places: Requests on their way at once.
        headers: The headers that are the same for all requests; ``None`` where the session has them, and the other
            settings too, because it was made here.

    Attributes:
        loop: As given.
        session: As given.
        places: Those of the requests on their way.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: aiohttp.ClientSession,
        places: int,
        *,
        headers: CIMultiDict[str] | None = None,
    ) -> None:
        self.loop = loop
        self.session = session
        self.places = Slots(places)
        self._deadline_timer = DeadlineTimer(loop)
        self._headers = headers
        # Each option of a request costs a microsecond on its way through aiohttp.
        self._options: dict[str, Any] = {"allow_redirects": False}
        if headers is not None:
            # Middlewares of a request stand in for those of its session, so the session's are named again.
            middlewares = (_send_once, *getattr(session, "_middlewares", ()))
            self._options |= {"timeout": _CONNECT_WITHIN[-1], "raise_for_status": False, "middlewares": middlewares}

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
        """Send one request, once, and read its answer whole; gives back the place that it was sent from.

        Args:
            method: HTTP method.
            url: From :func:`url_builder`.
            headers: Those of this request, from :func:`as_headers`; the key among them as a ``Secret``.
            body: Body, or ``None``.
            attempt_timeout: Seconds from the connection to the last byte; ``None`` for no bound.
            deadline: Time of the event loop by which all must be done; ``None`` for none.

        Raises:
            APITimeoutError: The time ran out.
            APIConnectionError: No complete answer came.
            ClientClosedError: The session was closed.
            ConfigurationError: aiohttp refuses the request, as with an ``auth=`` of the caller's session.
        """
        now = self.loop.time()
        due = math.inf if attempt_timeout is None else now + attempt_timeout
        if deadline is not None and deadline < due:
            due = deadline
        options: dict[str, Any] = self._options
        if self._headers is not None:
            headers = CIMultiDict([*self._headers.items(), *headers.items()])
        if body is not None or due - now <= _CONNECT_TIMEOUT:
            options = {**options, "data": body, "timeout": _connect_within(due - now)}
        try:
            with Deadline(self._deadline_timer, due):
                # Reading the body whole gives the connection back, and what fails on the way closes it: 'async with'
                # would do the same once more.
                response = await self.session.request(method, url, headers=headers, **options)
                return RawResponse(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            cause = error.error if isinstance(error, _ResendSuppressed) else error
            raise _translate(cause, self.session, due - now) from _without_tracebacks(cause)
        finally:
            self.places.give_back()


def url_builder(base_url: str) -> Callable[[str, str], URL]:
    """What makes URLs of a quoted path below a base URL and an encoded query, without parsing the base each time."""
    base = URL(base_url)
    scheme, authority, root = base.scheme, base.raw_authority, base.raw_path.rstrip("/")

    def url(path: str, query: str) -> URL:
        return URL.build(scheme=scheme, authority=authority, path=f"{root}/{path}", query_string=query, encoded=True)

    return url


def as_headers(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Headers in the form in which aiohttp takes them as they are."""
    return CIMultiDict(headers)


async def _own_session(max_connections: int, headers: CIMultiDict[str]) -> AsyncGenerator[aiohttp.ClientSession]:
    """A session that is closed with its event loop, or when nothing refers to this generator any more.

    An event loop closes the asynchronous generators that are left when it shuts down, and those that are dropped
    (``asyncio.loop.shutdown_asyncgens``, PEP 525), so a client that nobody closed ends without a warning.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=max_connections, socket_factory=_make_socket),
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=_Request,
        timeout=_CONNECT_WITHIN[-1],
        middlewares=(_send_once,),
    )
    try:
        yield session
    finally:
        await session.close()


# One of these for each tenth of a second, as making one takes longer than all else that a bound costs.
_CONNECT_WITHIN = [
    # aiohttp rounds timeouts above this threshold up to whole seconds; a deadline is meant as given.
    aiohttp.ClientTimeout(total=None, sock_connect=tenths / 10, ceil_threshold=1e9)
    for tenths in range(1, round(10 * _CONNECT_TIMEOUT) + 1)
]


def _connect_within(seconds: float) -> aiohttp.ClientTimeout:
    """The bound on connecting: a little less than the whole, so that it tells a request that was surely not sent."""
    return _CONNECT_WITHIN[-1] if seconds > _CONNECT_TIMEOUT else _CONNECT_WITHIN[max(0, math.ceil(10 * seconds) - 2)]


def _translate(error: Exception, session: aiohttp.ClientSession, seconds: float) -> ZenovayError:
    if not isinstance(error, (aiohttp.ClientError, OSError)):
        if isinstance(error, ValueError):
            return ConfigurationError(f"aiohttp refuses to send this request: {error}")
        if session.closed:
            return ClientClosedError("The session was closed before or during the call")
        raise error
    connecting = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    translated: APIConnectionError
    if isinstance(error, TimeoutError):
        bound = min(seconds, _CONNECT_TIMEOUT) if connecting else seconds
        translated = APITimeoutError(f"No {'connection' if connecting else 'complete answer'} within {bound:.3g} s")
    else:
        phase = next((text for kind, text in _PHASES if isinstance(error, kind)), "The connection failed")
        translated = APIConnectionError(f"{phase}: {_reason(error)}")
    translated.sent = not connecting
    translated.final = isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError))
    return translated


# The first that fits, so the special ones stand first.
_PHASES: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "The host was not found"),
    (aiohttp.ClientConnectorCertificateError, "The server's certificate is not trusted"),
    (aiohttp.ClientConnectorError, "No connection could be made"),
    (aiohttp.ClientPayloadError, "The answer was cut short"),
    (aiohttp.ServerDisconnectedError, "The server closed the connection without an answer"),
)


def _reason(error: Exception) -> str:
    # The text of a ClientResponseError has the request's headers in it; its message alone has not.
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{type(error).__name__}: {error.message}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _without_tracebacks(error: BaseException) -> BaseException | None:
    """The error as a cause, without the frames it went through; ``None`` if the error itself holds headers."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return None if isinstance(error, aiohttp.ClientResponseError) else error


class _Request(aiohttp.ClientRequest):
    """A request that is ready as it is: aiohttp would look in each for what was settled when the client was made."""

    def update_host(self, url: URL) -> None:
        """The base URL has a host, and no user in it."""

    def update_headers(self, headers: Any) -> None:
        """Take them as they are; aiohttp has made this copy for this request alone."""
        self.headers = headers

    def update_auto_headers(self, skip_auto_headers: Any) -> None:
        """None are missing."""

    def update_expect_continue(self, expect: bool = False) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        """Nothing is waited for before a body is sent."""


class _ResendSuppressed(aiohttp.ClientError):
    """Stands for an error after which aiohttp would send the request again by itself."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


async def _send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await send(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ResendSuppressed(error) from error


_recv = socket.socket.recv


class _Socket(socket.socket):
    """A socket that reads at most 64 KiB at a time.

    asyncio asks for 256 KiB, which the C library serves by mapping fresh memory and giving it back, 10 to 13 µs
    for each read of an answer that is a few KiB long.
    """

    __slots__ = ()

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        return _recv(self, bufsize if bufsize < _RECV_BYTES else _RECV_BYTES, flags)


def _make_socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    return _Socket(family, kind, protocol)
