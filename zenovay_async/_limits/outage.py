"""Whether the server is away, and when the next attempt may find out.

An **outage** is *unreachable* (no connection can be made) or *failing* (the server is there and broken: one response
with status 5xx, or none, after another, and not for one website alone). While it lasts, one attempt is made at a time,
the **probe**, and the others wait for its outcome. Probes are spaced by exponential backoff with jitter. A response
that shows the server up ends the outage.

All of it is one value, an :class:`Outage`. Nothing here waits, reads a clock or draws a random number: times (seconds
of any monotonic clock) and jitter are arguments. So it may be encoded as MessagePack after any step, and decoded in
another process. It is encoded as an array: a field may be appended at the end, with a default; any other change needs
another :attr:`Outage.version`.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

OutageKind: TypeAlias = Literal["unreachable", "failing"]

# Seconds. The cap keeps it below 20 attempts in the first minute, each of which may look up the host's name.
FIRST_WAIT = 0.5
LONGEST_WAIT = 8.0
# Failures in a row, and the paths that they came from. One call has four attempts by default, and one website may be
# asked with several queries: what it alone gets is no outage.
MIN_FAILURES = 5
MIN_PATHS = 3
# The return of a server is noticed late by at most 0.7 of the outage. With 2, a page would wait as long again as the
# server was away; with much less than 1.7, there would be 20 attempts in the first minute.
_GROWTH = 1.7
# The sixth wait reaches the cap; an unbounded count would overflow a float.
MOST_BACKOFFS = 30
# Seconds. Event loops may wake a moment early, as their clock has a resolution.
_TICK = 1e-5

HOST_NOT_FOUND = "The host was not found"
PROXY_NOT_FOUND = f"{HOST_NOT_FOUND}, that of the proxy"
"""How the message of an error begins whose cause is a name that cannot be resolved."""


class Outage(msgspec.Struct, array_like=True):
    """Whether the server is away: a value with transitions that change it in place.

    Report each outcome, with :meth:`on_response`, :meth:`on_unreachable`, :meth:`on_failure` or :meth:`pass_on`.

    Attributes:
        version: Version of the encoded form; decoding any other fails.
        first_wait: Bound of the wait before the first probe, in seconds; it grows with each probe that fails.
        longest_wait: Greatest bound of that wait.
        kind: What is wrong; ``None`` if nothing is.
        since: When the outage began.
        reason: Message of the newest error of the outage.
        status: HTTP status of that error; ``None`` if no response came.
        next_probe_at: When the next probe is due.
        probe: Number of the probe in flight; 0 if there is none.
        last_probe: Number of the newest probe.
        backoffs: Number of waits in this outage.
        failures: Number of failures in a row outside an outage.
        paths: The first paths of calls that these failures came from.
        has_responded: Whether the server was ever up.
    """

    version: Literal[1] = 1
    first_wait: float = FIRST_WAIT
    longest_wait: float = LONGEST_WAIT
    kind: OutageKind | None = None
    since: float = -math.inf
    reason: str = ""
    status: int | None = None
    next_probe_at: float = -math.inf
    probe: int = 0
    last_probe: int = 0
    backoffs: int = 0
    failures: int = 0
    paths: list[str] = msgspec.field(default_factory=list[str])
    has_responded: bool = False

    @property
    def is_unknown_host(self) -> bool:
        """Whether the host was not found and never responded: more likely a wrong base URL than an outage."""
        return self.kind == "unreachable" and not self.has_responded and self.reason.startswith(HOST_NOT_FOUND)

    def holds_back(self, probe: int, *, background: bool) -> bool:
        """Whether a request has to wait.

        Args:
            probe: Its number as a probe; 0 if it is none.
            background: Whether it belongs to a batch; the server's failures do not hold back other calls.
        """
        if self.kind is None or (self.kind == "failing" and not background):
            return False
        return not probe or probe != self.probe

    def is_probe_due(self, now: float) -> bool:
        """Whether a probe may go now."""
        return self.kind is not None and not self.probe and now >= self.next_probe_at - _TICK

    def start_probe(self) -> int:
        """Make one attempt the probe; returns its number."""
        self.probe = self.last_probe = self.last_probe + 1
        return self.probe

    def pass_on(self, probe: int) -> None:
        """End a probe without an outcome, such as one that was canceled: another may go."""
        if probe and probe == self.probe:
            self.probe = 0

    def on_response(self, now: float, *, sent_at: float | None) -> float | None:
        """Report a response that shows the server up.

        Args:
            now: The time.
            sent_at: When the request left; ``None`` if that is not known.

        Returns:
            The seconds of the outage that this ends; ``None`` if it ends none.
        """
        self.has_responded = True
        self.failures = 0
        self.paths.clear()
        # A request that left before the server went away says nothing about the time after it.
        if self.kind is None or (self.kind == "unreachable" and sent_at is not None and sent_at < self.since):
            return None
        self.kind, self.probe, self.backoffs = None, 0, 0
        return now - self.since

    def on_unreachable(self, now: float, *, probe: int, reason: str, jitter: float) -> bool:
        """Report that no connection could be made.

        Args:
            now: The time.
            probe: Number of the attempt as a probe; 0 if it was none.
            reason: Message of the error.
            jitter: Evenly from [0, 1).

        Returns:
            Whether this begins an outage.
        """
        begins = self.kind is None
        self._fail(now, "unreachable", probe, reason, None, jitter)
        return begins

    def on_failure(self, now: float, *, probe: int, path: str, reason: str, status: int | None, jitter: float) -> bool:
        """Report a response with status 5xx, or that none came.

        Args:
            now: The time.
            probe: Number of the attempt as a probe; 0 if it was none.
            path: Path of the call.
            reason: Message of the error.
            status: HTTP status; ``None`` if no response came.
            jitter: Evenly from [0, 1).

        Returns:
            Whether this begins an outage.
        """
        if self.kind is not None:
            # A connection that was open when the server went away may break later; a probe was connected.
            if self.kind == "failing" or (probe and probe == self.probe):
                self._fail(now, "failing", probe, reason, status, jitter)
            return False
        self.failures += 1
        if len(self.paths) < MIN_PATHS and path not in self.paths:
            self.paths.append(path)
        if self.failures < MIN_FAILURES or len(self.paths) < MIN_PATHS:
            return False
        self._fail(now, "failing", probe, reason, status, jitter)
        return True

    def on_slow_probe(self, now: float, *, probe: int, jitter: float) -> None:
        """Report that a probe ran out of its call's time, which says little of the server: the next is spaced too."""
        if probe and probe == self.probe:
            self._back_off(now, jitter)

    def adopt(self, found: Outage) -> None:
        """Go on with the state of the server as another process found it."""
        if found.kind is None:
            self.kind, self.probe, self.backoffs, self.failures = None, 0, 0, 0
            self.paths.clear()
        else:
            if self.kind is None:
                self.failures = 0
                self.paths.clear()
            self.kind, self.since, self.reason, self.status = found.kind, found.since, found.reason, found.status
            self.next_probe_at, self.backoffs = found.next_probe_at, found.backoffs

    def rebase(self, now: float) -> None:
        """Go on with another clock, on which no probe is in flight."""
        self.probe = 0
        self.since = min(self.since, now)
        self.next_probe_at = min(self.next_probe_at, now + self.longest_wait)

    def _fail(self, now: float, kind: OutageKind, probe: int, reason: str, status: int | None, jitter: float) -> None:
        if self.kind is None:
            self.since, self.backoffs, self.failures = now, 0, 0
            self.paths.clear()
        if self.kind is None or (probe and probe == self.probe):
            self._back_off(now, jitter)
        self.kind, self.reason, self.status = kind, reason, status

    def _back_off(self, now: float, jitter: float) -> None:
        self.probe = 0
        bound = min(self.longest_wait, self.first_wait * _GROWTH**self.backoffs)
        self.backoffs = min(self.backoffs + 1, MOST_BACKOFFS)
        self.next_probe_at = now + bound * (0.5 + jitter / 2)
