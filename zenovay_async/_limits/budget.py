"""What one API key may spend: its rate limit, its monthly quota and its retries.

All clients of a thread that use the same key at the same address in the same way share one limiter, one count of the
month and one retry budget, as the API counts them as one; what a client keeps in reserve is its own.

Clients with another ``rate_limit`` or window do not share with them: one limiter cannot hold each of its callers to
another limit. So a client that is ``"auto"`` and one with a figure of its own may together ask for more than the
plan allows, until a 429 slows both. Give each a share of the plan, or both the same.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import WeakSet, WeakValueDictionary

import msgspec

from zenovay_async._limits.quota import QuotaGuard
from zenovay_async._limits.window import RateLimiter, WindowLimiter
from zenovay_async._protocol.call import require_int
from zenovay_async._session.retry import RetryBudget
from zenovay_async.events import emit
from zenovay_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from zenovay_async._protocol.auth import Auth
    from zenovay_async._session.session import Session
    from zenovay_async.events import Event, OnEvent

RateLimitOption: TypeAlias = Literal["auto"] | int | RateLimiter | None


class Limits(msgspec.Struct, frozen=True):
    """How a key's requests are held back.

    Attributes:
        rate_limit: ``"auto"`` learns the limit from the answers; a whole number of requests per window is never
            exceeded; ``None`` does not pace; a limiter of the caller's is used as it is.
        window: Seconds of the limit's window.
        quota_reserve: Requests of the month that batches leave untouched.
    """

    rate_limit: Any = "auto"
    window: float = 60.0
    quota_reserve: int = 0

    def __post_init__(self) -> None:
        limit = self.rate_limit
        whole = isinstance(limit, int) and not isinstance(limit, bool)
        if not (limit is None or limit == "auto" or isinstance(limit, RateLimiter) or (whole and limit > 0)):
            raise ConfigurationError(
                f"rate_limit={limit!r}: expected 'auto', a whole number of requests per window, "
                "None for no pacing, or a RateLimiter"
            )
        known = isinstance(self.window, (int, float)) and not isinstance(self.window, bool)
        if not (known and 0 < self.window < math.inf):
            raise ConfigurationError(f"rate_limit_window={self.window!r}: expected seconds above 0")
        require_int("quota_reserve", self.quota_reserve, low=0)


class Estimate(msgspec.Struct, frozen=True):
    """What a number of calls would take.

    Attributes:
        seconds: Until the last of them may start, at the rate limit known now; 0 where calls are not paced.
        requests: How many requests they take from the month.
        quota_share: Their share of what is left of the month, 1.0 for all of it; ``None`` where that is not known.
    """

    seconds: float
    requests: int
    quota_share: float | None


class Budget:
    """What one client may spend: its key's limiter, month and retries, shared with others, and its own reserve.

    Args:
        shared: What all clients of the key have in common.
        reserve: Requests of the month that this client's batches leave untouched.

    Attributes:
        limiter: Gives out permits to send; ``None`` where pacing is turned off.
        quota: Keeps the monthly count.
        retries: Bounds retries to a share of the traffic.
        reserve: As given.
    """

    def __init__(self, shared: _Shared, reserve: int) -> None:
        self._shared = shared
        self.limiter = shared.limiter
        self.quota = shared.quota
        self.retries = shared.retries
        self.reserve = reserve

    def listen(self, session: Session) -> None:
        """Tell a session's ``on_event`` what happens to this budget, for as long as the session lives."""
        self._shared.listeners.add(session)

    def exhausted(self, retry_after: float | None) -> None:
        """The server said that the month is used up, so that nobody need wait for a turn any more."""
        self.quota.exhausted(retry_after)
        # A limiter of the caller's may serve other keys, too; those of this key hear of it when their turn comes.
        if self._shared.own_limiter is not None:
            self._shared.own_limiter.fail_all(self.quota.refusal)

    def estimate(self, n: int, cost: int) -> Estimate:
        """What ``n`` further calls of ``cost`` requests each would take; see ``Zenovay.estimate``."""
        requests = require_int("n", n, low=0) * require_int("cost", cost)
        remaining = self.quota.snapshot().remaining
        share = None if remaining is None else requests / remaining if remaining else float(requests > 0)
        return Estimate(0.0 if self.limiter is None else self.limiter.forecast(requests), requests, share)


class _Shared:
    """What all clients of one key have in common."""

    def __init__(self, limits: Limits) -> None:
        self.listeners: WeakSet[Session] = WeakSet()
        self.own_limiter = self._make_limiter(limits)
        self.limiter: RateLimiter | None = self.own_limiter or limits.rate_limit
        self.quota = QuotaGuard(on_event=self._tell)
        self.retries = RetryBudget()
        self.budgets: WeakValueDictionary[int, Budget] = WeakValueDictionary()

    def _tell(self, event: Event) -> None:
        told: list[OnEvent] = []
        for session in list(self.listeners):
            on_event = session.options.on_event
            # Siblings have their listener in common, which hears of each event once.
            if on_event is not None and on_event not in told:
                told.append(on_event)
                emit(on_event, event)

    def _make_limiter(self, limits: Limits) -> WindowLimiter | None:
        wanted: RateLimitOption = limits.rate_limit
        if wanted is None or isinstance(wanted, RateLimiter):
            return None
        limit = None if wanted == "auto" else wanted
        return WindowLimiter(limit=limit, window=limits.window, on_event=self._tell)


# Those in use, and the newest ones beyond their use: a program that makes a client for each request it serves must not
# start from nothing each time.
_shared: WeakValueDictionary[tuple[object, ...], _Shared] = WeakValueDictionary()
_newest: deque[_Shared] = deque(maxlen=256)


def budget_for(auth: Auth, base_url: str, limits: Limits) -> Budget:
    """The budget of this key at this address: the one known in this thread, else a new one."""
    # A digest, so that the key does not stand in one more place.
    digest = hashlib.sha256(auth.key.encode()).digest()
    own = limits.rate_limit if isinstance(limits.rate_limit, RateLimiter) else None
    # An event loop belongs to a thread, and so does a limiter.
    name = (threading.get_ident(), digest, base_url, id(own) if own else limits.rate_limit, limits.window)
    shared = _shared.get(name)
    if shared is None:
        shared = _shared[name] = _Shared(limits)
        _newest.append(shared)
    budget = shared.budgets.get(limits.quota_reserve)
    if budget is None:
        budget = shared.budgets[limits.quota_reserve] = Budget(shared, limits.quota_reserve)
    return budget
