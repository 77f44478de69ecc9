"""What a key may spend, as users read it, and the protocol of a rate limiter of one's own.

:class:`RateLimit`, :class:`Quota` and :class:`Estimate` are snapshots. :class:`RateLimiter` is what a client needs of a
limiter: it gives out permits, one for each request. Each :class:`Permit` is settled with the :class:`Outcome` of its
request, or refunded if the request was never sent.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.exceptions import ZenovayError


class RateLimitHeaders(msgspec.Struct, frozen=True):
    """The rate limit, as one response stated it.

    Attributes:
        limit: Requests allowed per window.
        remaining: Requests left in this window; often absent, which is normal.
        reset: When the window ends, in Unix seconds.
    """

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None


class UsageHeaders(msgspec.Struct, frozen=True, gc=False):
    """The monthly quota, as one response stated it.

    Attributes:
        monthly: Requests used this month.
        limit: Requests allowed per month.
        reset: When the month's count starts again.
        total: Requests ever made with this key.
    """

    monthly: int | None = None
    limit: int | None = None
    reset: datetime | None = None
    total: int | None = None


class RateLimit(msgspec.Struct, frozen=True):
    """The state of a rate limit.

    Attributes:
        limit: Requests per window, as far as it is known.
        remaining: How many could start now without waiting.
        window: Seconds of the window.
        reset_after: Seconds until another request could start; 0.0 for now.
        learned: Whether a response has stated the limit; until then it is that of the lowest plan.
    """

    limit: int
    remaining: int
    window: float
    reset_after: float
    learned: bool


class Quota(msgspec.Struct, frozen=True):
    """The monthly quota, as the newest response stated it; ``None`` where none did.

    Attributes:
        used: Requests used this month.
        limit: Requests allowed per month.
        resets_at: When the count starts again.
        total: Requests ever made with this key.
    """

    used: int | None = None
    limit: int | None = None
    resets_at: datetime | None = None
    total: int | None = None

    @property
    def remaining(self) -> int | None:
        """Requests left this month, never below 0."""
        return None if self.limit is None or self.used is None else max(0, self.limit - self.used)


class Estimate(msgspec.Struct, frozen=True):
    """What a number of calls would take.

    Attributes:
        seconds: Until the last of them may start, at the rate limit known now; 0 where calls are not paced.
        requests: How many requests they take from the monthly quota.
        quota_share: Their share of what is left of the month, 1.0 for all of it; ``None`` where that is not known.
    """

    seconds: float
    requests: int
    quota_share: float | None


OutcomeKind: TypeAlias = Literal["succeeded", "failed", "rate_limited", "quota_exhausted", "no_response", "unsent"]
"""How one attempt ended, as far as the limits are concerned.

- ``succeeded``: a response with a result.
- ``failed``: a response with any other error; the server counted the request all the same.
- ``rate_limited``: refused with 429, whatever status it came under.
- ``quota_exhausted``: refused because the monthly quota is exhausted, which says nothing about the rate limit.
- ``no_response``: sent, and no response came; the server may have counted it.
- ``unsent``: the request never reached the server.
"""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one attempt tells the limits: a plain value that may cross processes.

    Attributes:
        kind: How the attempt ended.
        limit: ``X-RateLimit-Limit`` of the response, if it stated one.
        remaining: ``X-RateLimit-Remaining`` of the response, if it stated one.
        retry_after: Seconds after which the server lets a refused request succeed, if it named a time.
        usage: The monthly quota that the response stated, if any of it.
    """

    kind: OutcomeKind
    limit: int | None = None
    remaining: int | None = None
    retry_after: float | None = None
    usage: UsageHeaders | None = None


class Permit(Protocol):
    """Leave to send one request; settled or refunded exactly once.

    Neither method may block or wait: a limiter whose state lives in another process notes the outcome and reports it
    later.
    """

    def settle(self, outcome: Outcome) -> None:
        """Return the permit.

        Args:
            outcome: How the request ended; with kind ``unsent``, as :meth:`refund`.

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
    """Gives out permits to send, one for each request, to the callers of one key.

    An implementation may keep its state in another process. So nothing but :meth:`acquire` and :meth:`aclose` may wait,
    and what permits report may reach that state late.
    """

    def acquire_nowait(self, *, cost: int = 1, background: bool = False) -> Permit | None:
        """Take a permit if a request may go now and nobody waits; ``None`` sends the caller to :meth:`acquire`.

        An implementation that cannot tell without waiting always returns ``None``.

        Args:
            cost: What the request takes of the limit.
            background: Whether the call belongs to a batch, which direct calls overtake.
        """
        ...

    async def acquire(self, *, cost: int = 1, max_wait: float | None = None, background: bool = False) -> Permit:
        """Wait until a request may go.

        Args:
            cost: What the request takes of the limit.
            max_wait: Seconds that it may wait; ``None`` for as long as it takes.
            background: Whether the call belongs to a batch, which direct calls overtake.

        Raises:
            RateLimitError: The wait does not fit ``max_wait``; raised as soon as that is known. ``retry_after`` is the
                wait that it would have been.
        """
        ...

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:
        """Let every caller that waits fail now, as when the monthly quota is exhausted.

        It must not block. Callers in other processes may hear of it later, at the latest when their turn comes.

        Args:
            make_error: Makes one error for each caller.
        """
        ...

    def snapshot(self) -> RateLimit:
        """The state as it was seen last."""
        ...

    def forecast(self, n: int) -> float:
        """Seconds until the last of ``n`` further requests could start, as far as it is known now."""
        ...

    async def aclose(self) -> None:
        """Report what was not reported yet, and release what is held outside this process.

        A permit that is still out may be settled afterwards, and a later :meth:`acquire` opens the limiter again.
        """
        ...
