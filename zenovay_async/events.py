"""What a client emits while it works: typed events, passed to ``on_event``.

An event states what was decided already; a listener cannot change it. A listener is called in the middle of a call, so
it must be quick and must not block. An exception that it raises is logged and does not reach the call.

The events of a call have its ``call_id``: a :class:`CallStarted`, for each attempt an :class:`AttemptStarted` and an
:class:`AttemptEnded`, and a :class:`CallEnded`. Those of an attempt are emitted where the request is sent: calls that
share one request, or need none, have none of their own. A request that others joined goes on when the call that began
it has ended, if that one had less time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from inspect import isasyncgenfunction, iscoroutine, iscoroutinefunction, isgeneratorfunction
from typing import Any, Literal, Protocol, TypeAlias, cast

import msgspec

from zenovay_async.exceptions import ConfigurationError, ZenovayError
from zenovay_async.history import Attempt, Wait, explain

EndOutcome: TypeAlias = Literal["succeeded", "failed", "canceled"]
"""How an attempt or a call ended."""

CacheResult: TypeAlias = Literal["hit", "stale", "miss", "joined"]
"""Where the response of a call came from: a fresh response that was kept, a stale one that is being refreshed, a
request of its own, or that of an equal call in flight."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events."""


class CallEvent(Event, frozen=True, kw_only=True):
    """Base of the events of one call.

    Attributes:
        call_id: Number of the call, the same for all its events and unique in this process.
        operation: Name of the operation, such as ``heatmaps.pages``.
        method: HTTP method.
        template: Path below the base URL, such as ``heatmaps/{website_id}/pages``; never with an ID, so that it can
            label a metric. ``{path}`` for ``Zenovay.request``.
    """

    call_id: int
    operation: str
    method: str
    template: str


class CallStarted(CallEvent, frozen=True, kw_only=True):
    """A call began; a :class:`CallEnded` follows.

    Attributes:
        call: Method and path of the call.
        cost: Requests that it is charged for, if it needs one.
        background: Whether it belongs to a batch, or refreshes the cache, so that direct calls overtake it.
        refresh: Whether it refreshes a stale response of the cache, so that nobody awaits it.
    """

    call: str
    cost: int
    background: bool
    refresh: bool


class AttemptStarted(CallEvent, frozen=True, kw_only=True):
    """A request is about to be sent; an :class:`AttemptEnded` follows.

    Attributes:
        number: Which attempt of the call, counted from 1; those after the first are retries.
        previous: The attempt that it repeats, which failed; ``None`` for the first one.
        waits: What the call waited for before it.
        url: The URL, which has no key in it.
        server_address: Host of the server.
        server_port: Its port.
    """

    number: int
    previous: Attempt | None
    waits: tuple[Wait, ...]
    url: str
    server_address: str
    server_port: int


class AttemptEnded(CallEvent, frozen=True, kw_only=True):
    """A response came, or none will.

    Attributes:
        number: Which attempt of the call, counted from 1.
        outcome: ``"succeeded"``, ``"failed"``, or ``"canceled"`` with its caller.
        seconds: How long it took, without what it waited for before.
        status: HTTP status; ``None`` if no response came.
        error: The error; ``None`` if it succeeded or was canceled.
        request_id: The server's ID of the request; ``None`` if it sent none.
        server_address: Host of the server.
        server_port: Its port.
        rate_limit_remaining: Requests left in the window; ``None`` if calls are not paced.
        quota_remaining: Requests left of the monthly quota; ``None`` if that is not known.
    """

    number: int
    outcome: EndOutcome
    seconds: float
    status: int | None
    error: ZenovayError | None
    request_id: str | None
    server_address: str
    server_port: int
    rate_limit_remaining: int | None
    quota_remaining: int | None


class CallEnded(CallEvent, frozen=True, kw_only=True):
    """A call ended.

    Attributes:
        call: Method and path of the call.
        outcome: ``"succeeded"``, ``"failed"``, or ``"canceled"`` by its caller.
        seconds: How long it took, everything included.
        status: HTTP status of the last response, also of one from the cache; ``None`` if none came.
        error: The error that the caller gets; ``None`` if there is none.
        request_id: The server's ID of the last request; ``None`` if it sent none.
        cost: Requests that a call of this operation is charged for.
        cache: Where the response came from; ``None`` for a request of its own without a cache.
        history: The attempts, also those of an equal call that it joined; of more than 100, those in the middle are
            omitted.
        waits: What it waited for after the last attempt, if it failed or was canceled then, or if the response came
            from another process.
    """

    call: str
    outcome: EndOutcome
    seconds: float
    status: int | None
    error: ZenovayError | None
    request_id: str | None
    cost: int
    cache: CacheResult | None
    history: tuple[Attempt, ...]
    waits: tuple[Wait, ...]

    @property
    def attempts(self) -> int:
        """Number of attempts, also of those that the history omits."""
        return self.history[-1].number if self.history else 0

    def explain(self) -> str:
        """What the call went through, in words; see ``ZenovayError.explain``."""
        return explain(self.history, self.waits, "from the cache" if self.cache in {"hit", "stale"} else "")


class RetryScheduled(Event, frozen=True, kw_only=True):
    """An attempt failed, and another follows if its permit comes before the deadline.

    Attributes:
        operation: Name of the operation, such as ``heatmaps.pages``.
        call: Method and path of the call.
        attempt: The attempt that failed, counted from 1.
        wait: Seconds until the next attempt, without its wait for the rate limit or for a server that is away.
        error: The error of the attempt.
    """

    operation: str
    call: str
    attempt: int
    wait: float
    error: ZenovayError


class RateLimitUpdated(Event, frozen=True, kw_only=True):
    """The rate limit is another one than assumed: the server stated it, or 429s showed it.

    Attributes:
        before: Requests per window assumed until now.
        limit: Requests per window from now on.
    """

    before: int
    limit: int


class RateLimited(Event, frozen=True, kw_only=True):
    """The server rate limited a request, with 429 or another status that means it; all calls of this key pause.

    Attributes:
        seconds: Length of the pause, which may be shorter than the time that the server named.
        from_server: Whether the server named a time; else the pause is a backoff.
    """

    seconds: float
    from_server: bool


class ServerUnreachable(Event, frozen=True, kw_only=True):
    """The server is away: the calls of this key wait, and one attempt at a time finds out whether it is back.

    Emitted once per outage, even if a server that failed becomes unreachable meanwhile.

    Attributes:
        kind: ``"unreachable"`` if no connection can be made; ``"failing"`` if the server is there and fails one call
            after another, which holds back the calls of batches only.
        reason: Message of the error that showed it.
        status: HTTP status of that error; ``None`` if no response came.
    """

    kind: Literal["unreachable", "failing"]
    reason: str
    status: int | None


class ServerReachable(Event, frozen=True, kw_only=True):
    """The server responds again, after a :class:`ServerUnreachable`.

    Attributes:
        seconds: How long it was away.
    """

    seconds: float


class QuotaThresholdReached(Event, frozen=True, kw_only=True):
    """The monthly quota runs low; emitted at 80 % and at 95 % of it, each once a month.

    Attributes:
        used: Requests used this month.
        limit: Requests allowed per month.
        percent: The threshold that was reached: 80 or 95.
    """

    used: int
    limit: int
    percent: int


class QuotaExhausted(Event, frozen=True, kw_only=True):
    """The server reported that the monthly quota is exhausted; calls fail from now on without a request.

    All but ``usage()``, and one call every five minutes, which find out whether there is a quota again.

    Attributes:
        resets_at: When the count restarts; aware.
    """

    resets_at: datetime


class SharedBudgetLost(Event, frozen=True, kw_only=True):
    """The store of the shared budget cannot be reached: this process goes on by itself, with its share of the limit.

    Emitted once; :class:`SharedBudgetBack` follows.

    Attributes:
        reason: What went wrong, without the password of the store's URL.
        members: Processes among which the limit is divided: those seen last, or an assumption if none were.
        limit: Requests per window that this process may send until the store is back.
    """

    reason: str
    members: int
    limit: int


class SharedBudgetBack(Event, frozen=True, kw_only=True):
    """The store of the shared budget can be reached again, after a :class:`SharedBudgetLost`.

    Attributes:
        seconds: How long it could not.
    """

    seconds: float


class CacheStoreLost(Event, frozen=True, kw_only=True):
    """The store of the cache cannot be reached: this process goes on with what it has in memory.

    Emitted once; :class:`CacheStoreBack` follows.

    Attributes:
        reason: What went wrong, without the password of the store's URL.
    """

    reason: str


class CacheStoreBack(Event, frozen=True, kw_only=True):
    """The store of the cache can be reached again, after a :class:`CacheStoreLost`.

    Attributes:
        seconds: How long it could not.
    """

    seconds: float


class SchemaDrift(Event, frozen=True, kw_only=True):
    """A response does not match the documented schema and was decoded all the same; emitted once per client.

    Attributes:
        operation: Name of the operation, such as ``heatmaps.pages``.
        call: Method and path of the call.
        path: Where in the response, such as ``$.data.pages[].url``.
        problem: What was found, and what is documented.
    """

    operation: str
    call: str
    path: str
    problem: str


class EndpointDeprecated(Event, frozen=True, kw_only=True):
    """The headers of a response, or of an error, announce the end of its endpoint; emitted once per client.

    Attributes:
        operation: Name of the operation, such as ``heatmaps.pages``.
        call: Method and path of the call.
        deprecated_at: From when on it is deprecated, in UTC, maybe in the future; ``None`` if that is not stated.
        sunset_at: When it ends, in UTC; ``None`` if that is not stated.
        link: URL of a page about it, else of what replaces it; ``None`` if the server names none.
    """

    operation: str
    call: str
    deprecated_at: datetime | None
    sunset_at: datetime | None
    link: str | None


OnEvent: TypeAlias = Callable[[Event], None]
"""A listener, called with each event."""


class Telemetry(Protocol):
    """What observes a client and the requests that it sends; ``zenovay_async.telemetry`` has that of OpenTelemetry."""

    def on_event(self, event: Event) -> None:
        """Observe an event; called as every listener is.

        Those of an attempt are emitted in the context in which the request is sent.
        """
        ...

    def headers(self) -> Mapping[str, str]:
        """Headers to send with a request; called after its :class:`AttemptStarted`, in the same context."""
        ...


_logger = logging.getLogger("zenovay_async")


class Listeners:
    """Several listeners as one.

    Args:
        functions: Each is called with each event.
    """

    __slots__ = ("functions",)

    def __init__(self, functions: tuple[OnEvent, ...]) -> None:
        self.functions = functions

    def __call__(self, event: Event) -> None:
        """Call each with an event; what one raises does not concern the others."""
        for function in self.functions:
            emit(function, event)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listeners) and other.functions == self.functions

    def __hash__(self) -> int:
        return hash(self.functions)


def listeners_of(on_event: OnEvent | Iterable[OnEvent] | None) -> tuple[OnEvent, ...]:
    """The listeners of a client, checked.

    Args:
        on_event: A listener, several, or ``None``.

    Raises:
        ConfigurationError: One is no plain function of one event.
    """
    given: list[Any] = [on_event]
    if on_event is None:
        given = []
    elif not callable(on_event):
        given = list(on_event) if isinstance(on_event, Iterable) else given
    for listener in given:
        if not is_listener(listener):
            raise ConfigurationError(
                f"on_event={on_event!r}: expected a plain function of one event, or several in a list; "
                "nothing would await an asynchronous one, or run a generator"
            )
    return tuple(given)


def combine_listeners(listeners: tuple[OnEvent, ...], telemetry: Telemetry | None) -> OnEvent | None:
    """Combine listeners, and that of a telemetry, to one; ``None`` if there are none.

    Raises:
        ConfigurationError: ``telemetry`` is none.
    """
    if telemetry is not None:
        listeners = (*listeners, _listener_of(telemetry))
    if len(listeners) > 1:
        return Listeners(listeners)
    return listeners[0] if listeners else None


def _listener_of(telemetry: Telemetry) -> OnEvent:
    listener, headers = getattr(telemetry, "on_event", None), getattr(telemetry, "headers", None)
    if isinstance(telemetry, type) or not is_listener(listener) or not callable(headers):
        raise ConfigurationError(
            f"telemetry={telemetry!r}: expected an object with on_event() and headers(), such as OpenTelemetry()"
        )
    return telemetry.on_event


def is_listener(value: Any) -> bool:
    """Whether a value does its work when it is called: no coroutine or generator that nobody would run."""
    while isinstance(value, partial):
        value = value.func
    if not callable(value):
        return False
    kinds = iscoroutinefunction, isasyncgenfunction, isgeneratorfunction
    return not any(is_kind(function) for is_kind in kinds for function in (value, type(value).__call__))


def emit(on_event: OnEvent | None, event: Event) -> None:
    """Call a listener, if there is one; log what it raises, and that it is asynchronous after all."""
    if on_event is None:
        return
    listener = cast("Callable[[Event], object]", on_event)
    try:
        returned = listener(event)
    except Exception:
        _logger.exception("on_event failed on %s", type(event).__name__)
        return
    if returned is not None and iscoroutine(returned):
        returned.close()
        _logger.error("on_event returned a coroutine, which nothing awaits; expected a plain function of one event")


class ListenerRef:
    """The ``on_event`` of one client, for a budget to refer to weakly: a bound method alone would be gone at once.

    Args:
        on_event: Called with each event.
    """

    __slots__ = ("__weakref__", "on_event")

    def __init__(self, on_event: OnEvent) -> None:
        self.on_event = on_event


def emit_to_all(listeners: Iterable[ListenerRef], event: Event) -> None:
    """Call each listener once, even if several clients have the same."""
    called: list[OnEvent] = []
    for listener in list(listeners):
        on_event = listener.on_event
        for function in on_event.functions if isinstance(on_event, Listeners) else (on_event,):
            if function not in called:
                called.append(function)
                emit(function, event)
