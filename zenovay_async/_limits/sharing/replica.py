"""What this process knows of the shared state, and the updates by which it reads and changes it.

An **update** is a function of the stored value, which a store may call again with a newer one. So it only plans; once
the value is written, the plan is carried out. Updates are requested, not awaited: those requested meanwhile are one.

While the store is **lost**, the process goes on with its share of the state that it saw last, kept in memory, through
the same updates. It tries to reach the store about once a second, and then counts there what it sent meanwhile. Neither
closing nor another event loop ends that, as a program may have a client, or a loop, for each request. A store that came
back empty, or with an older state, is given the last state seen by whoever comes first.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

import msgspec

from zenovay_async._limits.sharing.state import SharedState, reconcile
from zenovay_async._limits.stores.memory import MemoryStore
from zenovay_async._protocol.log_fields import event_fields
from zenovay_async.events import SharedBudgetBack, SharedBudgetLost, emit
from zenovay_async.rate_limits import StoreWrite

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Callable, Collection

    from zenovay_async.events import OnEvent
    from zenovay_async.rate_limits import Store

# Seconds for one update of a store, of whatever kind, before it counts as lost.
_UPDATE_TIMEOUT = 2.0
# Seconds until an update is made anew that was canceled.
_RESUME_AFTER = 5e-3
# Seconds between two attempts to reach a lost store, drawn anew each time, so that processes do not come at once.
_RETRY_MIN, _RETRY_MAX = 0.7, 1.3
# Seconds for which the first process back pauses all, so that the others can come back and count what they sent.
_PAUSE = 1.5

_NO_CHANGE = "it did not call the change that it was given"

_logger = logging.getLogger("zenovay_async.sharing")
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
        # A state, its time, and that of the event loop then.
        self._planned: tuple[SharedState, float, float] | None = None
        self._task: asyncio.Task[None] | None = None
        self._late_update: asyncio.TimerHandle | None = None
        self._is_due = self._is_scheduled = self._is_listening = self._takes_none = False
        # Whether the event loop shut down, so that no update begins on it any more.
        self._is_ended = False
        # In the time of the event loop: since when the store is lost, and when to try it again.
        self._lost_since: float | None = None
        self._retry_at = -math.inf
        self._before_loss: SharedState | None = None
        # Among how many to divide the limit once a response states it; 0 if it was known when the store was lost.
        self._divisor = 0
        self._return_timer: asyncio.TimerHandle | None = None
        self._return_task: asyncio.Task[None] | None = None
        self._owner: AsyncGenerator[None] | None = None
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

    def copy_known(self) -> SharedState:
        """A copy of the state that was seen last; one that knows nothing before the first update."""
        return self._create() if self.known is None else _copy(self.known)

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
        if loop is None or self._is_ended or loop.is_closed():
            return
        if self._task is None and not self._is_scheduled:
            loop.call_soon(self._update_if_due)
            self._is_scheduled = True

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
        if loop is None or self._task is not None or self._is_ended or loop.is_closed():
            return
        self._is_due, self._planned = False, None
        if self._late_update is not None:
            self._late_update.cancel()
            self._late_update = None
        if self._lost_since is not None:
            self._try_later(loop)
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
        self._task = self._return_task = self._owner = self._late_update = self._return_timer = self._planned = None
        self._is_due = self._is_scheduled = self._is_listening = self._takes_none = self._is_ended = False
        self.address = ""
        self._loop = loop
        if self._lost_since is None:
            self._offset = 0.0

    async def flush(self) -> None:
        """Wait until the updates requested until now are done."""
        # The update in progress may know nothing of them; and the next one ends without effect if it loses the store.
        for _ in range(3):
            if self._task is None and (self._is_due or self._late_update is not None):
                self.update_now()
            if self._task is not None:
                await asyncio.wait([self._task])

    async def aclose(self) -> None:
        """Close the store; the next update opens it again, or goes on without it if it is lost."""
        owner, self._owner = self._owner, None
        if owner is not None:
            await owner.aclose()

    async def _own_store(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
        """End all that runs, and close the store, with this generator: at the end of the event loop at the latest.

        An event loop closes its asynchronous generators when it shuts down (PEP 525), after it has canceled all tasks.
        So a client that was not closed leaves neither a task nor a connection, whatever its callers do meanwhile.
        """
        try:
            yield
        finally:
            if self._loop is loop:
                self._is_ended, self._owner = self._owner is not None, None
                tasks = [task for task in (self._task, self._return_task) if task is not None]
                for task in tasks:
                    task.cancel()
                if tasks:
                    await asyncio.wait(tasks)
                # A task that ends may set it.
                if self._return_timer is not None:
                    self._return_timer.cancel()
                    self._return_timer = None
                await self._close_store()

    async def _close_store(self) -> None:
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
                await self._listen()
                self._is_due = False
                await self._store.update(self._name, self._change)
        except BaseException as error:
            self._task = None
            if _ends_task(error):
                # Callers may wait on, as some programs cancel all tasks and go on.
                self._late_update = asyncio.get_running_loop().call_later(_RESUME_AFTER, self.request_update)
                raise
            self._lose(error)
        else:
            self._task = None
            self._finish()

    async def _listen(self) -> None:
        if self._owner is None:
            self._owner = self._own_store(asyncio.get_running_loop())
            await anext(self._owner)
        if not self._is_listening:
            address: Any = await self._shared_store.listen(self._name, self.request_update)
            if not isinstance(address, str):
                # No process could read a state with it.
                raise TypeError(f"its listen() returned {type(address).__name__}, not str")
            self.address, self._is_listening = address, True

    def _change(self, value: bytes | None, now: float) -> StoreWrite | None:
        """Plan a change of the stored value; see :data:`~zenovay_async.rate_limits.StoreChange`."""
        state, must_write = self._read(value, now, self.known)
        if self._uncounted:
            state.count([now] * self._uncounted)
            must_write = True
        ring = self._plan(state, now)
        if self._divisor and (stated := state.pacer.stated_limit) is not None:
            state.pacer.apply_ceiling(max(1, stated // self._divisor))
            self._divisor = 0
        self._planned = state, now, self.loop_time()
        return None if ring is None and not must_write else self._write(state, now, ring or ())

    def _write(self, state: SharedState, now: float, ring: Collection[str] = ()) -> StoreWrite:
        state.revision += 1
        state.written_at = now
        return StoreWrite(_encode(state), tuple(ring))

    def _read(self, value: bytes | None, now: float, known: SharedState | None) -> tuple[SharedState, bool]:
        """Decode the stored value, or bring back what is known where the store has lost it.

        Returns:
            The state, and whether it is another one than that which is stored.
        """
        if not math.isfinite(now):
            raise ValueError(f"its clock says {now}")
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
            state, must_write = reconcile(stored, _copy(known), now, self._rng.getrandbits(63)), True
        if self._offset and state.is_of_other_clock(now, self.now()):
            state.rebase(now)
            must_write = True
        return state, must_write

    def _finish(self) -> None:
        """Carry out what was planned, as it is written."""
        planned, self._planned = self._planned, None
        if planned is None:
            self._lose(RuntimeError(_NO_CHANGE))
            return
        before, (self.known, now, loop_now) = self.known, planned
        self._offset = now - loop_now
        self._uncounted = 0
        self._carry_out(before)
        if self._is_due:
            self.request_update()

    def _lose(self, error: BaseException) -> None:
        """Go on with this process's share of the last state."""
        loop, self._planned = self._loop, None
        if loop is None:
            return
        if self._lost_since is not None:
            _logger.error("The shared rate limit failed in memory", exc_info=error)
            return
        self._lost_since, self._before_loss = loop.time(), self.known
        alone = self.copy_known()
        is_assumed = alone.pacer.is_default_limit
        members = alone.reduce_to_share(self.me, self.now())
        self._divisor = members if is_assumed else 0
        self.known, self._store = alone, MemoryStore(self.now)
        reason = _explain(error)
        event = SharedBudgetLost(reason=reason, members=members, limit=alone.pacer.limit)
        _logger.warning(
            "The store of the shared rate limit is lost (%s); going on with %d requests per window",
            reason,
            event.limit,
            extra=event_fields(event),
        )
        emit(self._on_event, event)
        self._space_tries(loop)
        self._try_later(loop)
        self.request_update()

    def _space_tries(self, loop: asyncio.AbstractEventLoop) -> None:
        self._retry_at = loop.time() + self._rng.uniform(_RETRY_MIN, _RETRY_MAX)

    def _try_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """Try to reach the store when it is time, unless that is under way."""
        if self._return_timer is None and self._return_task is None:
            # Another event loop may have another clock.
            when = min(self._retry_at, loop.time() + _RETRY_MAX)
            self._return_timer = loop.call_at(when, self._try_again, loop)

    def _try_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._return_timer = None
        self._return_task = loop.create_task(self._return(loop), context=Context())

    async def _return(self, loop: asyncio.AbstractEventLoop) -> None:
        """Try to reach the store, and count there what was sent without it."""
        rejoined: SharedState | None = None
        written_at, loop_written_at, counted = 0.0, 0.0, 0

        def rejoin(value: bytes | None, now: float) -> StoreWrite:
            nonlocal rejoined, written_at, loop_written_at, counted
            rejoined, _ = self._read(value, now, self._before_loss)
            rejoined.tidy(now)
            rejoined.join(self.me, now, self.address)
            alone, since = self.known, self._lost_since
            if alone is not None and since is not None:
                shift = now - self.now()
                rejoined.rejoin(alone, since + self._offset, now, shift=shift, pause=_PAUSE)
                counted = alone.pacer.acquired_total
            written_at, loop_written_at = now, self.loop_time()
            return self._write(rejoined, now)

        try:
            async with asyncio.timeout(_UPDATE_TIMEOUT):
                if self._owns_store:
                    # What was opened before may be broken.
                    await self._shared_store.aclose()
                    self._is_listening = False
                await self._listen()
                await self._shared_store.update(self._name, rejoin)
        except BaseException as error:
            self._return_task = None
            self._space_tries(loop)
            self._try_later(loop)
            if _ends_task(error):
                raise
        else:
            if rejoined is None:
                self._return_task = None
                self._space_tries(loop)
                self._try_later(loop)
            else:
                self._come_back(rejoined, written_at - loop_written_at, counted)
        finally:
            self._return_task = None

    def _come_back(self, state: SharedState, offset: float, counted: int) -> None:
        """Use the store again, with the state that was written there."""
        since, alone = self._lost_since, self.known
        if since is None or alone is None:
            return
        self._uncounted = alone.pacer.acquired_total - counted
        self._store, self.known, self._offset = self._shared_store, state, offset
        self._lost_since, self._before_loss, self._divisor = None, None, 0
        event = SharedBudgetBack(seconds=self.loop_time() - since)
        fields = event_fields(event)
        _logger.info("The store of the shared rate limit is back after %.1f s", event.seconds, extra=fields)
        emit(self._on_event, event)
        self.request_update()


def _copy(state: SharedState) -> SharedState:
    return _decode(_encode(state))


def _explain(error: BaseException) -> str:
    """What went wrong, in one line."""
    if text := " ".join(str(error).split()):
        return text
    return f"no response within {_UPDATE_TIMEOUT:g} s" if isinstance(error, TimeoutError) else type(error).__name__


def _ends_task(error: BaseException) -> bool:
    """Whether an exception ends the task that it is raised in; any other one is of the store, which may be anyone's."""
    task = asyncio.current_task()
    is_canceled = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
    return is_canceled or isinstance(error, KeyboardInterrupt | SystemExit)
