"""The client: options, lifetime, resources."""

from __future__ import annotations

import logging
import os
import platform
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Self, TypeVar, overload

import msgspec

from zenovay_async._cache.options import Cache, Reuse
from zenovay_async._limits.budget import budget_for
from zenovay_async._limits.options import (
    STORE_VARIABLE,
    BatchHeadroom,
    Limits,
    RateLimitOption,
    RateLimitStoreOption,
    resolve_store,
)
from zenovay_async._limits.patience import MAX_OUTAGE
from zenovay_async._methods import WholeResponse, plan_calls, rebind
from zenovay_async._protocol.auth import KEY_VARIABLE, Auth, AuthStyle, Secret, doubt_about_key, resolve_api_key
from zenovay_async._protocol.base_url import BASE_URL_VARIABLE, resolve_base_url
from zenovay_async._protocol.parameters import NOT_GIVEN, NotGiven, Timeout, require_int
from zenovay_async._session.callers import make_callers
from zenovay_async._session.client_cache import ClientCache
from zenovay_async._session.drift import DriftReporter
from zenovay_async._session.network import resolve_network
from zenovay_async._session.session import Options
from zenovay_async._session.transport import Transport
from zenovay_async._version import __version__
from zenovay_async.batch import Batch
from zenovay_async.events import ListenerRef, combine_listeners, listeners_of
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.resources.client_resources import Attribute, ClientResources

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Coroutine, Iterable
    from ssl import SSLContext
    from types import TracebackType

    import aiohttp

    from zenovay_async._batch.report import BatchReport
    from zenovay_async._protocol.response import Response
    from zenovay_async._session.callers import Callers
    from zenovay_async.events import OnEvent, Telemetry
    from zenovay_async.journal import Journal
    from zenovay_async.rate_limits import Estimate, Quota, RateLimit

ItemT = TypeVar("ItemT")
T = TypeVar("T")
P = ParamSpec("P")

_logger = logging.getLogger("zenovay_async")
_doubts: set[str] = set()

_USER_AGENT = f"zenovay-async/{__version__} Python/{platform.python_version()}"


def _checked_key(given: Secret | None, from_environment: Secret | None = None) -> Secret:
    """The key to use; one that looks like another thing is warned of, once in a process."""
    key = resolve_api_key(given, from_environment)
    doubt = doubt_about_key(key)
    if doubt and doubt not in _doubts:
        _doubts.add(doubt)
        _logger.warning(doubt)
    return key


class _CacheAttribute(Attribute[ClientCache]):
    """The handle of a client's cache, which cannot be set: a ``Cache`` that is assigned to it would keep nothing."""

    def __set__(self, client: Zenovay, value: object) -> NoReturn:
        raise AttributeError(
            "zenovay.cache cannot be set: make the client with cache=, or a sibling by with_options(cache=)"
        )


class Zenovay(ClientResources):
    """An async client of the Zenovay External API.

    Use it as ``async with Zenovay() as zenovay:``. The first call opens connections; the end of the block closes
    them. If several tasks enter one client, the end of the last block does. A client also works outside a block; its
    connections then close with the event loop, or with :meth:`close`, which does not wait for other blocks. One client
    serves any number of concurrent calls, on one event loop at a time.

    Clients that are used in one thread with the same key and base URL share the monthly quota of the key; those with
    the same ``rate_limit`` and ``rate_limit_window`` too share its rate limit and its retries.

    Args:
        api_key: The key, which usually starts with ``zv_``; omitted, the environment variable ``ZENOVAY_API_KEY``.
        auth: Header that carries the key: ``"x-api-key"`` or ``"bearer"``. The API accepts either.
        base_url: Base URL of the API; omitted, ``ZENOVAY_BASE_URL``, else the public API.
        timeout: Seconds for a whole call: its wait for a permit, each attempt, each backoff, the body. A wait that
            cannot fit fails at once. ``None`` for no bound.
        attempt_timeout: Seconds for one attempt, from connecting to the last byte; ``None`` for no bound.
        max_attempts: Requests that one call may send, the first included; 1 for no retries. Attempts that make no
            connection do not count.
        max_connections: Requests in flight at once, 1 or more; further ones wait for a connection.
        rate_limit: ``"auto"`` learns the limit from the responses, starting at 30 a minute; an int is never exceeded,
            whatever the API allows; ``None`` does not pace; or a ``RateLimiter`` of your own.
        rate_limit_window: Seconds of the rate limit's window; the API's is a minute.
        rate_limit_store: Where the budget of the key is kept: ``None`` for this process; ``"machine"`` for all
            processes of this user on this machine; the URL of a Redis (``redis://``, ``rediss://``, ``unix://``; extra
            ``redis``) for all machines; a client of ``redis.asyncio``, such as that of a Sentinel, which stays yours;
            or a ``Store`` of your own. Omitted, ``ZENOVAY_RATE_LIMIT_STORE``, else ``None``.
        batch_headroom: What batches leave to direct calls: ``"auto"`` learns it from the direct calls that come; an int
            keeps so many requests of each window free, at most all but one; 0 keeps none.
        quota_reserve: Requests of the monthly quota that batches leave to direct calls, 0 or more.
        cache: A ``Cache`` that keeps responses, such as ``Cache(ttl=60, stale=600)``; it may serve several clients.
            ``None`` keeps none.
        coalesce: Let calls that are equal and in flight at one time be one request; GET only.
        session: An aiohttp session to send with; it stays yours and is never closed. Its own settings say which proxy
            and certificates it uses.
        proxy: URL of an HTTP proxy, which may contain a user and a password; omitted, that of the environment.
        ssl: An ``ssl.SSLContext``: the authorities to trust, a client certificate; omitted, the system's authorities,
            or those of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.
        trust_env: Obey ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, or the system's proxies. They
            are read here, once; ``http`` to this machine, as to a sandbox, uses none of them.
        on_event: A function that is called with each event, or several in a list: a call that begins and ends, an
            attempt, a 429, a server that is away, a quota running low. It must be a plain function, and not block.
        telemetry: What turns these events into traces and metrics, such as ``OpenTelemetry()`` of
            ``zenovay_async.telemetry``; ``None`` for nothing.
        strict: Accept nothing but the documented schema, for tests: an unknown field or a number as text, otherwise
            coerced, is a ``ResponseDecodeError``. A field that is optional here may be ``null``.
        allow_http: Accept an ``http`` base URL of another machine, although the key travels unencrypted.

    Raises:
        ConfigurationError: The key, the base URL or an option is invalid.

    Source: docs "Authentication", help "Rate limits".
    """

    _callers: Callers
    cache = _CacheAttribute(ClientCache, lambda client: client._callers.cache)  # noqa: SLF001 - part of the client
    """The cache of this client: ``clear()``, ``invalidate()`` and ``stats``; there with ``cache=None`` as well."""

    def __init__(
        self,
        api_key: str | None = None,
        *,
        auth: AuthStyle = "x-api-key",
        base_url: str | None = None,
        timeout: float | None = 30.0,
        attempt_timeout: float | None = 15.0,
        max_attempts: int = 4,
        max_connections: int = 100,
        rate_limit: RateLimitOption = "auto",
        rate_limit_window: float = 60.0,
        rate_limit_store: RateLimitStoreOption | NotGiven = NOT_GIVEN,
        batch_headroom: BatchHeadroom = "auto",
        quota_reserve: int = 0,
        cache: Cache | None = None,
        coalesce: bool = True,
        session: aiohttp.ClientSession | None = None,
        proxy: str | None = None,
        ssl: SSLContext | None = None,
        trust_env: bool = True,
        on_event: OnEvent | Iterable[OnEvent] | None = None,
        telemetry: Telemetry | None = None,
        strict: bool = False,
        allow_http: bool = False,
    ) -> None:
        # From here on no variable holds the plain key or password, so that no traceback can show it.
        api_key = Secret.of(api_key) if api_key is not None else None
        proxy = Secret(proxy) if isinstance(proxy, str) else proxy
        rate_limit_store = Secret(rate_limit_store) if isinstance(rate_limit_store, str) else rate_limit_store
        rate_limit_store = resolve_store(rate_limit_store, Secret(os.environ.get(STORE_VARIABLE, "")), rate_limit)
        require_int("max_connections", max_connections)
        self._base_url = resolve_base_url(base_url, os.environ.get(BASE_URL_VARIABLE), allow_http=allow_http)
        self._transport = Transport(
            self._base_url,
            _USER_AGENT,
            session,
            max_connections=max_connections,
            network=resolve_network(
                self._base_url, proxy=proxy, ssl=ssl, trust_env=trust_env, has_session=session is not None
            ),
        )
        self._owns_transport = True
        self._listeners = listeners_of(on_event)
        listener = combine_listeners(self._listeners, telemetry)
        self._assemble(
            Auth(_checked_key(api_key, Secret(os.environ.get(KEY_VARIABLE, ""))), auth),
            Options(
                timeout=timeout,
                attempt_timeout=attempt_timeout,
                max_attempts=max_attempts,
                on_event=listener,
                telemetry=telemetry,
                strict=strict,
            ),
            Limits(rate_limit, rate_limit_window, quota_reserve, rate_limit_store, batch_headroom),
            DriftReporter(listener),
            Reuse(cache=cache, coalesce=coalesce),
        )

    def _assemble(self, auth: Auth, options: Options, limits: Limits, drift: DriftReporter, reuse: Reuse) -> None:
        self._auth, self._options, self._limits, self._drift, self._reuse = auth, options, limits, drift, reuse
        self._budget = budget_for(auth, self._base_url, limits)
        # The budget refers to it weakly, so that a client that is gone gets no more events.
        self._listener_ref = None if options.on_event is None else ListenerRef(options.on_event)
        if self._listener_ref is not None:
            self._budget.listen(self._listener_ref)
        self._callers = make_callers(
            self._transport, auth, self._base_url, self._budget, options, limits, drift, reuse, self._listener_ref
        )
        super().__init__(self._callers.caller)

    def with_options(
        self,
        *,
        api_key: str | None = None,
        auth: AuthStyle | None = None,
        timeout: Timeout = NOT_GIVEN,
        attempt_timeout: Timeout = NOT_GIVEN,
        max_attempts: int | None = None,
        rate_limit: RateLimitOption | NotGiven = NOT_GIVEN,
        batch_headroom: BatchHeadroom | None = None,
        quota_reserve: int | None = None,
        cache: Cache | NotGiven | None = NOT_GIVEN,
        coalesce: bool | None = None,
        max_age: float | NotGiven | None = NOT_GIVEN,
        on_event: OnEvent | Iterable[OnEvent] | NotGiven | None = NOT_GIVEN,
        telemetry: Telemetry | NotGiven | None = NOT_GIVEN,
    ) -> Self:
        """Make a sibling of this client with other options; it shares the connections, and costs next to nothing.

        With another ``api_key`` it has a budget of its own, as the API counts each key separately. Omitted options
        keep their values. The connections belong to the client that was made first, and close with it.

        Args:
            api_key: Another key.
            auth: Header that carries the key; this and each option below is as for :class:`Zenovay`.
            timeout: Seconds for a whole call; ``None`` for no bound.
            attempt_timeout: Seconds for one attempt; ``None`` for no bound.
            max_attempts: Requests that one call may send.
            rate_limit: ``"auto"``, requests per window, a ``RateLimiter``, or ``None`` for no pacing.
            batch_headroom: What batches leave to direct calls.
            quota_reserve: Requests of the monthly quota that batches leave to direct calls.
            cache: A ``Cache``; ``None`` keeps no responses.
            coalesce: Let equal calls in flight at one time be one request.
            max_age: Seconds, 0 or more: no response of the cache that is older is returned, not even while another one
                is requested; 0 requests each, and keeps it. ``None`` for no bound.
            on_event: Called with each event, or several; ``None`` for no listener.
            telemetry: What turns events into traces and metrics; ``None`` for nothing.

        Returns:
            The sibling.

        Raises:
            ConfigurationError: An option is invalid.
        """
        # From here on no variable holds the plain key.
        api_key = Secret.of(api_key) if api_key is not None else None
        key = self._auth.key if api_key is None else _checked_key(api_key)
        old, limits, reuse = self._options, self._limits, self._reuse
        sibling = object.__new__(type(self))
        sibling._transport, sibling._owns_transport = self._transport, False
        sibling._base_url = self._base_url
        # Siblings with one listener share the reporter, so that each drift is emitted once.
        sibling._listeners = self._listeners if on_event is NOT_GIVEN else listeners_of(on_event)
        observer = old.telemetry if telemetry is NOT_GIVEN else telemetry
        listener = combine_listeners(sibling._listeners, observer)
        sibling._assemble(
            Auth(key, auth or self._auth.style),
            Options(
                timeout=old.timeout if timeout is NOT_GIVEN else timeout,
                attempt_timeout=old.attempt_timeout if attempt_timeout is NOT_GIVEN else attempt_timeout,
                max_attempts=old.max_attempts if max_attempts is None else max_attempts,
                on_event=listener,
                telemetry=observer,
                strict=old.strict,
            ),
            Limits(
                rate_limit=limits.rate_limit if rate_limit is NOT_GIVEN else rate_limit,
                window=limits.window,
                quota_reserve=limits.quota_reserve if quota_reserve is None else quota_reserve,
                store=limits.store,
                batch_headroom=limits.batch_headroom if batch_headroom is None else batch_headroom,
            ),
            self._drift if listener == old.on_event else DriftReporter(listener),
            Reuse(
                cache=reuse.cache if cache is NOT_GIVEN else cache,
                coalesce=reuse.coalesce if coalesce is None else coalesce,
                max_age=reuse.max_age if max_age is NOT_GIVEN else max_age,
            ),
        )
        return sibling

    def __repr__(self) -> str:
        # A traceback with variables calls this even on a client that rejected an argument.
        return f"Zenovay(base_url={getattr(self, '_base_url', None)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "cannot copy or pickle a Zenovay client; create one in each process, or use with_options() for a sibling"
        )

    async def __aenter__(self) -> Self:
        await self._transport.open(owned=self._owns_transport)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owns_transport:
            await self._transport.leave()
        await self._end()

    async def close(self) -> None:
        """End the calls and close the connections; a session that was passed in stays open.

        Calls that wait or are in flight, also those of siblings, fail at once with a ``ClientClosedError``. Closing
        twice does no harm. On a sibling made by :meth:`with_options`, nothing is closed: the connections and their
        calls belong to the client that was made first.
        """
        if self._owns_transport:
            await self._transport.close()
        await self._end()

    async def _end(self) -> None:
        # Other tasks may be inside of the client still, unless it is a sibling.
        if self._transport.is_closed or not self._owns_transport:
            await self._callers.aclose()
        await self._budget.aclose()

    @property
    def rate_limit(self) -> RateLimit | None:
        """The rate limit: requests per window, and how many are left; ``None`` if calls are not paced."""
        return self._budget.rate_limit()

    @property
    def quota(self) -> Quota:
        """The monthly quota, as the newest response stated it; its figures are ``None`` before the first."""
        return self._budget.quota()

    @overload
    def estimate(self, n: int, *, cost: int = 1, background: bool = True) -> Estimate: ...
    @overload
    def estimate(
        self, items: Collection[ItemT], /, method: Callable[[ItemT], Awaitable[Any]], *, background: bool = True
    ) -> Estimate: ...
    def estimate(
        self,
        n: int | Collection[ItemT],
        method: Callable[[ItemT], Awaitable[Any]] | None = None,
        *,
        cost: int | NotGiven = NOT_GIVEN,
        background: bool = True,
    ) -> Estimate:
        """Estimate what further calls would take, as far as known; sends no request.

        With a number, each call takes ``cost`` requests. With the items and the method of a batch, each takes what its
        endpoint is charged for, or nothing if this process has a fresh response to it in its cache; equal items count
        once.

        Args:
            n: Number of calls, 0 or more; or the items, a collection such as a list.
            method: For items: a method of this client that makes one call and takes the item first, such as
                ``zenovay.heatmaps.pages``; or a ``functools.partial`` of one. A list in pages counts as one page.
            cost: For a number: requests that each call is charged for, 1 or more; omitted, 1; ``query`` costs 3.
            background: Whether they are those of a batch, which leaves room for direct calls.

        Returns:
            Seconds until the last may start, requests, their share of the remaining monthly quota, and calls that need
            no request.

        Raises:
            ConfigurationError: ``n`` is neither an int >= 0 nor, with a method, a collection; ``cost`` is not an int
                >= 1; ``method`` is something else; or an item is not valid for it.
        """
        if method is None:
            if not isinstance(n, int):
                raise ConfigurationError(
                    f"estimate() of a {type(n).__name__}: expected a number of calls, or a collection of items and the "
                    "method for each, such as zenovay.heatmaps.pages"
                )
            return self._budget.estimate(n, 1 if cost is NOT_GIVEN else cost, background=background)
        if cost is not NOT_GIVEN:
            raise ConfigurationError(f"cost={cost!r}: the endpoint of the method says what its calls cost; omit it")
        plan = plan_calls(n, method, self._caller, self._callers.caching)
        estimate = self._budget.estimate(plan.requests, 1, background=background)
        return msgspec.structs.replace(estimate, cached=plan.cached)

    def batch(
        self,
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        fetch: Callable[[ItemT], Awaitable[T]],
        *,
        concurrency: int = 8,
        max_outage: float | None = MAX_OUTAGE,
        journal: Journal | None = None,
        key: Callable[[ItemT], str] = str,
        max_failures: float | None = None,
        max_requests: int | None = None,
        on_progress: Callable[[BatchReport], None] | None = None,
    ) -> Batch[ItemT, T]:
        """Call ``fetch`` for each item, ``concurrency`` at a time, and yield results as they complete.

        Use it as ``async with zenovay.batch(ids, fetch) as results:`` and ``async for result in results:``. Each
        result has ``.item``, and either ``.value`` or ``.error``. Calls inside ``fetch`` are background calls: they
        wait for the rate limit as long as it takes, and direct calls overtake them. While the server is away they wait
        as well, up to ``max_outage``. Leaving the block early cancels the calls in flight, and waits for them.

        Args:
            items: Any iterable or asynchronous iterable, also an endless one; advanced as calls complete. Equal items
                of a collection, such as a list, are fetched once, and each has its result.
            fetch: Called with one item; returns the awaitable of its result. What it raises becomes ``.error``.
            concurrency: Calls in flight at once, 1 or more.
            max_outage: Seconds of an outage, 0 or more, after which the batch ends with the connection's error;
                ``None`` for no bound.
            journal: A ``Journal``, in which what is done survives the end of the process: a later run does not fetch it
                again. With its ``result_type``, it returns what is kept as results that are ``replayed``; else it skips
                what the code in the loop had handled. Failures are tried again. ``None`` keeps nothing.
            key: Called with an item; returns the text by which the journal knows it, such as its ID. With a journal,
                items of one key are one.
            max_failures: The batch stops when more items than these have failed: an int, 0 or more, or a share of all
                items, such as 0.05 (where their number is not known, of those done, from the 20th on). ``None`` for no
                bound.
            max_requests: Requests of the monthly quota that the batch may take, retries and batches inside of ``fetch``
                included, 1 or more; it stops before the next one. ``None`` for no bound.
            on_progress: Called with the ``batch.report`` once a second, and at the end. It must not block.

        Returns:
            The batch, with a ``report`` of what was done and what it took. Iterating over it raises an error that holds
            for every item (an invalid key, no paid plan, an exhausted quota, an outage, a parameter that is invalid for
            every website), a ``BatchStoppedError`` at a bound, a ``JournalError``, any error of the source of items.

        Raises:
            ConfigurationError: An argument is invalid; on entering the batch, the journal is of another run, no
                journal, or in use by another process.
        """
        return Batch(
            items,
            fetch,
            concurrency=concurrency,
            max_outage=max_outage,
            journal=journal,
            key=key,
            max_failures=max_failures,
            max_requests=max_requests,
            on_progress=on_progress,
            watch_client=self._transport.watch,
            quota=self._budget.quota,
        )

    def with_raw_response(self, method: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, Response[T]]]:
        """Change a method of this client to return the whole response: headers, request ID, attempts, and data.

        Use it as ``response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(website_id, limit=10)``;
        ``response.data`` is what the method alone would have returned.

        Args:
            method: A method of this client or of one of its resources that makes one call.

        Returns:
            The method with the same parameters; it returns a :class:`Response`.

        Raises:
            ConfigurationError: ``method`` is something else, such as a method of another client.
        """
        function = rebind(method, self._caller, WholeResponse(self._caller))
        if function is None:
            raise ConfigurationError(
                f"with_raw_response({method!r}): expected a method of this client that makes one call, "
                "such as zenovay.heatmaps.pages"
            )

        async def with_response(*args: P.args, **kwargs: P.kwargs) -> Response[T]:
            response: Response[T] = await function(*args, **kwargs)
            return response

        return with_response
