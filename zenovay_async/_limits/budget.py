"""What one API key may spend: its rate limit, its monthly quota and its retries, behind one facade.

All clients that are used in a thread with the same key, base URL, ``rate_limit`` and window share one limiter, one
monthly quota and one retry budget, as the API counts them as one; ``quota_reserve`` is each client's own.

Clients with another ``rate_limit`` or window do not share with them: a limiter has one limit. So a client with
``"auto"`` and one with a figure may together send more than the plan allows, until a 429 slows both. Give each a share
of the plan, or both the same limit.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import threading
from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, Literal, TypeAlias
from weakref import WeakSet, WeakValueDictionary

import msgspec

from zenovay_async._limits.gate import believed_wait
from zenovay_async._limits.outage_gate import RELEASED, OutageGate
from zenovay_async._limits.outcome import UNSENT
from zenovay_async._limits.patience import Patience
from zenovay_async._limits.quota import QuotaGuard
from zenovay_async._limits.retry_budget import RetryBudget
from zenovay_async._limits.round_trip import RoundTrip
from zenovay_async._limits.window import LONG_PAUSE, RETURNED_TWICE, WindowLimiter
from zenovay_async._protocol.parameters import require_int
from zenovay_async.events import emit_to_all
from zenovay_async.exceptions import ConfigurationError, RateLimitError
from zenovay_async.rate_limits import Estimate, Outcome, Permit, Quota, RateLimit, RateLimiter

if TYPE_CHECKING:
    from zenovay_async._protocol.auth import Auth
    from zenovay_async.events import Event, Listener
    from zenovay_async.exceptions import ZenovayError

_logger = logging.getLogger("zenovay_async")

_PATIENCE = Patience()

RateLimitOption: TypeAlias = Literal["auto"] | int | RateLimiter | None
"""How to pace: ``"auto"``, requests per window, a custom limiter, or ``None`` for no pacing."""


class Limits(msgspec.Struct, frozen=True):
    """The options of a client that concern limits.

    Attributes:
        rate_limit: ``"auto"`` learns the limit from the responses; an int of requests per window is never exceeded;
            ``None`` does not pace; a custom limiter is used as it is.
        window: Seconds of the limit's window.
        quota_reserve: Requests of the monthly quota that batches leave to direct calls.
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


class BudgetStatistics(msgspec.Struct, frozen=True):
    """The permits and retries of all clients of a key.

    Attributes:
        in_flight: Cost of the permits that are acquired and not returned yet.
        retries_left: Retries that may still be made; a part of one counts once it is whole.
    """

    in_flight: int
    retries_left: float


class Budget:
    """What one client may spend: the limiter, quota and retries of its key, and its own reserve.

    A client may be made in another thread than it is used in, and in the parent of a forked process. So its first call
    in a thread looks up what it shares there.

    Args:
        entry: What distinguishes the key and its limits from others.
        limits: The client's options.

    Attributes:
        round_trip: How little time a response takes.
    """

    def __init__(self, entry: tuple[object, ...], limits: Limits) -> None:
        self._entry = entry
        self._limits = limits
        self._listeners: WeakSet[Listener] = WeakSet()
        self._reserve = limits.quota_reserve
        self._thread: int | None = None
        self._shared = self._attach()
        _budgets.add(self)

    @property
    def is_paced(self) -> bool:
        """Whether calls need a permit of a limiter."""
        return self._shared.limiter is not None

    def check(self, cost: int, *, background: bool) -> None:
        """Reject a call that the monthly quota does not allow, before anything is spent.

        Args:
            cost: Requests that the call is charged for.
            background: Whether the call has to leave the reserve.

        Raises:
            QuotaExceededError: The quota is exhausted, or a background call would spend the reserve.
        """
        if threading.get_ident() != self._thread:
            self._shared = self._attach()
            self._thread = threading.get_ident()
        self._shared.quota.check(cost, reserve=self._reserve if background else 0)

    def acquire_nowait(self, cost: int, *, background: bool) -> BudgetPermit | None:
        """Acquire a permit if a request may be sent now and no caller waits; else ``None``."""
        shared = self._shared
        limiter = shared.limiter
        permit = None
        if not shared.outage_gate.is_clear:
            return None
        if limiter is not None:
            permit = limiter.acquire_nowait(cost=cost, background=background)
            if permit is None:
                return None
        return _make_permit(shared, cost, permit, None)

    async def acquire(
        self, cost: int, *, max_wait: float | None, background: bool, patience: Patience = _PATIENCE
    ) -> BudgetPermit:
        """Wait for a permit, and check the quota again, which other calls may have spent in the meantime.

        Args:
            cost: Requests that the call is charged for.
            max_wait: Seconds to wait at most; ``None`` for no bound.
            background: Whether direct calls overtake it.
            patience: How long to wait for a server that is away.

        Raises:
            RateLimitError: The wait does not fit ``max_wait``.
            QuotaExceededError: The quota is exhausted, or a background call would spend the reserve.
            ServerUnavailable: The server is away, and the wait ends before it is back.
        """
        shared, time = self._shared, asyncio.get_running_loop().time
        gate, limiter, own = shared.outage_gate, shared.limiter, shared.own_limiter
        deadline = math.inf if max_wait is None else time() + max_wait
        while True:
            ticket = None
            if not gate.is_clear:
                ticket = await gate.enter(deadline=deadline, background=background, patience=patience)
            permit: Permit | None = None
            try:
                if limiter is not None:
                    if own is not None and ticket == RELEASED:
                        permit = own.acquire_nowait(cost=cost, background=background)
                        if permit is None:
                            # The limiter bounds it from here on, and nobody else need wait for it.
                            gate.abandon(ticket)
                            ticket = None
                    if permit is None:
                        bound = None if max_wait is None else max(0.0, deadline - time())
                        permit = await limiter.acquire(cost=cost, max_wait=bound, background=background)
                self.check(cost, background=background)
            except BaseException:
                if permit is not None:
                    permit.refund()
                gate.abandon(ticket)
                raise
            acquired = _make_permit(shared, cost, permit, ticket)
            if not self.holds_back(acquired, background=background):
                return acquired
            acquired.refund()

    def holds_back(self, permit: BudgetPermit, *, background: bool) -> bool:
        """Whether a permit must be refunded, and another acquired, as the server is away now."""
        gate = self._shared.outage_gate
        return not gate.is_clear and gate.holds_back(permit.ticket, background=background)

    def spend_retry(self, error: ZenovayError, *, background: bool = False) -> bool:
        """Whether a retry after this error is allowed; if so, spends it from the retry budget.

        A retry after a 429 spends nothing: the limiter, or the time that the server named, bounds it already. Nor does
        one of a background call while the server is away: it is one probe of all.

        Args:
            error: The error.
            background: Whether the call belongs to a batch.
        """
        if isinstance(error, RateLimitError) and (self.is_paced or error.retry_after is not None):
            return True
        if self.is_held_back(background=background):
            return True
        return self._shared.retries.spend()

    def is_held_back(self, *, background: bool) -> bool:
        """Whether a call has to wait until the server is back."""
        return self._shared.outage_gate.holds_back(None, background=background)

    def trusted_wait(self, seconds: float) -> float:
        """The wait that the server asks for, or a window if it asks for more, which is likely to be a mistake."""
        window = self._shared.window
        wait = believed_wait(seconds, window)
        if wait < seconds and not self._shared.has_warned:
            self._shared.has_warned = True
            _logger.warning(LONG_PAUSE, seconds, window, wait)
        return wait

    def estimate(self, n: int, cost: int) -> Estimate:
        """Estimate ``n`` further calls of ``cost`` requests each; see ``Zenovay.estimate``."""
        requests = require_int("n", n, low=0) * require_int("cost", cost)
        remaining, limiter = self.quota().remaining, self._known().limiter
        share = None if remaining is None else requests / remaining if remaining else float(requests > 0)
        seconds = 0.0 if limiter is None else limiter.forecast(requests)
        return Estimate(seconds=seconds, requests=requests, quota_share=share)

    def rate_limit(self) -> RateLimit | None:
        """The state of the rate limit; ``None`` where calls are not paced."""
        limiter = self._known().limiter
        return None if limiter is None else limiter.snapshot()

    def quota(self) -> Quota:
        """The state of the monthly quota."""
        return self._known().quota.snapshot()

    def statistics(self) -> BudgetStatistics:
        """What all clients of the key have in flight, and the retries that they have left."""
        return BudgetStatistics(self._shared.quota.in_flight, self._shared.retries.tokens)

    def listen(self, listener: Listener) -> None:
        """Emit events of the key to a listener until it is garbage collected; its client has to keep it."""
        self._listeners.add(listener)
        self._shared.listeners.add(listener)

    async def aclose(self) -> None:
        """Close the limiter, unless it is a custom one, which the caller owns."""
        if self._shared.own_limiter is not None:
            await self._shared.own_limiter.aclose()

    def restart(self) -> None:
        """Share nothing with the parent of a forked process."""
        _inherited.append(self._shared)
        self._thread = None
        self._shared = self._attach()

    def _known(self) -> _Shared:
        """What is shared in this thread, if no call was made yet in any."""
        if self._thread is None:
            self._shared = self._attach()
        return self._shared

    def _attach(self) -> _Shared:
        shared = _registry.find(self._entry, self._limits)
        for listener in self._listeners:
            self._shared.listeners.discard(listener)
            shared.listeners.add(listener)
        self.round_trip = shared.round_trip
        return shared


def _make_permit(shared: _Shared, cost: int, permit: Permit | None, ticket: int | None) -> BudgetPermit:
    shared.quota.in_flight += cost
    return BudgetPermit(shared, cost, permit, ticket)


class BudgetPermit(msgspec.Struct, eq=False):
    """The limiter's permit, if calls are paced, and the cost that is in flight until it is returned."""

    # A Struct takes a third of the time that another object takes to make. The garbage collector tracks it, as an event
    # loop that ends during a call leaves a cycle: limiter, waiter, a caller's frame, its permit.
    _shared: _Shared | None
    _cost: int
    _permit: Permit | None
    ticket: int | None

    def settle(self, outcome: Outcome, path: str = "") -> None:
        """Update quota, retry budget, limiter and the state of the server; nothing else updates them.

        Args:
            outcome: How the request ended.
            path: Path of a call that failed; omitted if that says nothing about the server.
        """
        shared, self._shared = self._shared, None
        if shared is None:
            raise RuntimeError(RETURNED_TWICE)
        quota, kind, permit = shared.quota, outcome.kind, self._permit
        shared.is_used = True
        quota.in_flight -= self._cost
        if outcome.usage is not None:
            quota.update(outcome.usage)
        if kind == "succeeded":
            shared.retries.earn()
        elif kind == "quota_exhausted":
            # Before the permit is returned, which would let the next waiter send a request in vain.
            shared.on_quota_exhausted(outcome.retry_after)
        if permit is not None:
            try:
                if kind in {"unsent", "unreachable"}:
                    permit.refund()
                else:
                    permit.settle(outcome)
            except Exception:
                # A bug of a custom limiter must not cost a response that was paid for.
                _logger.exception("The rate limiter failed to take back a permit")
        if kind != "succeeded" or not shared.outage_gate.is_quiet:
            shared.outage_gate.settle(self.ticket, outcome, path)

    def refund(self) -> None:
        """Return the permit unused."""
        self.settle(UNSENT)


class _Shared:
    """Limiter, quota and retries of one key, for all its clients."""

    def __init__(self, limits: Limits) -> None:
        self.listeners: WeakSet[Listener] = WeakSet()
        self.own_limiter = self._make_limiter(limits)
        given = limits.rate_limit
        self.limiter: RateLimiter | None = given if isinstance(given, RateLimiter) else self.own_limiter
        self.quota = QuotaGuard(on_event=self._emit)
        self.retries = RetryBudget()
        self.outage_gate = OutageGate(self._emit)
        self.window = limits.window
        self.has_warned = False
        self.round_trip = RoundTrip()
        # Whether a request was settled since the registry looked last, and when it was used according to that.
        self.is_used = True
        self.used_at = monotonic()

    def on_quota_exhausted(self, retry_after: float | None) -> None:
        """Fail the callers that wait for a permit: the server reported the quota exhausted."""
        self.quota.mark_exhausted(retry_after)
        # A custom limiter may serve other keys as well; then the callers of this key wait on until Budget.acquire
        # rejects them. valuerefs() makes a list, as other threads may add to the registry meanwhile.
        in_use = [reference() for reference in _registry.entries.valuerefs()]
        users = [shared for shared in in_use if shared is not None and shared.limiter is self.limiter]
        if self.limiter is None or len(users) > 1:
            return
        try:
            self.limiter.fail_waiters(self.quota.exhausted_error)
        except Exception:
            _logger.exception("The rate limiter failed to fail its waiters")

    def _emit(self, event: Event) -> None:
        emit_to_all(self.listeners, event)

    def _make_limiter(self, limits: Limits) -> WindowLimiter | None:
        wanted = limits.rate_limit
        if wanted is None or isinstance(wanted, RateLimiter):
            return None
        limit = None if wanted == "auto" else wanted
        return WindowLimiter(limit=limit, window=limits.window, on_event=self._emit)


# So many keys are kept at least, and besides all that were used within the last two windows: an older request counts
# for nothing.
_KEPT = 256
_WINDOWS_KEPT = 2
# Keys that are looked at for each new one.
_LOOKS = 8


# What a key has left outlives its clients: a program that makes a client for each request that it serves would learn
# the limit anew each time, and spend it anew.
class _Registry:
    """What the keys share, by key, limits and thread."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all, without a look at it, as another thread of a forked process's parent may have been using it."""
        self.lock = threading.Lock()
        self.entries: WeakValueDictionary[tuple[object, ...], _Shared] = WeakValueDictionary()
        self.kept: OrderedDict[tuple[object, ...], _Shared] = OrderedDict()

    def find(self, entry: tuple[object, ...], limits: Limits) -> _Shared:
        """What the clients of this thread share: an event loop belongs to a thread, and so does a limiter."""
        entry = (threading.get_ident(), *entry)
        with self.lock:
            shared = self.entries.get(entry)
            if shared is None:
                shared = self.entries[entry] = _Shared(limits)
            shared.is_used = True
            self.kept[entry] = shared
            self.kept.move_to_end(entry)
            self._drop_unused()
        return shared

    def _drop_unused(self) -> None:
        now = monotonic()
        for _ in range(_LOOKS):
            if len(self.kept) <= _KEPT:
                return
            entry, shared = next(iter(self.kept.items()))
            if shared.is_used:
                shared.is_used, shared.used_at = False, now
                self.kept.move_to_end(entry)
            elif now - shared.used_at < _WINDOWS_KEPT * shared.window:
                return
            else:
                del self.kept[entry]


_registry = _Registry()
_budgets: WeakSet[Budget] = WeakSet()

# What a forked process inherited: callers of the parent's event loop wait there, which are not to be freed.
_inherited: list[_Shared] = []


def budget_for(auth: Auth, base_url: str, limits: Limits) -> Budget:
    """The budget of a client, which shares with the clients of its thread that have the same key and limits.

    Args:
        auth: The key.
        base_url: Base URL of the API.
        limits: The client's options.
    """
    # A digest, so that the registry does not hold the key.
    digest = hashlib.sha256(auth.key.encode()).digest()
    custom = limits.rate_limit if isinstance(limits.rate_limit, RateLimiter) else None
    return Budget((digest, base_url, id(custom) if custom else limits.rate_limit, limits.window), limits)


def _restart() -> None:
    """Let a forked process share nothing with its parent, neither limits nor jitter."""
    _registry.restart()
    for budget in list(_budgets):
        budget.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart)
