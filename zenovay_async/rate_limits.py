"""What a key may spend, and the protocols of a custom rate limiter and of a custom store.

:class:`RateLimit`, :class:`Quota` and :class:`Estimate` are snapshots. :class:`RateLimiter` is what a client needs of a
limiter: one permit for each request. Each :class:`Permit` is settled with the :class:`Outcome` of its request, or
refunded if the request was never sent. :class:`Store` is where the processes that use one key keep what they share.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from zenovay_async.exceptions import ZenovayError


class RateLimitHeaders(msgspec.Struct, frozen=True):
    """The rate limit, as one response stated it; ``None`` for a header that it lacks.

    Attributes:
        limit: Requests allowed per window.
        remaining: Requests left in this window; the API often omits it.
        reset: When the window ends, in Unix seconds.
        window: Seconds of the window; the API does not state it, but a proxy in front of it may.
    """

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None
    window: float | None = None


class UsageHeaders(msgspec.Struct, frozen=True, gc=False):
    """The monthly quota, as one response stated it; ``None`` for a header that it lacks.

    Attributes:
        monthly: Requests used this month.
        limit: Requests allowed per month.
        reset: When the count restarts; aware.
        total: Requests ever made with this key.
    """

    monthly: int | None = None
    limit: int | None = None
    reset: datetime | None = None
    total: int | None = None


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a rate limit.

    Attributes:
        limit: Requests per window, as far as known.
        remaining: Requests that could start now without waiting.
        window: Seconds of the window.
        reset_after: Seconds until another request could start; 0.0 for now.
        learned: Whether a response has stated the limit; until then the lowest plan's is assumed.
    """

    limit: int
    remaining: int
    window: float
    reset_after: float
    learned: bool


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """The monthly quota, as the newest response stated it; ``None`` for what none stated.

    Attributes:
        used: Requests used this month.
        limit: Requests allowed per month.
        resets_at: When the count restarts; aware.
        total: Requests ever made with this key.
    """

    used: int | None = None
    limit: int | None = None
    resets_at: datetime | None = None
    total: int | None = None

    @property
    def remaining(self) -> int | None:
        """Requests left this month, never below 0; ``None`` if ``used`` or ``limit`` is unknown."""
        return None if self.limit is None or self.used is None else max(0, self.limit - self.used)


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a number of calls would take.

    Attributes:
        seconds: Seconds until the last of them may start, at the rate limit known now; 0 if calls are not paced.
        requests: Requests that they take from the monthly quota.
        quota_share: Their share of the remaining monthly quota, 1.0 for all of it; ``None`` if that is unknown.
        cached: Calls that need no request, as this process has a fresh response to them.
    """

    seconds: float
    requests: int
    quota_share: float | None
    cached: int = 0


OutcomeKind: TypeAlias = Literal[
    "succeeded", "failed", "rate_limited", "quota_exhausted", "no_response", "unreachable", "unsent"
]
"""How one attempt ended, as far as the limits are concerned.

- ``succeeded``: a response with a result.
- ``failed``: a response with any other error; the server counted the request all the same.
- ``rate_limited``: a 429, or another response that means the same.
- ``quota_exhausted``: the monthly quota is exhausted, which says nothing about the rate limit.
- ``no_response``: sent without a response; the server may have counted the request.
- ``unreachable``: no connection could be made; nothing was sent.
- ``unsent``: the request never reached the server, for another reason.
"""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one attempt tells the limits: a plain value that may cross processes.

    Attributes:
        kind: How the attempt ended.
        limit: Requests per window, if the response stated them.
        limit_window: Seconds of the window that ``limit`` is for, if the response stated them.
        remaining: Requests left in the window, if the response stated them.
        retry_after: Seconds to wait before a retry, if the response stated them.
        usage: The monthly quota as the response stated it; ``None`` if there was no response.
        status: HTTP status; ``None`` if there was no response.
        reason: Message of the error, which never shows the key; ``None`` if there was none.
        sent_at: When the request left, in the time of the event loop; ``None`` if that is not known.
    """

    kind: OutcomeKind
    limit: int | None = None
    limit_window: float | None = None
    remaining: int | None = None
    retry_after: float | None = None
    usage: UsageHeaders | None = None
    status: int | None = None
    reason: str | None = None
    sent_at: float | None = None


class Permit(Protocol):
    """Leave to send one request; settled or refunded exactly once.

    Neither method may block or wait: a limiter whose state lives in another process notes the outcome and reports it
    later. What they raise is logged, and does not reach the call.
    """

    def settle(self, outcome: Outcome) -> None:
        """Return the permit.

        Args:
            outcome: How the request ended; kinds ``unsent`` and ``unreachable`` are equal to :meth:`refund`.

        Raises:
            RuntimeError: The permit was settled or refunded before.
        """
        ...

    def refund(self) -> None:
        """Return the permit unused: the request never reached the server.

        Raises:
            RuntimeError: The permit was settled or refunded before.
        """
        ...


@runtime_checkable
class RateLimiter(Protocol):
    """Limits the requests of the callers of one key: each request needs a permit.

    An implementation may keep its state in another process. So nothing but :meth:`acquire` and :meth:`aclose` may wait,
    and outcomes may reach that state late.
    """

    def acquire_nowait(self, *, cost: int = 1, background: bool = False) -> Permit | None:
        """Acquire a permit if a request may be sent now and no caller waits.

        Args:
            cost: Requests that the call is charged for, 1 or more.
            background: Whether the call belongs to a batch, which direct calls overtake.

        Returns:
            The permit; ``None`` if the caller has to :meth:`acquire` one, as always where the state is in another
            process.
        """
        ...

    async def acquire(self, *, cost: int = 1, max_wait: float | None = None, background: bool = False) -> Permit:
        """Wait until a request may be sent.

        Args:
            cost: Requests that the call is charged for, 1 or more.
            max_wait: Seconds to wait at most; ``None`` for no bound.
            background: Whether the call belongs to a batch, which direct calls overtake.

        Raises:
            RateLimitError: The wait does not fit ``max_wait``; raised as soon as that is known. ``retry_after`` is the
                expected wait.
        """
        ...

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:
        """Fail every waiting caller, as when the monthly quota is exhausted; must not block.

        Callers in other processes may fail later, at the latest when they would get a permit.

        Args:
            make_error: Makes one error for each caller.
        """
        ...

    def snapshot(self) -> RateLimit:
        """The last known state."""
        ...

    def forecast(self, n: int, *, background: bool = False) -> float:
        """Seconds until the last of ``n`` further requests could start, as far as known.

        Args:
            n: Number of requests.
            background: Whether they belong to a batch, which leaves room for direct calls.
        """
        ...

    async def aclose(self) -> None:
        """Report pending outcomes, and release what is held outside this process.

        A permit acquired before may be settled afterwards, and a later :meth:`acquire` opens the limiter again.
        """
        ...


class StoreWrite(msgspec.Struct, frozen=True):
    """What a change writes into a store.

    Attributes:
        value: The new value.
        ring: Addresses, as :meth:`Store.listen` returned them, of those to wake once it is written.
    """

    value: bytes
    ring: tuple[str, ...] = ()


StoreChange: TypeAlias = Callable[[bytes | None, float], StoreWrite | None]
"""A change of a stored value.

Called with the value, ``None`` if there is none, and the time of the store's clock in seconds; returns what to write,
or ``None`` to write nothing. It does not block, and a store may call it again with a newer value; the last call counts.
"""


@runtime_checkable
class Store(Protocol):
    """Keeps small values, by name, for all processes that share them: a few kilobytes for each key.

    A value is read and written by :meth:`update` alone, so that no process overwrites what another one wrote meanwhile.
    All who share a store see one clock, which need not be that of any of them. A store may lose a value at any time; it
    is then written again by whoever comes first. An exception that a method raises means that the store is lost for
    now: each process goes on by itself, and tries again a second later.
    """

    def update_nowait(self, name: str, change: StoreChange) -> bool:
        """Change a value now, if that needs no wait: no network, no lock that another one holds.

        Args:
            name: Name of the value: letters, digits, ``-``.
            change: The change.

        Returns:
            Whether the value was changed; if not, the caller has to :meth:`update`.
        """
        ...

    async def update(self, name: str, change: StoreChange) -> None:
        """Change a value: call ``change`` with the current value, and write what it returns unless another was written.

        Args:
            name: Name of the value.
            change: The change; it may be called several times.
        """
        ...

    async def listen(self, name: str, on_ring: Callable[[], None]) -> str:
        """Call a function whenever another process rings, until the store is closed.

        A ring that is lost costs time only. A store without rings returns ``""``.

        Args:
            name: Name of the value.
            on_ring: Called in the event loop of the caller; it does not block.

        Returns:
            The address at which others ring.
        """
        ...

    async def aclose(self) -> None:
        """Release what is held; a later :meth:`update` opens the store again."""
        ...


@runtime_checkable
class RedisClient(Protocol):
    """A client of ``redis.asyncio``, made with ``decode_responses=False``: of a server, a Sentinel or a Cluster.

    Processes ring with its ``pubsub()``; where it has none, they wake by their timers alone.
    """

    def execute_command(self, *args: Any, **options: Any) -> Awaitable[Any]:
        """Send a command."""
        ...
