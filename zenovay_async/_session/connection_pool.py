"""Sends one request over one aiohttp session: status, headers and bytes out.

What aiohttp does, and what this module does about it:

- It resends an idempotent request when a kept-alive connection turns out to be dead, on another that may be as dead.
  Attempts would be miscounted, so ``aiohttp_tuning`` prevents it. Instead, ``connections`` avoids dead connections;
  where one is met all the same, the error is ``stale``, and the session sends the request again at once on a fresh one.
- Its timeouts run while a request waits for a connection. So callers wait for a slot first, in
  ``Transport.acquire_slot``; with a slot, a connection of a session made here is free.
- Its timeouts cost a timer for each request. Attempts are bounded by one timer for all (``deadlines``).
- Its errors hold the request's headers. They are kept as causes, but stripped of their tracebacks, so that no frame
  with headers among its variables stays reachable.
"""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from zenovay_async._protocol.response import RawResponse
from zenovay_async._session.aiohttp_tuning import (
    CONNECT_TIMEOUT,
    ResendSuppressed,
    body_nowait,
    connect_timeout,
    keep_authorization,
    send_once,
)
from zenovay_async._session.connection_errors import host_and_port, is_connecting, translate, wants_credentials
from zenovay_async._session.connections import Connections, Exchange, RequestBody
from zenovay_async._session.deadlines import CLOSED, Deadline, DeadlineTimer
from zenovay_async._session.slots import Slots
from zenovay_async.exceptions import APIConnectionError, APITimeoutError, ClientClosedError, ConfigurationError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from zenovay_async._session.deadlines import Bounds
    from zenovay_async._session.proxies import Proxy
    from zenovay_async.exceptions import ZenovayError

Headers: TypeAlias = CIMultiDict[str]
"""Headers as the type that aiohttp uses; one name may occur several times."""

_PROXY_AUTHENTICATION_REQUIRED = 407


class Route:
    """How requests of a session made here go through a proxy.

    Args:
        proxy: The proxy.
        is_tunnel: Whether the proxy only connects to the server, as for ``https``; else it gets the requests.

    Attributes:
        proxy: URL of the proxy, without credentials.
        is_tunnel: As given.
        headers: Headers for the proxy.
    """

    def __init__(self, proxy: Proxy, *, is_tunnel: bool) -> None:
        self.proxy = proxy.url
        self.is_tunnel = is_tunnel
        self.headers = as_headers({} if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization})

    def is_connecting(self, exchange: Exchange | None) -> bool:
        """Whether there is a connection to the proxy, made for this exchange, and none to the server yet."""
        return self.is_tunnel and exchange is not None and exchange.made == 1


class ConnectionPool:
    """One aiohttp session on one event loop.

    Args:
        loop: The event loop.
        session: The session.
        slots: Requests in flight at once.
        bound: What bounds them, with the figure.
        headers: Headers of all requests; ``None`` for a session made here, which has them, and all other settings.
        connections: The connections of a session made here.
        route: The proxy of a session made here; ``None`` for none.

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
        headers: Headers | None = None,
        connections: Connections | None = None,
        route: Route | None = None,
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
        self._route = route
        if route is not None:
            self._options["proxy"] = route.proxy
            if route.is_tunnel:
                self._options["proxy_headers"] = route.headers
        self._reads_netrc = False
        if headers is not None:
            # Middlewares of a request replace those of its session, so the session's are named again.
            middlewares = (send_once, *getattr(session, "_middlewares", ()))
            default = connect_timeout(math.inf)
            self._options |= {"timeout": default, "raise_for_status": False, "middlewares": middlewares}
            self._options["auto_decompress"] = True
            self._reads_netrc = session.trust_env and session.auth is None

    async def send(
        self,
        method: str,
        url: URL,
        headers: Headers,
        body: bytes | None,
        *,
        attempt_timeout: float | None,
        bounds: Bounds,
    ) -> RawResponse:
        """Send one request, once, and receive its whole response; releases the slot.

        Args:
            method: HTTP method.
            url: From :func:`url_builder`.
            headers: Headers of this request, from :func:`as_headers`; the key among them is a ``Secret``.
            body: Body; ``None`` for none.
            attempt_timeout: Seconds from connecting to the last byte; ``None`` for no bound.
            bounds: When the call ends, which may be put off meanwhile.

        Raises:
            APITimeoutError: ``attempt_timeout`` or the deadline passed.
            APIConnectionError: No complete response came.
            ClientClosedError: The session was closed.
            ConfigurationError: aiohttp rejects the request, as with an ``auth=`` of the caller's session.
        """
        now = self.loop.time()
        due = latest = math.inf if attempt_timeout is None else now + attempt_timeout
        deadline = bounds.deadline
        if deadline is not None and deadline < due:
            due = deadline
        options: dict[str, Any] = self._options
        connections = self._connections
        exchange = None if connections is None else connections.begin(method, now, self.loop)
        if self._headers is not None:
            headers, options = self._of_given_session(headers)
        data = None if body is None else RequestBody(body)
        if data is not None or due - now <= CONNECT_TIMEOUT:
            options = {**options, "data": data, "timeout": connect_timeout(due - now)}
        # What the caller is handling, whose traceback is the caller's.
        handled = sys.exception()
        response: aiohttp.ClientResponse | None = None
        ends = bounds.attempt = Deadline(self.deadline_timer, due, latest)
        try:
            with ends:
                # Reading the body whole releases the connection, and a failure closes it: 'async with' would do the
                # same once more.
                response = await self.session.request(method, url, headers=headers, **options)
                content = body_nowait(response) if exchange is not None and data is None else None
                if content is None:
                    content = await response.read()
        except Exception as error:  # noqa: BLE001 - a caller's connector raises what it likes
            cause = _cause_of(error)
            due = ends.when
            limit = "timeout" if due == bounds.deadline else f"attempt_timeout={attempt_timeout}"
            translated = self._translate(cause, exchange, data, response, due - now, limit)
            raise translated from _without_tracebacks(cause, handled)
        finally:
            self.slots.release()
            bounds.attempt = None
            if connections is not None and exchange is not None:
                connections.end(exchange)
        if response.status == _PROXY_AUTHENTICATION_REQUIRED and url.scheme == "http":
            # Only a proxy has this status (RFC 9110, section 15.5.8), here one that gets the requests themselves.
            raise wants_credentials(None if self._route is None else self._route.proxy)
        if connections is None or exchange is None:
            return RawResponse(response.status, response.headers, content)
        # A server says the same with each response of a connection.
        if exchange.is_fresh:
            connections.read_keep_alive(response.headers.get("Keep-Alive", ""))
        return RawResponse(response.status, response.headers, content, exchange.sent_at)

    def _translate(
        self,
        error: Exception,
        exchange: Exchange | None,
        body: RequestBody | None,
        response: aiohttp.ClientResponse | None,
        seconds: float,
        limit: str,
    ) -> ZenovayError:
        if isinstance(error, TimeoutError):
            return self._timed_out(error, exchange, seconds, limit)
        route = self._route
        translated = translate(
            error,
            self.session,
            exchange,
            body,
            has_response=response is not None,
            proxy=None if route is None else route.proxy,
            is_proxy_connecting=route is not None and route.is_connecting(exchange),
        )
        if isinstance(translated, APIConnectionError) and translated.stale and self._connections is not None:
            self._connections.close_idle()
        return translated

    def _timed_out(self, error: Exception, exchange: Exchange | None, seconds: float, limit: str) -> ZenovayError:
        if self.deadline_timer.is_closed:
            closed = ClientClosedError(CLOSED)
            closed.sent = True
            return closed
        route, connecting = self._route, is_connecting(error)
        if connecting and seconds > CONNECT_TIMEOUT:
            limit = f"{CONNECT_TIMEOUT:g} s"
        elif math.isinf(seconds):
            limit = "the time that something else allowed"
        what = "connection" if connecting else "complete response"
        if route is not None:
            through = route.is_connecting(exchange)
            if through or connecting:
                what = f"connection {'through' if through else 'to'} the proxy {host_and_port(route.proxy)}"
                connecting = True
        translated = APITimeoutError(f"No {what} within {limit}")
        translated.sent, translated.unreachable = not connecting, connecting
        return translated

    def _of_given_session(self, headers: Headers) -> tuple[Headers, dict[str, Any]]:
        """Headers and options of a request over the caller's session."""
        headers = CIMultiDict([*(self._headers or {}).items(), *headers.items()])
        if not self._reads_netrc:
            return headers, self._options
        # Past aiohttp, which would reject it beside what it finds in ~/.netrc, or replace it.
        given = headers.popall("Authorization", [])
        keep = keep_authorization(given[0] if given else self.session.headers.get("Authorization"))
        return headers, {**self._options, "middlewares": (keep, *self._options["middlewares"])}


def url_builder(base_url: str) -> Callable[[str, str], URL]:
    """Make the function that builds URLs from a quoted path and an encoded query, parsing the base URL only once."""
    base = parse_url(base_url)
    scheme, authority, root = base.scheme, base.raw_authority, base.raw_path.rstrip("/")

    def build(path: str, query: str) -> URL:
        return URL.build(scheme=scheme, authority=authority, path=f"{root}/{path}", query_string=query, encoded=True)

    return build


def parse_url(base_url: str) -> URL:
    """The base URL, as aiohttp takes it.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        return URL(base_url)
    except ValueError:
        # As of characters that vanish from host names. The reason would show the URL, which may be a key.
        raise ConfigurationError("base_url: a host with characters that no host name may have") from None


def as_headers(headers: Mapping[str, str]) -> Headers:
    """Headers as the type that aiohttp uses, so that it need not convert them."""
    return CIMultiDict(headers)


def headers_view(headers: Iterable[tuple[str, str]]) -> CIMultiDictProxy[str]:
    """Headers as those of a response: looked up regardless of case, in order, and not to be changed."""
    return CIMultiDictProxy(CIMultiDict(headers))


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
    return None if _has_secrets(error) else error


def _has_secrets(error: BaseException) -> bool:
    """Whether an error's repr shows headers, or the credentials of a proxy, as it does those of a caller's session."""
    if isinstance(error, (aiohttp.ClientResponseError, aiohttp.InvalidURL)):
        return True
    key = error.args[0] if isinstance(error, aiohttp.ClientConnectorError) and error.args else None
    proxy = getattr(key, "proxy", None)
    return proxy is not None and (proxy.raw_user is not None or getattr(key, "proxy_auth", None) is not None)
