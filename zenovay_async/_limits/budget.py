"""What one client may spend: the rate limit, the monthly quota and the retries of its key, behind one facade.

``registry`` says what it shares with other clients; ``quota_reserve`` is its own.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import msgspec

from zenovay_async._limits.gate import believed_wait
from zenovay_async._limits.headroom import AUTO
from zenovay_async._limits.neighbors import NEIGHBORS
from zenovay_async._limits.outage_gate import RELEASED
from zenovay_async._limits.outcome import UNSENT
from zenovay_async._limits.patience import Patience
from zenovay_async._limits.permit import RETURNED_TWICE
from zenovay_async._limits.quota import Trial
from zenovay_async._limits.registry import REGISTRY, Entry, Shared, entry_of
from zenovay_async._limits.reports import log_long_pause
from zenovay_async._protocol.parameters import require_int
from zenovay_async.exceptions import QuotaExceededError, RateLimitError
from zenovay_async.rate_limits import Estimate, Outcome, Permit, Quota, RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from zenovay_async._limits.options import Limits
    from zenovay_async._limits.patience import ServerUnavailable
    from zenovay_async._protocol.auth import Auth
    from zenovay_async.events import ListenerRef
    from zenovay_async.exceptions import ZenovayError

_logger = logging.getLogger("zenovay_async.limits")

_PATIENCE = Patience()


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
        flights: The calls of the key in flight that others may join.
    """

    def __init__(self, entry: Entry, limits: Limits) -> None:
        self._entry = entry
        self._limits = limits
        self._listeners: WeakSet[ListenerRef] = WeakSet()
        self._reserve = limits.quota_reserve
        self._headroom = AUTO if limits.batch_headroom == "auto" else limits.batch_headroom
        self._thread: int | None = None
        self._shared = self._attach()
        _budgets.add(self)

    @property
    def is_used(self) -> bool:
        """Whether a call was made."""
        return self._thread is not None

    @property
    def is_paced(self) -> bool:
        """Whether calls need a permit of a limiter."""
        return self._shared.limiter is not None

    def check(self, cost: int, *, background: bool, states_usage: bool = False) -> None:
        """Reject a call that the monthly quota does not allow, before anything is spent.

        Args:
            cost: Requests that the call is charged for.
            background: Whether the call has to leave the reserve.
            states_usage: Whether the call asks for the quota, which it may whatever is left.

        Raises:
            QuotaExceededError: The quota is exhausted, or a background call would spend the reserve.
        """
        if threading.get_ident() != self._thread:
            self.enter_thread()
        if not states_usage:
            self._shared.quota.check(cost, reserve=self._reserve if background else 0, may_wait=background)

    def acquire_nowait(self, cost: int, *, background: bool, states_usage: bool = False) -> BudgetPermit | None:
        """Acquire a permit if a request may be sent now and no caller waits; else ``None``."""
        shared = self._shared
        own = shared.own_limiter
        if not shared.outage_gate.is_clear or (shared.quota.is_probing and not states_usage):
            return None
        permit: Permit | None = None
        if own is not None and not shared.is_shared:
            permit = own.acquire_nowait(cost=cost, background=background, headroom=self._headroom)
            if permit is None:
                return None
        elif shared.limiter is not None:
            reports = shared.quota.reports
            if own is None:
                permit = shared.limiter.acquire_nowait(cost=cost, background=background)
            else:
                permit = own.acquire_nowait(cost=cost, background=background, headroom=self._headroom)
            if permit is None:
                return None
            if not shared.outage_gate.is_clear or shared.quota.reports != reports:
                # It came with what other processes found meanwhile.
                permit.refund()
                return None
        return _make_permit(shared, cost, permit, None, states_usage=states_usage)

    async def acquire(
        self,
        cost: int,
        *,
        max_wait: float | None,
        background: bool,
        states_usage: bool = False,
        patience: Patience = _PATIENCE,
        during_outage: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> BudgetPermit:
        """Wait for a permit, and check the quota again, which other calls may have spent in the meantime.

        Args:
            cost: Requests that the call is charged for.
            max_wait: Seconds to wait at most; ``None`` for no bound.
            background: Whether direct calls overtake it.
            states_usage: Whether the call asks for the quota, which it may whatever is left.
            patience: How long to wait for a server that is away.
            during_outage: Makes the block in which each such wait is.

        Raises:
            RateLimitError: The wait does not fit ``max_wait``.
            QuotaExceededError: The quota is exhausted, or a background call would spend the reserve.
            ServerUnavailable: The server is away, and the wait ends before it is back.
        """
        deadline = math.inf if max_wait is None else asyncio.get_running_loop().time() + max_wait
        quota, acquired = self._shared.quota, None
        while acquired is None:
            if background and not states_usage:
                await quota.wait_for_probe()
            reports = quota.reports
            try:
                acquired = await self._acquire(
                    cost, deadline, patience, during_outage, background=background, states_usage=states_usage
                )
            except QuotaExceededError:
                # All who wait when the server reports the quota exhausted fail. One that asks for it waits anew.
                if not states_usage or quota.reports == reports:
                    raise
        return acquired

    async def _acquire(
        self,
        cost: int,
        deadline: float,
        patience: Patience,
        during_outage: Callable[[], AbstractContextManager[None]],
        *,
        background: bool,
        states_usage: bool,
    ) -> BudgetPermit | None:
        """Wait for a permit; ``None`` if the call has to wait anew, as something changed meanwhile."""
        shared = self._shared
        gate, own = shared.outage_gate, shared.own_limiter
        ticket = None
        if not gate.is_clear:
            with during_outage():
                ticket = await gate.enter(deadline=deadline, background=background, patience=patience)
        permit: Permit | None = None
        try:
            if own is not None and ticket == RELEASED:
                permit = own.acquire_nowait(cost=cost, background=background, headroom=self._headroom)
                if permit is None:
                    # The limiter bounds it from here on, and nobody else need wait for it.
                    gate.abandon(ticket)
                    ticket = None
            if permit is None:
                permit = await self._wait_for_permit(cost, deadline, background=background)
            self.check(cost, background=background, states_usage=states_usage)
        except BaseException:
            if permit is not None:
                permit.refund()
            gate.abandon(ticket)
            raise
        if shared.quota.is_probing and not states_usage:
            # A background call, which was overtaken by another one.
            if permit is not None:
                permit.refund()
            gate.abandon(ticket)
            return None
        acquired = _make_permit(shared, cost, permit, ticket, states_usage=states_usage)
        if self.holds_back(acquired, background=background):
            acquired.refund()
            return None
        return acquired

    async def _wait_for_permit(self, cost: int, deadline: float, *, background: bool) -> Permit | None:
        """Wait for a permit of the limiter; ``None`` if calls are not paced."""
        limiter, own = self._shared.limiter, self._shared.own_limiter
        if limiter is None:
            return None
        max_wait = None if deadline == math.inf else max(0.0, deadline - asyncio.get_running_loop().time())
        if own is None:
            return await limiter.acquire(cost=cost, max_wait=max_wait, background=background)
        return await own.acquire(cost=cost, max_wait=max_wait, background=background, headroom=self._headroom)

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
            log_long_pause(wait, seconds, window)
        return wait

    def expected_wait(self, cost: int) -> float:
        """Seconds that a direct call would wait for a permit from now; 0.0 as long as that is not known."""
        own = self._shared.own_limiter
        return 0.0 if own is None else own.expected_wait(cost)

    def enter_thread(self) -> None:
        """Look up what is shared in this thread, unless the last call was in it too."""
        thread = threading.get_ident()
        if thread != self._thread:
            self._shared, self._thread = self._attach(), thread

    def all_flights(self) -> list[Any]:
        """The calls of the key in flight, in all threads and whatever the ``rate_limit`` of their clients."""
        account = self._entry.account
        in_use = [shared for shared in REGISTRY.in_use() if shared.account.key == account]
        return [flight for shared in in_use for flight in list(shared.flights.values())]

    def outage_until(self, deadline: float) -> ServerUnavailable | None:
        """Why a direct call would not be sent until its deadline, as the server is away; ``None`` if it might be.

        Args:
            deadline: Time of the event loop; ``math.inf`` for none.
        """
        return self._shared.outage_gate.lasts_until(deadline)

    def estimate(self, n: int, cost: int, *, background: bool) -> Estimate:
        """Estimate ``n`` further calls of ``cost`` requests each; see ``Zenovay.estimate``."""
        requests = require_int("n", n, low=0) * require_int("cost", cost)
        shared = self._known()
        remaining, limiter, own = shared.quota.snapshot().remaining, shared.limiter, shared.own_limiter
        share = None if remaining is None else requests / remaining if remaining else float(requests > 0)
        if own is not None:
            seconds = own.forecast(requests, background=background, headroom=self._headroom)
        else:
            seconds = 0.0 if limiter is None else limiter.forecast(requests, background=background)
        return Estimate(seconds=seconds, requests=requests, quota_share=share)

    def rate_limit(self) -> RateLimit | None:
        """The state of the rate limit; ``None`` where calls are not paced."""
        limiter = self._known().limiter
        return None if limiter is None else limiter.snapshot()

    def quota(self) -> Quota:
        """The state of the monthly quota."""
        return self._known().quota.snapshot()

    def remaining(self) -> tuple[int | None, int | None]:
        """Requests left in the window, and of the monthly quota; ``None`` where that is not known."""
        limiter, left = self._shared.limiter, None
        if limiter is not None:
            try:
                left = limiter.snapshot().remaining
            except Exception:
                # A bug of a custom limiter must not cost a response that was paid for.
                _logger.exception("The rate limiter failed to say what is left")
        return left, self._shared.quota.remaining

    @property
    def is_quota_exhausted(self) -> bool:
        """Whether the server reported the monthly quota exhausted."""
        return self._known().quota.is_exhausted

    def seconds_to_quota_reset(self) -> float:
        """Seconds until the monthly quota resets."""
        return self._shared.quota.seconds_to_reset()

    def statistics(self) -> BudgetStatistics:
        """What all clients of the key have in flight, and the retries that they have left."""
        return BudgetStatistics(self._shared.quota.in_flight, self._shared.retries.tokens)

    def listen(self, listener: ListenerRef) -> None:
        """Emit events of the key to a listener until it is garbage collected; its client has to keep it."""
        self._listeners.add(listener)
        self._shared.listen([listener])

    async def aclose(self) -> None:
        """Close the limiter, unless it is a custom one, which the caller owns."""
        if self._shared.own_limiter is not None:
            await self._shared.own_limiter.aclose()

    def restart(self) -> None:
        """Share nothing with the parent of a forked process."""
        _inherited.append(self._shared)
        self._thread = None
        self._shared = self._attach()

    def forget(self) -> None:
        """Look up with the next call what is shared, as in a new thread."""
        self._thread = None

    def _known(self) -> Shared:
        """What is shared in this thread, if no call was made yet in any."""
        if self._thread is None:
            self._shared = self._attach()
        return self._shared

    def _attach(self) -> Shared:
        shared = REGISTRY.find(self._entry, self._limits)
        if self._listeners:
            self._shared.unlisten(self._listeners)
            shared.listen(self._listeners)
        self.round_trip, self.flights = shared.round_trip, shared.flights
        return shared


def _make_permit(
    shared: Shared, cost: int, permit: Permit | None, ticket: int | None, *, states_usage: bool
) -> BudgetPermit:
    quota = shared.quota
    quota.in_flight += cost
    trial = quota.begin_trial(states_usage=states_usage) if quota.is_exhausted else None
    return BudgetPermit(shared, cost, permit, ticket, trial)


class BudgetPermit(msgspec.Struct, eq=False):
    """The limiter's permit, if calls are paced, and the cost that is in flight until it is returned."""

    # A Struct takes a third of the time that another object takes to make. The garbage collector tracks it, as an event
    # loop that ends during a call leaves a cycle: limiter, waiter, a caller's frame, its permit.
    _shared: Shared | None
    _cost: int
    _permit: Permit | None
    ticket: int | None
    _trial: Trial | None = None

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
        if self._trial is not None:
            quota.end_trial(self._trial, outcome)
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


_budgets: WeakSet[Budget] = WeakSet()

# What a forked process inherited: callers of the parent's event loop wait there, which are not to be freed.
_inherited: list[Shared] = []


def budget_for(auth: Auth, base_url: str, limits: Limits) -> Budget:
    """The budget of a client, which shares with the clients of its thread that have the same key and limits.

    Args:
        auth: The key.
        base_url: Base URL of the API.
        limits: The client's options.
    """
    return Budget(entry_of(auth, base_url, limits), limits)


def forget_limits() -> None:
    """Forget what this process knows of all keys; clients that go on learn it anew."""
    REGISTRY.forget()
    for budget in list(_budgets):
        budget.forget()


def _restart() -> None:
    """Let a forked process share nothing with its parent, neither limits nor jitter."""
    budgets = list(_budgets)
    REGISTRY.restart()
    NEIGHBORS.restart(is_used=any(budget.is_used for budget in budgets))
    for budget in budgets:
        budget.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart)
