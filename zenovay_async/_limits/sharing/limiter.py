"""A rate limiter whose state is kept in a store, for all processes that share it.

``zenovay_async._limits.sharing.state`` decides when permits are free and how many of them are this process's; this
module decides whose they are here, as ``zenovay_async._limits.window`` does for a process alone. One update of the
store does all that is due: it returns the permits that were settled since the last one, acquires those that may be
acquired now, and writes down what still waits. So a burst is one update. Between updates nothing polls: a process that
waits sleeps until the time at which the state lets it go on, or until another one, which made room earlier, rings.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from typing import TYPE_CHECKING

from zenovay_async._limits.headroom import AUTO
from zenovay_async._limits.permit import LimiterPermit
from zenovay_async._limits.queue import Queue, Statistics, Waiter, ahead_of_next
from zenovay_async._limits.reports import report_limit, report_pause, report_pause_of_others
from zenovay_async._limits.sharing.fairness import Claim, ahead_of
from zenovay_async._limits.sharing.plan import SOON, Plan, Settlement
from zenovay_async._limits.sharing.replica import Replica
from zenovay_async._limits.sharing.state import Member, SharedState
from zenovay_async._limits.wakeup import Wakeup
from zenovay_async.events import RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._limits.request_log import PermitRecord
    from zenovay_async._limits.sharing.exchange import Exchange
    from zenovay_async.events import OnEvent
    from zenovay_async.exceptions import ZenovayError
    from zenovay_async.rate_limits import Outcome, RateLimit, Store

# Seconds for which a response waits for others, where an update takes a round trip, and the share of a window that this
# may be. Simulated with four processes at 30 a minute: 3.6 round trips for each request become 2.7, and with twice as
# many seconds 1.7, but 1.4 % of the rate is lost, as a burst waits for what the responses of the one before prove. It
# is for so many members: the more there are, the longer they would race each other for writes.
_LONGEST_LINGER, _LINGER, _LINGERING = 0.05, 1 / 600, 4


class SharedLimiter:
    """Keeps the callers of all processes that share a store within a limit per window.

    It serves one event loop at a time, and keeps what it knows from one to the next.

    Args:
        store: Where the state is kept.
        name: Name of the state in the store.
        limit: Requests per window never to be exceeded; ``None`` to learn the server's.
        window: Seconds of the window.
        owns_store: Whether to close the store with the limiter.
        on_event: Called when a limit is learned, when a 429 pauses all callers, and when the store is lost and back.
        rng: Draws the jitter and the names; omitted, a new generator.

    Attributes:
        exchange: What else is shared; ``None`` for nothing.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        limit: int | None = None,
        window: float = 60.0,
        owns_store: bool = True,
        on_event: OnEvent | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.exchange: Exchange | None = None
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._limit, self._window = limit, window
        self._on_event = on_event
        self._replica = Replica(
            store,
            name,
            create=self._create,
            plan=self._plan_update,
            carry_out=self._carry_out,
            rng=self._rng,
            owns_store=owns_store,
            on_event=on_event,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._direct: Queue = Queue()
        self._background: Queue = Queue()
        self._unchecked: list[Waiter] = []
        self._wakeup = Wakeup(self.request_update)
        # Permits that were returned, and direct calls that came, until the store knows of them.
        self._outbox: list[Settlement] = []
        self._arrivals = 0
        self._outstanding = 0
        self._plan: Plan | None = None
        self._is_leaving = False

    def acquire_nowait(self, *, cost: int = 1, background: bool = False, headroom: int = AUTO) -> LimiterPermit | None:
        """Acquire a permit if the store takes no wait, a request may be sent now and no caller waits; else ``None``."""
        loop, replica = self._loop, self._replica
        if self._direct or self._background or loop is None or replica.known is None:
            return None
        # acquire() checks that this loop is the running one, which is a system call up to Python 3.11.
        if not replica.takes_no_wait or not loop.is_running():
            return None
        now = replica.now()
        if not self._outbox and replica.known.pacer.ready_at(now, cost, headroom if background else 0) > now:
            return None
        queue = self._background if background else self._direct
        waiter = Waiter(loop.create_future(), cost, math.inf, queue, headroom if background else 0)
        queue.add(waiter)
        replica.update_now()
        if not waiter.future.done():
            queue.remove(waiter)
            self.request_update()
            return None
        if waiter.future.exception() is not None:
            # The update brought that the quota is exhausted, which acquire() finds if it concerns the call.
            return None
        if not background:
            # The next update counts it, or acquire() would count it again.
            self._arrivals += cost
        return waiter.future.result()

    async def acquire(
        self, *, cost: int = 1, max_wait: float | None = None, background: bool = False, headroom: int = AUTO
    ) -> LimiterPermit:
        """Wait until a request may be sent."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        expires_at = math.inf if max_wait is None else loop.time() + max_wait
        queue = self._background if background else self._direct
        if not background:
            self._arrivals += cost
        cost = self._seen().pacer.clamp_cost(cost)
        waiter = Waiter(loop.create_future(), cost, expires_at, queue, headroom if background else 0)
        is_first = not queue
        queue.add(waiter)
        self._unchecked.append(waiter)
        if is_first:
            self.request_update()
        else:
            # The first one looks for all.
            self._request_late_update()
        return await waiter.wait(self._expire, self.request_update)

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:
        """Fail every waiting caller of this process."""
        self._direct.fail(make_error)
        self._background.fail(make_error)
        self.request_update()

    def snapshot(self) -> RateLimit:
        """The state that was seen last, and what responses stated since."""
        return self._foreseen().pacer.snapshot(self._replica.now())

    def forecast(self, n: int, *, background: bool = False, headroom: int = AUTO) -> float:
        """Seconds until the last of ``n`` further requests could start, behind all that wait in any process.

        Args:
            n: Number of requests.
            background: Whether direct calls overtake them.
            headroom: Requests of each window that background calls leave for direct calls.
        """
        if n <= 0:
            return 0.0
        # Without those that were killed while they waited.
        others = [claim for name, claim in self._claims().items() if name != self._replica.me]
        direct = self._direct.cost + sum(claim.direct for claim in others)
        waiting = self._background.cost + sum(claim.background for claim in others)
        ahead = ahead_of_next(n, direct, waiting, background=background)
        now = self._replica.now()
        return max(0.0, self._foreseen().pacer.earliest_start(now, ahead, headroom=headroom if background else 0) - now)

    def expected_wait(self, cost: int) -> float:
        """Seconds that a direct call would wait from now, as far as known; 0.0 while the limit is an assumption."""
        return 0.0 if self._seen().pacer.is_default_limit else self.forecast(cost)

    def statistics(self) -> Statistics:
        """The permits of this process in flight, and its waiters."""
        return Statistics(self._outstanding, len(self._direct), len(self._background), self._wakeup.at)

    async def aclose(self) -> None:
        """Write what is pending; if nobody waits or is in flight here, leave the others, and close the store."""
        if self._loop is None or asyncio.get_running_loop() is not self._loop:
            return
        await self._replica.flush()
        if self._direct or self._background or self._outstanding:
            return
        self._is_leaving = True
        try:
            if self._replica.known is not None:
                self.request_update()
                await self._replica.flush()
        finally:
            self._is_leaving = False
        if self._direct or self._background or self._outstanding:
            return
        self._wakeup.set(None, math.inf)
        await self._replica.aclose()

    def request_update(self) -> None:
        """Update the shared state soon; does not wait."""
        self._replica.request_update()

    def _request_late_update(self) -> None:
        """Update the shared state together with what comes within moments, the longer the more members there are."""
        linger = min(_LONGEST_LINGER, self._window * _LINGER)
        self._replica.request_late_update(linger * max(1.0, len(self._seen().members) / _LINGERING))

    def return_permit(self, record: PermitRecord, outcome: Outcome) -> None:
        """Settle or refund a permit; called by the permit, once."""
        self._outstanding = max(0, self._outstanding - record.cost)
        now = self._replica.loop_time()
        jitter = self._rng.random() if outcome.kind == "rate_limited" else 0.0
        self._outbox.append(Settlement(record, outcome, now, jitter))
        is_awaited = outcome.kind == "rate_limited" or (outcome.kind == "succeeded" and self._seen().pacer.gate.probing)
        if is_awaited:
            self.request_update()
        else:
            self._request_late_update()

    def _plan_update(self, state: SharedState, now: float) -> set[str] | None:
        """Plan what is due, in the state; returns the addresses to ring, or ``None`` if nothing is to be written."""
        me = self._replica.me
        plan = self._plan = Plan(state, now, me)
        state.tidy(now)
        known = state.members.get(me)
        claimed, wake_at = (None, -math.inf) if known is None else (_claim_of(known), known.wake_at)
        member = state.join(me, now, self._replica.address)
        plan.settle(self._outbox, self._replica.loop_time())
        plan.record_arrivals(self._arrivals)
        exchange = None if self._replica.is_lost else self.exchange
        is_urgent = exchange is not None and exchange.write(state, me, now)
        has_news = is_urgent or (exchange is not None and exchange.has_news)
        ring = plan.acquire_share(member, self._direct, self._background)
        if is_urgent:
            ring = {other.address for name, other in state.members.items() if name != me}
        # One that looked a moment too early need not say so.
        looks_as_known = member.wake_at == wake_at or abs(member.wake_at - wake_at) < SOON
        is_as_known = looks_as_known and _claim_of(member) == claimed
        if self._is_leaving:
            del state.members[me]
        elif is_as_known and not (plan.settled or plan.arrivals or plan.acquired or ring or has_news):
            return None
        ring.discard("")
        return ring

    def _carry_out(self, before: SharedState | None) -> None:
        """Do what the last update planned, as it is written."""
        plan, self._plan = self._plan, None
        if plan is None:
            return
        del self._outbox[: plan.settled]
        self._arrivals -= plan.arrivals
        for waiter, record in plan.acquired:
            permit = LimiterPermit(record, self)
            self._outstanding += record.cost
            # A caller that was canceled or failed meanwhile is gone, or its future is done.
            if waiter in waiter.queue and not waiter.future.done():
                waiter.queue.remove(waiter)
                waiter.future.set_result(permit)
            else:
                permit.refund()
        self._wakeup.set(self._loop, self._replica.at(plan.wake_at))
        if self.exchange is not None:
            mine = self._outstanding + sum(settlement.record.cost for settlement in self._outbox)
            self.exchange.others_in_flight = max(0, plan.state.pacer.log.in_flight - mine)
            if not self._replica.is_lost:
                self.exchange.read(plan.state, self._replica.me, plan.now)
        self._report(plan, before)
        self._reject_hopeless(is_delayed=plan.is_delayed(before))

    def _report(self, plan: Plan, before: SharedState | None) -> None:
        """Emit what the update brought, from here or from another process."""
        for seconds, retry_after in plan.pauses:
            report_pause(self._on_event, seconds, retry_after, self._window)
        if before is None or before.epoch != plan.state.epoch:
            return
        pacer, old, now = plan.state.pacer, before.pacer, plan.now
        if pacer.limit != old.limit:
            report_limit(self._on_event, old.limit, pacer.limit)
        gate, is_open_at = pacer.gate, max(now, plan.state.rejoining_until)
        if not plan.pauses and gate.last_incident != old.gate.last_incident and gate.closed_until > is_open_at:
            # Another process was rate limited, and did not only come back to the store.
            from_server = gate.backoffs == old.gate.backoffs
            pause = RateLimited(seconds=gate.closed_until - now, from_server=from_server)
            report_pause_of_others(self._on_event, pause)

    def _expire(self, waiter: Waiter) -> None:
        # If the loop was held up, its permit may be due as well.
        if not waiter.future.done() and self._replica.takes_no_wait:
            self._replica.update_now()
        if not waiter.future.done():
            before = sum(other.cost for other in itertools.takewhile(lambda other: other is not waiter, waiter.queue))
            expected = self._expected_start(waiter, before, self._claims())
            waiter.reject(max(0.0, expected - self._replica.loop_time()))
            self.request_update()

    def _reject_hopeless(self, *, is_delayed: bool) -> None:
        """Fail the waiters whose expected wait does not fit their timeout: the new ones, or all if waits are longer."""
        unchecked, self._unchecked = set(self._unchecked), []
        # Before the first response the limit is an assumption, on which no caller is rejected.
        if not (unchecked or is_delayed) or self._seen().pacer.is_default_limit:
            return
        now, claims, is_any = self._replica.loop_time(), self._claims(), False
        for queue in (self._direct, self._background):
            before = 0
            for waiter in list(queue):
                is_bound = math.isfinite(waiter.expires_at) and not waiter.future.done()
                if is_bound and (is_delayed or waiter in unchecked):
                    expected = self._expected_start(waiter, before, claims)
                    if expected > waiter.expires_at:
                        waiter.reject(expected - now)
                        is_any = True
                        continue
                before += waiter.cost
        if is_any:
            self.request_update()

    def _expected_start(self, waiter: Waiter, before: int, claims: dict[str, Claim]) -> float:
        """The earliest start of a request in the time of the event loop, behind others of this cost in its queue."""
        background, me = waiter.queue is self._background, self._replica.me
        ahead = before + (self._direct.cost if background else 0)
        if me in claims:
            ahead += ahead_of(claims, me, before, background=background)
        start = self._seen().pacer.earliest_start(self._replica.now(), ahead, waiter.cost, waiter.headroom)
        return self._replica.at(start)

    def _claims(self) -> dict[str, Claim]:
        return self._seen().claims(self._replica.me, self._replica.now())

    def _create(self) -> SharedState:
        return SharedState.create(self._limit, self._window, self._rng.getrandbits(63))

    def _foreseen(self) -> SharedState:
        """The state as the next update will find it, unless another process changes it."""
        if not self._outbox:
            return self._seen()
        plan = Plan(self._replica.copy_known(), self._replica.now(), self._replica.me)
        plan.settle(self._outbox, self._replica.loop_time())
        return plan.state

    def _seen(self) -> SharedState:
        return self._replica.known or self._create()

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve another event loop; the waiters of a closed one are dropped, and its permits lapse.

        Raises:
            ClientClosedError: Callers wait on the loop before, which is not closed.
        """
        self._wakeup.leave(self._loop, waiting=bool(self._direct or self._background))
        for queue in (self._direct, self._background):
            queue.clear()
        self._unchecked.clear()
        self._outbox.clear()
        self._arrivals = self._outstanding = 0
        self._plan = None
        self._loop = loop
        self._replica.move_to(loop)


def _claim_of(member: Member) -> tuple[str, int, int, int]:
    """What others have to know of a member."""
    return member.address, member.direct, member.background, member.background_head
