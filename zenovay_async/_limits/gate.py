"""The gate that a 429 closes for all callers. Pure; a part of the pacer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from zenovay_async._limits.request_log import IDLE, LATEST, TICK, WINDOW_MARGIN

if TYPE_CHECKING:
    from zenovay_async._limits.request_log import PermitRecord

LONG_PAUSE = "Rate limited for %.0f s, longer than the window of %g s; trying again in %.0f s"
"""Log message for a time that is not believed whole: in seconds, that time, the window, and the pause."""

# After a 429 without a time: full jitter up to a fifteenth of the window (4 s of a minute), doubling up to two windows,
# as a server that counts what it rejects may admit nothing before a whole window is silent.
_FIRST_BACKOFF = 1 / 15
# The fifth doubling reaches two windows; an unbounded count would overflow a float.
_MOST_BACKOFFS = 30
# Seconds. Retry-After is in whole seconds: two times that differ by no more are the same.
_ROUNDED = 1.0


class Gate(msgspec.Struct, array_like=True):
    """Closed by a 429 for all callers; opened by the response of one request, the probe.

    Attributes:
        closed_until: When it opens.
        probing: Whether requests go one at a time, until one succeeds.
        probe: Number of the probe's permit; 0 if no probe is in flight.
        probe_at: When that permit was acquired.
        backoffs: Number of 429s in a row that named no time to wait.
        last_incident: Number of the newest permit when the last 429 came; 429s of permits up to it are one incident.
        excesses: Number of 429s in a row that named a time longer than the window.
    """

    closed_until: float = -math.inf
    probing: bool = True
    probe: int = 0
    probe_at: float = -math.inf
    backoffs: int = 0
    last_incident: int = 0
    excesses: int = 0

    def ready_at(self, now: float) -> float:
        """When the gate is open."""
        return self.closed_until if now < self.closed_until - TICK else now

    def probe_due(self, window: float) -> float:
        """When other requests stop waiting for the probe's response, which may be lost."""
        return self.probe_at + window * LATEST

    def start_probe(self, permit: PermitRecord) -> None:
        """Let other requests wait for the response to this one."""
        self.probe, self.probe_at = permit.number, permit.at

    def end_probe(self, permit: PermitRecord) -> None:
        """Let another probe go if this permit, which is returned, was the probe's."""
        if self.probe == permit.number:
            self.probe = 0

    def open(self) -> None:
        """End probing, after the success of a request that was sent after the last 429."""
        self.backoffs = self.excesses = self.probe = 0
        self.probing = False

    def close(self, now: float, newest: int, retry_after: float | None, window: float, jitter: float) -> float:
        """Close the gate and start an incident; returns the seconds for which it closes."""
        self.last_incident = newest
        seconds = 0.0
        if retry_after is not None:
            seconds = believed_wait(retry_after, window, self.excesses)
            if seconds < retry_after:
                self.excesses = min(self.excesses + 1, _MOST_BACKOFFS)
        # A server that names no time, or too short a one again and again, gets more time each time.
        if retry_after is None or self.probing:
            seconds = max(seconds, self._backoff(window, jitter))
        self.probing, self.probe = True, 0
        self.closed_until = max(self.closed_until, now + seconds)
        return seconds

    def extend(self, now: float, retry_after: float | None, window: float) -> None:
        """Keep the gate closed longer, if a further 429 of the incident names a later time."""
        if retry_after is None:
            return
        until = now + believed_wait(retry_after, window, max(0, self.excesses - 1))
        if until > self.closed_until + _ROUNDED:
            self.closed_until = until

    def _backoff(self, window: float, jitter: float) -> float:
        bound = min(IDLE * window, window * _FIRST_BACKOFF * 2.0**self.backoffs)
        self.backoffs = min(self.backoffs + 1, _MOST_BACKOFFS)
        return bound * jitter


def believed_wait(retry_after: float, window: float, excesses: int = 0) -> float:
    """The part of a time to wait before a probe: one that is longer than the window may be in milliseconds."""
    if retry_after <= window * WINDOW_MARGIN + _ROUNDED:
        return retry_after
    return min(retry_after, window * 2.0**excesses)
