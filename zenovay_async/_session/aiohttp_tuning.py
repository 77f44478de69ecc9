"""What makes aiohttp lighter for this client, and what each piece buys.

Measured per call of some 104 µs of CPU, in interleaved runs on Python 3.11 (``make speed`` repeats the whole):

==============================================  ================================================================
:class:`SmallReadSocket`                        10 to 20 µs where the heap is cold, nothing where it is warm
:func:`body_nowait`                             2.8 µs: no coroutine for a body that is there
:class:`PreparedRequest`, :class:`NoCookies`    5.6 µs
``_retry_connection`` in :func:`make_session`   1.6 µs against :func:`send_once`
:func:`connect_timeout`                         0.7 µs, for calls with a short timeout
``deadlines.DeadlineTimer``                     7.1 µs: one timer for all attempts, in place of aiohttp's for each
``Session._acquire_nowait``                     12.4 µs: no coroutine and no timer where nothing has to be waited for
``slots.Slots``                                 2.4 µs against ``asyncio.Semaphore``, for the same reason
``QuotaGuard.update``                           4.8 µs: most responses change nothing but the count
==============================================  ================================================================

:func:`send_once` is not about speed: it keeps aiohttp from sending a request twice over a session of the caller's.

The socket factory, the request class and the middleware are public parameters of aiohttp. What this package takes from
aiohttp beyond its public interface, and what happens with an aiohttp that lacks it:

- The methods that :class:`PreparedRequest` overrides. They prepare a request; the same bytes are sent without them.
  Without ``update_proxy``, a request that must not be sent twice shares the connections of the others.
- ``ClientSession._retry_connection``, set by :func:`make_session`. The middleware is used in its place.
- ``ClientSession._middlewares``, set by :func:`make_session` in that case, and read by ``connection_pool`` from the
  caller's session. Without it, that session's own middlewares are skipped.
- ``TCPConnector._factory`` and ``_loop``, by which ``connections`` installs its protocol, and the method of
  ``client_proto.ResponseHandler`` that this overrides. Without ``_factory``, nothing is known of a connection, no
  failure is stale, and none is known to be of a proxy that has not connected yet.
- ``TCPConnector._conns`` and ``_keepalive_timeout``. Without the first, idle connections are not looked at; without the
  second, ``Keep-Alive`` is not read.
- In ``connection_errors``, the classes of ``http_exceptions``, and the words of some messages. With other words, an
  error is explained less well, and is retried although it is final.

An aiohttp without the modules ``client_proto`` or ``http_exceptions`` fails when this package is imported.
"""

from __future__ import annotations

import math
import socket
from functools import lru_cache
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

import aiohttp
from multidict import CIMultiDict

from zenovay_async._session.connections import IDEMPOTENT_METHODS, Connections

if TYPE_CHECKING:
    from ssl import SSLContext

    from yarl import URL

CONNECT_TIMEOUT = 10.0
"""Seconds for connecting, at most."""

_RECV_BYTES = 64 * 1024

# Headers for a proxy, which tell the keys of connections apart. Without a proxy, they are never sent; the second is one
# that curl sends to every proxy.
_APART = CIMultiDict({"zenovay-async": "once"})
_APART_AT_PROXY = ("Proxy-Connection", "keep-alive")

_recv = socket.socket.recv


class SmallReadSocket(socket.socket):
    """A socket that reads at most 64 KiB at a time.

    asyncio asks for 256 KiB, for which the C library maps fresh memory and unmaps it again on each read, although a
    response is a few KiB long.
    """

    __slots__ = ()

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive at most 64 KiB."""
        return _recv(self, bufsize if bufsize < _RECV_BYTES else _RECV_BYTES, flags)


def _make_socket(address: Any) -> socket.socket:
    """Make a socket for an address, as aiohttp's ``socket_factory``."""
    family, kind, protocol, _, _ = address
    return SmallReadSocket(family, kind, protocol)


class PreparedRequest(aiohttp.ClientRequest):
    """A request without the checks that aiohttp makes of each: the client checks its URL and headers once."""

    def update_host(self, url: URL) -> None:
        """Do nothing: the base URL has a host, and no credentials."""

    def update_headers(self, headers: Any) -> None:
        """Use the headers as they are: aiohttp copied them for this request alone."""
        self.headers = headers

    def update_auto_headers(self, skip_auto_headers: Any) -> None:
        """Do nothing: the session's headers are complete."""

    def update_cookies(self, cookies: Any) -> None:
        """There are none."""

    def update_auth(self, auth: aiohttp.BasicAuth | None, trust_env: bool = False) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        """The headers carry the key."""

    def update_proxy(self, proxy: URL | None, proxy_auth: aiohttp.BasicAuth | None, proxy_headers: Any) -> None:
        """Give requests that must not be sent twice connections of their own, by the key of aiohttp's pool.

        Such a request takes only a connection that was used a moment ago, and would close any other.
        """
        self.proxy, self.proxy_auth, self.proxy_headers = proxy, proxy_auth, proxy_headers
        if self.method not in IDEMPOTENT_METHODS:
            self.proxy_headers = _APART if proxy is None else CIMultiDict([*proxy_headers.items(), _APART_AT_PROXY])

    def update_expect_continue(self, expect: bool = False) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        """Do nothing: no request sends ``Expect``."""


class NoCookies(aiohttp.DummyCookieJar):
    """A cookie jar that does not make an empty jar for each request."""

    _none: SimpleCookie = SimpleCookie()

    def filter_cookies(self, request_url: URL) -> SimpleCookie:  # noqa: ARG002 - aiohttp's signature
        """None."""
        return self._none


def connect_timeout(seconds: float) -> aiohttp.ClientTimeout:
    """The timeout of connecting, for an attempt of this length.

    It is 10 s at most, and a little shorter than the attempt, so that its error shows that no request was sent.

    Args:
        seconds: Length of the attempt.
    """
    return _connect_timeout(100 if seconds > CONNECT_TIMEOUT else max(1, math.ceil(10 * seconds) - 1))


@lru_cache(maxsize=128)
def _connect_timeout(tenths: int) -> aiohttp.ClientTimeout:
    # aiohttp rounds timeouts above this threshold up to whole seconds; a deadline is meant as given.
    return aiohttp.ClientTimeout(total=None, sock_connect=tenths / 10, ceil_threshold=1e9)


def body_nowait(response: aiohttp.ClientResponse) -> bytes | None:
    """The body of a response that arrived whole with its headers, as most do; ``None`` if it is to be awaited.

    ``ClientResponse.read`` returns the same, after four coroutines and what a trace needs.
    """
    # The response is closed, and its connection released, once the last byte arrived.
    return response.content.read_nowait() if response.closed else None


def make_session(
    limit: int, headers: CIMultiDict[str], connections: Connections, tls: SSLContext | None
) -> aiohttp.ClientSession:
    """Make a session that sends prepared requests, each once.

    It reads no environment: aiohttp's ``trust_env`` would let a password of ``~/.netrc`` take the place of the key.

    Args:
        limit: Connections at most.
        headers: Headers of all requests.
        connections: What its connections have in common.
        tls: Whom to trust; ``None`` for aiohttp's default.
    """
    connector = aiohttp.TCPConnector(limit=limit, socket_factory=_make_socket, ssl=True if tls is None else tls)
    connections.track(connector)
    session = aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        cookie_jar=NoCookies(),
        request_class=PreparedRequest,
        timeout=connect_timeout(math.inf),
    )
    # What aiohttp's own test client sets; the middleware does the same for 4 µs a call.
    if hasattr(session, "_retry_connection"):
        session._retry_connection = False  # noqa: SLF001 - there is no public switch
    else:
        session._middlewares = (send_once,)  # noqa: SLF001 - only a session that exists shows what it lacks
    return session


class ResendSuppressed(aiohttp.ClientError):
    """Replaces an error on which aiohttp would resend the request.

    Attributes:
        error: The replaced error.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def keep_authorization(authorization: str | None) -> aiohttp.ClientMiddlewareType:
    """Make a middleware that sends this ``Authorization``, or none, whatever ``~/.netrc`` has for the host.

    A session with ``trust_env`` looks there although the headers have the key.
    """

    async def keep(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        request.headers.popall("Authorization", None)
        if authorization is not None:
            request.headers["Authorization"] = authorization
        return await send(request)

    return keep


async def send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request once, as a client middleware; ``Session`` decides what is retried."""
    try:
        return await send(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ResendSuppressed(error) from error
