"""What one API key may spend: its rate limit, its monthly quota and its retries, behind one facade.

All clients of a thread that use the same key at the same address with the same options share one limiter, one monthly
count and one retry budget, as the API counts them as one; ``quota_reserve`` is each client's own.

Clients with another ``rate_limit`` or window do not share with them: one limiter cannot hold each of its callers to
another limit. So a client with ``"auto"`` and one with a figure may together ask for more than the plan allows, until
a 429 slows both. Give each a share of the plan, or both the same.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Literal, TypeAlias
from weakref import WeakSet, WeakValueDictionary

import msgspec

from zenovay_async._limits.quota import QuotaGuard
from zenovay_async._limits.retry_budget import RetryBudget
from zenovay_async._limits.window import WindowLimiter
from zenovay_async._protocol.parameters import require_int
from zenovay_async.events import emit_to_all
from zenovay_async.exceptions import ConfigurationError, RateLimitError
from zenovay_async.rate_limits import Estimate, Outcome, Permit, Quota, RateLimit, RateLimiter

if TYPE_CHECKING:
    from zenovay_async._protocol.auth import Auth
    from zenovay_async.events import Event, Listener
    from zenovay_async.exceptions import ZenovayError

_UNSENT = Outcome(kind="unsent")

RateLimitOption: TypeAlias = Literal["auto"] | int | RateLimiter | None
"""How to pace: ``"auto"``, requests per window, a limiter of one's own, or ``None`` for no pacing."""


class Limits(msgspec.Struct, frozen=True):
    """How a key's requests are held back.

    Attributes:
        rate_limit: ``"auto"`` learns the limit from the responses; an integer of requests per window is never
            exceeded; ``None`` does not pace; a limiter of the caller's is used as it is.
        window: Seconds of the limit's window.
        quota_reserve: What batches leave of the monthly quota, in requests.
    """

    rate_limit: RateLimitOption = "auto"
    window: float = 60.0
    quota_reserve: int = 0

    def __post_init__(self) -> None:
        limit = self.rate_limit
        is_count = isinstance(limit, int) and not isinstance(limit, bool) and limit > 0
        is_limiter = isinstance(limit, RateLimiter) and not isinstance(limit, type)
        if not (limit is None or limit == "auto" or is_limiter or is_count):
            raise ConfigurationError(
                f"rate_limit={limit!r}: expected 'auto', an int >= 1 of requests per window, "
                "a RateLimiter, or None for no pacing"
            )
        is_number = isinstance(self.window, (int, float)) and not isinstance(self.window, bool)
        if not (is_number and 0 < self.window < math.inf):
            raise ConfigurationError(f"rate_limit_window={self.window!r}: expected seconds above 0")
        require_int("quota_reserve", self.quota_reserve, low=0)


class Budget:
    """What one client may spend: the limiter, quota and retries of its key, and its own reserve.

    Args:
        shared: What all clients of the key have in common.
        reserve: What this client's batches leave of the monthly quota, in requests.
    """

    def __init__(self, shared: _Shared, reserve: int) -> None:
        self._shared = shared
        self._reserve = reserve

    @property
    def is_paced(self) -> bool:
        """Whether a limiter holds calls back."""
        return self._shared.limiter is not None

    @property
    def in_flight(self) -> int:
        """Requests of the quota that have no response yet, of all clients of the key."""
        return self._shared.quota.in_flight

    def check(self, cost: int, *, background: bool) -> None:
        """Reject a call that the monthly quota does not allow, before anything is spent.

        Raises:
            QuotaExceededError: The quota is exhausted, or a background call would take from the reserve.
        """
        self._shared.quota.check(cost, reserve=self._reserve if background else 0)

    def acquire_nowait(self, cost: int, *, background: bool) -> Permit | None:
        """Take a permit if a request may go now and nobody waits; else ``None``."""
        limiter = self._shared.limiter
        permit = None
        if limiter is not None:
            permit = limiter.acquire_nowait(cost=cost, background=background)
            if permit is None:
                return None
        return self._count(cost, permit)

    async def acquire(self, cost: int, *, max_wait: float | None, background: bool) -> Permit:
        """Wait for a permit, and check the quota again, which others may have spent in the meantime.

        Args:
            cost: Requests that the call takes.
            max_wait: Seconds that it may wait; ``None`` for as long as it takes.
            background: Whether direct calls overtake it.

        Raises:
            RateLimitError: The wait does not fit.
            QuotaExceededError: As :meth:`check`.
        """
        limiter = self._shared.limiter
        permit = None
        if limiter is not None:
            permit = await limiter.acquire(cost=cost, max_wait=max_wait, background=background)
            try:
                self.check(cost, background=background)
            except BaseException:
                permit.refund()
                raise
        return self._count(cost, permit)

    def _count(self, cost: int, permit: Permit | None) -> BudgetPermit:
        shared = self._shared
        shared.quota.in_flight += cost
        return BudgetPermit(shared, cost, permit)

    def allow_retry(self, error: ZenovayError) -> bool:
        """Whether a retry after this error fits the retry budget; spends it if so.

        Retries after a 429 are bounded already, by the limiter or the time that the server named.
        """
        if isinstance(error, RateLimitError) and (self.is_paced or error.retry_after is not None):
            return True
        return self._shared.retries.spend()

    def estimate(self, n: int, cost: int) -> Estimate:
        """What ``n`` further calls of ``cost`` requests each would take; see ``Zenovay.estimate``."""
        requests = require_int("n", n, low=0) * require_int("cost", cost)
        remaining, limiter = self.quota().remaining, self._shared.limiter
        share = None if remaining is None else requests / remaining if remaining else float(requests > 0)
        return Estimate(0.0 if limiter is None else limiter.forecast(requests), requests, share)

    def rate_limit(self) -> RateLimit | None:
        """The state of the rate limit; ``None`` where calls are not paced."""
        limiter = self._shared.limiter
        return None if limiter is None else limiter.snapshot()

    def quota(self) -> Quota:
        """The state of the monthly quota."""
        return self._shared.quota.snapshot()

    def retries_left(self) -> float:
        """Retries that the key may still make."""
        return self._shared.retries.tokens

    def listen(self, listener: Listener) -> None:
        """Hand events of this budget to a listener, for as long as somebody holds it."""
        self._shared.listeners.add(listener)

    async def aclose(self) -> None:
        """Report what the limiter has not reported yet; a limiter of the caller's is the caller's to close."""
        if self._shared.own_limiter is not None:
            await self._shared.own_limiter.aclose()


class BudgetPermit(msgspec.Struct, eq=False):
    """The limiter's permit, if there is one, and the quota's count of what is in flight."""

    # A Struct is made in a third of the time of another object. The garbage collector tracks it, as an event loop that
    # ends in mid-call leaves a cycle: limiter, waiter, a caller's frame, its permit.
    _shared: _Shared | None
    _cost: int
    _permit: Permit | None

    def settle(self, outcome: Outcome) -> None:
        """Let quota, retry budget and limiter learn how the attempt ended; here and nowhere else."""
        shared, self._shared = self._shared, None
        if shared is None:
            raise RuntimeError("Permit returned twice: settle or refund each permit exactly once")
        quota, kind, permit = shared.quota, outcome.kind, self._permit
        quota.in_flight -= self._cost
        try:
            if outcome.usage is not None:
                quota.update(outcome.usage)
            if kind == "succeeded":
                shared.retries.earn()
            elif kind == "quota_exhausted":
                # Before the permit is returned, or the next in line would be sent to hear the same.
                shared.on_quota_exhausted(outcome.retry_after)
        finally:
            if permit is not None:
                if kind == "unsent":
                    permit.refund()
                else:
                    permit.settle(outcome)

    def refund(self) -> None:
        """Return it unused."""
        self.settle(_UNSENT)


class _Shared:
    """What all clients of one key have in common."""

    def __init__(self, limits: Limits) -> None:
        self.listeners: WeakSet[Listener] = WeakSet()
        self.own_limiter = self._make_limiter(limits)
        given = limits.rate_limit
        self.limiter: RateLimiter | None = given if isinstance(given, RateLimiter) else self.own_limiter
        self.quota = QuotaGuard(on_event=self._emit)
        self.retries = RetryBudget()
        self.budgets: WeakValueDictionary[int, Budget] = WeakValueDictionary()

    def on_quota_exhausted(self, retry_after: float | None) -> None:
        """The server said that the quota is exhausted, so nobody needs to wait for a permit any more."""
        self.quota.mark_exhausted(retry_after)
        # A limiter of the caller's may serve other keys, too; callers of this key then hear of it at their turn.
        # References, as other threads may add budgets meanwhile, which iterating over the registry itself forbids.
        budgets = [reference() for reference in _registry.valuerefs()]
        users = [each for each in budgets if each is not None and each.limiter is self.limiter]
        if self.limiter is not None and len(users) <= 1:
            self.limiter.fail_waiters(self.quota.exhausted_error)

    def _emit(self, event: Event) -> None:
        emit_to_all(self.listeners, event)

    def _make_limiter(self, limits: Limits) -> WindowLimiter | None:
        wanted = limits.rate_limit
        if wanted is None or isinstance(wanted, RateLimiter):
            return None
        limit = None if wanted == "auto" else wanted
        return WindowLimiter(limit=limit, window=limits.window, on_event=self._emit)


# Those in use, and the newest ones beyond their use: a program that makes a client for each request it serves must not
# start from nothing each time.
_registry: WeakValueDictionary[tuple[object, ...], _Shared] = WeakValueDictionary()
_newest: deque[_Shared] = deque(maxlen=256)


def budget_for(auth: Auth, base_url: str, limits: Limits) -> Budget:
    """The budget of this key at this address: the one known in this thread, else a new one."""
    # A digest, so that the key is not kept in one more place.
    digest = hashlib.sha256(auth.key.encode()).digest()
    own = limits.rate_limit if isinstance(limits.rate_limit, RateLimiter) else None
    # An event loop belongs to a thread, and so does a limiter.
    name = (threading.get_ident(), digest, base_url, id(own) if own else limits.rate_limit, limits.window)
    shared = _registry.get(name)
    if shared is None:
        shared = _registry[name] = _Shared(limits)
        _newest.append(shared)
    budget = shared.budgets.get(limits.quota_reserve)
    if budget is None:
        budget = shared.budgets[limits.quota_reserve] = Budget(shared, limits.quota_reserve)
    return budget
