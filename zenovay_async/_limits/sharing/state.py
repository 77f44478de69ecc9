"""What the processes that share a budget know: one value, kept in a store. Pure.

The pacer is part of it, so one theory of pacing serves one process and many. What is added is what only many need:

- **Members** and what each waits for, by which :mod:`zenovay_async._limits.sharing.fairness` divides the permits. A
  member that may go now keeps its permits reserved until it looks, and for a little longer (:attr:`SharedState.grace`):
  then it is passed over, so nobody waits for a process that was killed or stopped.
- **Flights**: permits in flight lapse by themselves once no server can count their requests any more. So a process that
  is killed costs what its requests would have cost, and there is no lease to renew.
- **Recovery**: a store may be lost, and come back empty or with an older value. Each process keeps the state that it
  saw last. Meanwhile it goes on with its share of it (:meth:`SharedState.reduce_to_share`); afterwards the newer state
  is kept, and what is missing there is counted (:func:`reconcile`, :meth:`SharedState.rejoin`).

Times are of the store's clock. The state is encoded as an array, as the pacer is: a field may be appended at the end,
with a default; any other change needs another :data:`VERSION`.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final, Literal

import msgspec

from zenovay_async._limits.outage import Outage
from zenovay_async._limits.pacing import Pacer
from zenovay_async._limits.request_log import IDLE, LATEST, WINDOW_MARGIN, PermitRecord
from zenovay_async._limits.sharing.fairness import Claim, Shares, ahead_of, divide, next_streak

VERSION: Final = 1
"""Version of the encoded form."""

# Seconds for which a member's permits stay reserved after it should have looked, and the share of a window that this
# may be. A process that is busy, or loses the race for a write, for longer lets the others pass: once, so a killed one
# costs them no more than this.
_LONGEST_GRACE, _GRACE = 0.25, 1 / 12
# A member that has not written for two windows and so many seconds is gone; it comes back with its next write.
_FORGET_AFTER = 10.0
# Seconds by which clocks may differ; a greater jump is an error of one of them.
_CLOCK_TOLERANCE = 1.0
# Members that are assumed where the store could not be reached from the start.
_ASSUMED_MEMBERS = 4


class Member(msgspec.Struct, array_like=True):
    """One of those who share a budget: a process, or a thread of it.

    Attributes:
        seen: When it last wrote.
        tag: Its permits in the common count, by which who had least goes first.
        direct: Cost of its direct calls that wait.
        background: Cost of its background calls that wait.
        wake_at: When it looks again; ``-math.inf`` if nothing waits.
        address: Where to ring it; ``""`` for nowhere.
        background_head: Cost of the first of its background calls.
    """

    seen: float = -math.inf
    tag: int = 0
    direct: int = 0
    background: int = 0
    wake_at: float = -math.inf
    address: str = ""
    background_head: int = 0


class SharedQuota(msgspec.Struct, array_like=True):
    """The monthly quota as all know it; times are in Unix seconds, but for that of the probe.

    Attributes:
        used: Requests used this month, as the newest response stated it.
        limit: Requests allowed per month.
        resets_at: When the count restarts, as the server stated it.
        total: Requests ever made with the key.
        exhaustions: Number of changes of ``exhausted_until``; the greater one is the newer.
        exhausted_until: Until when the quota is exhausted; ``None`` if it is not.
        probe_at: When the next probe may go; of the store's clock.
        restarts: Number of times that the count restarted; the greater one is the newer.
        month_ends: When the count restarts, as far as known.
    """

    used: int | None = None
    limit: int | None = None
    resets_at: float | None = None
    total: int | None = None
    exhaustions: int = 0
    exhausted_until: float | None = None
    probe_at: float | None = None
    restarts: int = 0
    month_ends: float | None = None


class SharedState(msgspec.Struct, array_like=True):
    """What the processes that share a budget know.

    Attributes:
        version: Version of the encoded form; decoding any other fails.
        epoch: Drawn when the state is made, and when it is brought back after a loss.
        pacer: The pacer; its times are of the store's clock.
        revision: Number of writes.
        members: Those who share, by name.
        flights: When each permit in flight was acquired, and its cost, by number; what a killed process holds lapses.
        virtual_time: The common count of fair queueing.
        direct_streak: Direct calls that overtook background calls in a row.
        retries: Retries that may still be made.
        outage: Whether the server is away; its times are of the store's clock.
        outages: Number of beginnings and ends of outages; the greater one is the newer.
        probe_by: Name of the member whose probe of an outage is in flight; ``""`` for none.
        probe_until: When that probe counts as lost.
        quota: The monthly quota.
        rejoining_until: Until when those who were without the store count what they sent meanwhile.
        written_at: When it was last written.
    """

    version: Literal[1]
    epoch: int
    pacer: Pacer
    revision: int = 0
    members: dict[str, Member] = msgspec.field(default_factory=dict[str, Member])
    flights: dict[int, tuple[float, int]] = msgspec.field(default_factory=dict[int, tuple[float, int]])
    virtual_time: int = 0
    direct_streak: int = 0
    retries: float | None = None
    outage: Outage = msgspec.field(default_factory=Outage)
    outages: int = 0
    probe_by: str = ""
    probe_until: float = -math.inf
    quota: SharedQuota = msgspec.field(default_factory=SharedQuota)
    rejoining_until: float = -math.inf
    written_at: float = -math.inf

    @classmethod
    def create(cls, ceiling: int | None, window: float, epoch: int) -> SharedState:
        """Make a state that knows nothing yet.

        Args:
            ceiling: Requests per window never to be exceeded; ``None`` to learn the limit.
            window: Seconds of the window.
            epoch: A random number.
        """
        return cls(VERSION, epoch, Pacer.create(ceiling, window))

    @property
    def grace(self) -> float:
        """Seconds for which a member's permits stay reserved after it should have looked."""
        return min(_LONGEST_GRACE, self.pacer.window * _GRACE)

    def continues(self, known: SharedState) -> bool:
        """Whether this state followed another one, so that it has all that is in that one."""
        return self.epoch == known.epoch and self.revision >= known.revision

    def tidy(self, now: float) -> None:
        """Let the flights lapse that no server counts any more, and forget the members that are gone."""
        window = self.pacer.window
        lapsed = now - window * (WINDOW_MARGIN + LATEST)
        # In order of their numbers, and so of their times.
        for number, (at, cost) in list(self.flights.items()):
            if at > lapsed:
                break
            del self.flights[number]
            self.pacer.log.in_flight -= cost
        gone = now - IDLE * window - _FORGET_AFTER
        for name in [name for name, member in self.members.items() if member.seen < gone]:
            del self.members[name]

    def join(self, me: str, now: float, address: str) -> Member:
        """Find or make a member, which is alive."""
        member = self.members.get(me)
        if member is None:
            member = self.members[me] = Member(tag=self.virtual_time)
        member.seen, member.address = now, address
        return member

    def acquire(self, now: float, cost: int, *, background: bool) -> PermitRecord:
        """Acquire a permit; valid only while the pacer is ready for it."""
        record = self.pacer.acquire(now, cost, background=background)
        self.flights[record.number] = (now, record.cost)
        return record

    def land(self, record: PermitRecord) -> bool:
        """End the flight of a permit; returns whether it was one, and is now to be returned to the pacer."""
        flight = self.flights.get(record.number)
        # After a loss, other permits may have had the same numbers.
        if flight is None or flight[0] != record.at:
            return False
        del self.flights[record.number]
        return True

    def claims(self, me: str, now: float) -> dict[str, Claim]:
        """What the members wait for that are awake, by name; one that is late is passed over."""
        late = now - self.grace
        return {
            name: Claim(max(member.tag, self.virtual_time), member.direct, member.background, member.background_head)
            for name, member in self.members.items()
            if (member.direct or member.background) and (name == me or member.wake_at >= late)
        }

    def divide(self, claims: dict[str, Claim], now: float, headroom: int) -> Shares:
        """Divide the permits that are free now.

        Args:
            claims: What the members wait for.
            now: The time.
            headroom: What background calls leave to direct ones.
        """
        free = self.pacer.remaining(now)
        if not free:
            return Shares({}, {})
        head = max((claim.background_head for claim in claims.values()), default=1)
        return divide(
            claims,
            free,
            self._free_background(now, free, headroom),
            self.direct_streak,
            is_owed=self.pacer.is_owed(now, head, headroom),
        )

    def record_acquired(self, me: str, now: float, *, direct: int, background: int) -> None:
        """Count the permits that a member acquired."""
        member, late = self.members[me], now - self.grace
        member.tag = max(member.tag, self.virtual_time)
        # The common count stands where the member stands that waits and had least; those served last do not drag it on.
        waiting = [
            other.tag
            for other in self.members.values()
            if (other.direct or other.background) and (other is member or other.wake_at >= late)
        ]
        self.virtual_time = max(self.virtual_time, min([member.tag, *waiting]))
        member.tag += direct + background
        background_waits = any(other.background for other in self.members.values())
        self.direct_streak = next_streak(self.direct_streak, direct, background) if background_waits else 0

    def next_look(self, claims: dict[str, Claim], me: str, now: float, cost: int, headroom: int | None) -> float:
        """When a member that waits should look again, unless it is rung.

        Args:
            claims: What the members wait for.
            me: The member.
            now: The time.
            cost: Cost of its next call.
            headroom: What that call leaves to direct ones, if it is a background call; ``None`` for a direct call.
        """
        pacer = self.pacer
        window, background = pacer.window, headroom is not None
        ready = pacer.ready_at(now, cost, headroom or 0)
        if math.isinf(ready):
            # A response has to come first, which rings; or the flight of a killed process has to lapse.
            first = min((at for at, _ in self.flights.values()), default=now)
            ready = first + window * (WINDOW_MARGIN + LATEST)
        ahead = ahead_of(claims, me, 0, background=background)
        if ahead:
            ready = max(ready, pacer.earliest_start(now, ahead, cost, headroom or 0))
            credit = pacer.credit
            unpaid = ahead + cost - credit.available
            if pacer.gate.probing:
                ready = max(ready, now + window * LATEST)
            elif unpaid > 0:
                paced_from = now + credit.interval if credit.available else max(now, credit.paced_until)
                ready = max(ready, paced_from + credit.interval * (unpaid - 1))
        return min(ready, now + window / 2)

    def rebase(self, now: float) -> None:
        """Go on after the clock jumped: all that was sent counts from now, and one request probes."""
        pacer, written_at = self.pacer, self.written_at
        closed_for = min(pacer.window, max(0.0, pacer.gate.closed_until - written_at))
        sent = min(pacer.limit, len(pacer.log.times) + pacer.log.in_flight)
        fresh = Pacer.create(pacer.ceiling, pacer.window)
        fresh.adopt_limit(pacer)
        fresh.log.times, fresh.log.last_use = [now] * sent, now
        fresh.gate.closed_until = now + closed_for
        fresh.credit.available = 0
        fresh.skip_numbers(pacer.last_number)
        self.pacer, self.flights, self.members = fresh, {}, {}
        self.outage.rebase(now)
        self.rejoining_until = self.probe_until = -math.inf
        self.written_at = now

    def is_of_other_clock(self, now: float, expected: float) -> bool:
        """Whether the clock jumped since this was written.

        Args:
            now: The time.
            expected: The time as it should be, by another clock.
        """
        if self.written_at > now + _CLOCK_TOLERANCE:
            return True
        jump = now - expected
        return abs(jump) > _CLOCK_TOLERANCE and abs(self.written_at - expected) < abs(self.written_at - now)

    def reduce_to_share(self, me: str, now: float) -> int:
        """Keep the share with which one member may go on by itself; returns among how many it divides the limit."""
        self.tidy(now)
        pacer = self.pacer
        log = pacer.log
        members = max(1, len(self.members)) if self.revision else _ASSUMED_MEMBERS
        times = log.times + [now] * log.in_flight
        # The youngest of each few, so that a whole window of all members fits one of this member.
        log.times = [times[min(first + members - 1, len(times) - 1)] for first in range(0, len(times), members)]
        self.flights, log.in_flight, log.abandoned = {}, 0, pacer.last_number
        pacer.apply_ceiling(max(1, pacer.limit // members))
        pacer.headroom.background = []
        # What was seen last may be spent by the others.
        pacer.credit.available = 0
        pacer.gate.probe = 0
        mine = self.members.get(me)
        self.members = {} if mine is None else {me: mine}
        self.probe_by, self.direct_streak = "", 0
        return members

    def rejoin(self, alone: SharedState, since: float, now: float, *, shift: float, pause: float) -> None:
        """Count what one member sent without the store.

        Args:
            alone: The state with which it went on.
            since: When it lost the store.
            now: The time.
            shift: Seconds by which the store's clock is ahead of the one with which it went on.
            pause: Seconds for which the first to come back closes the gate, so that the others can come back too.
        """
        log, gate = alone.pacer.log, self.pacer.gate
        gate.closed_until = max(gate.closed_until, alone.pacer.gate.closed_until + shift)
        self.count([min(now, at + shift) for at in log.times if at > since] + [now] * log.in_flight)
        if now > self.rejoining_until:
            self.rejoining_until = now + pause
            gate.closed_until = max(gate.closed_until, self.rejoining_until)

    def absorb(self, other: SharedState, now: float) -> None:
        """Count the requests of another state of the same key that are not in this one.

        Requests that are in flight there count from now, as their permits do not land here.
        """
        oldest = now - self.pacer.window * WINDOW_MARGIN
        missing = Counter(at for at in other.pacer.log.times if at > oldest) - Counter(self.pacer.log.times)
        times = list(missing.elements())
        for number, (at, cost) in other.flights.items():
            if at > oldest and self.flights.get(number) != (at, cost):
                times += [now] * cost
        gate = self.pacer.gate
        gate.closed_until = max(gate.closed_until, other.pacer.gate.closed_until)
        if not self.pacer.learned:
            self.pacer.adopt_limit(other.pacer)
        if times:
            self.count(times)

    def count(self, times: list[float]) -> None:
        """Add requests to the log; from then on the credit is unknown, and one request probes."""
        pacer = self.pacer
        pacer.log.times = sorted(pacer.log.times + times)
        if times:
            pacer.log.last_use = max(pacer.log.last_use, pacer.log.times[-1])
        pacer.acquired_total += len(times)
        pacer.expect_probe()

    def _free_background(self, now: float, free: int, headroom: int) -> int:
        """How many of the free permits background calls may have."""
        if not headroom or self.pacer.ready_at(now, free, headroom) <= now:
            return free
        low, high = 0, free - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.pacer.ready_at(now, middle, headroom) <= now:
                low = middle
            else:
                high = middle - 1
        return low


def reconcile(stored: SharedState | None, known: SharedState, now: float, epoch: int) -> SharedState:
    """The state to go on with where the stored one does not follow the one that is known: the store lost something.

    Each process does this once, with what it knows, and none counts what another one brought back.

    Args:
        stored: What the store has; ``None`` for nothing.
        known: What this process saw last; it may become the state.
        now: The time.
        epoch: A random number.
    """
    if stored is not None and stored.revision >= known.revision:
        stored.absorb(known, now)
        return stored
    if stored is not None:
        known.absorb(stored, now)
    known.epoch = epoch
    known.pacer.expect_probe()
    return known
