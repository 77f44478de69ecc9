"""Credit for bursts, and the pace of all other requests. Pure; a part of the pacer."""

from __future__ import annotations

import math

import msgspec

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
# Windows for which a Remaining that a 429 proved false is not believed; doubled each time, three times at most.
_DISTRUST = 4.0
_MOST_DISTRUSTS = 3


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
        is_stated: Whether a response, rather than two idle windows, proved what is available.
        distrusted_until: Until when ``X-RateLimit-Remaining`` proves nothing, as a 429 showed it to be false.
        distrusts: How often in a row it was.
        share: The part of ``X-RateLimit-Remaining`` that is this client's.
        pace_share: The part of the full pace that is this client's.
    """

    available: int
    even_interval: float
    interval: float
    slowdown: float = 1.0
    server_empty: bool = False
    paced_until: float = -math.inf
    sees_remaining: bool = False
    is_stated: bool = False
    distrusted_until: float = -math.inf
    distrusts: int = 0
    share: float = 1.0
    pace_share: float = 1.0

    @classmethod
    def create(cls, limit: int, window: float) -> Credit:
        """Credit for a burst of the whole limit."""
        interval = _even_interval(limit, window)
        return cls(limit, interval, interval)

    def is_proved(self, now: float) -> bool:
        """Whether responses prove the credit."""
        return self.sees_remaining and now >= self.distrusted_until

    def is_distrusted(self, now: float) -> bool:
        """Whether ``X-RateLimit-Remaining`` proves nothing now."""
        return now < self.distrusted_until

    def spend(self, now: float, cost: int) -> int:
        """Pay for a request as far as credit reaches; returns the credit used."""
        used = cost if cost <= self.available else self.available
        self.available -= used
        self.paced_until = now + self.interval * cost
        return used

    def prove(self, now: float, remaining: int | None, since: int, in_flight: int, *, smooth: bool) -> None:
        """Learn how much room a response proves.

        Args:
            now: The time.
            remaining: ``X-RateLimit-Remaining``; ``None`` if it had none.
            since: Cost of the permits acquired after that of its request.
            in_flight: Cost of the other permits in flight when its own was acquired.
            smooth: Whether the server allows no bursts, so that a Remaining of 0 is no warning.
        """
        empty = remaining == 0 and not smooth
        if empty is not self.server_empty:
            self.server_empty, before = empty, self.interval
            self._set_interval()
            if empty:
                # The next paced request waits as long as those after it.
                self.paced_until += self.interval - before
        if remaining is None:
            return
        if not self.sees_remaining:
            self.sees_remaining = True
        at_most = (remaining if self.share == 1 else int(remaining * self.share)) - since
        proved, available = at_most - in_flight, self.available
        if now >= self.distrusted_until:
            if not self.is_stated:
                self.is_stated = True
            if available < proved:
                available = proved
        if available > at_most:
            available = at_most
        self.available = available if available > 0 else 0

    def distrust(self, now: float, window: float) -> None:
        """Believe no ``X-RateLimit-Remaining`` for a while: one stated room, and a 429 came."""
        if now - self.distrusted_until > _DISTRUST * window:
            self.distrusts = 0
        self.distrusted_until = now + window * _DISTRUST * 2**self.distrusts
        self.distrusts = min(self.distrusts + 1, _MOST_DISTRUSTS)
        self.is_stated = False

    def seconds_for(self, requests: int) -> float:
        """Seconds that a number of paced requests take, if each succeeds and so regains some of the pace."""
        seconds, slowdown = 0.0, self.slowdown
        while requests > 0 and slowdown > 1:
            seconds += self.interval * slowdown / self.slowdown
            slowdown *= _RECOVERY
            requests -= 1
        return seconds + max(0, requests) * self.interval / self.slowdown

    def change_limit(self, before: int, limit: int, window: float, *, bursts: bool) -> None:
        """Pace by another limit; credit changes by the difference, but grows only if the server allows bursts of it."""
        self.even_interval = _even_interval(limit, window)
        self._set_interval()
        if limit < before or bursts:
            self.available = max(0, self.available + limit - before)

    def divide(self, share: float, pace_share: float) -> None:
        """Take a part of what remains, and of the pace, as others use the key too."""
        self.share = share
        if pace_share != self.pace_share:
            self.pace_share = pace_share
            self._set_interval()

    def use_whole_rate(self, limit: int, window: float) -> None:
        """Pace with no request of a window to spare: a server that rejects bursts is no sliding counter."""
        self.even_interval = window / limit * _PACE
        self._set_interval()

    def slow_down(self) -> None:
        """Slow the pace and drop all credit, after a 429."""
        self.available = 0
        self.slowdown = _SLOWDOWN
        self._set_interval()

    def recover(self) -> None:
        """Regain some of the pace, after a success."""
        self.slowdown = max(1.0, self.slowdown * _RECOVERY)
        self._set_interval()

    def reset(self, burst: int) -> None:
        """Restore full pace and the credit for a burst, after two idle windows."""
        self.available, self.is_stated = burst, False
        self.slowdown, self.server_empty = 1.0, False
        self._set_interval()

    def _set_interval(self) -> None:
        interval = self.even_interval * self.slowdown / self.pace_share
        self.interval = interval * _SERVER_EMPTY if self.server_empty else interval


def _even_interval(limit: int, window: float) -> float:
    # A limit of 1 has no request to spare.
    return window / max(1 / _PACE, min(limit / _PACE, limit - 1))
