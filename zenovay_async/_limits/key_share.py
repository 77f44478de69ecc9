"""How much of a key's limit is this client's, if others use the key too. Pure; a part of the pacer.

``X-RateLimit-Remaining`` belongs to the key. If it falls by more than this client's requests since an earlier response,
others have sent the rest. A client that bursts as far as ``Remaining`` allows then collides with others that do the
same; so each takes the part of it that is its part of the requests, as far as it knows. Without a sign of others it
takes all: most clients are alone, and what others sent before its first response, or at the same time as a burst of its
own, cannot be told from a server that counts otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from zenovay_async._limits.request_log import PermitRecord

# How many use the key at least, where others were seen.
_SEVERAL = 2
# Requests of each process assumed, so that a single observation does not decide.
_PRIOR = 2.0
# So many requests without a trace of others show that there are none.
ENOUGH = 8
# Requests in memory: two windows of the lowest plan. Requests are counted rather than time, as idling forgets nothing.
_MEMORY = 60.0
# What others sent is noticed from so many requests; fewer may be a server's approximation.
_NOTICED = 4.0
# A client that is idle most of the time sees little but others, and may need a burst all the same.
_LEAST_OBSERVED = 1 / 4
# A 429 halves the share, at most to an eighth; every window without one raises it by an eighth.
_BACKOFF, _LEAST, _RAISE = 0.5, 1 / 8, 1 / 8


class KeyShare(msgspec.Struct, array_like=True):
    """The part of ``X-RateLimit-Remaining`` that this client may take.

    Attributes:
        processes: How many processes use the key, as far as something else than responses says.
        part: The part, up to 1.
        bound: What 429s left of it.
        raise_at: When the bound is raised again.
        own: Own requests in memory.
        others: Others' requests in memory.
        excess: Others' requests since ``remaining`` was stated.
        remaining: The ``X-RateLimit-Remaining`` that later ones are compared with; ``None`` if there is none.
        counted: Cost of the permits that the server may have counted when it stated that.
    """

    processes: int = 1
    part: float = 1.0
    bound: float = 1.0
    raise_at: float = math.inf
    own: float = 0.0
    others: float = 0.0
    excess: int = 0
    remaining: int | None = None
    counted: int = 0

    @classmethod
    def create(cls, processes: int) -> KeyShare:
        """The share of one of so many processes."""
        return cls(processes, 1 / processes)

    @property
    def pace(self) -> float:
        """The part of the pace that this client may take: divided where others were seen, or a 429 may be theirs."""
        return self.part if self.sees_others or self.bound < 1 else 1.0

    @property
    def sees_others(self) -> bool:
        """Whether others have sent more than a single request, as far as responses show."""
        return self.others + self.excess > 1

    @property
    def expects_others(self) -> bool:
        """Whether responses, or something else, say that others use the key."""
        return self.processes > 1 or self.sees_others

    @property
    def is_divided(self) -> bool:
        """Whether others have certainly used the key."""
        return self.others >= _NOTICED

    def observe(self, permit: PermitRecord, now: float, remaining: int, acquired_total: int, window: float) -> None:
        """Learn from a response, newer than all before.

        Args:
            permit: Its request's permit.
            now: The time.
            remaining: The ``X-RateLimit-Remaining`` that it stated.
            acquired_total: Cost of all permits until now.
            window: Seconds of the window.
        """
        # At most what the server may have counted since.
        before, own = self.remaining, acquired_total - self.counted
        counted = permit.acquired_total - permit.in_flight
        # What returned before this request was sent.
        returned = counted - self.counted
        excess = max(0, before - remaining - own) if before is not None else 0
        is_alone = not permit.in_flight and acquired_total == permit.acquired_total
        if now >= self.raise_at:
            self.bound, self.raise_at = min(1.0, self.bound + _RAISE), now + window
            if self.bound == 1:
                self.raise_at = math.inf
        if before is None or remaining > before or is_alone:
            if before is not None:
                # What a reset hides is not known.
                self._remember(max(0, returned), excess if is_alone else self.excess)
            self.remaining, self.counted, self.excess = remaining, counted, 0
            self._set_part(0)
        else:
            self.excess = excess
            # Others' requests may be in flight with the first of a burst, so these say nothing of them.
            self._set_part(own if excess else max(0, returned))

    def reject(self, now: float, window: float) -> None:
        """Halve the share, after a 429, if that may be others' doing."""
        if not self.expects_others:
            return
        self.bound = max(_LEAST, self.part * _BACKOFF)
        self.raise_at = now + window
        self.part = min(self.part, self.bound)

    def forget_remaining(self) -> None:
        """Compare with nothing earlier: the limit has changed."""
        self.remaining, self.excess = None, 0

    def _remember(self, own: int, others: int) -> None:
        self.own += own
        self.others += others
        if (total := self.own + self.others) > _MEMORY:
            self.own *= _MEMORY / total
            self.others *= _MEMORY / total
            if self.others < 1 / 2:
                self.others = 0.0

    def _set_part(self, own: int) -> None:
        mine, theirs = self.own + own, self.others + self.excess
        if not theirs and mine >= ENOUGH:
            part = 1.0
        else:
            assumed = max(self.processes, _SEVERAL) if theirs else self.processes
            part = (mine + _PRIOR) / (mine + theirs + assumed * _PRIOR)
            least = min(_LEAST_OBSERVED, 1 / assumed)
            part = max(part, least)
        self.part = min(part, self.bound)
