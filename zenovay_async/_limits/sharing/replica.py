"""What this process knows of the shared state, and the updates by which it reads and changes it.

An **update** is a function of the stored value, which a store may call again with a newer one. So it only plans; once
the value is written, the plan is carried out. Updates are requested, not awaited: those requested meanwhile are one.

While the store is **lost**, the process goes on with its share of the state that it saw last, kept in memory, through
the same updates. It tries to reach the store about once a second, and then counts there what it sent meanwhile. A store
that came back empty, or with an older state, is given the last state seen by whoever comes first.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING

import msgspec

from zenovay_async._limits.sharing.state import SharedState, reconcile
from zenovay_async._limits.stores.memory import MemoryStore
from zenovay_async.events import SharedBudgetBack, SharedBudgetLost, emit
from zenovay_async.rate_limits import Write

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection

    from zenovay_async.events import OnEvent
    from zenovay_async.rate_limits import Store

# Seconds for one update of a store, of whatever kind, before it counts as lost.
_UPDATE_TIMEOUT = 2.0
# Seconds between two attempts to reach a lost store, drawn anew each time, so that processes do not come at once.
_RETRY_MIN, _RETRY_MAX = 0.7, 1.3
# Seconds for which the first process back pauses all, so that the others can come back and count what they sent.
_PAUSE = 1.5

_logger = logging.getLogger("zenovay_async")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SharedState).decode


class Replica:
    """The shared state, as one member last saw it; on one event loop at a time.

    Args:
        store: Where the state is kept.
        name: Name of the state in the store.
        create: Makes a state that knows nothing yet.
        plan: Changes a state in place, given it and the time; returns the addresses to ring, or ``None`` to write
            nothing. It may be called several times before ``carry_out``.
        carry_out: Called once the last plan is written, with the state of before, if there was one.
        rng: Draws names and waits.
        owns_store: Whether to close the store; one that is the caller's is never closed.
        on_event: Called when the store is lost and back.

    Attributes:
        me: Name of this member.
        address: Where others ring it.
        known: The state that was seen last; ``None`` before the first update.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        create: Callable[[], SharedState],
        plan: Callable[[SharedState, float], Collection[str] | None],
        carry_out: Callable[[SharedState | None], None],
        rng: random.Random,
        owns_store: bool,
        on_event: OnEvent | None,
    ) -> None:
        self.me = f"{rng.getrandbits(48):012x}"
        self.address = ""
        self.known: SharedState | None = None
        self._shared_store = self._store = store
        self._name = name
        self._create, self._plan, self._carry_out = create, plan, carry_out
        self._rng = rng
        self._owns_store = owns_store
        self._on_event = on_event
        self._loop: asyncio.AbstractEventLoop | None = None
        # The store's clock, less that of the event loop; 0 before the first update.
        self._offset = 0.0
        self._planned: tuple[SharedState, float] | None = None
        self._task: asyncio.Task[None] | None = None
        self._late_update: asyncio.TimerHandle | None = None
        self._is_due = self._is_scheduled = self._is_listening = self._takes_none = False
        # In the time of the event loop.
        self._lost_since: float | None = None
        self._before_loss: SharedState | None = None
        self._return_timer: asyncio.TimerHandle | None = None
        self._return_task: asyncio.Task[None] | None = None
        # Requests sent while the store came back, until it knows of them.
        self._uncounted = 0

    @property
    def takes_no_wait(self) -> bool:
        """Whether the next update takes no wait, as far as known: the last one took none, and none is in progress."""
        return self._task is None and (self._takes_none or self._lost_since is not None)

    @property
    def is_lost(self) -> bool:
        """Whether the store is lost, so that no other process sees the state."""
        return self._lost_since is not None

    def loop_time(self) -> float:
        """The time of the event loop; 0.0 before the first use."""
        return 0.0 if self._loop is None else self._loop.time()

    def now(self) -> float:
        """The time of the store's clock, as far as known."""
        return self.loop_time() + self._offset

    def at(self, when: float) -> float:
        """A time of the store's clock, in the time of the event loop."""
        return when - self._offset

    def request_update(self) -> None:
        """Update soon; does not wait."""
        self._is_due = True
        loop = self._loop
        if loop is not None and self._task is None and not self._is_scheduled and not loop.is_closed():
            self._is_scheduled = True
            loop.call_soon(self._update_if_due)

    def request_late_update(self, linger: float) -> None:
        """Update within so many seconds, together with what comes meanwhile, where an update takes a round trip."""
        loop = self._loop
        if self.takes_no_wait or loop is None or loop.is_closed():
            self.request_update()
        elif self._late_update is None:
            self._late_update = loop.call_later(linger, self.request_update)

    def update_now(self) -> None:
        """Update at once if the store takes no wait, else in a task."""
        loop = self._loop
        if loop is None or self._task is not None or loop.is_closed():
            return
        self._is_due = False
        if self._late_update is not None:
            self._late_update.cancel()
            self._late_update = None
        if self._is_listening or self._lost_since is not None:
            try:
                self._takes_none = self._store.update_nowait(self._name, self._change)
            except Exception as error:  # noqa: BLE001 - a store may be anyone's
                self._lose(error)
                return
            if self._takes_none:
                self._finish()
                return
        # With a context of its own, as it is not part of the call that happens to wait for it.
        self._task = loop.create_task(self._update(), context=Context())

    def move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use another event loop; what was pending on the one before is dropped."""
        self._task = self._return_task = self._late_update = self._planned = None
        self._is_due = self._is_scheduled = self._is_listening = self._takes_none = False
        self.address = ""
        self._uncounted = 0
        self._end_loss()
        self._loop, self._offset = loop, 0.0

    async def flush(self) -> None:
        """Wait until the updates requested until now are done."""
        while self._task is not None or self._is_due or self._late_update is not None:
            if self._task is None:
                self.update_now()
            if self._task is not None:
                await asyncio.wait([self._task])

    async def aclose(self) -> None:
        """Close the store; the next update opens it again."""
        if self._return_timer is not None:
            self._return_timer.cancel()
        if self._return_task is not None:
            self._return_task.cancel()
            await asyncio.wait([self._return_task])
        self._end_loss()
        if self._owns_store:
            self._is_listening, self._takes_none, self.address = False, False, ""
            with suppress(Exception):
                async with asyncio.timeout(_UPDATE_TIMEOUT):
                    await self._shared_store.aclose()

    def _update_if_due(self) -> None:
        self._is_scheduled = False
        if self._is_due:
            self.update_now()

    async def _update(self) -> None:
        try:
            async with asyncio.timeout(_UPDATE_TIMEOUT):
                if not self._is_listening:
                    self.address = await self._shared_store.listen(self._name, self.request_update)
                    self._is_listening = True
                self._is_due = False
                await self._store.update(self._name, self._change)
        except Exception as error:  # noqa: BLE001 - a store may be anyone's
            self._task = None
            self._lose(error)
        else:
            self._task = None
            self._finish()
        finally:
            self._task = None

    def _change(self, value: bytes | None, now: float) -> Write | None:
        """Plan a change of the stored value; see :data:`~zenovay_async.rate_limits.Change`."""
        state, must_write = self._read(value, now, self.known)
        if self._uncounted:
            state.count([now] * self._uncounted)
            must_write = True
        ring = self._plan(state, now)
        self._planned = state, now
        return None if ring is None and not must_write else self._write(state, now, ring or ())

    def _write(self, state: SharedState, now: float, ring: Collection[str] = ()) -> Write:
        state.revision += 1
        state.written_at = now
        return Write(_encode(state), tuple(ring))

    def _read(self, value: bytes | None, now: float, known: SharedState | None) -> tuple[SharedState, bool]:
        """Decode the stored value, or bring back what is known where the store has lost it.

        Returns:
            The state, and whether it is another one than that which is stored.
        """
        stored: SharedState | None = None
        if value is not None:
            # What cannot be read is of another version.
            with suppress(msgspec.MsgspecError):
                stored = _decode(value)
        if stored is not None and (known is None or stored.continues(known)):
            state, must_write = stored, False
        elif known is None:
            state, must_write = self._create(), True
        else:
            copy = _decode(_encode(known))
            state, must_write = reconcile(stored, copy, now, self._rng.getrandbits(63)), True
        if self._offset and state.is_of_other_clock(now, self.now()):
            state.rebase(now)
            must_write = True
        return state, must_write

    def _finish(self) -> None:
        """Carry out what was planned, as it is written."""
        planned, self._planned = self._planned, None
        if planned is not None:
            before, (self.known, now) = self.known, planned
            self._offset = now - self.loop_time()
            self._uncounted = 0
            self._carry_out(before)
        if self._is_due:
            self.request_update()

    def _lose(self, error: Exception) -> None:
        """Go on with this process's share of the last state."""
        loop, self._planned = self._loop, None
        if loop is None:
            return
        if self._lost_since is not None:
            _logger.error("The shared rate limit failed in memory", exc_info=error)
            return
        self._lost_since, offset = loop.time(), self._offset
        self._before_loss = self.known
        alone = _decode(_encode(self.known or self._create()))
        members = alone.reduce_to_share(self.me, self.now())
        self.known, self._store = alone, MemoryStore(lambda: loop.time() + offset)
        reason = str(error) or type(error).__name__
        event = SharedBudgetLost(reason=reason, members=members, limit=alone.pacer.limit)
        _logger.warning(
            "The store of the shared rate limit is lost (%s); going on with %d requests per window",
            reason,
            event.limit,
            extra={"event": event},
        )
        emit(self._on_event, event)
        self._try_later(loop)
        self.request_update()

    def _try_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._return_timer = loop.call_later(self._rng.uniform(_RETRY_MIN, _RETRY_MAX), self._try_again, loop)

    def _try_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._return_timer = None
        self._return_task = loop.create_task(self._return(loop), context=Context())

    async def _return(self, loop: asyncio.AbstractEventLoop) -> None:
        """Try to reach the store, and count there what was sent without it."""
        rejoined: SharedState | None = None
        written_at, counted = 0.0, 0

        def rejoin(value: bytes | None, now: float) -> Write:
            nonlocal rejoined, written_at, counted
            rejoined, _ = self._read(value, now, self._before_loss)
            rejoined.tidy(now)
            rejoined.join(self.me, now, self.address)
            alone, since = self.known, self._lost_since
            if alone is not None and since is not None:
                shift = now - self.now()
                rejoined.rejoin(alone, since + self._offset, now, shift=shift, pause=_PAUSE)
                counted = alone.pacer.acquired_total
            written_at = now
            return self._write(rejoined, now)

        try:
            async with asyncio.timeout(_UPDATE_TIMEOUT):
                if self._owns_store:
                    # What was opened before may be broken.
                    await self._shared_store.aclose()
                    self._is_listening = False
                if not self._is_listening:
                    self.address = await self._shared_store.listen(self._name, self.request_update)
                    self._is_listening = True
                await self._shared_store.update(self._name, rejoin)
        except Exception:  # noqa: BLE001 - a store may be anyone's
            self._try_later(loop)
        else:
            if rejoined is not None:
                self._come_back(rejoined, written_at, counted)
        finally:
            self._return_task = None

    def _come_back(self, state: SharedState, written_at: float, counted: int) -> None:
        now, since, alone = self.loop_time(), self._lost_since, self.known
        if since is None or alone is None:
            return
        self._uncounted = alone.pacer.acquired_total - counted
        self._end_loss()
        self.known, self._offset = state, written_at - now
        event = SharedBudgetBack(seconds=now - since)
        _logger.info("The store of the shared rate limit is back after %.1f s", event.seconds, extra={"event": event})
        emit(self._on_event, event)
        self.request_update()

    def _end_loss(self) -> None:
        """Use the store again, with the state that was seen before it was lost."""
        if self._lost_since is not None:
            self._store, self.known = self._shared_store, self._before_loss
        self._lost_since = self._before_loss = self._return_timer = None
