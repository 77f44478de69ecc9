"""The front door: options, resources, and the life of a client."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Self, TypeVar

from zenovay_async._limits.budget import Estimate, Limits, RateLimitOption, budget_for
from zenovay_async._protocol.auth import Auth, AuthStyle, Secret, resolve_api_key, resolve_base_url
from zenovay_async._protocol.call import NOT_GIVEN, Call, NotGiven, Timeout, require_int
from zenovay_async._session.session import Options, Session
from zenovay_async._session.transport import Transport
from zenovay_async._version import __version__
from zenovay_async.batch import Batch
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.resources.analytics import Analytics
from zenovay_async.resources.anomalies import Anomalies
from zenovay_async.resources.base import Resource
from zenovay_async.resources.errors import Errors
from zenovay_async.resources.heatmaps import Heatmaps
from zenovay_async.resources.insights import Insights
from zenovay_async.resources.replays import Replays
from zenovay_async.resources.retention import Retention
from zenovay_async.resources.revenue import Revenue
from zenovay_async.resources.root import ClientMethods
from zenovay_async.resources.stats import Stats
from zenovay_async.resources.websites import Websites

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
    from types import TracebackType

    import aiohttp

    from zenovay_async._limits.quota import Quota
    from zenovay_async._limits.window import RateLimit
    from zenovay_async._protocol.response import Response
    from zenovay_async.events import OnEvent

ItemT = TypeVar("ItemT")
T = TypeVar("T")
P = ParamSpec("P")

_USER_AGENT = f"zenovay-async/{__version__} Python/{platform.python_version()}"


class Zenovay(ClientMethods):
    """An async client of the Zenovay External API.

    Use it as ``async with Zenovay() as zenovay:``. Connections are made by the first call and closed at the end of
    the block. A client made outside a block works too; its connections then end with the event loop, or with
    :meth:`close`. One client serves any number of concurrent calls, on one event loop at a time.

    Args:
        api_key: The key, starting with ``zv_``; left out, the environment variable ``ZENOVAY_API_KEY``.
        auth: The header that carries it: ``"x-api-key"`` or ``"bearer"``. The API takes either.
        base_url: Where the API is; left out, ``ZENOVAY_BASE_URL``, else the public API.
        timeout: Seconds for a whole call: its wait for the rate limit, each attempt, each backoff, the body. A wait
            that cannot fit fails at once. ``None`` for no bound.
        attempt_timeout: Seconds for one attempt, from connecting to the last byte; ``None`` for no bound.
        max_attempts: Requests that one call may send, the first included; 1 for no retries.
        max_connections: Requests on their way at once; further ones wait their turn.
        rate_limit: ``"auto"`` keeps to the limit that the API states, from 30 a minute at the start; a whole number
            keeps below the plan's; ``None`` does not pace; or a ``RateLimiter`` of your own.
        rate_limit_window: Seconds of the rate limit's window; the API's is a minute.
        quota_reserve: Requests of the month that batches leave for direct calls.
        session: An aiohttp session to send with; it stays yours and is not closed.
        on_event: Called with each event: a retry, a closed gate, a quota running low. It must not block.
        strict: Take nothing but the documented shape of an answer, for tests: an unknown field or a number as text,
            otherwise read all the same, is a ``ResponseDecodeError``. A field that is optional here may be ``null``.
        allow_http: Accept an ``http`` base URL that is not on this machine; the key travels in the clear.

    Raises:
        ConfigurationError: The key, the base URL or an option cannot be right.

    Source: docs "Authentication", help "Rate limits".
    """

    websites: Websites
    analytics: Analytics
    heatmaps: Heatmaps
    replays: Replays
    errors: Errors
    insights: Insights
    anomalies: Anomalies
    retention: Retention
    revenue: Revenue
    stats: Stats

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
        quota_reserve: int = 0,
        session: aiohttp.ClientSession | None = None,
        on_event: OnEvent | None = None,
        strict: bool = False,
        allow_http: bool = False,
    ) -> None:
        # From here on no variable holds the plain key, so that no traceback can show it.
        api_key = Secret(api_key) if api_key is not None else None
        require_int("max_connections", max_connections)
        self._base_url = resolve_base_url(base_url, allow_http=allow_http)
        self._transport = Transport(self._base_url, _USER_AGENT, session, max_connections=max_connections)
        self._owns_transport = True
        self._configure(
            Auth(resolve_api_key(api_key), auth),
            Options(timeout, attempt_timeout, max_attempts, on_event, strict),
            Limits(rate_limit, rate_limit_window, quota_reserve),
        )

    def _configure(self, auth: Auth, options: Options, limits: Limits) -> None:
        self._auth, self._options, self._limits = auth, options, limits
        self._budget = budget_for(auth, self._base_url, limits)
        session = Session(self._transport, auth, self._base_url, self._budget, options)
        super().__init__(session)
        self._raw_session = _RawSession(session)
        self.websites = Websites(session)
        self.analytics = Analytics(session)
        self.heatmaps = Heatmaps(session)
        self.replays = Replays(session)
        self.errors = Errors(session)
        self.insights = Insights(session)
        self.anomalies = Anomalies(session)
        self.retention = Retention(session)
        self.revenue = Revenue(session)
        self.stats = Stats(session)

    def with_options(
        self,
        *,
        api_key: str | None = None,
        auth: AuthStyle | None = None,
        timeout: Timeout = NOT_GIVEN,
        attempt_timeout: Timeout = NOT_GIVEN,
        max_attempts: int | None = None,
        rate_limit: RateLimitOption | NotGiven = NOT_GIVEN,
        quota_reserve: int | None = None,
        on_event: OnEvent | None = None,
    ) -> Self:
        """A sibling of this client with other options; it shares the connections, and costs next to nothing.

        With another ``api_key`` it has a budget of its own, as the API counts each key by itself. What is left out
        stays as it is. The connections belong to the client that was made first, and close with it.

        Args:
            api_key: Another key.
            auth: As for the client; likewise all that follow.
            timeout: Seconds for a whole call.
            attempt_timeout: Seconds for one attempt.
            max_attempts: Requests that one call may send.
            rate_limit: How to pace.
            quota_reserve: Requests of the month that batches leave.
            on_event: Called with each event.

        Raises:
            ConfigurationError: An option cannot be right.
        """
        # As above: from here on no variable holds the plain key.
        api_key = Secret(api_key) if api_key is not None else None
        key = self._auth.key if api_key is None else resolve_api_key(api_key)
        old, limits = self._options, self._limits
        sibling = object.__new__(type(self))
        sibling._transport, sibling._owns_transport = self._transport, False
        sibling._base_url = self._base_url
        sibling._configure(
            Auth(key, auth or self._auth.style),
            Options(
                old.timeout if timeout is NOT_GIVEN else timeout,
                old.attempt_timeout if attempt_timeout is NOT_GIVEN else attempt_timeout,
                old.max_attempts if max_attempts is None else max_attempts,
                on_event or old.on_event,
                old.strict,
            ),
            Limits(
                limits.rate_limit if rate_limit is NOT_GIVEN else rate_limit,
                limits.window,
                limits.quota_reserve if quota_reserve is None else quota_reserve,
            ),
        )
        return sibling

    def __repr__(self) -> str:
        # A traceback with variables shows this object even where an argument is refused.
        return f"Zenovay(base_url={getattr(self, '_base_url', None)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Zenovay client is not pickled: make one in each process, from ZENOVAY_API_KEY")

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; a session that was passed in stays open. Closing twice does no harm.

        On a sibling made by :meth:`with_options` this does nothing, as the connections are not its own.
        """
        if self._owns_transport:
            await self._transport.close()

    @property
    def rate_limit(self) -> RateLimit | None:
        """The requests per window: what is believed, what is left; ``None`` where ``rate_limit=None`` was set."""
        limiter = self._budget.limiter
        return None if limiter is None else limiter.snapshot()

    @property
    def quota(self) -> Quota:
        """The month's requests, as the newest answer told them; its figures are ``None`` before the first."""
        return self._budget.quota.snapshot()

    def estimate(self, n: int, *, cost: int = 1) -> Estimate:
        """What ``n`` further calls would take, as far as it is known now; asks the server nothing.

        Args:
            n: How many calls, 0 or more.
            cost: Requests that each takes from the quota; ``query`` takes 3.

        Returns:
            Seconds until the last may start, requests, and their share of what is left of the month.

        Raises:
            ConfigurationError: ``n`` is no whole number of 0 or more, or ``cost`` none of 1 or more.
        """
        return self._budget.estimate(n, cost)

    def batch(
        self,
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        fetch: Callable[[ItemT], Awaitable[T]],
        *,
        concurrency: int = 8,
    ) -> Batch[ItemT, T]:
        """Call ``fetch`` for each item, so many at a time, and hand out results as they complete.

        Use it as ``async with zenovay.batch(ids, fetch) as results:`` and ``async for result in results:``. Each
        result has ``.item``, and either ``.value`` or ``.error``. Calls made inside ``fetch`` wait for the rate limit
        as long as it takes, and let calls made directly go first. Leaving the block early cancels what is on its way.

        Args:
            items: Any iterable or asynchronous iterable, also an endless one; taken from as calls complete.
            fetch: Called with one item; returns the awaitable of its result. What it raises becomes ``.error``.
            concurrency: How many calls may be on their way at once, 1 or more.

        Returns:
            The batch. Iterating over it raises an answer that holds for every item (the key was refused, no paid
            plan, the month's requests are used up), and what the source of items raised.

        Raises:
            ConfigurationError: An argument cannot be right.
        """
        return Batch(items, fetch, concurrency=concurrency)

    def with_raw_response(self, method: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, Response[T]]]:
        """A method of this client, changed to return the whole response: headers, request id, attempts, and data.

        Use it as ``response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(website_id, limit=10)``;
        ``response.data`` is what the method alone would have returned.

        Args:
            method: A method of this client or of one of its resources that makes one call.

        Raises:
            ConfigurationError: It is something else.
        """
        owner, function = getattr(method, "__self__", None), getattr(method, "__func__", None)
        twin: Any = None
        # Not for users, and so private; but made for this place.
        if isinstance(owner, Resource) and owner._is_bound_to(self._session):  # noqa: SLF001 - said above
            twin = owner._bind(self._raw_session)  # noqa: SLF001 - said above
        if function is None or not hasattr(twin, function.__name__):
            raise ConfigurationError(f"{method!r} is not a method of this client, such as zenovay.heatmaps.pages")

        async def with_response(*args: P.args, **kwargs: P.kwargs) -> Response[T]:
            response: Response[T] = await function(twin, *args, **kwargs)
            return response

        return with_response


class _RawSession:
    """Carries out calls like the session, but returns the response in place of its data."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def fetch(self, call: Call[T], timeout: Timeout) -> Any:
        return await self._session.send(call, timeout)
