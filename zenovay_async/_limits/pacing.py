"""When a request may go, so that the server need not refuse it.

The theory
==========

A server that allows ``L`` requests per window ``W`` keeps one of four counts, and a client cannot see which:

- **A fixed window**: a counter that starts from nothing every ``W`` seconds, by the clock or from the first request.
- **A sliding log**: the times of the last ``L`` requests; a new one is let in when the oldest is ``W`` old.
- **A token bucket**: ``L`` tokens, one more every ``W / L`` seconds.
- **A sliding counter**, as content networks use: this window's count plus the last one's, weighted by how much of it
  still overlaps the last ``W`` seconds. A burst is held against the client one window longer than it lasted.

The API documents none of them for sure ("reset every minute" on one page, an edge network's limiter on another), so
the strategy has to meet all four. It has three parts, and a request goes when all of them agree.

**The log.** The client keeps the times of its own requests and never lets more than ``L`` into any window. That is
exact for the first three kinds, on one condition: a request must be dated when the server counted it, which is
somewhere between its leaving and its answer. Dating it when it left leaks as soon as latency varies: the first of a
burst may be counted late and the next burst's first early. So a request is dated at its **answer** (:data:`_LATEST`
bounds what a slow answer can cost), and while it is on its way it holds its place.

**Credit.** A burst is safe only against what the server proved it has left. ``X-RateLimit-Remaining`` of an answer
proves its figure, less the requests sent since the one that it answers, less those on their way when that one left,
as the server may count either after it had spoken. Credit is what bursts are paid from. Without it, requests are
**paced**, a little slower than one every ``W / L`` (:data:`_PACE`). One paced request with nothing else on its way
proves a whole window's credit, and the rest of the burst follows on its answer. This is what meets the sliding
counter: its ``Remaining`` tells of the burst it still holds against the client, and while it says 0 the pace is slower
still (:data:`_FULL`). Where answers carry no ``Remaining``, the whole limit may be spent at once after two idle
windows, when no count of any kind can hold anything against the client, and everything else is paced: the first burst
costs the sliding kinds one window, once.

A request that never left gives back the credit that it was paid from, unless a newer answer or a 429 has settled since
what is left: what the server said stands.

**The gate.** A 429 says that the count is other than believed; most likely someone else uses the key. It closes the
gate for all until the server's time, takes away all credit, and slows the pace, once for all requests that were on
their way together. When the gate opens, one request goes first, and the others follow on its answer. Two windows in
which the gate was open and nothing was sent wipe all this out: what was slow or spent then is full again.

Before the first answer nothing is known, so one request goes first then, too. It costs a round trip once, learns the
limit, and catches a wrong key for one request instead of for fifty.

With several processes on one key, each with a log of its own, ``Remaining`` falls faster than expected and the gate
closes now and then. The limit is then kept on average, with some refusals. ``rate_limit=`` set to each process's share
avoids them; a limiter that all processes share does, too, behind the same interface.

Times are seconds of any monotonic clock, handed in. Nothing here waits.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import random

# The lowest paid plan (help "Rate limits"); the first answer tells the real one.
LOWEST_LIMIT = 30
# Clocks of client and server run apart a little, and a server may round to its own ticks: 0.2 % of a minute is 120 ms.
_WINDOW_MARGIN = 1.002
# A request is dated at its answer, but not later than this share of the window after it left: 2 s of a minute. A
# server counts a request when it comes, and an answer that took longer took its time after that.
_LATEST = 1 / 30
# 2 % slower than the limit allows, so that jitter on the way does not let the last of a window catch up with the next;
# and by one request in a window at least, which is more than 2 % of a limit below 51: a sliding counter rounds what it
# holds against the client up to a whole request, and refuses the one that has less room than that.
_PACE = 1.02
# While the newest answer said that nothing was left, at half the pace. A sliding counter that a burst reached around
# the end of its window gives room more slowly than the limit says, down to the rate of that window. Simulated from 40
# points of a window, a quarter slower still left more than one refusal in a hundred there, and half the pace did not;
# the other kinds, which the log mostly governs, lose 0.4 % of the rate at most.
_FULL = 2.0
# After a 429 the pace is halved, and won back by a tenth with each success: seven of them (2 x 0.9^7 < 1) to full pace.
_SLOWED = 2.0
_RECOVERY = 0.9
# Where a 429 names no time: full jitter up to a fifteenth of the window (4 s of a minute), doubling up to the window.
_FIRST_BACKOFF = 1 / 15
# Retry-After is in whole seconds: two times that differ by no more are the same.
_ROUNDED = 1.0
# Event loops that quantise time may wake a hair early; a wait shorter than this is none.
_TICK = 1e-5


class Grant(msgspec.Struct, gc=False):
    """The right to send one request.

    Attributes:
        number: Its place in the order of grants.
        at: When it was given.
        cost: What it takes of the limit.
        passed: What others had on their way when it was given.
        spent: All that had been granted, itself included.
        paid: What of its cost was paid from credit.
        paced_before: Until when paced requests had to wait before it.
    """

    number: int
    at: float
    cost: int
    passed: int
    spent: int
    paid: int
    paced_before: float


class Pacer:
    """Decides when requests may go. Knows no clock and no waiting: both are the caller's.

    Args:
        ceiling: Requests per window never to be exceeded, whatever the server allows; ``None`` to learn the limit.
        window: Seconds of the window.
        rng: Draws the jitter.

    Attributes:
        window: As given.
        limit: Requests per window believed in.
        learned: Whether an answer has stated the limit.
        guessing: Whether the limit is that of the lowest plan only because no answer has come yet.
        in_flight: What of the limit is on its way.
        closed_until: When the gate opens.
    """

    def __init__(self, ceiling: int | None, window: float, rng: random.Random) -> None:
        self.window = window
        self.limit = ceiling if ceiling is not None else LOWEST_LIMIT
        self.learned = False
        self.guessing = ceiling is None
        self.in_flight = 0
        self.closed_until = -math.inf
        self._ceiling = ceiling
        self._stated: int | None = None
        self._latest = window * _LATEST
        self._idle = 2 * window
        self._rng = rng
        self._log: deque[float] = deque()
        self._credit = self.limit
        self._sees_remaining = False
        self._paced_until = -math.inf
        self._slow = 1.0
        self._full = False
        self._gap = self._even_gap()
        self._backoffs = 0
        self._probe: Grant | None = None
        self._probing = True
        self._numbers = 0
        self._spent = 0
        self._newest_answer = 0
        self._last_incident = 0
        self._abandoned = 0
        self._last_use = -math.inf

    def ready_at(self, now: float, cost: int = 1) -> float:
        """The earliest time at which a request of this cost may go, as things stand.

        ``math.inf`` where that depends on an answer that has not come yet.
        """
        if now - self._last_use > self._idle:
            self._forget(now)
        limit, log, free = self.limit, self._log, now
        if cost > limit:
            cost = limit
        if now < self.closed_until - _TICK:
            free = self.closed_until
        if self._probing and self._probe is not None:
            patience = self._probe.at + self._latest
            if now < patience - _TICK:
                return patience
        if len(log) + self.in_flight + cost > limit:
            self._forget(now)
            missing = len(log) + self.in_flight + cost - limit
            if missing > len(log):
                return math.inf
            if missing > 0:
                free = max(free, log[missing - 1] + self.window * _WINDOW_MARGIN)
        if self._credit < cost and free < self._paced_until:
            free = self._paced_until
        return free if free > now + _TICK else now

    def grant(self, now: float, cost: int = 1) -> Grant:
        """Let a request go; only right when :meth:`ready_at` says now."""
        if cost > self.limit:
            cost = self.limit
        self._numbers += 1
        self._spent += cost
        paid = cost if cost <= self._credit else self._credit
        granted = Grant(self._numbers, now, cost, self.in_flight, self._spent, paid, self._paced_until)
        self.in_flight += cost
        self._credit -= paid
        self._paced_until = now + self._gap * cost
        self._last_use = now
        if self._probing:
            self._probe = granted
        return granted

    def fitting(self, cost: int) -> int:
        """What a request of this cost takes: never more than a whole window has."""
        return min(cost, self.limit)

    def refund(self, granted: Grant) -> None:
        """The request never left: as if it had not been granted, except that what the server said since stands."""
        if granted.number <= self._abandoned:
            return
        self.in_flight -= granted.cost
        if granted.number > self._last_incident and granted.number > self._newest_answer:
            self._credit = min(self.limit, self._credit + granted.paid)
        if granted.number == self._numbers:
            self._paced_until = granted.paced_before
        if self._probe is granted:
            self._probe = None

    def answered(self, granted: Grant, now: float, *, limit: int | None, remaining: int | None) -> int | None:
        """An answer came that is no 429; returns the limit believed before, where it changed it."""
        self._count(granted, now)
        before = self._learn(granted, limit, remaining)
        # What was on its way when a 429 came says nothing about the time after it.
        if granted.number > self._last_incident:
            self._backoffs = 0
            self._probing = False
            if self._slow > 1:
                self._slow = max(1.0, self._slow * _RECOVERY)
                self._gap = self._even_gap()
        return before

    def unanswered(self, granted: Grant, now: float) -> None:
        """No answer came, but the server may have counted the request."""
        self._count(granted, now)

    def refused(self, granted: Grant, now: float, retry_after: float | None, limit: int | None) -> float | None:
        """A 429 came; returns the seconds for which the gate closes, ``None`` where that is settled already."""
        self._count(granted, now)
        self._learn(granted, limit, None)
        self._credit = 0
        if granted.number <= self._last_incident:
            # Of those that were on their way together, one may name a time where another named none, or less.
            if retry_after is not None and now + retry_after > self.closed_until + _ROUNDED:
                self.closed_until = now + retry_after
            return None
        self._last_incident = self._newest_answer = self._numbers
        self._slow = _SLOWED
        self._gap = self._even_gap()
        self._probing, self._probe = True, None
        seconds = retry_after if retry_after is not None else self._backoff()
        self.closed_until = max(self.closed_until, now + seconds)
        return seconds

    def free_at(self, now: float, ahead: int, cost: int = 1) -> float:
        """No earlier than when will a request of this cost go that has so much of the limit granted before it?"""
        self._forget(now)
        cost = self.fitting(cost)
        free = self._room_at(now, ahead + cost - 1)
        if not self.in_flight:
            # No answer can come that would change it.
            free = max(free, self.ready_at(now, 1 if ahead else cost))
        if not self._sees_remaining and ahead + cost > self._credit:
            begun = max(self._room_at(now, min(ahead, self._credit)), self._paced_until)
            free = max(free, begun + self._paced(ahead - self._credit))
        return free

    def _paced(self, requests: int) -> float:
        """Seconds that so many paced requests take, if each wins back some of the pace."""
        seconds, slow = 0.0, self._slow
        while requests > 0 and slow > 1:
            seconds += self._gap * slow / self._slow
            slow *= _RECOVERY
            requests -= 1
        return seconds + max(0, requests) * self._gap / self._slow

    def _room_at(self, now: float, ahead: int) -> float:
        """When the log will have room for a request that has this much granted before it."""
        start = max(now, self.closed_until)
        rounds, place = divmod(ahead - (self.limit - len(self._log) - self.in_flight), self.limit)
        if rounds < 0:
            return start
        dated = self._log[place] if place < len(self._log) else now
        return max(start, dated + (rounds + 1) * self.window * _WINDOW_MARGIN)

    def remaining(self, now: float) -> int:
        """How much could go now without waiting."""
        if self.ready_at(now) > now:
            return 0
        return 1 if self._probing else max(1, min(self.limit - len(self._log) - self.in_flight, self._credit))

    def abandon(self, now: float) -> None:
        """Whatever is on its way will not be answered here any more: its event loop is gone."""
        self._log.extend([now] * self.in_flight)
        self.in_flight = 0
        self._probe = None
        self._abandoned = self._numbers

    def _even_gap(self) -> float:
        # A limit of 1 leaves nothing to take one away from.
        even = self.window / max(1 / _PACE, min(self.limit / _PACE, self.limit - 1))
        return even * self._slow * (_FULL if self._full else 1.0)

    def _backoff(self) -> float:
        bound = min(self.window, self.window * _FIRST_BACKOFF * 2**self._backoffs)
        self._backoffs = min(self._backoffs + 1, 30)
        return self._rng.uniform(0, bound)

    def _forget(self, now: float) -> None:
        self._trim(now)
        if not self._log and not self.in_flight and now - max(self._last_use, self.closed_until) > self._idle:
            self._credit = self.limit
            self._slow, self._full = 1.0, False
            self._gap = self._even_gap()

    def _trim(self, now: float) -> None:
        oldest = now - self.window * _WINDOW_MARGIN + _TICK
        log = self._log
        while log and log[0] <= oldest:
            log.popleft()

    def _count(self, granted: Grant, now: float) -> None:
        if self._probe is granted:
            self._probe = None
        if granted.number <= self._abandoned:
            return
        self.in_flight -= granted.cost
        dated = granted.at + self._latest
        if now < dated:
            dated = now
        if dated > self._last_use:
            self._last_use = dated
        log = self._log
        # Answers come nearly in the order of their dates, so the place is nearly always the end.
        if granted.cost == 1 and (not log or log[-1] <= dated):
            log.append(dated)
            if log[0] <= dated - self._idle:
                self._trim(now)
            return
        late: list[float] = []
        while log and log[-1] > dated:
            late.append(log.pop())
        log.extend([dated] * granted.cost)
        log.extend(reversed(late))

    def _learn(self, granted: Grant, limit: int | None, remaining: int | None) -> int | None:
        # What the server said to a later request is newer than this, however late this came.
        if granted.number <= self._newest_answer:
            return None
        self._newest_answer = granted.number
        self.guessing = False
        before = self._learn_limit(limit) if limit and limit != self._stated else None
        full = remaining == 0
        if full is not self._full:
            self._full = full
            self._gap = self._even_gap()
        if remaining is not None:
            self._sees_remaining = True
            at_most = remaining - (self._spent - granted.spent)
            proved = at_most - granted.passed
            credit = self._credit if self._credit > proved else proved
            if credit > at_most:
                credit = at_most
            self._credit = credit if credit > 0 else 0
        return before

    def _learn_limit(self, stated: int) -> int | None:
        self.learned = True
        self._stated = stated
        limit = stated if self._ceiling is None else min(stated, self._ceiling)
        if limit == self.limit:
            return None
        before, self.limit = self.limit, limit
        self._gap = self._even_gap()
        # What a larger plan adds is there at once, as far as nothing else speaks against it.
        self._credit = max(0, self._credit + limit - before)
        return before
