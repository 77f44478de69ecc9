"""What a client emits while it works: typed events, passed to ``on_event``.

An event states what was decided already; a listener cannot change it. A listener is called in the middle of a call, so
it must be quick and must not block. An exception that it raises is logged and does not reach the call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from inspect import isasyncgenfunction, iscoroutine, iscoroutinefunction
from typing import Any, Literal, TypeAlias, cast

import msgspec

from zenovay_async.exceptions import ZenovayError


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events."""


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


OnEvent: TypeAlias = Callable[[Event], None]
"""A listener, called with each event."""

_logger = logging.getLogger("zenovay_async")


def is_listener(value: Any) -> bool:
    """Whether a value can be called with an event, without a coroutine that nobody would await."""
    while isinstance(value, partial):
        value = value.func
    if not callable(value) or isasyncgenfunction(value):
        return False
    return not iscoroutinefunction(value) and not iscoroutinefunction(type(value).__call__)


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
    if iscoroutine(returned):
        returned.close()
        _logger.error("on_event returned a coroutine, which nothing awaits; expected a plain function of one event")


class Listener:
    """The ``on_event`` of one client, for a budget to refer to weakly: a bound method alone would be gone at once.

    Args:
        on_event: Called with each event.
    """

    __slots__ = ("__weakref__", "on_event")

    def __init__(self, on_event: OnEvent) -> None:
        self.on_event = on_event


def emit_to_all(listeners: Iterable[Listener], event: Event) -> None:
    """Call each listener once, even if several clients have the same."""
    called: list[OnEvent] = []
    for listener in list(listeners):
        if listener.on_event not in called:
            called.append(listener.on_event)
            emit(listener.on_event, event)
