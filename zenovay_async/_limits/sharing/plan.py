"""What one update of the shared state decides. Pure.

A store may call an update again with a newer state. So a plan changes nothing but the state that it is made of; what it
decided for the callers of this process is carried out once the state is written.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from zenovay_async._limits.headroom import AUTO
from zenovay_async._limits.request_log import PermitRecord
from zenovay_async._limits.settlement import settle
from zenovay_async.rate_limits import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zenovay_async._limits.queue import Queue, Waiter
    from zenovay_async._limits.sharing.state import Member, SharedState

SOON = 0.01
"""Seconds. A process that looks within this anyway is not rung, and need not say that it does."""

# Seconds for which a process that waits sleeps at least.
_SHORTEST_SLEEP = 1e-3


class Settlement(msgspec.Struct, frozen=True):
    """A permit that was returned, until the store knows of it.

    Attributes:
        record: The permit.
        outcome: How its request ended.
        at: When, in the time of the event loop.
        jitter: Share of a backoff to wait.
    """

    record: PermitRecord
    outcome: Outcome
    at: float
    jitter: float


class Plan:
    """What one update decides.

    Args:
        state: The state, which is changed in place.
        now: The time of the store's clock.
        me: Name of this member.

    Attributes:
        state: As given.
        now: As given.
        settled: Settlements that are in the state.
        arrivals: Cost of the direct calls that came, and are in the state.
        acquired: Callers and their permits.
        wake_at: When to look again; ``math.inf`` if nobody waits.
        pauses: Seconds for which 429s pause all callers, and those that the server named.
    """

    def __init__(self, state: SharedState, now: float, me: str) -> None:
        self.state, self.now = state, now
        self.settled = self.arrivals = 0
        self.acquired: list[tuple[Waiter, PermitRecord]] = []
        self.wake_at = math.inf
        self.pauses: list[tuple[float, float | None]] = []
        self._me = me
        self._is_delayed = False

    def settle(self, settlements: Iterable[Settlement], loop_now: float) -> None:
        """Return permits to the pacer.

        Args:
            settlements: The permits.
            loop_now: The time of the event loop.
        """
        for settlement in settlements:
            self._settle(settlement, self.now - (loop_now - settlement.at))
            self.settled += 1

    def record_arrivals(self, cost: int) -> None:
        """Count direct calls that ask for a permit."""
        self.arrivals = cost
        if cost:
            self.state.pacer.record_arrival(self.now, cost)

    def acquire_share(self, member: Member, direct: Queue, background: Queue) -> set[str]:
        """Acquire this member's share of what is free; returns the addresses of others whose share waits.

        Args:
            member: This member; what its callers wait for afterwards is kept there.
            direct: Its direct calls.
            background: Its background calls.
        """
        state, now = self.state, self.now
        member.direct, member.background = direct.cost, background.cost
        member.background_head = next((waiter.cost for waiter in background), 0)
        share, reserved = self._share(member, next((waiter.headroom for waiter in background), AUTO))
        taken = self._take(direct, share[0], background=False), self._take(background, share[1], background=True)
        if any(taken):
            member.direct -= taken[0]
            member.background -= taken[1]
            state.record_acquired(self._me, now, direct=taken[0], background=taken[1])
        ring = {other.address for other in reserved if other.wake_at > now + SOON}
        for other in reserved:
            # It looks at once, so nobody else need ring it; one that cannot be rung looks when it said so.
            if other.address:
                other.wake_at = min(other.wake_at, now)
        if member.direct or member.background:
            member.wake_at = self.wake_at = self._next_look(reserved, direct, background)
        else:
            member.wake_at = -math.inf
        return ring

    def is_delayed(self, before: SharedState | None) -> bool:
        """Whether waits may now be longer than expected, by what this process or another one learned.

        Args:
            before: The state before; ``None`` if none was seen.
        """
        if self._is_delayed or before is None:
            return True
        old, new = before.pacer, self.state.pacer
        return old.is_default_limit or new.limit < old.limit or new.gate.closed_until > old.gate.closed_until

    def _settle(self, settlement: Settlement, at: float) -> None:
        pacer, record, outcome = self.state.pacer, settlement.record, settlement.outcome
        if not self.state.land(record):
            # It was acquired before a loss, or lapsed: its request is counted already.
            if outcome.kind != "rate_limited":
                return
            record = pacer.foreign_record(at)
        sent_at = None if outcome.sent_at is None else at - (settlement.at - outcome.sent_at)
        settled = settle(pacer, record, outcome, at, sent_at=sent_at, jitter=settlement.jitter)
        if settled.pause is not None:
            self.pauses.append((settled.pause, outcome.retry_after))
        self._is_delayed = self._is_delayed or settled.is_delayed

    def _share(self, member: Member, headroom: int) -> tuple[tuple[int, int], list[Member]]:
        """This member's permits for direct and for background calls, and the others for whom some are reserved."""
        state, me = self.state, self._me
        claims = state.claims(me, self.now)
        if me in claims and len(claims) == 1 and not (member.direct and member.background):
            # Nobody is there to share with.
            return (member.direct, member.background), []
        shares = state.divide(claims, self.now, headroom)
        reserved = [state.members[name] for name in {**shares.direct, **shares.background} if name != me]
        return shares.of(me), reserved

    def _take(self, queue: Queue, share: int, *, background: bool) -> int:
        """Acquire permits for the first waiters of a queue, up to a share; returns their cost."""
        state, now, taken = self.state, self.now, 0
        for waiter in queue:
            # The last one may cost more than is left of the share, as this member may go.
            if taken >= share:
                break
            if waiter.future.done():
                continue
            if state.pacer.ready_at(now, waiter.cost, waiter.headroom) > now:
                break
            self.acquired.append((waiter, state.acquire(now, waiter.cost, background=background)))
            taken += waiter.cost
        return taken

    def _next_look(self, reserved: list[Member], direct: Queue, background: Queue) -> float:
        """When to look again, for the first waiters that got no permit."""
        state, now = self.state, self.now
        # Whoever does not look in time is passed over.
        looks = [other.wake_at + state.grace for other in reserved]
        claims = state.claims(self._me, now)
        taken = {waiter for waiter, _ in self.acquired}
        for queue in (direct, background):
            head = next((waiter for waiter in queue if waiter not in taken and not waiter.future.done()), None)
            if head is not None:
                headroom = head.headroom if queue is background else None
                looks.append(state.next_look(claims, self._me, now, head.cost, headroom))
        return max(now + _SHORTEST_SLEEP, min(looks, default=math.inf))
