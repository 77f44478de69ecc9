"""When a request may be sent, so that the server does not rate limit it.

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
server counted it, which is somewhere between its departure and its response. Dating it at its departure fails as soon
as latency varies: the first of a burst may be counted late and the next burst's first early. So a request is dated at
its **response** (:data:`_LATEST` bounds what a slow response can cost), and while it is in flight it takes up room.

**Credit** (:class:`Credit`). A burst is safe only as far as the server has proved room for it.
``X-RateLimit-Remaining`` of a response proves its figure, less the requests sent after the one that it belongs to, less
those in flight when that one was sent, as the server may not have counted either. Bursts are paid from credit. Without
it, requests are **paced**, a little slower than one every ``W / L`` (:data:`_PACE`). One paced request with nothing
else in flight proves a whole window's credit, and the rest of the burst follows its response. This suits the sliding
counter: its ``Remaining`` includes the burst that it still counts against the client, and while that is 0 the pace is
slower still (:data:`_SERVER_EMPTY`). If responses lack ``Remaining``, the whole limit may be spent at once after two
idle windows, when no server counts earlier requests any more, and everything else is paced: the first burst costs the
sliding kinds one window, once.

A request that was never sent returns the credit that it was paid from, unless a newer response or a 429 has replaced
that credit.

**The gate** (:class:`Gate`). A 429 shows that the server's count differs from the client's; most likely someone else
uses the key. It closes the gate for all until the time that the server names, takes away all credit, and slows the
pace, once for all requests that were in flight together. When the gate opens, one request goes first, the **probe**,
and the others follow its response. Two windows in which the gate was open and nothing was sent reset pace and credit.

Before the first response nothing is known, so a probe goes first there as well. It costs a round trip once, learns the
limit, and finds a wrong key with one request instead of fifty.

With several processes on one key, each with a log of its own, ``Remaining`` falls faster than expected and the gate
closes now and then. The limit is then kept on average, with some 429s. ``rate_limit=`` set to each process's share
avoids them; so does a limiter that all processes share, behind the same interface.

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

# Requests a minute of the lowest paid plan (help "Rate limits"); the first response states the real limit.
LOWEST_LIMIT = 30
# The clocks of client and server drift apart, and a server may round to its own ticks: 0.2 % of a minute is 120 ms.
_WINDOW_MARGIN = 1.002
# A request is dated at its response, but not later than this share of the window after it was sent: 2 s of a minute. A
# server counts a request when it arrives; a slower response was slow after that.
_LATEST = 1 / 30
# Two windows after the last request, no server counts anything against the client, however it counts.
_IDLE = 2.0
# 2 % slower than the limit allows, so that network jitter does not let the last of a window catch up with the next; and
# by one request in a window at least, which is more than 2 % of a limit below 51: a sliding counter rounds what it
# counts against the client up to a whole request, and rate limits the one that has less room than that.
_PACE = 1.02
# While the newest response says that nothing is left, at half the pace. A sliding counter that a burst reached around
# the end of its window frees room more slowly than the limit says, down to the rate of that window. Simulated from 40
# points of a window, a pace slower by a quarter still led to more than one 429 in a hundred there, and half the pace
# did not; the other kinds, which the log mostly governs, lose 0.4 % of the rate at most.
_SERVER_EMPTY = 2.0
# After a 429 the pace is halved, and regained by a tenth with each success: seven of them (2 x 0.9^7 < 1) to full pace.
_SLOWDOWN = 2.0
_RECOVERY = 0.9
# After a 429 without a time: full jitter up to a fifteenth of the window (4 s of a minute), doubling up to the window.
_FIRST_BACKOFF = 1 / 15
# The fourth doubling reaches the whole window; an unbounded count would overflow a float.
_MOST_BACKOFFS = 30
# Seconds. Retry-After is in whole seconds: two times that differ by no more are the same.
_ROUNDED = 1.0
# Seconds. Event loops may wake a moment early, as their clock has a resolution; a shorter wait is none.
_TICK = 1e-5


class PermitRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the pacer must know about a permit when it is returned.

    Attributes:
        number: Its number in the order of permits, counted from 1.
        at: When it was acquired.
        cost: Requests that it takes of the limit.
        in_flight: Cost of the other permits in flight when it was acquired.
        acquired_total: Cost of all permits until then, its own included.
        credit_used: The part of its cost that was paid from credit.
        paced_until: :attr:`Credit.paced_until` before it was acquired.
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
        times: Dates of the requests, oldest first; a request of cost 3 has three.
        in_flight: Cost of the permits in flight.
        last_use: When a request was last sent or dated.
        abandoned: Number of the newest permit of a closed event loop; those up to it are dated already.
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
        """When a window has room for a request behind others of this cost, if those are sent as soon as they may."""
        rounds, index = divmod(ahead - (limit - len(self.times) - self.in_flight), limit)
        if rounds < 0:
            return now
        dated = self.times[index] if index < len(self.times) else now
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
        # Responses come nearly in the order of their dates, so most are appended.
        if cost == 1 and (not times or times[-1] <= dated):
            times.append(dated)
            if times[0] <= dated - _IDLE * window:
                self.trim(now, window)
            return
        index = len(times)
        while index and times[index - 1] > dated:
            index -= 1
        times[index:index] = [dated] * cost

    def abandon(self, now: float, newest: int) -> None:
        """Date all requests in flight; their permits, up to the newest, are not dated again."""
        self.times.extend([now] * self.in_flight)
        self.in_flight, self.abandoned = 0, newest

    def trim(self, now: float, window: float) -> None:
        """Drop the dates that no window from now on can contain."""
        oldest, outdated = now - window * _WINDOW_MARGIN + _TICK, 0
        for dated in self.times:
            if dated > oldest:
                break
            outdated += 1
        if outdated:
            del self.times[:outdated]


class Credit(msgspec.Struct, array_like=True):
    """Credit, which bursts are paid from, and the pace of requests without it.

    Attributes:
        available: Requests that may go in a burst.
        even_interval: Seconds between paced requests at full pace.
        interval: Seconds between paced requests now.
        slowdown: Factor by which a 429 slows the pace; 1.0 for full pace.
        server_empty: Whether the newest response stated ``X-RateLimit-Remaining: 0``.
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
        """When a request may go: now if credit pays for it, else when the pace allows it."""
        return now if cost <= self.available else self.paced_until

    def spend(self, now: float, cost: int) -> int:
        """Pay for a request as far as credit reaches; returns the credit used."""
        used = cost if cost <= self.available else self.available
        self.available -= used
        self.paced_until = now + self.interval * cost
        return used

    def prove(self, remaining: int | None, since: int, in_flight: int) -> None:
        """Learn how much room a response proves.

        Args:
            remaining: ``X-RateLimit-Remaining``; ``None`` if it had none.
            since: Cost of the permits acquired after that of its request.
            in_flight: Cost of the other permits in flight when its own was acquired.
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
        """Seconds that a number of paced requests take, if each succeeds and so regains some of the pace."""
        seconds, slowdown = 0.0, self.slowdown
        while requests > 0 and slowdown > 1:
            seconds += self.interval * slowdown / self.slowdown
            slowdown *= _RECOVERY
            requests -= 1
        return seconds + max(0, requests) * self.interval / self.slowdown

    def change_limit(self, before: int, limit: int, window: float) -> None:
        """Pace by another limit; credit changes by the difference."""
        self.even_interval = _even_interval(limit, window)
        self._set_interval()
        self.available = max(0, self.available + limit - before)

    def slow_down(self) -> None:
        """Slow the pace and drop all credit, after a 429."""
        self.available = 0
        self.slowdown = _SLOWDOWN
        self._set_interval()

    def recover(self) -> None:
        """Regain some of the pace, after a success."""
        self.slowdown = max(1.0, self.slowdown * _RECOVERY)
        self._set_interval()

    def reset(self, limit: int) -> None:
        """Restore full credit and full pace, after two idle windows."""
        self.available = limit
        self.slowdown, self.server_empty = 1.0, False
        self._set_interval()

    def _set_interval(self) -> None:
        self.interval = self.even_interval * self.slowdown * (_SERVER_EMPTY if self.server_empty else 1.0)


class Gate(msgspec.Struct, array_like=True):
    """Closed by a 429 for all callers; opened by the response of one request, the probe.

    Attributes:
        closed_until: When it opens.
        probing: Whether requests go one at a time, until one succeeds.
        probe: Number of the probe's permit; 0 if no probe is in flight.
        probe_at: When that permit was acquired.
        backoffs: Number of 429s in a row that named no time.
        last_incident: Number of the newest permit when the last 429 came; 429s of permits up to it are one incident.
    """

    closed_until: float = -math.inf
    probing: bool = True
    probe: int = 0
    probe_at: float = -math.inf
    backoffs: int = 0
    last_incident: int = 0

    def ready_at(self, now: float) -> float:
        """When the gate is open."""
        return self.closed_until if now < self.closed_until - _TICK else now

    def probe_due(self, window: float) -> float:
        """When other requests stop waiting for the probe's response, which may be lost."""
        return self.probe_at + window * _LATEST

    def start_probe(self, permit: PermitRecord) -> None:
        """Let other requests wait for the response to this one."""
        self.probe, self.probe_at = permit.number, permit.at

    def end_probe(self, permit: PermitRecord) -> None:
        """Let another probe go if this permit, which is returned, was the probe's."""
        if self.probe == permit.number:
            self.probe = 0

    def open(self) -> None:
        """End probing, after the success of a request that was sent after the last 429."""
        self.backoffs = self.probe = 0
        self.probing = False

    def close(self, now: float, newest: int, retry_after: float | None, window: float, jitter: float) -> float:
        """Close the gate and start an incident; returns the seconds for which it closes."""
        self.last_incident = newest
        self.probing, self.probe = True, 0
        seconds = self._backoff(window, jitter) if retry_after is None else retry_after
        self.closed_until = max(self.closed_until, now + seconds)
        return seconds

    def extend(self, now: float, retry_after: float | None) -> None:
        """Keep the gate closed longer, if a further 429 of the incident names a later time."""
        if retry_after is not None and now + retry_after > self.closed_until + _ROUNDED:
            self.closed_until = now + retry_after

    def _backoff(self, window: float, jitter: float) -> float:
        bound = min(window, window * _FIRST_BACKOFF * 2.0**self.backoffs)
        self.backoffs = min(self.backoffs + 1, _MOST_BACKOFFS)
        return bound * jitter


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
        """Make a pacer that knows nothing yet.

        Args:
            ceiling: Requests per window never to be exceeded; ``None`` to learn the limit.
            window: Seconds of the window.
        """
        limit = LOWEST_LIMIT if ceiling is None else ceiling
        interval = _even_interval(limit, window)
        credit = Credit(limit, interval, interval)
        return cls(1, window, ceiling, limit, RequestLog(), credit, Gate(), is_default_limit=ceiling is None)

    def ready_at(self, now: float, cost: int = 1) -> float:
        """The earliest time at which a request may go; ``math.inf`` if a response must come first."""
        window, limit, log, gate = self.window, self.limit, self.log, self.gate
        if now - log.last_use > _IDLE * window:
            self._reset_if_idle(now)
        if cost > limit:
            cost = limit
        # Until the probe's response, nothing else matters.
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
        """Acquire a permit; valid only while :meth:`ready_at` returns now."""
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
        """Undo :meth:`acquire` for a request that was never sent, except for what a response has changed since."""
        if permit.number <= self.log.abandoned:
            return
        self.log.in_flight -= permit.cost
        if permit.number > self.gate.last_incident and permit.number > self.newest_response:
            self.credit.available = min(self.limit, self.credit.available + permit.credit_used)
        if permit.number == self.last_number:
            self.credit.paced_until = permit.paced_until
        self.gate.end_probe(permit)

    def on_response(self, permit: PermitRecord, now: float, *, limit: int | None, remaining: int | None) -> int | None:
        """Return the permit of a request with a response that is no 429.

        Args:
            permit: The request's permit.
            now: The time.
            limit: ``X-RateLimit-Limit``; ``None`` if the response had none.
            remaining: ``X-RateLimit-Remaining``; ``None`` if the response had none.

        Returns:
            The limit until now, if the response changed it; else ``None``.
        """
        self.log.record(permit, now, self.window)
        before = self._learn(permit, limit, remaining)
        gate = self.gate
        # The response to a request that was in flight when a 429 came says nothing about the time after it.
        if permit.number > gate.last_incident:
            if gate.probing:
                gate.open()
            if self.credit.slowdown > 1:
                self.credit.recover()
        return before

    def on_no_response(self, permit: PermitRecord, now: float) -> None:
        """Return the permit of a request without a response, which the server may have counted."""
        self.log.record(permit, now, self.window)
        self.gate.end_probe(permit)

    def on_rate_limited(
        self, permit: PermitRecord, now: float, *, retry_after: float | None, limit: int | None, jitter: float
    ) -> float | None:
        """Return the permit of a request that was rejected with 429.

        Args:
            permit: The request's permit.
            now: The time.
            retry_after: Seconds that the server named; ``None`` for a backoff.
            limit: ``X-RateLimit-Limit``; ``None`` if the response had none.
            jitter: Share of the backoff to wait, drawn evenly from [0, 1).

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
        """Date all requests in flight now: their event loop is closed, so no response will come."""
        self.log.abandon(now, self.last_number)
        self.gate.probe = 0

    def clamp_cost(self, cost: int) -> int:
        """The cost of a request, at most the limit: more would never fit a window."""
        return min(cost, self.limit)

    def earliest_start(self, now: float, ahead: int, cost: int = 1) -> float:
        """The earliest time at which a request may go, behind others of this total cost."""
        self._reset_if_idle(now)
        credit, cost = self.credit, self.clamp_cost(cost)
        start = self._room_at(now, ahead + cost - 1)
        if not self.log.in_flight:
            # No response is pending that could change it.
            start = max(start, self.ready_at(now, 1 if ahead else cost))
        if not credit.sees_remaining and ahead + cost > credit.available:
            paced_from = max(self._room_at(now, min(ahead, credit.available)), credit.paced_until)
            start = max(start, paced_from + credit.seconds_for(ahead - credit.available))
        return start

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
        if not log.times and not log.in_flight and now - idle_since > _IDLE * window:
            self.credit.reset(self.limit)

    def _learn(self, permit: PermitRecord, limit: int | None, remaining: int | None) -> int | None:
        # The response to a later request is newer, even if it came earlier.
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
    # A limit of 1 has no request to spare.
    return window / max(1 / _PACE, min(limit / _PACE, limit - 1))
