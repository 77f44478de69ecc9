"""The news of an outage: whether the server is away, and whose probe finds out. A part of the exchange."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from zenovay_async._limits.outage import MOST_BACKOFFS, Outage, OutageKind

if TYPE_CHECKING:
    from zenovay_async._limits.outage_gate import OutageGate
    from zenovay_async._limits.sharing.state import SharedState

_Findings: TypeAlias = tuple[OutageKind | None, str, int | None, float, int]

PROBE_LIFETIME = 20.0
"""Seconds after the last update of a process at which its probe of an outage counts as lost."""

# Seconds. Times that are equal differ by less, once they were converted between clocks.
_SAME_PROBE_TIME = 1e-3


class OutageNews:
    """Whether the server is away, and whose probe finds out.

    Of several processes that begin a probe at once, the first to write it claims it. The others see that before they
    send theirs, as each permit comes with an update, and wait for the outcome. A probe that began before its process
    knew of the outcome of another one is not sent either.
    """

    def __init__(self, gate: OutageGate) -> None:
        self._gate = gate
        # What this process knew at the last read and at the last write, and the state at the last read.
        self._base = _findings(Outage())
        self._written: _Findings | None = None
        self._seen = (0, -math.inf)
        self._number = 0
        # Number of the own probe that the last write did not claim.
        self._denied = 0

    @property
    def is_any(self) -> bool:
        return self._written is not None and self._written != self._base

    def write(self, state: SharedState, me: str, now: float) -> bool:
        outage, shared = self._gate.outage, state.outage
        if outage.has_responded:
            shared.has_responded = True
        if outage.kind is None and shared.kind is None and self._base[0] is None and not state.probe_by:
            state.outages, self._written = max(state.outages, self._number), None
            return False
        self._written = _findings(outage)
        # What this process finds is newer than all that a state without an outage may tell of probes.
        is_current = shared.kind is None or _progress(state) == self._seen
        rings = self._write_findings(state, now - self._gate.now())
        return self._write_claim(state, me, now, is_current=is_current) or rings

    def read(self, state: SharedState, me: str, now: float) -> None:
        gate, outage, shared = self._gate, self._gate.outage, state.outage
        if shared.has_responded:
            outage.has_responded = True
        if outage.kind is None and shared.kind is None and self._base[0] is None:
            self._number = max(self._number, state.outages)
            return
        offset, found, own = now - gate.now(), None, gate.own_probe
        # What happened since the write has to be delivered first.
        is_delivered = _findings(outage) == self._written and state.outages >= self._number
        if is_delivered:
            found = _difference(outage, shared, offset, now)
        is_others = state.probe_by != me
        gate.follow(
            found,
            probe_until=state.probe_until - offset if is_others and _is_claimed(state, now) else None,
            drops_probe=is_others and own != 0 and (own == self._denied or found is not None),
        )
        if is_delivered:
            self._base, self._number, self._seen = _findings(outage), state.outages, _progress(state)

    def _write_findings(self, state: SharedState, offset: float) -> bool:
        """Bring in what this process found; returns whether the kind of the outage changed."""
        outage, shared = self._gate.outage, state.outage
        found, base = _findings(outage), self._base
        is_away, was_away = outage.kind is not None, base[0] is not None
        if is_away != was_away or state.outages < self._number:
            changes = is_away != (shared.kind is not None)
            if changes:
                _copy(outage, shared, offset)
            elif is_away:
                shared.since = min(shared.since, outage.since + offset)
            state.outages = max(state.outages + changes, self._number)
            return changes
        if not is_away or state.outages > self._number:
            return False
        if found[:3] != base[:3]:
            shared.kind, shared.reason, shared.status = found[:3]
        if found[3:] != base[3:]:
            shared.next_probe_at, shared.backoffs = outage.next_probe_at + offset, outage.backoffs
        return found[0] != base[0]

    def _write_claim(self, state: SharedState, me: str, now: float, *, is_current: bool) -> bool:
        """Claim the own probe, or end the claim; returns whether that ended, for whose outcome others wait.

        A probe that began before this process knew of the outcome of another one is not claimed.
        """
        own, is_mine = self._gate.own_probe, state.probe_by == me
        self._denied = 0
        if own and state.outage.kind is not None:
            if is_mine or (is_current and not _is_claimed(state, now)):
                state.probe_by, state.probe_until = me, now + PROBE_LIFETIME
            else:
                self._denied = own
        elif is_mine or (state.probe_by and state.outage.kind is None):
            state.probe_by, state.probe_until = "", -math.inf
            return is_mine
        return False


def _findings(outage: Outage) -> _Findings:
    return outage.kind, outage.reason, outage.status, outage.next_probe_at, outage.backoffs


def _progress(state: SharedState) -> tuple[int, float]:
    """What differs once a probe failed, or an outage began or ended."""
    return state.outages, state.outage.next_probe_at


def _is_claimed(state: SharedState, now: float) -> bool:
    return state.probe_by != "" and now < state.probe_until <= now + PROBE_LIFETIME


def _copy(outage: Outage, shared: Outage, offset: float) -> None:
    shared.kind, shared.reason, shared.status = outage.kind, outage.reason, outage.status
    shared.backoffs = outage.backoffs
    shared.since, shared.next_probe_at = outage.since + offset, outage.next_probe_at + offset


def _difference(outage: Outage, shared: Outage, offset: float, now: float) -> Outage | None:
    """The state of the server as others found it, in the time of the event loop; ``None`` if it is known."""
    next_probe_at = _at_most(now + outage.longest_wait, shared.next_probe_at) - offset
    if abs(next_probe_at - outage.next_probe_at) <= _SAME_PROBE_TIME:
        next_probe_at = outage.next_probe_at
    found = Outage(
        kind=shared.kind,
        since=_at_most(now, shared.since) - offset,
        reason=shared.reason,
        status=shared.status,
        next_probe_at=next_probe_at,
        backoffs=max(0, min(MOST_BACKOFFS, shared.backoffs)),
    )
    is_known = found.kind is None if outage.kind is None else _findings(found) == _findings(outage)
    return None if is_known else found


def _at_most(bound: float, number: float) -> float:
    """The lesser of two numbers; the bound if the other one is none."""
    return number if number < bound else bound
