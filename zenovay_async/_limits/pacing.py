"""When a request may be sent, so that the server does not rate limit it.

The theory
==========

A server that allows ``L`` requests per window ``W`` counts in one of four ways, and a client cannot see which:

- **A fixed window**: a counter that restarts from zero every ``W`` seconds, by the clock or from the first request.
- **A sliding log**: the times of the last ``L`` requests; a new one is admitted when the oldest is ``W`` old.
- **A token bucket**: one token more every ``W / L`` seconds. It may hold ``L`` of them, or far fewer: a bucket of ten
  or of a single token (GCRA, leaky bucket, nginx ``limit_req``) allows the rate, but no burst of the whole limit.
- **A sliding counter**, as content networks use: this window's count plus the last one's, weighted by how much of it
  still overlaps the last ``W`` seconds. A burst counts against the client one window longer than it lasted.

The API documents none of them reliably ("reset every minute" on one page, an edge network's limiter on another), so
the strategy has to suit all four. It has three parts, and a request goes when all three agree; what 429s teach corrects
the parts.

**The request log** (:class:`RequestLog`). The client keeps the times of its own requests and never lets more than
``L`` into any window. That is exact for the first two kinds and for a whole bucket, on one condition: a request must be
dated when the server counted it, which is somewhere between its departure and its response. Dating it at its departure
fails as soon as latency varies: the first of a burst may be counted late and the next burst's first early. So a request
is dated at its **response** (:data:`LATEST` bounds what a slow response can cost, counted from when the request left,
which on a busy loop is later than its permit), and while it is in flight it takes up room.

**Credit** (:class:`Credit`). A burst is safe only as far as the server has proved room for it.
``X-RateLimit-Remaining`` of a response proves its figure, less the requests sent after the one that it belongs to, less
those in flight when that one was sent, as the server may not have counted either. Bursts are paid from credit. Without
it, requests are **paced**, a little slower than one every ``W / L``. One paced request with nothing else in flight
proves a whole window's credit, and the rest of the burst follows its response. This suits the sliding counter: its
``Remaining`` includes the burst that it still counts against the client, and while that is 0 the pace is slower still,
unless the server never states more, as it allows no bursts. If responses lack ``Remaining``, a burst may be spent at
once after two idle windows, when no server counts earlier requests any more, and everything else is paced: the first
burst costs the sliding kinds one window, once.

A request that was never sent returns the credit that it was paid from, unless a newer response or a 429 has replaced
that credit.

**The gate** (:class:`Gate`). A 429 shows that the server's count differs from the client's; most likely someone else
uses the key. It closes the gate for all until the time that the server names, takes away all credit, and slows the
pace, once for all requests that were in flight together. When the gate opens, one request goes first, the **probe**,
and the others follow its response; if that is a 429 as well, the pause grows, whatever time the server names. A time
longer than the window is not believed whole, as it may be in milliseconds: a probe goes after one window, then after
two more, and so on. Two windows in which the gate was open and nothing was sent reset pace and credit.

Before the first response nothing is known, so a probe goes first there as well. It costs a round trip once, learns the
limit, and finds a wrong key with one request instead of fifty.

**What 429s teach.** A 429 of a request that was paid from credit says that the burst was too large
(:class:`LearnedBurst`): bursts get the size that came through, and after a while one more. If ``Remaining`` had stated
room for it, ``Remaining`` proves nothing for a while. Where no response proves room, a burst of unknown size starts
with eight requests in flight, and grows as they succeed, so that a server that allows no bursts rejects eight requests
rather than all. A second 429 of a paced request says that the limit is lower than stated or assumed
(:class:`LearnedLimit`): it becomes what came through in the last window, and a higher one is tried after some windows
without a 429, without a burst. The same holds where ``Remaining`` is always 0, as network jitter may bring two requests
closer together than such a server allows. Requests rejected with 429 do not enter the log, as most servers do not count
them; if another 429 follows, they do, and under a ceiling always.

**Headroom** (:class:`Headroom`). Whoever waits for a permit, direct calls go before those of a batch; but a batch that
has spent a window leaves nothing to go for. So a batch leaves room for the direct calls to come. These are known as an
arrival curve: at most ``A(x) = burst + rate * x`` in the next ``x`` seconds. A background request goes only if the log
still has room for it beside them at every instant to come: for each request of the log, those dated after it, those in
flight, this one, and ``A`` of the time until it leaves the window, are at most ``L``. This one rule keeps back a share
of the window at first and lends it as the window goes by, so that a batch alone sends as many requests in the long run
as without it; and where direct calls come steadily, one request or what comes at once is free at any time.

The curve is what was seen in the last windows, rejected calls included. If these came steadily, a batch is paced as
well, as a burst would spend what they need next; if not, :data:`IDLE_SHARE` of a window is kept back, and the batch may
burst up to it. A batch that has had less than a quarter of the window leaves nothing, so that it is never starved. A
client may set a number in place of all that: background requests then take at most ``L`` less that number of any
window, whatever else is free.

**Others on the key** (:class:`KeyShare`). With several processes on one key, each with a pacer of its own,
``Remaining`` falls faster than own requests explain. Each then takes its part of what is left, half of that after a
429, and a part of the pace. Until then a client takes all, as most have the key to themselves and must not be slowed:
so the first bursts of processes that start together collide, and some 429s remain. ``rate_limit=`` set to each
process's share avoids them (``Remaining`` belongs to the key, so a share takes its part of it as well); so does a
budget that all processes share.

The state
=========

All of it is one value, a :class:`Pacer`. Nothing here waits, reads a clock or draws a random number: times (seconds of
any monotonic clock) and jitter are arguments. So a pacer may be encoded as MessagePack after any step, kept in a file
or another process, and decoded there (JSON has no infinity). A permit that is not returned yet is a value as well
(:class:`PermitRecord`). Both are encoded as arrays: a field may be appended at the end of a part, with a default; any
other change needs another :attr:`Pacer.version`.

Every request passes through here, at a cost of 2 µs. A write to a Struct takes four times as long as a read, so a field
that rarely changes is compared first; and ``ready_at`` asks a part only if that part may delay the request.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from zenovay_async._limits.credit import Credit
from zenovay_async._limits.gate import Gate
from zenovay_async._limits.headroom import Headroom
from zenovay_async._limits.key_share import ENOUGH, KeyShare
from zenovay_async._limits.learned_limits import FIRST_RAMP, LOWEST_LIMIT, LearnedBurst, LearnedLimit
from zenovay_async._limits.request_log import IDLE, LATEST, TICK, PermitRecord, RequestLog
from zenovay_async.rate_limits import RateLimit


class Pacer(msgspec.Struct, array_like=True):
    """Decides when requests may be sent: a value, with questions, and transitions that change it in place.

    Ask :meth:`ready_at`, then :meth:`acquire`, and return each permit once: with :meth:`on_response`,
    :meth:`on_rate_limited`, :meth:`on_no_response` or :meth:`refund`. Make one with :meth:`create`.

    Attributes:
        version: Version of the encoded form; decoding any other fails.
        window: Seconds of the window.
        ceiling: Requests per window never to be exceeded, whatever the server allows; ``None`` to learn the limit.
        limit: Requests per window, as far as known.
        log: The requests that count against the limit.
        credit: What bursts are paid from.
        gate: What a 429 closes.
        stated_limit: The limit that a response stated last.
        learned: Whether a response has stated the limit.
        is_default_limit: Whether the limit is the lowest plan's because no response has come yet.
        last_number: Number of the newest permit.
        acquired_total: Cost of all permits.
        newest_response: Number of the newest permit with a response; after a 429, of the newest permit at that time.
        burst: How large a burst the server lets through.
        found: The limit that 429s showed.
        key_share: The part of the key's limit that is this client's.
        headroom: What batches leave for direct calls.
    """

    version: Literal[1]
    window: float
    ceiling: int | None
    limit: int
    log: RequestLog
    credit: Credit
    gate: Gate
    stated_limit: int | None = None
    learned: bool = False
    is_default_limit: bool = False
    last_number: int = 0
    acquired_total: int = 0
    newest_response: int = 0
    burst: LearnedBurst = msgspec.field(default_factory=lambda: LearnedBurst(LOWEST_LIMIT))
    found: LearnedLimit = msgspec.field(default_factory=LearnedLimit)
    key_share: KeyShare = msgspec.field(default_factory=KeyShare)
    headroom: Headroom = msgspec.field(default_factory=Headroom)

    @classmethod
    def create(cls, ceiling: int | None, window: float, processes: int = 1) -> Pacer:
        """Make a pacer that knows nothing yet.

        Args:
            ceiling: Requests per window never to be exceeded; ``None`` to learn the limit.
            window: Seconds of the window.
            processes: How many use the key, each with a pacer of its own.
        """
        limit = LOWEST_LIMIT if ceiling is None else ceiling
        pacer = cls(
            1,
            window,
            ceiling,
            limit,
            RequestLog(),
            Credit.create(limit, window),
            Gate(),
            is_default_limit=ceiling is None,
            burst=LearnedBurst(limit),
            key_share=KeyShare.create(processes),
        )
        pacer.credit.available = pacer._burst_part(limit)
        pacer._divide()
        return pacer

    def record_arrival(self, now: float, cost: int = 1) -> None:
        """Count a direct call that asks for a permit, also if it will not wait for it: batches leave room for such."""
        self.headroom.record_arrival(now, cost, self.window)

    def is_owed(self, now: float, cost: int = 1, headroom: int = 0) -> bool:
        """Whether a background request is due its share of the window, so that not all direct calls overtake it."""
        return self.headroom.is_owed(now, self.clamp_cost(cost), headroom, self.limit, self.window)

    def ready_at(self, now: float, cost: int = 1, headroom: int = 0) -> float:
        """The earliest time at which a request may go; ``math.inf`` if a response must come first.

        Args:
            now: The time.
            cost: Requests that it takes of the limit.
            headroom: Requests of each window that it leaves for direct calls; ``AUTO`` for as many as are to be
                expected. 0 for a direct call.
        """
        window, limit, log, gate = self.window, self.limit, self.log, self.gate
        if now - log.last_use > IDLE * window:
            self._reset_if_idle(now)
        if cost > limit:
            cost = limit
        # Until the probe's response, nothing else matters.
        if gate.probe and now < (due := gate.probe_due(window)) - TICK:
            return due
        ready = now
        if gate.closed_until > now:
            ready = gate.ready_at(now)
        if len(log.times) + log.in_flight + cost > limit and (room := log.ready_at(now, cost, limit, window)) > ready:
            ready = room
        credit = self.credit
        if cost > credit.available and credit.paced_until > ready:
            ready = credit.paced_until
        if log.in_flight >= FIRST_RAMP and log.in_flight + cost > self.burst.ramp and not credit.is_proved(now):
            # A response comes first, unless all are late.
            ready = max(ready, log.last_use + window * LATEST)
        if headroom:
            interval = credit.even_interval
            ready = max(ready, self.headroom.ready_at(now, cost, headroom, log, limit, window, interval))
        return ready if ready > now + TICK else now

    def acquire(self, now: float, cost: int = 1, *, background: bool = False) -> PermitRecord:
        """Acquire a permit; valid only while :meth:`ready_at` returns now."""
        if cost > self.limit:
            cost = self.limit
        self.last_number = number = self.last_number + 1
        self.acquired_total = total = self.acquired_total + cost
        log, credit = self.log, self.credit
        in_flight, paced_until = log.in_flight, credit.paced_until
        from_idle = not in_flight and not log.times
        used = credit.spend(now, cost)
        permit = PermitRecord(number, now, cost, in_flight, total, used, paced_until, from_idle, background)
        if background:
            self.headroom.acquire(now, cost, self.window)
        log.in_flight = in_flight + cost
        log.last_use = now
        if self.gate.probing:
            self.gate.start_probe(permit)
        return permit

    def refund(self, permit: PermitRecord) -> None:
        """Undo :meth:`acquire` for a request that was never sent, except for what a response has changed since."""
        if permit.number <= self.log.abandoned:
            return
        self.log.in_flight -= permit.cost
        if permit.background:
            self.headroom.record(permit, None, self.window)
        if permit.number > self.gate.last_incident and permit.number > self.newest_response:
            self.credit.available = min(self.limit, self.credit.available + permit.credit_used)
        if permit.number == self.last_number:
            self.credit.paced_until = permit.paced_until
        self.gate.end_probe(permit)

    def on_response(
        self,
        permit: PermitRecord,
        now: float,
        *,
        limit: int | None,
        remaining: int | None,
        sent_at: float | None = None,
    ) -> None:
        """Return the permit of a request with a response that is no 429.

        Args:
            permit: The request's permit.
            now: The time.
            limit: Requests per window that the response stated; ``None`` if it had none.
            remaining: Requests left that it stated; ``None`` if it had none.
            sent_at: When the request left; ``None`` for when the permit was acquired.
        """
        dated = self.log.record(permit, now, self.window, sent_at)
        if permit.background:
            self.headroom.record(permit, dated, self.window)
        self._learn(permit, now, limit, remaining)
        gate = self.gate
        # The response to a request that was in flight when a 429 came says nothing about the time after it.
        if permit.number > gate.last_incident:
            if gate.probing:
                gate.open()
            if self.credit.slowdown > 1:
                self.credit.recover()
            if remaining is None or self.credit.is_distrusted(now):
                self._learn_success(permit, now)
            if now >= self.found.raise_at:
                self.found.raise_towards(self._stated_limit(), now, self.window)
                self._set_limit()
        elif permit.credit_used and self.burst.rejected_at > permit.at:
            # It was sent before the request that was rejected, and came through.
            self.burst.allowed = min(self.limit, self.burst.allowed + permit.credit_used)

    def on_no_response(self, permit: PermitRecord, now: float, sent_at: float | None = None) -> None:
        """Return the permit of a request without a response, which the server may have counted."""
        dated = self.log.record(permit, now, self.window, sent_at)
        if permit.background:
            self.headroom.record(permit, dated, self.window)
        self.gate.end_probe(permit)

    def on_rate_limited(
        self,
        permit: PermitRecord,
        now: float,
        *,
        retry_after: float | None,
        limit: int | None,
        jitter: float,
        sent_at: float | None = None,
    ) -> float | None:
        """Return the permit of a request that was rejected with 429.

        Args:
            permit: The request's permit.
            now: The time.
            retry_after: Seconds that the server named; ``None`` for a backoff.
            limit: Requests per window that the response stated; ``None`` if it had none.
            jitter: Share of the backoff to wait, drawn evenly from [0, 1).
            sent_at: When the request left; ``None`` for when the permit was acquired.

        Returns:
            Seconds for which the gate closes; ``None`` if another 429 of the same incident has closed it already.
        """
        log, credit, window = self.log, self.credit, self.window
        is_new = permit.number > self.gate.last_incident
        if is_new:
            log.count_rejected(now, window)
        if self.ceiling is None:
            log.record_rejected(permit, now)
        else:
            # The ceiling is about requests sent, whatever becomes of them.
            log.record(permit, now, window, sent_at)
        if permit.background:
            self.headroom.record(permit, None, window)
        self._learn(permit, now, limit, None)
        if not is_new:
            credit.available = 0
            self.gate.extend(now, retry_after, window)
            return None
        self._learn_rejection(permit, now)
        self.newest_response = self.last_number
        credit.slow_down()
        return self.gate.close(now, self.last_number, retry_after, window, jitter)

    def _learn_success(self, permit: PermitRecord, now: float) -> None:
        """Learn from the success of a request whose response proves no room."""
        burst = self.burst
        if burst.ramp < self.limit:
            burst.ramp += 1
        if permit.credit_used and burst.admitted < burst.allowed:
            burst.admitted += permit.credit_used
            if burst.allowed < self.limit and not self.credit.is_proved(now):
                self.credit.available += burst.grow(now, self.limit)

    def _learn_rejection(self, permit: PermitRecord, now: float) -> None:
        """Learn from the first 429 of an incident; a probe's says only that others use the key."""
        if self.gate.probing:
            self._reduce_share(now)
            return
        credit, share = self.credit, self.key_share
        if credit.is_proved(now) and (credit.is_stated or not permit.credit_used or share.sees_others):
            self._reduce_share(now)
        if permit.credit_used:
            if credit.is_stated and not share.sees_others:
                credit.distrust(now, self.window)
                share.forget_remaining()
            self.burst.reject(now, self.window)
            if not credit.is_proved(now):
                credit.use_whole_rate(self.limit, self.window)
        elif not credit.is_proved(now) or self.burst.allowed == 1:
            self.log.trim(now, self.window)
            self.found.lower(now, self.limit, len(self.log.times), self.window, is_proved=credit.is_proved(now))
            self._set_limit()
        self.burst.ramp = 0

    def abandon(self, now: float) -> None:
        """Date all requests in flight now: their event loop is closed, so no response will come."""
        self.log.abandon(now, self.last_number)
        self.gate.probe = 0

    def apply_ceiling(self, ceiling: int) -> None:
        """Never exceed another limit from now on."""
        self.ceiling = ceiling
        self._set_limit()

    def adopt_limit(self, other: Pacer) -> None:
        """Take over what another pacer learned of the limit."""
        self.stated_limit, self.learned, self.is_default_limit = (
            other.stated_limit,
            other.learned,
            other.is_default_limit,
        )
        self._set_limit()

    def expect_probe(self) -> None:
        """Believe no credit, and let one request go first, as others may have sent more than is known."""
        self.credit.available = 0
        self.gate.probing, self.gate.probe = True, 0
        self.gate.last_incident = self.newest_response = self.last_number

    def foreign_record(self, now: float) -> PermitRecord:
        """A permit without cost, for the response to a request that is counted already."""
        return PermitRecord(self.last_number, now, 0, 0, self.acquired_total, 0, self.credit.paced_until)

    def skip_numbers(self, last: int) -> None:
        """Number the next permits beyond those of another pacer."""
        self.last_number = self.log.abandoned = self.newest_response = self.gate.last_incident = last

    def clamp_cost(self, cost: int) -> int:
        """The cost of a request, at most the limit: more would never fit a window."""
        return min(cost, self.limit)

    def earliest_start(self, now: float, ahead: int, cost: int = 1, headroom: int = 0) -> float:
        """The earliest time at which a request may go, behind others of this total cost and headroom."""
        self._reset_if_idle(now)
        credit, cost = self.credit, self.clamp_cost(cost)
        start = self._room_at(now, ahead + cost - 1)
        if not self.log.in_flight:
            # No response is pending that could change it.
            start = max(start, self.ready_at(now, 1 if ahead else cost))
        if not credit.is_proved(now) and ahead + cost > credit.available:
            paced_from = max(self._room_at(now, min(ahead, credit.available)), credit.paced_until)
            start = max(start, paced_from + credit.seconds_for(ahead - credit.available))
        if headroom:
            limit, interval = self.limit, credit.even_interval
            burst = limit if credit.is_proved(now) else credit.available
            left = self.headroom.earliest_start(
                now, ahead, cost, headroom, self.log, limit, self.window, interval, burst
            )
            start = max(start, left)
        return start

    def snapshot(self, now: float) -> RateLimit:
        """What is known of the limit now."""
        ready = self.ready_at(now)
        # If a response has to come first, the start of a paced request is the best estimate.
        wait = max(0.0, (self.earliest_start(now, 0) if math.isinf(ready) else ready) - now)
        return RateLimit(
            limit=self.limit, remaining=self.remaining(now), window=self.window, reset_after=wait, learned=self.learned
        )

    def remaining(self, now: float) -> int:
        """Requests that may go now without waiting."""
        if self.ready_at(now) > now:
            return 0
        room = self.limit - len(self.log.times) - self.log.in_flight
        return 1 if self.gate.probing else max(1, min(room, self.credit.available))

    def _room_at(self, now: float, ahead: int) -> float:
        """When the gate is open and the log has room, behind others of this total cost."""
        return max(self.gate.closed_until, self.log.room_at(now, ahead, self.limit, self.window))

    def _reset_if_idle(self, now: float) -> None:
        log, window = self.log, self.window
        log.trim(now, window)
        idle_since = max(log.last_use, self.gate.closed_until)
        if not log.times and not log.in_flight and now - idle_since > IDLE * window:
            if self.log.rejected:
                self.log.rejected = []
            self.credit.reset(self._burst_part(self.burst.begin()))

    def _learn(self, permit: PermitRecord, now: float, limit: int | None, remaining: int | None) -> None:
        # The response to a later request is newer, even if it came earlier.
        if permit.number <= self.newest_response:
            return
        self.newest_response = permit.number
        if self.is_default_limit:
            self.is_default_limit = False
        if limit and limit != self.stated_limit:
            self.learned = True
            self.stated_limit = limit
            self.found = LearnedLimit()
            self.key_share.forget_remaining()
            self._set_limit()
        credit, burst = self.credit, self.burst
        if remaining is not None and (permit.from_idle or remaining >= burst.allowed) and not credit.is_distrusted(now):
            burst.allowed = min(remaining, self.limit - 1) + 1
        share, total = self.key_share, self.acquired_total
        if remaining is not None:
            # Observed also while it proves no room: a 429 may have come only because others took what it had stated.
            # If it fell by own requests at most, as most of the time, the next few are compared with the same one.
            before = share.remaining
            is_explained = before is not None and 0 <= before - remaining <= total - share.counted < ENOUGH
            if not (is_explained and share.part == 1):
                share.observe(permit, now, remaining, total, self.window)
                self._divide()
        credit.prove(now, remaining, total - permit.acquired_total, permit.in_flight, smooth=burst.allowed == 1)

    def _divide(self) -> None:
        """Take this client's part: what remains belongs to the key, and a ceiling below its limit is a part already."""
        share, ceiling, stated = self.key_share, self.ceiling, self.stated_limit
        if ceiling is None or stated is None or ceiling >= stated:
            self.credit.divide(share.part, share.pace)
        else:
            self.credit.divide(min(share.part, ceiling / stated), 1.0)

    def _burst_part(self, burst: int) -> int:
        """The part of a burst that no response proves room for."""
        return max(1, burst // self.key_share.processes)

    def _reduce_share(self, now: float) -> None:
        self.key_share.reject(now, self.window)
        self._divide()

    def _stated_limit(self) -> int:
        """The limit that is stated, else assumed, and not above the ceiling."""
        stated = self.stated_limit
        if self.ceiling is None:
            return LOWEST_LIMIT if stated is None else stated
        return self.ceiling if stated is None else min(stated, self.ceiling)

    def _set_limit(self) -> None:
        """Pace by the limit that is stated, or by the lower one that 429s showed."""
        limit, found = self._stated_limit(), self.found.limit
        if found is not None and found < limit:
            limit = found
        if limit != self.limit:
            before, self.limit = self.limit, limit
            self.burst.change_limit(before, limit)
            self.credit.change_limit(before, limit, self.window, bursts=self.burst.allowed >= limit)
        self._divide()
