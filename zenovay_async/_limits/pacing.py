"""When a request may go, so that the server need not rate limit it.

The theory
==========

A server that allows ``L`` requests per window ``W`` counts in one of four ways, and a client cannot see which:

- **A fixed window**: a counter that restarts from zero every ``W`` seconds, by the clock or from the first request.
- **A sliding log**: the times of the last ``L`` requests; a new one is admitted when the oldest is ``W`` old.
- **A token bucket**: ``L`` tokens, one more every ``W / L`` seconds.
- **A sliding counter**, as content networks use: this window's count plus the last one's, weighted by how much of it
  still overlaps the last ``W`` seconds. A burst counts against the client one window longer than it lasted.

The API documents none of them reliably ("reset every minute" on one page, an edge network's limiter on another), so
the strategy has to suit all four. It has three parts, and a request goes when all three agree.

**The request log** (:class:`RequestLog`). The client keeps the times of its own requests and never lets more than
``L`` into any window. That is exact for the first three kinds, on one condition: a request must be dated when the
server counted it, which is somewhere between its departure and its response. Dating it at its departure leaks as soon
as latency varies: the first of a burst may be counted late and the next burst's first early. So a request is dated at
its **response** (:data:`_LATEST` bounds what a slow response can cost), and while it is in flight it takes up room.

**Credit** (:class:`Credit`). A burst is safe only against what the server proved it has left.
``X-RateLimit-Remaining`` of a response proves its figure, less the requests sent since the one it belongs to, less
those in flight when that one left, as the server may count either after it spoke. Bursts are paid from credit. Without
it, requests are **paced**, a little slower than one every ``W / L`` (:data:`_PACE`). One paced request with nothing
else in flight proves a whole window's credit, and the rest of the burst follows its response. This is what suits the
sliding counter: its ``Remaining`` includes the burst that it still counts against the client, and while it says 0 the
pace is slower still (:data:`_SERVER_EMPTY`). Where responses carry no ``Remaining``, the whole limit may be spent at
once after two idle windows, when no count of any kind can hold anything against the client, and everything else is
paced: the first burst costs the sliding kinds one window, once.

A request that never left returns the credit it was paid from, unless a newer response or a 429 has settled since what
is left: what the server said stands.

**The gate** (:class:`Gate`). A 429 says that the server's count differs from the client's; most likely someone else
uses the key. It closes the gate for all until the time that the server names, takes away all credit, and slows the
pace, once for all requests that were in flight together. When the gate opens, one request goes first, the **probe**,
and the others follow its response. Two windows in which the gate was open and nothing was sent wipe all this out: pace
and credit are full again.

Before the first response nothing is known, so a probe goes first then, too. It costs a round trip once, learns the
limit, and catches a wrong key for one request instead of for fifty.

With several processes on one key, each with a log of its own, ``Remaining`` falls faster than expected and the gate
closes now and then. The limit is then kept on average, with some 429s. ``rate_limit=`` set to each process's share
avoids them; so does a limiter that all processes share, behind the same interface.

The state
=========

All of it is one value, a :class:`Pacer`. Nothing here waits, reads a clock or draws a random number: times (seconds of
any monotonic clock) and jitter are arguments. So a pacer may be encoded after any step, kept in a file or another
process, and decoded there: it goes on as if nothing had happened. A permit not returned yet is a value, too
(:class:`PermitRecord`). Encoded, both are arrays: a field may be appended at the end of a part, with a default; any
other change needs another :attr:`Pacer.version`.

Every request passes through here, at a cost of 2 µs. A write to a Struct takes four times as long as a read, so what
hardly ever changes is compared first; and a part is asked only where it may object.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

# The lowest paid plan (help "Rate limits"); the first response states the real limit.
LOWEST_LIMIT = 30
# The clocks of client and server drift apart, and a server may round to its own ticks: 0.2 % of a minute is 120 ms.
_WINDOW_MARGIN = 1.002
# A request is dated at its response, but not later than this share of the window after it left: 2 s of a minute. A
# server counts a request when it arrives, and a response that took longer took its time after that.
_LATEST = 1 / 30
# Two windows after the last request, no server counts anything against the client, however it counts.
_IDLE = 2.0
# 2 % slower than the limit allows, so that network jitter does not let the last of a window catch up with the next; and
# by one request in a window at least, which is more than 2 % of a limit below 51: a sliding counter rounds what it
# counts against the client up to a whole request, and rate limits the one that has less room than that.
_PACE = 1.02
# While the newest response said that nothing was left, at half the pace. A sliding counter that a burst reached around
# the end of its window gives room more slowly than the limit says, down to the rate of that window. Simulated from 40
# points of a window, a quarter slower still left more than one 429 in a hundred there, and half the pace did not; the
# other kinds, which the log mostly governs, lose 0.4 % of the rate at most.
_SERVER_EMPTY = 2.0
# After a 429 the pace is halved, and regained by a tenth with each success: seven of them (2 x 0.9^7 < 1) to full pace.
_SLOWDOWN = 2.0
_RECOVERY = 0.9
# Where a 429 names no time: full jitter up to a fifteenth of the window (4 s of a minute), doubling up to the window.
_FIRST_BACKOFF = 1 / 15
# The fourth doubling reaches the whole window; a count that went on growing would overflow a float.
_MOST_BACKOFFS = 30
# Retry-After is in whole seconds: two times that differ by no more are the same.
_ROUNDED = 1.0
# Event loops that quantize time may wake a hair early; a wait shorter than this is none.
_TICK = 1e-5


class PermitRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the pacer must know about a permit when it is returned.

    Attributes:
        number: Its place in the order of permits, counted from 1.
        at: When it was acquired.
        cost: What it takes of the limit.
        in_flight: What other requests had in flight when it was acquired.
        acquired_total: The cost of all permits until then, its own included.
        credit_used: What of its cost was paid from credit.
        paced_until: Until when paced requests had to wait before it.
    """

    number: int
    at: float
    cost: int
    in_flight: int
    acquired_total: int
    credit_used: int
    paced_until: float


class RequestLog(msgspec.Struct, array_like=True):
    """The requests that the server may count in a window: those with a date, and those in flight.

    Attributes:
        times: Dates of the requests, oldest first.
        in_flight: What of the limit is in flight.
        last_use: When a request was last sent or counted.
        abandoned: The newest permit of an event loop that is gone: what it left in flight is counted already.
    """

    times: list[float] = msgspec.field(default_factory=list[float])
    in_flight: int = 0
    last_use: float = -math.inf
    abandoned: int = 0

    def ready_at(self, now: float, cost: int, limit: int, window: float) -> float:
        """When a window has room for a request; ``math.inf`` if a response must come first."""
        self.trim(now, window)
        times = self.times
        missing = len(times) + self.in_flight + cost - limit
        if missing <= 0:
            return now
        return math.inf if missing > len(times) else times[missing - 1] + window * _WINDOW_MARGIN

    def room_at(self, now: float, ahead: int, limit: int, window: float) -> float:
        """When a window has room for a request that so much of the limit goes ahead of, if that goes now."""
        rounds, place = divmod(ahead - (limit - len(self.times) - self.in_flight), limit)
        if rounds < 0:
            return now
        dated = self.times[place] if place < len(self.times) else now
        return max(now, dated + (rounds + 1) * window * _WINDOW_MARGIN)

    def record(self, permit: PermitRecord, now: float, window: float) -> None:
        """Date a request that was in flight."""
        if permit.number <= self.abandoned:
            return
        cost, dated = permit.cost, permit.at + window * _LATEST
        self.in_flight -= cost
        if now < dated:
            dated = now
        if dated > self.last_use:
            self.last_use = dated
        times = self.times
        # Responses come nearly in the order of their dates, so the place is nearly always the end.
        if cost == 1 and (not times or times[-1] <= dated):
            times.append(dated)
            if times[0] <= dated - _IDLE * window:
                self.trim(now, window)
            return
        place = len(times)
        while place and times[place - 1] > dated:
            place -= 1
        times[place:place] = [dated] * cost

    def abandon(self, now: float, newest: int) -> None:
        """Date all that is in flight."""
        self.times.extend([now] * self.in_flight)
        self.in_flight, self.abandoned = 0, newest

    def trim(self, now: float, window: float) -> None:
        """Drop what no window from now on can contain."""
        oldest, outdated = now - window * _WINDOW_MARGIN + _TICK, 0
        for dated in self.times:
            if dated > oldest:
                break
            outdated += 1
        if outdated:
            del self.times[:outdated]


class Credit(msgspec.Struct, array_like=True):
    """What bursts are paid from, and the pace of requests beyond it.

    Attributes:
        available: Requests that may go in a burst.
        even_interval: Seconds between paced requests at full pace.
        interval: Seconds between paced requests now.
        slowdown: By how much a 429 slowed the pace; 1.0 for not at all.
        server_empty: Whether the newest response said that nothing was left.
        paced_until: When the next paced request may go.
        sees_remaining: Whether any response stated ``X-RateLimit-Remaining``.
    """

    available: int
    even_interval: float
    interval: float
    slowdown: float = 1.0
    server_empty: bool = False
    paced_until: float = -math.inf
    sees_remaining: bool = False

    def ready_at(self, now: float, cost: int) -> float:
        """When a request may go: at once if credit pays for it, else at its pace."""
        return now if cost <= self.available else self.paced_until

    def spend(self, now: float, cost: int) -> int:
        """Pay for a request as far as credit reaches; returns what was paid."""
        used = cost if cost <= self.available else self.available
        self.available -= used
        self.paced_until = now + self.interval * cost
        return used

    def prove(self, remaining: int | None, since: int, in_flight: int) -> None:
        """Take over what a response proves.

        Args:
            remaining: What it stated; ``None`` if it stated nothing.
            since: What was sent after its request.
            in_flight: What was in flight when its request left.
        """
        empty = remaining == 0
        if empty is not self.server_empty:
            self.server_empty = empty
            self._set_interval()
        if remaining is None:
            return
        if not self.sees_remaining:
            self.sees_remaining = True
        at_most = remaining - since
        proved, available = at_most - in_flight, self.available
        if available < proved:
            available = proved
        if available > at_most:
            available = at_most
        self.available = available if available > 0 else 0

    def seconds_for(self, requests: int) -> float:
        """Seconds that so many paced requests take, if each regains some of the pace."""
        seconds, slowdown = 0.0, self.slowdown
        while requests > 0 and slowdown > 1:
            seconds += self.interval * slowdown / self.slowdown
            slowdown *= _RECOVERY
            requests -= 1
        return seconds + max(0, requests) * self.interval / self.slowdown

    def change_limit(self, before: int, limit: int, window: float) -> None:
        """Pace by another limit. What a larger one adds is there at once, unless something else speaks against it."""
        self.even_interval = _even_interval(limit, window)
        self._set_interval()
        self.available = max(0, self.available + limit - before)

    def slow_down(self) -> None:
        """After a 429."""
        self.available = 0
        self.slowdown = _SLOWDOWN
        self._set_interval()

    def recover(self) -> None:
        """After a success."""
        self.slowdown = max(1.0, self.slowdown * _RECOVERY)
        self._set_interval()

    def reset(self, limit: int) -> None:
        """After two idle windows."""
        self.available = limit
        self.slowdown, self.server_empty = 1.0, False
        self._set_interval()

    def _set_interval(self) -> None:
        self.interval = self.even_interval * self.slowdown * (_SERVER_EMPTY if self.server_empty else 1.0)


class Gate(msgspec.Struct, array_like=True):
    """Closed by a 429 for all callers; opened by the response of one request, the probe.

    Attributes:
        closed_until: When it opens.
        probing: Whether one request at a time may go, until a response comes.
        probe: The number of the permit whose response is waited for; 0 for none.
        probe_at: When that permit was acquired.
        backoffs: How many 429s in a row named no time.
        last_incident: The newest permit when the last 429 came: whatever was in flight then is part of one incident.
    """

    closed_until: float = -math.inf
    probing: bool = True
    probe: int = 0
    probe_at: float = -math.inf
    backoffs: int = 0
    last_incident: int = 0

    def ready_at(self, now: float) -> float:
        """When it is open."""
        return self.closed_until if now < self.closed_until - _TICK else now

    def probe_due(self, window: float) -> float:
        """How long the probe's response is waited for, so that a lost one holds nobody up."""
        return self.probe_at + window * _LATEST

    def start_probe(self, permit: PermitRecord) -> None:
        """Let no other request go before this one's response."""
        self.probe, self.probe_at = permit.number, permit.at

    def end_probe(self, permit: PermitRecord) -> None:
        """This permit is returned; if it was the probe, another may go."""
        if self.probe == permit.number:
            self.probe = 0

    def open(self) -> None:
        """A request that left after the last 429 succeeded."""
        self.backoffs = self.probe = 0
        self.probing = False

    def close(self, now: float, newest: int, retry_after: float | None, window: float, jitter: float) -> float:
        """Start an incident; returns the seconds for which the gate closes."""
        self.last_incident = newest
        self.probing, self.probe = True, 0
        seconds = self._backoff(window, jitter) if retry_after is None else retry_after
        self.closed_until = max(self.closed_until, now + seconds)
        return seconds

    def extend(self, now: float, retry_after: float | None) -> None:
        """Of 429s of one incident, one may name a time where another named none, or less."""
        if retry_after is not None and now + retry_after > self.closed_until + _ROUNDED:
            self.closed_until = now + retry_after

    def _backoff(self, window: float, jitter: float) -> float:
        bound = min(window, window * _FIRST_BACKOFF * 2.0**self.backoffs)
        self.backoffs = min(self.backoffs + 1, _MOST_BACKOFFS)
        return bound * jitter


class Pacer(msgspec.Struct, array_like=True):
    """Decides when requests may go: a value that questions are put to and that transitions change in place.

    Ask :meth:`ready_at`, then :meth:`acquire`, and return each permit once: with :meth:`on_response`,
    :meth:`on_rate_limited`, :meth:`on_no_response` or :meth:`refund`. Make one with :meth:`create`.

    Attributes:
        version: Of the encoded form; decoding any other fails.
        window: Seconds of the window.
        ceiling: Requests per window never to be exceeded, whatever the server allows; ``None`` to learn the limit.
        limit: Requests per window, as far as it is known.
        log: The requests that count against the limit.
        credit: What bursts are paid from.
        gate: What a 429 closes.
        stated_limit: The limit that a response stated last.
        learned: Whether a response has stated the limit.
        is_default_limit: Whether the limit is that of the lowest plan only because no response has come yet.
        last_number: The number of the newest permit.
        acquired_total: The cost of all permits.
        newest_response: The newest permit that the server has spoken about.
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

    @classmethod
    def create(cls, ceiling: int | None, window: float) -> Pacer:
        """A pacer that knows nothing yet.

        Args:
            ceiling: Requests per window never to be exceeded; ``None`` to learn the limit.
            window: Seconds of the window.
        """
        limit = LOWEST_LIMIT if ceiling is None else ceiling
        interval = _even_interval(limit, window)
        credit = Credit(limit, interval, interval)
        return cls(1, window, ceiling, limit, RequestLog(), credit, Gate(), is_default_limit=ceiling is None)

    def ready_at(self, now: float, cost: int = 1) -> float:
        """The earliest time at which a request may go, as things stand; ``math.inf`` if a response must come first."""
        window, limit, log, gate = self.window, self.limit, self.log, self.gate
        if now - log.last_use > _IDLE * window:
            self._reset_if_idle(now)
        if cost > limit:
            cost = limit
        # Until the probe's response, nothing else is worth knowing.
        if gate.probe and now < (due := gate.probe_due(window)) - _TICK:
            return due
        ready = now
        if gate.closed_until > now:
            ready = gate.ready_at(now)
        if len(log.times) + log.in_flight + cost > limit and (room := log.ready_at(now, cost, limit, window)) > ready:
            ready = room
        if cost > self.credit.available and (paced := self.credit.ready_at(now, cost)) > ready:
            ready = paced
        return ready if ready > now + _TICK else now

    def acquire(self, now: float, cost: int = 1) -> PermitRecord:
        """Let a request go; only right when :meth:`ready_at` says now."""
        if cost > self.limit:
            cost = self.limit
        self.last_number = number = self.last_number + 1
        self.acquired_total = total = self.acquired_total + cost
        log, credit = self.log, self.credit
        in_flight, paced_until = log.in_flight, credit.paced_until
        permit = PermitRecord(number, now, cost, in_flight, total, credit.spend(now, cost), paced_until)
        log.in_flight = in_flight + cost
        log.last_use = now
        if self.gate.probing:
            self.gate.start_probe(permit)
        return permit

    def refund(self, permit: PermitRecord) -> None:
        """The request never left: as if the permit had not been acquired, except that what the server said stands."""
        if permit.number <= self.log.abandoned:
            return
        self.log.in_flight -= permit.cost
        if permit.number > self.gate.last_incident and permit.number > self.newest_response:
            self.credit.available = min(self.limit, self.credit.available + permit.credit_used)
        if permit.number == self.last_number:
            self.credit.paced_until = permit.paced_until
        self.gate.end_probe(permit)

    def on_response(self, permit: PermitRecord, now: float, *, limit: int | None, remaining: int | None) -> int | None:
        """A response came that is no 429.

        Returns:
            The limit until now, if the response changed it.
        """
        self.log.record(permit, now, self.window)
        before = self._learn(permit, limit, remaining)
        gate = self.gate
        # What was in flight when a 429 came says nothing about the time after it.
        if permit.number > gate.last_incident:
            if gate.probing:
                gate.open()
            if self.credit.slowdown > 1:
                self.credit.recover()
        return before

    def on_no_response(self, permit: PermitRecord, now: float) -> None:
        """No response came, but the server may have counted the request."""
        self.log.record(permit, now, self.window)
        self.gate.end_probe(permit)

    def on_rate_limited(
        self, permit: PermitRecord, now: float, *, retry_after: float | None, limit: int | None, jitter: float
    ) -> float | None:
        """A 429 came.

        Args:
            permit: The request's permit.
            now: The time.
            retry_after: Seconds that the server named; ``None`` for a backoff.
            limit: The limit that the response stated, if any.
            jitter: Drawn evenly from [0, 1): the share of the backoff to wait.

        Returns:
            Seconds for which the gate closes; ``None`` if another 429 of the same incident has closed it already.
        """
        self.log.record(permit, now, self.window)
        self._learn(permit, limit, None)
        if permit.number <= self.gate.last_incident:
            self.credit.available = 0
            self.gate.extend(now, retry_after)
            return None
        self.newest_response = self.last_number
        self.credit.slow_down()
        return self.gate.close(now, self.last_number, retry_after, self.window, jitter)

    def abandon(self, now: float) -> None:
        """No response to what is in flight will come any more, as its event loop is gone: count it as sent now."""
        self.log.abandon(now, self.last_number)
        self.gate.probe = 0

    def clamp_cost(self, cost: int) -> int:
        """What a request of this cost takes: never more than a whole window has."""
        return min(cost, self.limit)

    def earliest_start(self, now: float, ahead: int, cost: int = 1) -> float:
        """The earliest time at which a request may go if so much of the limit goes ahead of it."""
        self._reset_if_idle(now)
        credit, cost = self.credit, self.clamp_cost(cost)
        start = self._room_at(now, ahead + cost - 1)
        if not self.log.in_flight:
            # No response can come that would change it.
            start = max(start, self.ready_at(now, 1 if ahead else cost))
        if not credit.sees_remaining and ahead + cost > credit.available:
            paced_from = max(self._room_at(now, min(ahead, credit.available)), credit.paced_until)
            start = max(start, paced_from + credit.seconds_for(ahead - credit.available))
        return start

    def remaining(self, now: float) -> int:
        """How much may go now without waiting."""
        if self.ready_at(now) > now:
            return 0
        room = self.limit - len(self.log.times) - self.log.in_flight
        return 1 if self.gate.probing else max(1, min(room, self.credit.available))

    def _room_at(self, now: float, ahead: int) -> float:
        """When the gate is open and the log has room; the time of the next request decides from when on."""
        return max(self.gate.closed_until, self.log.room_at(now, ahead, self.limit, self.window))

    def _reset_if_idle(self, now: float) -> None:
        log, window = self.log, self.window
        log.trim(now, window)
        idle_since = max(log.last_use, self.gate.closed_until)
        if not log.times and not log.in_flight and now - idle_since > _IDLE * window:
            self.credit.reset(self.limit)

    def _learn(self, permit: PermitRecord, limit: int | None, remaining: int | None) -> int | None:
        # What the server said to a later request is newer than this, however late this came.
        if permit.number <= self.newest_response:
            return None
        self.newest_response = permit.number
        if self.is_default_limit:
            self.is_default_limit = False
        before = self._learn_limit(limit) if limit and limit != self.stated_limit else None
        self.credit.prove(remaining, self.acquired_total - permit.acquired_total, permit.in_flight)
        return before

    def _learn_limit(self, stated: int) -> int | None:
        self.learned = True
        self.stated_limit = stated
        limit = stated if self.ceiling is None else min(stated, self.ceiling)
        if limit == self.limit:
            return None
        before, self.limit = self.limit, limit
        self.credit.change_limit(before, limit, self.window)
        return before


def _even_interval(limit: int, window: float) -> float:
    # A limit of 1 leaves nothing to take one away from.
    return window / max(1 / _PACE, min(limit / _PACE, limit - 1))
