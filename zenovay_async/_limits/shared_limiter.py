"""A rate limiter whose state is kept in a store, for all processes that share it.

``zenovay_async._limits.shared_state`` decides when permits are free and how many of them are this process's; this module
decides whose they are here, as ``zenovay_async._limits.window`` does for a process alone. One **update** of the store does
all that is due: it returns the permits that were settled since the last one, acquires those that may be acquired now,
and writes down what still waits. So a burst is one update. Between updates nothing polls: a waiting process sleeps until
the time at which the state lets it go on, or until another process, which made room earlier, rings.

An update is a function of the stored value (:meth:`SharedLimiter._change`), which a store may call again with a newer
one. It makes a plan, and only once the value is written is the plan carried out (:meth:`SharedLimiter._carry_out`).

While the store is lost, the same limiter goes on with its share of the last state, kept in memory.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING

import msgspec

from zenovay_async._limits.fairness import ahead_of
from zenovay_async._limits.headroom import AUTO
from zenovay_async._limits.outcome import UNSENT
from zenovay_async._limits.queue import Queue, Waiter
from zenovay_async._limits.request_log import PermitRecord
from zenovay_async._limits.settlement import settle
from zenovay_async._limits.shared_state import SharedState, newer
from zenovay_async._limits.stores.memory import MemoryStore
from zenovay_async._limits.wakeup import Wakeup
from zenovay_async._limits.window import LONG_PAUSE, RETURNED_TWICE, Statistics
from zenovay_async.events import RateLimited, RateLimitUpdated, SharedBudgetBack, SharedBudgetLost, emit
from zenovay_async.rate_limits import Outcome, RateLimit, Write

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._limits.exchange import Exchange
    from zenovay_async._limits.fairness import Claim
    from zenovay_async._limits.shared_state import Member
    from zenovay_async.events import OnEvent
    from zenovay_async.exceptions import ZenovayError
    from zenovay_async.rate_limits import Store

# Seconds for one update of a store, of whatever kind, before it counts as lost.
_UPDATE_TIMEOUT = 2.0
# Seconds between two attempts to reach a lost store, drawn anew each time, so that processes do not come at once.
_RETRY_MIN, _RETRY_MAX = 0.7, 1.3
# Seconds for which the first process back pauses all, so that the others can come back and count what they sent.
_PAUSE = 1.5
# Seconds. A process that looks within this anyway is not rung.
_SOON = 2e-3
_SHORTEST_SLEEP = 1e-3

_logger = logging.getLogger("zenovay_async")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SharedState).decode


class SharedPermit(msgspec.Struct, eq=False):
    """A permit of a :class:`SharedLimiter`; see :class:`~zenovay_async.rate_limits.Permit`."""

    _record: PermitRecord | None
    _epoch: int
    _limiter: SharedLimiter

    def settle(self, outcome: Outcome) -> None:
        """Return the permit of a request that was sent."""
        record, self._record = self._record, None
        if record is None:
            raise RuntimeError(RETURNED_TWICE)
        self._limiter.return_permit(record, self._epoch, outcome)

    def refund(self) -> None:
        """Return the permit unused."""
        self.settle(UNSENT)


class _Settlement(msgspec.Struct, frozen=True):
    """A permit that was returned, until the store knows of it."""

    record: PermitRecord
    epoch: int
    outcome: Outcome
    at: float
    jitter: float


class _Plan(msgspec.Struct):
    """What an update decided, until the store has written it."""

    state: SharedState
    now: float
    settled: int = 0
    arrivals: int = 0
    uncounted: int = 0
    acquired: list[tuple[Waiter[SharedPermit], PermitRecord]] = []
    wake_at: float = math.inf
    claims: dict[str, Claim] = {}
    pauses: list[tuple[float, float | None]] = []
    is_delayed: bool = False


class SharedLimiter:
    """Keeps the callers of all processes that share a store within a limit per window.

    It serves one event loop at a time, and keeps what it knows from one to the next.

    Args:
        store: Where the state is kept.
        name: Name of the state in the store.
        limit: Requests per window never to be exceeded; ``None`` to learn the server's.
        window: Seconds of the window.
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
        on_event: OnEvent | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.exchange: Exchange | None = None
        self._store = self._shared_store = store
        self._name = name
        self._limit, self._window = limit, window
        self._on_event = on_event
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._me = f"{self._rng.getrandbits(48):012x}"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._direct: Queue[SharedPermit] = Queue()
        self._background: Queue[SharedPermit] = Queue()
        self._wakeup = Wakeup(self.request_update)
        self._unchecked: list[Waiter[SharedPermit]] = []
        self._outbox: list[_Settlement] = []
        # Direct calls that came, and requests sent while the store came back, until the store knows of them.
        self._arrivals = 0
        self._uncounted = 0
        self._outstanding = 0
        self._known: SharedState | None = None
        # The store's clock, less that of the event loop.
        self._offset: float | None = None
        self._plan: _Plan | None = None
        self._address = ""
        self._is_listening = False
        self._is_leaving = False
        self._is_due = False
        self._is_scheduled = False
        self._task: asyncio.Task[None] | None = None
        # In the time of the event loop.
        self._lost_since: float | None = None
        self._before_loss: SharedState | None = None
        self._return_timer: asyncio.TimerHandle | None = None
        self._return_task: asyncio.Task[None] | None = None

    def acquire_nowait(self, *, cost: int = 1, background: bool = False, headroom: int = AUTO) -> SharedPermit | None:
        """Acquire a permit if the store takes no wait, a request may be sent now and no caller waits; else ``None``."""
        loop, known, offset = self._loop, self._known, self._offset
        if self._direct or self._background or loop is None or known is None or offset is None:
            return None
        if self._task is not None or not self._takes_no_wait or not loop.is_running():
            return None
        now = loop.time() + offset
        if known.pacer.ready_at(now, cost, headroom if background else 0) > now and not self._outbox:
            return None
        queue = self._background if background else self._direct
        waiter: Waiter[SharedPermit] = Waiter(loop.create_future(), cost, math.inf, queue, headroom)
        queue.add(waiter)
        self._update_now()
        if waiter.future.done():
            if not background:
                # The next update counts it, or acquire() would count it again.
                self._arrivals += cost
            return waiter.future.result()
        queue.remove(waiter)
        self.request_update()
        return None

    async def acquire(
        self, *, cost: int = 1, max_wait: float | None = None, background: bool = False, headroom: int = AUTO
    ) -> SharedPermit:
        """Wait until a request may be sent."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        expires_at = math.inf if max_wait is None else loop.time() + max_wait
        queue = self._background if background else self._direct
        if not background:
            self._arrivals += cost
        waiter: Waiter[SharedPermit] = Waiter(loop.create_future(), cost, expires_at, queue, headroom)
        queue.add(waiter)
        self._unchecked.append(waiter)
        self.request_update()
        timer = None if math.isinf(expires_at) else loop.call_at(expires_at, self._expire, waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._cancel(waiter)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:
        """Fail every waiting caller."""
        for queue in (self._direct, self._background):
            for waiter in queue:
                if not waiter.future.done():
                    waiter.future.set_exception(make_error())
            queue.clear()
        self.request_update()

    def snapshot(self) -> RateLimit:
        """The state that was seen last."""
        state, now = self._seen()
        pacer = state.pacer
        ready = pacer.ready_at(now)
        wait = max(0.0, (pacer.earliest_start(now, 0) if math.isinf(ready) else ready) - now)
        return RateLimit(
            limit=pacer.limit,
            remaining=pacer.remaining(now),
            window=pacer.window,
            reset_after=wait,
            learned=pacer.learned,
        )

    def forecast(self, n: int, *, background: bool = False) -> float:
        """Seconds until the last of ``n`` further requests could start, behind those of all processes that wait."""
        if n <= 0:
            return 0.0
        state, now = self._seen()
        others = sum(member.direct + member.background for name, member in state.members.items() if name != self._me)
        ahead = self._direct.cost + self._background.cost + others + n - 1
        return max(0.0, state.pacer.earliest_start(now, ahead, 1, AUTO if background else 0) - now)

    def statistics(self) -> Statistics:
        """The permits of this process in flight, and its waiters."""
        return Statistics(self._outstanding, len(self._direct), len(self._background), self._wakeup.at)

    def return_permit(self, record: PermitRecord, epoch: int, outcome: Outcome) -> None:
        """Settle or refund a permit; called by the permit, once."""
        self._outstanding = max(0, self._outstanding - record.cost)
        now = 0.0 if self._loop is None else self._loop.time()
        self._outbox.append(_Settlement(record, epoch, outcome, now, self._rng.random()))
        self.request_update()

    def request_update(self) -> None:
        """Update the store soon; does not wait."""
        self._is_due = True
        loop = self._loop
        if loop is not None and self._task is None and not self._is_scheduled and not loop.is_closed():
            self._is_scheduled = True
            loop.call_soon(self._update_if_due)

    async def aclose(self) -> None:
        """Write what is pending; if nobody waits or is in flight here, also leave the others, and close the store."""
        if self._loop is None or asyncio.get_running_loop() is not self._loop:
            return
        is_last = not (self._direct or self._background or self._outstanding)
        self._is_leaving = is_last
        try:
            if self._task is not None:
                await asyncio.wait([self._task])
            if self._outbox or (is_last and self._is_listening):
                self._update_now()
                if self._task is not None:
                    await asyncio.wait([self._task])
        finally:
            self._is_leaving = False
        if not is_last or self._direct or self._background:
            return
        self._wakeup.set(None, math.inf)
        if self._return_timer is not None:
            self._return_timer.cancel()
        if self._return_task is not None:
            self._return_task.cancel()
            await asyncio.wait([self._return_task])
        self._forget_loss()
        self._is_listening, self._address = False, ""
        with suppress(Exception):
            async with asyncio.timeout(_UPDATE_TIMEOUT):
                await self._shared_store.aclose()

    # Updates

    @property
    def _takes_no_wait(self) -> bool:
        return self._is_listening or self._lost_since is not None

    def _update_if_due(self) -> None:
        self._is_scheduled = False
        if self._is_due:
            self._update_now()

    def _update_now(self) -> None:
        """Update the store at once if it takes no wait, else in a task."""
        loop = self._loop
        if loop is None or self._task is not None or loop.is_closed():
            return
        self._is_due = False
        if self._takes_no_wait:
            try:
                is_done = self._store.update_nowait(self._name, self._change)
            except Exception as error:  # noqa: BLE001 - a store may be anyone's
                self._lose(error)
                return
            if is_done:
                self._carry_out()
                return
        # With a context of its own, as the store is not part of the call that happens to wait for it.
        self._task = loop.create_task(self._update(), context=Context())

    async def _update(self) -> None:
        try:
            async with asyncio.timeout(_UPDATE_TIMEOUT):
                if not self._is_listening:
                    self._address = await self._shared_store.listen(self._name, self.request_update)
                    self._is_listening = True
                self._is_due = False
                await self._store.update(self._name, self._change)
        except Exception as error:  # noqa: BLE001 - a store may be anyone's
            self._task = None
            self._lose(error)
        else:
            self._task = None
            self._carry_out()
        finally:
            self._task = None
        if self._is_due:
            self.request_update()

    def _change(self, value: bytes | None, now: float) -> Write | None:
        """Plan what is due, by the stored value; see :data:`~zenovay_async.rate_limits.Change`."""
        loop_now = self._loop_time()
        state, is_new = self._read(value, now, self._known)
        plan = self._plan = _Plan(state, now)
        state.tidy(now)
        is_new = is_new or self._me not in state.members
        member = state.join(self._me, now, self._address)
        was_waiting = member.direct or member.background
        for settlement in self._outbox:
            self._settle(plan, settlement, now - (loop_now - settlement.at))
        plan.settled, plan.arrivals, plan.uncounted = len(self._outbox), self._arrivals, self._uncounted
        if plan.arrivals:
            state.pacer.record_arrival(now, plan.arrivals)
        if plan.uncounted:
            state.count([now] * plan.uncounted)
        is_urgent = self.exchange is not None and self.exchange.write(state, self._me, now)
        member.direct, member.background = self._direct.cost, self._background.cost
        is_waiting = member.direct or member.background
        ring = self._divide(plan, member)
        if is_urgent:
            ring = {other.address for name, other in state.members.items() if name != self._me}
        if self._is_leaving:
            del state.members[self._me]
        elif not (is_new or plan.settled or plan.arrivals or is_urgent or is_waiting or was_waiting or ring):
            return None
        state.revision += 1
        state.written_at = now
        return Write(_encode(state), tuple(address for address in ring if address))

    def _read(self, value: bytes | None, now: float, known: SharedState | None) -> tuple[SharedState, bool]:
        """Decode the stored value; one that the store has lost is brought back from what is known.

        Returns:
            The state, and whether it is another one than that which is stored.
        """
        stored: SharedState | None = None
        if value is not None:
            # What cannot be read is of another version.
            with suppress(msgspec.MsgspecError):
                stored = _decode(value)
        if known is None:
            state, is_new = stored or self._create(), stored is None
        elif stored is not None and stored.epoch == known.epoch and stored.revision >= known.revision:
            state, is_new = stored, False
        elif stored is not None and known.epoch in stored.absorbed and stored.revision >= known.revision:
            state, is_new = stored, False
        else:
            copy = _decode(_encode(known))
            state, is_new = copy if stored is None else newer(stored, copy), True
            state.pacer.expect_probe()
        expected = now if self._offset is None else self._loop_time() + self._offset
        if state.is_of_other_clock(now, expected):
            state.rebase(now)
            is_new = True
        return state, is_new

    def _create(self) -> SharedState:
        return SharedState.create(self._limit, self._window, self._rng.getrandbits(63))

    def _settle(self, plan: _Plan, settlement: _Settlement, at: float) -> None:
        """Return a permit to the pacer, or what is known of its request if it was acquired before a loss."""
        state, outcome = plan.state, settlement.outcome
        if not state.land(settlement.record, settlement.epoch):
            if outcome.kind != "rate_limited":
                return
            # It is counted already.
            record = state.pacer.foreign_record(at)
        else:
            record = settlement.record
        before = state.pacer.is_default_limit
        sent_at = outcome.sent_at
        if sent_at is not None:
            sent_at = at - (settlement.at - sent_at)
        result = settle(state.pacer, record, outcome, at, sent_at=sent_at, jitter=settlement.jitter)
        if result.pause is not None:
            plan.pauses = [*plan.pauses, (result.pause, outcome.retry_after)]
        plan.is_delayed = plan.is_delayed or before or result.is_delayed

    def _divide(self, plan: _Plan, member: Member) -> set[str]:
        """Acquire this member's share of the permits that are free; returns the addresses of those whose share waits."""
        state, now, me = plan.state, plan.now, self._me
        headroom = next((waiter.headroom for waiter in self._background), AUTO)
        claims = state.claims(me, now)
        plan.acquired, plan.claims, plan.wake_at = [], claims, math.inf
        if not claims:
            member.wake_at = -math.inf
            return set()
        shares = state.divide(claims, now, headroom)
        direct, background = shares.of(me)
        direct = self._take(plan, self._direct, direct)
        background = self._take(plan, self._background, background)
        member.direct -= direct
        member.background -= background
        if direct or background:
            state.record_acquired(me, now, direct=direct, background=background)
            plan.claims = claims = state.claims(me, now)
        reserved = [state.members[name] for name in {**shares.direct, **shares.background} if name != me]
        ring = {other.address for other in reserved if other.wake_at > now + _SOON}
        for other in reserved:
            # It looks at once, so nobody else need ring it.
            other.wake_at = min(other.wake_at, now)
        plan.wake_at = self._next_look(plan, reserved)
        member.wake_at = plan.wake_at if plan.wake_at < math.inf else -math.inf
        return ring

    def _take(self, plan: _Plan, queue: Queue[SharedPermit], share: int) -> int:
        """Acquire permits for the first waiters of a queue, up to a share; returns their cost."""
        state, now, background, taken = plan.state, plan.now, queue is self._background, 0
        for waiter in queue:
            # The last one may cost more than is left of the share: its turn has come.
            if taken >= share:
                break
            if waiter.future.done():
                continue
            if state.pacer.ready_at(now, waiter.cost, waiter.headroom if background else 0) > now:
                break
            record = state.acquire(now, waiter.cost, background=background)
            plan.acquired.append((waiter, record))
            taken += record.cost
        return taken

    def _next_look(self, plan: _Plan, reserved: list[Member]) -> float:
        """When to look again, for the first waiters that got no permit."""
        state, now, looks = plan.state, plan.now, []
        taken = {waiter for waiter, _ in plan.acquired}
        for queue in (self._direct, self._background):
            head = next((waiter for waiter in queue if waiter not in taken and not waiter.future.done()), None)
            if head is not None:
                headroom = head.headroom if queue is self._background else None
                looks.append(state.next_look(plan.claims, self._me, now, head.cost, headroom))
        if not looks:
            return math.inf
        # Whoever does not look in time is passed over.
        looks.extend(other.wake_at + state.grace for other in reserved)
        return max(now + _SHORTEST_SLEEP, min(looks))

    def _carry_out(self) -> None:
        """Do what the last update planned, as it is written."""
        plan, self._plan = self._plan, None
        if plan is None:
            return
        now = self._loop_time()
        before, state = self._known, plan.state
        self._known, self._offset = state, plan.now - now
        del self._outbox[: plan.settled]
        self._arrivals -= plan.arrivals
        self._uncounted -= plan.uncounted
        for waiter, record in plan.acquired:
            permit = SharedPermit(record, state.epoch, self)
            self._outstanding += record.cost
            # A caller that was canceled or failed meanwhile is gone, or its future is done.
            if waiter in waiter.queue and not waiter.future.done():
                waiter.queue.remove(waiter)
                waiter.future.set_result(permit)
            else:
                permit.refund()
        self._wakeup.set(self._loop, plan.wake_at - self._offset)
        if self.exchange is not None:
            self.exchange.read(state, self._me, plan.now)
        self._report(plan, before)
        self._reject_hopeless(is_delayed=self._is_delayed(plan, before))
        if self._is_due:
            self.request_update()

    def _is_delayed(self, plan: _Plan, before: SharedState | None) -> bool:
        """Whether waits may now be longer than expected, by what this process or another one learned."""
        if plan.is_delayed or before is None:
            return True
        old, new = before.pacer, plan.state.pacer
        return old.is_default_limit or new.limit < old.limit or new.gate.closed_until > old.gate.closed_until

    def _report(self, plan: _Plan, before: SharedState | None) -> None:
        """Emit what the update brought, from here or from another process."""
        pacer, now = plan.state.pacer, plan.now
        for seconds, retry_after in plan.pauses:
            if retry_after is not None and seconds < retry_after:
                _logger.warning(LONG_PAUSE, retry_after, self._window, seconds)
            emit(self._on_event, RateLimited(seconds=seconds, from_server=retry_after is not None))
        if before is None or before.epoch != plan.state.epoch:
            return
        if pacer.limit != before.pacer.limit:
            emit(self._on_event, RateLimitUpdated(before=before.pacer.limit, limit=pacer.limit))
        gate = pacer.gate
        if not plan.pauses and gate.last_incident != before.pacer.gate.last_incident and gate.closed_until > now:
            from_server = gate.backoffs == before.pacer.gate.backoffs
            emit(self._on_event, RateLimited(seconds=gate.closed_until - now, from_server=from_server))

    # Waiters

    def _expire(self, waiter: Waiter[SharedPermit]) -> None:
        if not waiter.future.done():
            waiter.reject(max(0.0, self._expected_start(waiter) - self._loop_time()))
            self.request_update()

    def _cancel(self, waiter: Waiter[SharedPermit]) -> None:
        """Remove a canceled caller from the queue, or refund the permit that it got already."""
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result().refund()
        elif waiter in waiter.queue:
            waiter.queue.remove(waiter)
            self.request_update()

    def _expected_start(self, waiter: Waiter[SharedPermit]) -> float:
        """The earliest start of this waiter's request in the time of the event loop, as far as known."""
        queue = waiter.queue
        before = sum(other.cost for other in itertools.takewhile(lambda other: other is not waiter, queue))
        return self._expected_behind(before, waiter, self._claims())

    def _expected_behind(self, before: int, waiter: Waiter[SharedPermit], claims: dict[str, Claim]) -> float:
        """The same, behind others of this cost in its queue."""
        state, offset, background = self._known, self._offset, waiter.queue is self._background
        if state is None or offset is None:
            return self._loop_time()
        ahead = before + (self._direct.cost if background else 0)
        if self._me in claims:
            ahead += ahead_of(claims, self._me, before, background=background)
        headroom = waiter.headroom if background else 0
        return state.pacer.earliest_start(self._loop_time() + offset, ahead, waiter.cost, headroom) - offset

    def _claims(self) -> dict[str, Claim]:
        return {} if self._known is None else self._known.claims(self._me, self._loop_time() + (self._offset or 0.0))

    def _reject_hopeless(self, *, is_delayed: bool) -> None:
        """Fail the waiters whose expected wait does not fit their timeout: the new ones, or all if waits are longer."""
        unchecked, self._unchecked = set(self._unchecked), []
        # Before the first response the limit is an assumption, on which no caller is rejected.
        if self._known is None or self._known.pacer.is_default_limit or not (unchecked or is_delayed):
            return
        now, claims, before_all = self._loop_time(), self._claims(), self._direct.cost + self._background.cost
        for queue in (self._direct, self._background):
            before = 0
            for waiter in list(queue):
                if (
                    math.isfinite(waiter.expires_at)
                    and (is_delayed or waiter in unchecked)
                    and not waiter.future.done()
                ):
                    expected = self._expected_behind(before, waiter, claims)
                    if expected > waiter.expires_at:
                        waiter.reject(expected - now)
                        continue
                before += waiter.cost
        if self._direct.cost + self._background.cost != before_all:
            self.request_update()

    # The store lost, and back

    def _lose(self, error: Exception) -> None:
        """Go on with this process's share of the last state."""
        loop = self._loop
        if loop is None:
            return
        self._plan = None
        if self._lost_since is not None:
            _logger.error("The shared rate limit failed in memory", exc_info=error)
            return
        now = loop.time()
        offset = self._offset = self._offset or 0.0
        self._lost_since = now
        self._before_loss, known = self._known, self._known or self._create()
        alone = _decode(_encode(known))
        members = alone.reduce_to_share(self._me, now + offset, self._rng.getrandbits(63))
        self._known, self._store = alone, MemoryStore(lambda: loop.time() + offset)
        reason = str(error) or type(error).__name__
        event = SharedBudgetLost(reason=reason, members=members, limit=alone.pacer.limit)
        _logger.warning(
            "The store of the shared rate limit is lost (%s); going on with %d requests per window",
            reason,
            event.limit,
            extra={"event": event},
        )
        emit(self._on_event, event)
        self._try_later(loop)
        self.request_update()

    def _try_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._return_timer = loop.call_later(self._rng.uniform(_RETRY_MIN, _RETRY_MAX), self._try_again, loop)

    def _try_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._return_timer = None
        self._return_task = loop.create_task(self._return(loop), context=Context())

    async def _return(self, loop: asyncio.AbstractEventLoop) -> None:
        """Try to reach the store, and go on with it."""
        plans: list[_Plan] = []
        sent = 0

        def rejoin(value: bytes | None, now: float) -> Write:
            nonlocal sent
            plan, sent = self._rejoin(value, now)
            plans[:] = [plan]
            return Write(_encode(plan.state))

        try:
            async with asyncio.timeout(_UPDATE_TIMEOUT):
                # What was opened before may be broken.
                await self._shared_store.aclose()
                self._address = await self._shared_store.listen(self._name, self.request_update)
                await self._shared_store.update(self._name, rejoin)
        except Exception:  # noqa: BLE001 - a store may be anyone's
            self._try_later(loop)
        else:
            self._come_back(plans[0], sent)
        finally:
            self._return_task = None

    def _rejoin(self, value: bytes | None, now: float) -> tuple[_Plan, int]:
        """Count in the stored state what was sent without it; also returns the requests sent until then."""
        state, _ = self._read(value, now, self._before_loss)
        state.tidy(now)
        state.join(self._me, now, self._address)
        loop_now, offset = self._loop_time(), self._offset or 0.0
        if self._known is not None and self._lost_since is not None:
            shift = now - (loop_now + offset)
            state.rejoin(self._known, self._lost_since + offset, now, shift=shift, pause=_PAUSE)
        state.revision += 1
        state.written_at = now
        return _Plan(state, now), 0 if self._known is None else self._known.pacer.acquired_total

    def _come_back(self, plan: _Plan, sent: int) -> None:
        now = self._loop_time()
        if self._lost_since is None or self._known is None:
            return
        event = SharedBudgetBack(seconds=now - self._lost_since)
        # Acquired while the store was written.
        self._uncounted = self._known.pacer.acquired_total - sent
        self._forget_loss()
        self._known, self._offset, self._is_listening = plan.state, plan.now - now, True
        _logger.info("The store of the shared rate limit is back after %.1f s", event.seconds, extra={"event": event})
        emit(self._on_event, event)
        self.request_update()

    def _forget_loss(self) -> None:
        """Use the store again, with the state that was seen before it was lost."""
        if self._lost_since is not None:
            self._store, self._known = self._shared_store, self._before_loss
        self._lost_since = self._before_loss = self._return_timer = None

    def _seen(self) -> tuple[SharedState, float]:
        """The state that was seen last, and the time of its clock."""
        return self._known or self._create(), self._loop_time() + (self._offset or 0.0)

    def _loop_time(self) -> float:
        return 0.0 if self._loop is None else self._loop.time()

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve another event loop; the waiters of a closed one are dropped, and its flights lapse.

        Raises:
            ClientClosedError: Callers wait on the loop before, which is not closed.
        """
        self._wakeup.leave(self._loop, waiting=bool(self._direct or self._background))
        self._direct.clear()
        self._background.clear()
        self._unchecked.clear()
        self._outbox.clear()
        self._arrivals = self._outstanding = self._uncounted = 0
        self._task = self._return_task = self._plan = None
        self._is_scheduled = self._is_due = self._is_listening = False
        self._address = ""
        self._forget_loss()
        self._loop, self._offset = loop, None
