"""The requests that a server may count. Pure; a part of the pacer."""

from __future__ import annotations

import math

import msgspec

# The clocks of client and server drift apart, and a server may round to its own ticks: 0.2 % of a minute is 120 ms.
WINDOW_MARGIN = 1.002
# A request is dated at its response, but not later than this share of the window after it was sent: 2 s of a minute. A
# server counts a request when it arrives; a slower response was slow after that.
LATEST = 1 / 30
# Two windows after the last request, no server counts anything against the client, however it counts.
IDLE = 2.0
# Seconds. Event loops may wake a moment early, as their clock has a resolution; a shorter wait is none.
TICK = 1e-5


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
        from_idle: Whether no other request was in the log or in flight when it was acquired.
        background: Whether it is a batch's.
    """

    number: int
    at: float
    cost: int
    in_flight: int
    acquired_total: int
    credit_used: int
    paced_until: float
    from_idle: bool = False
    background: bool = False


class RequestLog(msgspec.Struct, array_like=True):
    """The requests that the server may count in a window: those with a date, and those in flight.

    Attributes:
        times: Dates of the requests, oldest first; a request of cost 3 has three.
        in_flight: Cost of the permits in flight.
        last_use: When a request was last sent or dated.
        abandoned: Number of the newest permit of a closed event loop; those up to it are dated already.
        rejected: Dates of the requests rejected with the last 429s, which most servers do not count.
    """

    times: list[float] = msgspec.field(default_factory=list[float])
    in_flight: int = 0
    last_use: float = -math.inf
    abandoned: int = 0
    rejected: list[float] = msgspec.field(default_factory=list[float])

    def ready_at(self, now: float, cost: int, limit: int, window: float) -> float:
        """When a window has room for a request; ``math.inf`` if a response must come first."""
        self.trim(now, window)
        times = self.times
        missing = len(times) + self.in_flight + cost - limit
        if missing <= 0:
            return now
        return math.inf if missing > len(times) else times[missing - 1] + window * WINDOW_MARGIN

    def room_at(self, now: float, ahead: int, limit: int, window: float) -> float:
        """When a window has room for a request behind others of this cost, if those are sent as soon as they may."""
        # Of all requests in order (dated, in flight, then those ahead), the one that has to leave the window first.
        counted = len(self.times) + self.in_flight
        index = ahead + counted - limit
        if index < 0:
            return now
        # One that is ahead itself waits for a request that is limit places before it.
        rounds = max(0, (index - counted) // limit + 1)
        index -= rounds * limit
        waits = rounds + (index >= 0)
        dated = self.times[index] if 0 <= index < len(self.times) else now
        return max(now, dated + waits * window * WINDOW_MARGIN)

    def record(self, permit: PermitRecord, now: float, window: float, sent_at: float | None) -> float:
        """Date a request that was in flight; returns the date."""
        if permit.number <= self.abandoned:
            return now
        cost = permit.cost
        dated = (permit.at if sent_at is None or sent_at < permit.at else sent_at) + window * LATEST
        self.in_flight -= cost
        if now < dated:
            dated = now
        if dated > self.last_use:
            self.last_use = dated
        times = self.times
        # Responses come nearly in the order of their dates, so most are appended.
        if cost == 1 and (not times or times[-1] <= dated):
            times.append(dated)
            if times[0] <= dated - IDLE * window:
                self.trim(now, window)
            return dated
        index = len(times)
        while index and times[index - 1] > dated:
            index -= 1
        times[index:index] = [dated] * cost
        return dated

    def record_rejected(self, permit: PermitRecord, now: float) -> None:
        """Note a request that was in flight and rejected with 429."""
        if permit.number <= self.abandoned:
            return
        self.in_flight -= permit.cost
        self.last_use = now
        self.rejected.extend([now] * permit.cost)

    def count_rejected(self, now: float, window: float) -> None:
        """Count the requests rejected with the last 429s: another followed, so this server may count them."""
        recent = [dated for dated in self.rejected if dated > now - window]
        self.rejected = []
        if recent:
            self.times = sorted(self.times + recent)

    def abandon(self, now: float, newest: int) -> None:
        """Date all requests in flight; their permits, up to the newest, are not dated again."""
        self.times.extend([now] * self.in_flight)
        self.in_flight, self.abandoned = 0, newest

    def trim(self, now: float, window: float) -> None:
        """Drop the dates that no window from now on can contain."""
        oldest, outdated = now - window * WINDOW_MARGIN + TICK, 0
        for dated in self.times:
            if dated > oldest:
                break
            outdated += 1
        if outdated:
            del self.times[:outdated]
