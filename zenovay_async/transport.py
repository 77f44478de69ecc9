"""The only module that touches aiohttp: one request in, status, headers and bytes out.

Four things aiohttp does that this module has an answer to:

- It sends an idempotent request a second time, unseen, when a kept-alive connection turns out to be dead. Attempts
  would be miscounted and the quota spent twice, so a client middleware lets each request out once
  (:class:`_SendOnce`); trying again is the session's to decide.
- Its timeouts run while a request waits for a free connection. So callers wait for a place above the pool, in
  :meth:`Transport.send`, and find a connection free when they have one.
- It reads sockets in 256 KiB steps, which costs a memory mapping for each answer (:class:`_Socket`).
- Its errors hold the request's headers. They are passed on as causes, but stripped of their tracebacks, so that no
  frame with headers among its variables stays reachable.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from zenovay_async.core.errors import APIConnectionError, APITimeoutError, ClientClosedError
from zenovay_async.core.response import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

_CONNECT_TIMEOUT = 10.0
_RECV_BYTES = 64 * 1024


class Transport:
    """Sends requests over one aiohttp session: the caller's, which stays the caller's, or one made when needed.

    A session made here lives on the event loop of the first request and is closed by :meth:`close`, or with that
    loop, as ``asyncio.run`` does on its way out. After that, the next request makes a new one.

    Args:
        session: The caller's session; it is never closed here.
        max_connections: Requests on their way at once; further ones wait for a place.
    """

    def __init__(self, session: aiohttp.ClientSession | None = None, *, max_connections: int = 100) -> None:
        self._given = session
        self._max_connections = max_connections
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._owner: AsyncGenerator[aiohttp.ClientSession] | None = None
        self._places = asyncio.Semaphore(max_connections)
        self._timeouts: dict[float | None, aiohttp.ClientTimeout] = {}

    async def open(self) -> None:
        """Make the session on the running loop, unless there is one; a closed transport opens again."""
        self._closed = False
        await self._ready()

    async def close(self) -> None:
        """Close the session if it was made here, with its connections; does nothing the second time."""
        self._closed = True
        owner, self._owner = self._owner, None
        self._session = None
        if owner is not None and self._loop is asyncio.get_running_loop():
            await owner.aclose()

    async def send(
        self,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes | None,
        *,
        attempt_timeout: float | None,
        deadline: float | None,
    ) -> Reply:
        """Send one request, once, and read its answer whole.

        Args:
            method: HTTP method.
            url: From :func:`urls_below`.
            headers: From :func:`prepared`, with the key among them as a ``Secret``.
            body: Body, or ``None``.
            attempt_timeout: Seconds from the connection to the last byte; ``None`` for no bound.
            deadline: Time of the event loop by which all must be done, the wait for a place too; ``None`` for none.

        Raises:
            APITimeoutError: The time ran out.
            APIConnectionError: No complete answer came.
            ClientClosedError: The transport, or the caller's session, was closed.
        """
        session = await self._ready()
        await self._take_place(deadline)
        timeout = attempt_timeout
        if deadline is not None:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                self._places.release()
                raise _no_time()
            timeout = left if timeout is None else min(left, timeout)
        try:
            # Reading the body whole gives the connection back, and what fails on the way closes it: 'async with' would
            # do the same once more.
            response = await session.request(
                method,
                url,
                headers=headers,
                data=body,
                timeout=self._timeout(timeout),
                allow_redirects=False,
                raise_for_status=False,
                # Middlewares of a request stand in for those of its session, so the session's are named again.
                middlewares=(_SendOnce(), *getattr(session, "_middlewares", ())),
            )
            return Reply(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise _translate(error, session, timeout) from _without_tracebacks(error)
        finally:
            self._places.release()

    async def _take_place(self, deadline: float | None) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError:
            raise _no_time() from None

    async def _ready(self) -> aiohttp.ClientSession:
        session = self._session
        if session is not None and self._loop is asyncio.get_running_loop() and not session.closed:
            return session
        if self._closed:
            raise ClientClosedError("The client is closed; make the call inside its 'async with' block")
        return await self._start()

    async def _start(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop and not self._loop.is_closed():
            raise ClientClosedError(
                "The client is in use on another event loop that still exists; make one client for each loop"
            )
        self._loop = loop
        self._places = asyncio.Semaphore(self._max_connections)
        if self._given is not None:
            self._session = self._given
        else:
            self._owner = _own_session(self._max_connections)
            self._session = await anext(self._owner)
        return self._session

    def _timeout(self, seconds: float | None) -> aiohttp.ClientTimeout:
        known = self._timeouts.get(seconds)
        if known is None:
            # aiohttp rounds timeouts above this threshold up to whole seconds; a deadline is meant as given.
            known = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_TIMEOUT, ceil_threshold=1e9)
            if len(self._timeouts) < 8:  # noqa: PLR2004 - the usual few; what is left of a deadline never recurs
                self._timeouts[seconds] = known
        return known


def urls_below(base_url: str) -> Callable[[str, str], URL]:
    """What makes URLs of a quoted path below a base URL and an encoded query, without parsing the base each time."""
    base = URL(base_url)
    scheme, authority, root = base.scheme, base.raw_authority, base.raw_path.rstrip("/")

    def url(path: str, query: str) -> URL:
        return URL.build(scheme=scheme, authority=authority, path=f"{root}/{path}", query_string=query, encoded=True)

    return url


def prepared(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Headers in the form in which aiohttp takes them as they are."""
    return CIMultiDict(headers)


async def _own_session(max_connections: int) -> AsyncGenerator[aiohttp.ClientSession]:
    """A session that is closed with its event loop, or when nothing refers to this generator any more.

    An event loop closes the asynchronous generators that are left when it shuts down, and those that are dropped
    (``asyncio.loop.shutdown_asyncgens``, PEP 525), so a client that nobody closed ends without a warning.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=max_connections, socket_factory=_make_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    try:
        yield session
    finally:
        await session.close()


def _no_time() -> APITimeoutError:
    error = APITimeoutError("The deadline passed before the request could be sent")
    error.sent = False
    return error


def _translate(
    error: Exception, session: aiohttp.ClientSession, timeout: float | None
) -> APIConnectionError | ClientClosedError:
    if isinstance(error, RuntimeError) and not isinstance(error, (aiohttp.ClientError, OSError)):
        if session.closed:
            return ClientClosedError("The session was closed before or during the call")
        raise error
    connecting = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    translated: APIConnectionError
    if isinstance(error, TimeoutError):
        bound = _CONNECT_TIMEOUT if connecting else timeout or 0.0
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


class _SendOnce:
    """Lets one request through; where aiohttp comes back with it unasked, answers with what stopped it."""

    __slots__ = ("_error",)

    def __init__(self) -> None:
        self._error: Exception | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if self._error is not None:
            raise self._error
        try:
            return await handler(request)
        except (aiohttp.ClientError, OSError) as error:
            self._error = error
            raise


class _Socket(socket.socket):
    """A socket that reads at most 64 KiB at a time.

    asyncio asks for 256 KiB, which the C library serves by mapping fresh memory and giving it back, 10 to 13 µs
    for each read of an answer that is a few KiB long.
    """

    __slots__ = ()

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        return super().recv(min(bufsize, _RECV_BYTES), flags)


def _make_socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    return _Socket(family, kind, protocol)
