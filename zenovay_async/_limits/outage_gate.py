"""Which caller finds out whether the server is back, while the others wait.

``zenovay_async._limits.outage`` decides *when* the next probe may go; this module decides *whose* it is, and lets the
callers go on after the outage in a **slow start**: two at first, and two more for each permit that is returned. As in
``zenovay_async._limits.window``, no caller sleeps on behalf of others: a waiter is a future in a queue, and every
change of the state wakes waiters from the front.

A caller that may go on gets a **ticket**: the number of its probe, or :data:`RELEASED`. Each ticket is returned once,
with the permit of its request or with :meth:`OutageGate.abandon`, and wakes the next callers.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
from typing import TYPE_CHECKING

from zenovay_async._limits.outage import Outage
from zenovay_async._limits.patience import ServerUnavailable
from zenovay_async._limits.wakeup import Wakeup
from zenovay_async._protocol.log_fields import event_fields
from zenovay_async.events import ServerReachable, ServerUnreachable, emit

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._limits.patience import Patience
    from zenovay_async.events import OnEvent
    from zenovay_async.rate_limits import Outcome

_logger = logging.getLogger("zenovay_async.http")

RELEASED = 0
"""The ticket of a caller that goes on after an outage."""

_SERVER_ERROR = 500
# Seconds for which a probe is overdue as nobody calls, after which an outage is not known to have lasted.
_UNWATCHED = 60.0
# Callers that each returned permit releases: their number at most doubles with each round trip.
_RELEASES = 2


class _Waiter:
    __slots__ = ("deadline", "future", "patience", "queue", "since")

    def __init__(self, queue: dict[_Waiter, None], deadline: float, patience: Patience, now: float) -> None:
        self.future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.queue = queue
        self.deadline = deadline
        self.patience = patience
        self.since = now if patience.since is None else patience.since


class OutageGate:
    """Holds back the callers of one key while the server is away.

    It serves one event loop at a time.

    Args:
        on_event: Called when an outage begins and ends.
        rng: Draws the jitter; omitted, a new generator.

    Attributes:
        outage: The state of the server.
        is_clear: Whether nobody has to wait. Each call reads it, so it is an attribute.
        is_quiet: Whether a success changes nothing. Each success reads it.
        on_change: Called when an outage began or ended here, and when a probe ended.
    """

    def __init__(self, on_event: OnEvent | None = None, rng: random.Random | None = None) -> None:
        self.outage = Outage()
        self.is_clear = True
        self.is_quiet = False
        self.on_change: Callable[[], None] | None = None
        self._on_event = on_event
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._direct: dict[_Waiter, None] = {}
        self._background: dict[_Waiter, None] = {}
        self._next_bound = math.inf
        self._watched_since = -math.inf
        # Number that the probe of another process has here, and when it counts as lost.
        self._others_probe = 0
        self._others_until = -math.inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakeup = Wakeup(self._wake)

    @property
    def own_probe(self) -> int:
        """Number of the probe that a caller of this process makes; 0 if there is none."""
        probe = self.outage.probe
        return 0 if probe == self._others_probe else probe

    async def enter(self, *, deadline: float, background: bool, patience: Patience) -> int | None:
        """Wait until the caller may send a request.

        Args:
            deadline: Time of the event loop at which the call ends; ``math.inf`` for none.
            background: Whether the call belongs to a batch.
            patience: How long it waits.

        Returns:
            The ticket, to be returned; ``None`` if there was no wait.

        Raises:
            ServerUnavailable: The call does not wait any longer.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        outage, now = self.outage, loop.time()
        self._expire_others_probe(now)
        is_held = outage.holds_back(0, background=background)
        if not is_held and not self._direct and not (background and self._background):
            return None
        queue = self._background if background else self._direct
        waiter = _Waiter(queue, deadline - patience.attempt_time, patience, now)
        if not outage.probe and now - outage.next_probe_at > _UNWATCHED:
            self._watched_since = now
        if is_held and now >= waiter.deadline:
            raise ServerUnavailable(outage, now)
        if is_held and not outage.is_probe_due(now):
            if not outage.probe and self._is_lone_attempt(waiter):
                return outage.start_probe()
            if self._is_hopeless(waiter, now):
                raise ServerUnavailable(outage, now)
        queue[waiter] = None
        self._next_bound = min(self._next_bound, self._bound(waiter))
        if outage.is_probe_due(now):
            self._start_probe(now)
        self._refresh()
        self._set_wakeup()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._cancel(waiter)
            raise

    def holds_back(self, ticket: int | None, *, background: bool) -> bool:
        """Whether a caller with this ticket has to wait again, as an outage began meanwhile."""
        return self.outage.holds_back(ticket or 0, background=background)

    def lasts_until(self, deadline: float) -> ServerUnavailable | None:
        """Why no direct call goes on until this time of the event loop; ``None`` if one might."""
        outage, now = self.outage, self.now()
        if not outage.holds_back(0, background=False):
            return None
        is_over = now >= deadline or (not outage.probe and outage.next_probe_at > deadline)
        return ServerUnavailable(outage, now) if is_over else None

    def abandon(self, ticket: int | None) -> None:
        """Return a ticket without a request: another caller takes the place of its owner."""
        if ticket is not None:
            probe = self.outage.probe
            self.outage.pass_on(ticket)
            self._release(self.now())
            if probe and probe == ticket:
                self._report_change()

    def settle(self, ticket: int | None, outcome: Outcome, path: str) -> None:
        """Report the outcome of a permit that is returned, and the ticket with it.

        Args:
            ticket: The ticket of the caller, if it has one.
            outcome: How the attempt ended.
            path: Path of the call; ``""`` if the outcome says nothing about the server.
        """
        now, outage, kind = self.now(), self.outage, outcome.kind
        kind_before, next_before, probe_before = outage.kind, outage.next_probe_at, outage.probe
        number, jitter, reason = ticket or 0, self._rng.random(), outcome.reason
        if kind in {"succeeded", "rate_limited", "quota_exhausted"} or (kind == "failed" and not _is_5xx(outcome)):
            seconds = outage.on_response(now, sent_at=outcome.sent_at)
            if seconds is not None:
                self._emit_end(seconds)
        elif kind == "unsent" or reason is None:
            # Refunded, or canceled.
            outage.pass_on(number)
        elif not path:
            outage.on_slow_probe(now, probe=number, jitter=jitter)
        elif (
            outage.on_unreachable(now, probe=number, reason=reason, jitter=jitter)
            if kind == "unreachable"
            else outage.on_failure(now, probe=number, path=path, reason=reason, status=outcome.status, jitter=jitter)
        ):
            self._emit_outage()
        has_changed = outage.kind != kind_before
        if self._direct or self._background:
            if has_changed or outage.next_probe_at != next_before:
                self._reject_hopeless(now, failed=outage.kind is not None)
            self._release(now)
        self._refresh()
        if has_changed or (probe_before and probe_before == number):
            self._report_change()

    def follow(self, found: Outage | None, *, probe_until: float | None, drops_probe: bool) -> None:
        """Go on with what other processes found, and with whose probe is in flight.

        Args:
            found: The state of the server; ``None`` for no news. Its times are of the event loop.
            probe_until: When the probe of another process counts as lost; ``None`` if none is in flight.
            drops_probe: Whether the own probe may not be sent, as it began without knowing of another one: its caller
                is held back again.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop and not self._direct and not self._background:
            self._move_to(loop)
        now, outage = self.now(), self.outage
        kind_before, next_before, since = outage.kind, outage.next_probe_at, outage.since
        if found is not None:
            outage.adopt(found)
            if outage.kind is None and kind_before is not None:
                self._emit_end(max(0.0, now - since))
            elif outage.kind is not None and kind_before is None:
                self._emit_outage()
        if outage.kind is not None and probe_until is not None:
            if self.own_probe or not outage.probe:
                self._others_probe = outage.start_probe()
            self._others_until = probe_until
        elif outage.probe and (drops_probe or not self.own_probe):
            outage.pass_on(outage.probe)
        if outage.kind != kind_before or outage.next_probe_at != next_before:
            self._reject_hopeless(now, failed=outage.kind is not None)
            self._release(now)
        else:
            self._start_probe(now)

    def _report_change(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def _expire_others_probe(self, now: float) -> None:
        if now >= self._others_until:
            self.outage.pass_on(self._others_probe)

    def _emit_end(self, seconds: float) -> None:
        event = ServerReachable(seconds=seconds)
        _logger.info("Server reachable again after %.1f s", seconds, extra=event_fields(event))
        emit(self._on_event, event)

    def _emit_outage(self) -> None:
        outage = self.outage
        if outage.kind is None:
            return
        event = ServerUnreachable(kind=outage.kind, reason=outage.reason, status=outage.status)
        who = "calls" if event.kind == "unreachable" else "batches"
        status = "" if event.status is None else f"HTTP {event.status}: "
        _logger.info("Server %s: %s%s; %s wait", event.kind, status, event.reason, who, extra=event_fields(event))
        emit(self._on_event, event)

    def _release(self, now: float) -> None:
        """Let the next callers of a slow start go on, and the next probe if one may go."""
        for _ in range(_RELEASES):
            waiter = self._first()
            if waiter is None or self._is_held(waiter):
                break
            self._admit(waiter, RELEASED)
        self._start_probe(now)

    def _start_probe(self, now: float) -> None:
        """Make the first of the waiters the probe, if one may go, and set the next wake-up."""
        outage = self.outage
        if outage.kind is not None and not outage.probe:
            is_due = outage.is_probe_due(now)
            for waiter in itertools.chain(self._direct, self._background):
                if not waiter.future.done() and self._is_held(waiter) and (is_due or waiter.patience.single):
                    self._admit(waiter, outage.start_probe())
                    break
        self._refresh()
        self._set_wakeup()

    def _first(self) -> _Waiter | None:
        for queue in (self._direct, self._background):
            while (waiter := next(iter(queue), None)) is not None:
                if not waiter.future.done():
                    return waiter
                # Its caller is being canceled.
                del queue[waiter]
        return None

    def _admit(self, waiter: _Waiter, ticket: int) -> None:
        del waiter.queue[waiter]
        waiter.future.set_result(ticket)

    def _reject(self, waiter: _Waiter, now: float) -> None:
        del waiter.queue[waiter]
        waiter.future.set_exception(ServerUnavailable(self.outage, now))

    def _cancel(self, waiter: _Waiter) -> None:
        """Remove a canceled caller from its queue, or return the ticket that it got already."""
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            self.abandon(future.result())
        elif waiter in waiter.queue:
            del waiter.queue[waiter]
            self._refresh()
            self._set_wakeup()

    def _is_background(self, waiter: _Waiter) -> bool:
        return waiter.queue is self._background

    def _is_held(self, waiter: _Waiter) -> bool:
        return self.outage.holds_back(0, background=self._is_background(waiter))

    def _bound(self, waiter: _Waiter) -> float:
        """Until when a caller waits, as things are."""
        if not self._is_held(waiter):
            return waiter.deadline
        return waiter.patience.ends_at(
            self.outage,
            deadline=waiter.deadline,
            since=waiter.since,
            watched_since=self._watched_since,
            background=self._is_background(waiter),
        )

    def _is_lone_attempt(self, waiter: _Waiter) -> bool:
        """Whether a caller need not wait for the next probe: nobody else makes its only attempt, or its first."""
        if self._is_background(waiter):
            return False
        nobody_waits = not self._direct and not self._background and not waiter.patience.attempts
        return waiter.patience.single or (nobody_waits and self.outage.next_probe_at > self._bound(waiter))

    def _is_hopeless(self, waiter: _Waiter, now: float) -> bool:
        """Whether the bound of a caller that is held back has passed, or passes before the next probe."""
        outage, bound = self.outage, self._bound(waiter)
        if now >= bound:
            return True
        return not self._is_background(waiter) and not outage.probe and outage.next_probe_at > bound

    def _reject_hopeless(self, now: float, *, failed: bool = False) -> None:
        """Fail the waiters for which the outage lasts too long.

        Args:
            now: The time.
            failed: Whether an attempt failed just now, which those share that make one attempt only.
        """
        self._next_bound = math.inf
        for waiter in [*self._direct, *self._background]:
            if waiter.future.done():
                continue
            bound = self._bound(waiter)
            if not self._is_held(waiter):
                if now >= bound:
                    # The limiter says how long it would have to wait there.
                    self._admit(waiter, RELEASED)
                    continue
            elif (failed and waiter.patience.single) or self._is_hopeless(waiter, now):
                self._reject(waiter, now)
                continue
            self._next_bound = min(self._next_bound, bound)

    def _refresh(self) -> None:
        outage = self.outage
        self.is_clear = outage.kind is None and not self._direct and not self._background
        self.is_quiet = self.is_clear and outage.has_responded and not outage.failures

    def _set_wakeup(self) -> None:
        outage, when = self.outage, math.inf
        held = self._background if outage.kind == "failing" else self._direct or self._background
        if self._direct or self._background:
            when = self._next_bound
            if outage.kind is not None and held:
                if not outage.probe:
                    when = min(when, outage.next_probe_at)
                elif not self.own_probe:
                    when = min(when, self._others_until)
        self._wakeup.set(self._loop, when)

    def _wake(self) -> None:
        now = self.now()
        self._expire_others_probe(now)
        self._reject_hopeless(now)
        self._start_probe(now)

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve another event loop; the waiters of a closed one are dropped.

        Raises:
            ClientClosedError: Callers wait on the loop before, which is not closed.
        """
        self._wakeup.leave(self._loop, waiting=bool(self._direct or self._background))
        self._direct.clear()
        self._background.clear()
        self._loop = loop
        self._watched_since = -math.inf
        self.outage.rebase(loop.time())

    def now(self) -> float:
        """The time of the event loop."""
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            # A caller that is garbage collected after its loop.
            return 0.0 if self._loop is None else self._loop.time()


def _is_5xx(outcome: Outcome) -> bool:
    return outcome.status is not None and outcome.status >= _SERVER_ERROR
