"""What a batch leaves in each window for direct calls to come. Pure; a part of the pacer."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import TYPE_CHECKING

import msgspec

from zenovay_async._limits.request_log import LATEST, TICK, WINDOW_MARGIN

if TYPE_CHECKING:
    from zenovay_async._limits.request_log import PermitRecord, RequestLog

AUTO = -1
"""Headroom that follows the direct calls that come, in place of a number of requests per window."""

# The share of a window kept back where no steady flow of direct calls was seen. Simulated with a direct call every 3 s
# that may wait 5 s, at 30 a minute: of those in the first window of a batch, a fifth serves 8 of 20, and this half.
IDLE_SHARE = 0.35
BACKGROUND_SHARE = 4
"""While direct calls keep coming, one in so many requests is still a background one: a batch is never starved.

A batch that has had less of a window leaves nothing. It proceeds at a quarter of the rate at least, and a direct call
waits for one request longer at most.
"""

# Direct calls that come within this share of a window come at once: 2 s of a minute, as with what LATEST bounds.
_AT_ONCE = LATEST
# Direct calls are a steady flow if more come in a window than twice what comes at once: a script that lists websites
# and then starts a batch is none.
_STEADY = 2
# Windows for which direct calls are remembered, besides the current one.
_MEMORY = 3


class Headroom(msgspec.Struct, array_like=True):
    """The direct calls that were seen, and the requests of batches.

    Attributes:
        background: Dates of the background requests that a window may contain, oldest first; of one that is in flight,
            the latest date that it may get.
        last_background: When a permit of a background request was last acquired.
        at_once: Cost of the direct calls that came since the first of those that came at once.
        at_once_until: Until when direct calls belong to these.
        count: Cost of the earlier direct calls in the current window.
        peak: Cost of the most that came at once in it.
        until: When that window ends.
        seen: Of the windows before, when each ended, count, and peak.
    """

    background: list[float] = msgspec.field(default_factory=list[float])
    last_background: float = -math.inf
    at_once: int = 0
    at_once_until: float = -math.inf
    count: int = 0
    peak: int = 0
    until: float = -math.inf
    seen: list[tuple[float, int, int]] = msgspec.field(default_factory=list[tuple[float, int, int]])

    def record_arrival(self, now: float, cost: int, window: float) -> None:
        """Count a direct call that asks for a permit."""
        # All direct calls pass through here.
        if now < self.at_once_until:
            self.at_once += cost
            return
        self.count += self.at_once
        if self.at_once > self.peak:
            self.peak = self.at_once
        if now >= self.until:
            self.seen = [*self.seen[1 - _MEMORY :], (self.until, self.count, self.peak)]
            self.count = self.peak = 0
            self.until = now + window
        self.at_once, self.at_once_until = cost, now + window * _AT_ONCE

    def acquire(self, now: float, cost: int, window: float) -> None:
        """Count a background request that is sent now."""
        self.last_background = now
        times, latest = self.background, now + window * LATEST
        if times and times[0] <= now - window * WINDOW_MARGIN:
            self._trim(now, window)
        if cost == 1 and (not times or times[-1] <= latest):
            times.append(latest)
            return
        for _ in range(cost):
            insort(times, latest)

    def record(self, permit: PermitRecord, dated: float | None, window: float) -> None:
        """Date a background request that was in flight; ``None`` if the server has not counted it."""
        times, latest = self.background, permit.at + window * LATEST
        index = bisect_left(times, latest)
        if times[index : index + 1] != [latest]:
            return
        del times[index : index + permit.cost]
        if dated is not None:
            for _ in range(permit.cost):
                insort(times, dated)

    def ready_at(
        self, now: float, cost: int, headroom: int, log: RequestLog, limit: int, window: float, interval: float
    ) -> float:
        """When a background request leaves room for direct calls; ``math.inf`` if a response must come first.

        Args:
            now: The time.
            cost: Requests that it takes of the limit.
            headroom: Requests of each window for direct calls, or :data:`AUTO`.
            log: All requests that count against the limit.
            limit: Requests per window.
            window: Seconds of the window.
            interval: Seconds between paced requests.
        """
        if headroom != AUTO:
            return self._share_at(now, cost, max(cost, limit - headroom), window)
        burst, rate = self._demand(now, cost, limit, window)
        # Beside a steady flow of direct calls, a batch is paced, as a burst would take what they need next.
        ready = max(now, self.last_background + interval) if burst else now
        if len(log.times) + log.in_flight + cost + int(burst + rate * window) > limit:
            log.trim(now, window)
            free = limit - log.in_flight - cost
            left = _leaves_at(now, log.times, free, burst, rate, window)
            if left > ready:
                ready = max(ready, min(left, self._share_at(now, cost, _share(limit, cost), window)))
        return ready

    def is_owed(self, now: float, cost: int, headroom: int, limit: int, window: float) -> bool:
        """Whether the batch has had less than its share of the window, and direct calls must not overtake for ever."""
        if not headroom:
            return True
        share = _share(limit, cost)
        if headroom != AUTO:
            share = min(share, max(cost, limit - headroom))
        return self._share_at(now, cost, share, window) <= now

    def earliest_start(
        self,
        now: float,
        ahead: int,
        cost: int,
        headroom: int,
        log: RequestLog,
        limit: int,
        window: float,
        interval: float,
        credit: int,
    ) -> float:
        """When a background request may go behind others of this total cost, if direct calls come as they did.

        Args:
            now: The time.
            ahead: Cost of the background requests ahead of it.
            cost: Requests that it takes of the limit.
            headroom: Requests of each window for direct calls, or :data:`AUTO`.
            log: All requests that count against the limit.
            limit: Requests per window.
            window: Seconds of the window.
            interval: Seconds between paced requests.
            credit: Requests that may go in a burst; the limit if responses prove further ones.
        """
        number, burst = self._seen(now, window)
        if headroom == AUTO and not burst:
            return self._earliest_unpaced(now, ahead + cost, log, limit, window, cost)
        if credit < limit:
            # Direct calls are paced as well. They are counted from one of them on, which is one too many for a rate.
            interval = window / max(_share(limit, cost), window / interval - max(0, number - 1))
        elif headroom != AUTO:
            interval = 0.0
        if headroom == AUTO:
            share, credit = max(_share(limit, cost), limit - number), 0
        else:
            share = max(cost, limit - headroom)
        self._trim(now, window)
        times, start = self.background[:], now
        # Once credit is spent, each window is like the one before.
        windows = max(0, ahead // share - 2)
        for sent in range(ahead + cost - windows * share):
            if sent and sent >= credit:
                start += interval
            if len(times) >= share:
                start = max(start, times[-share] + window * WINDOW_MARGIN)
            times.append(start)
        return start + windows * max(window * WINDOW_MARGIN, share * interval)

    def _earliest_unpaced(
        self, now: float, requests: int, log: RequestLog, limit: int, window: float, cost: int
    ) -> float:
        """When the last of a batch's requests may go, beside no steady flow of direct calls."""
        _, rate = self._demand(now, cost, limit, window)
        # Each window after the next is like the one before.
        windows = max(0, (requests - 1) // limit - 1)
        times, start = log.times + [now] * log.in_flight, now
        for _ in range(requests - windows * limit):
            while times and times[0] + window * WINDOW_MARGIN <= start + TICK:
                del times[0]
            start = max(start, _leaves_at(start, times, limit - 1, 0, rate, window))
            times.append(start)
        return start + windows * window * WINDOW_MARGIN

    def _demand(self, now: float, cost: int, limit: int, window: float) -> tuple[int, float]:
        """The direct calls to leave room for: those at once, and those per second besides; 0 at once if not steady.

        They leave the batch its share, and room for its request.
        """
        # None came yet, as with most batches.
        number, burst = (0, 0) if self.until == -math.inf else self._seen(now, window)
        room = limit - _share(limit, cost)
        if burst > room:
            burst = room
        return burst, (min(max(number, IDLE_SHARE * limit), room) - burst) / window

    def _seen(self, now: float, window: float) -> tuple[int, int]:
        """The most direct calls of a window lately, and the most at once of those in a steady flow."""
        at_once = self.at_once
        count, peak = self.count + at_once, max(self.peak, at_once)
        most = burst = 0
        for until, number, at_most in (*self.seen, (self.until, count, peak)):
            if until <= now - _MEMORY * window:
                continue
            if number > most:
                most = number
            if number > _STEADY * at_most and at_most > burst:
                burst = at_most
        return most, burst

    def _share_at(self, now: float, cost: int, share: int, window: float) -> float:
        """When the batch has had no more than a number of requests of the window."""
        self._trim(now, window)
        missing = len(self.background) + cost - share
        if missing <= 0:
            return now
        return self.background[missing - 1] + window * WINDOW_MARGIN

    def _trim(self, now: float, window: float) -> None:
        oldest = now - window * WINDOW_MARGIN + TICK
        if self.background and self.background[0] <= oldest:
            del self.background[: bisect_left(self.background, oldest)]


def _share(limit: int, cost: int) -> int:
    """The requests of a window that a batch has at least."""
    return max(cost, limit // BACKGROUND_SHARE)


def _leaves_at(now: float, times: list[float], free: int, burst: int, rate: float, window: float) -> float:
    """When a request leaves room for direct calls in all windows to come; ``math.inf`` if a response must come first.

    Args:
        now: The time.
        times: Dates of the requests in the log, oldest first.
        free: Requests that an empty log would have room for beside this one.
        burst: Direct calls that may come at once.
        rate: Direct calls that may come per second besides.
        window: Seconds of the window.
    """
    # Requests in flight, this one included, leave the window last.
    if burst + int(rate * window) > free:
        return math.inf
    ready, counted = now, len(times)
    # Until the oldest leaves the window, all that are counted need room beside the direct calls that come until then,
    # and so on. Those after them leave room for all direct calls of a window.
    for index in range(min(counted, counted - free + burst + int(rate * window))):
        room = free - (counted - index) - burst
        leaves = times[index] + window * WINDOW_MARGIN
        if room >= 0:
            # Requests are whole: room for n of them lasts until number n + 1 comes.
            leaves = now if not rate else leaves - (room + 1) / rate
        if leaves > ready:
            ready = leaves
    return ready
