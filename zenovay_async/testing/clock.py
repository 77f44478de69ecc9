"""The clock of event loops, which is moved instead of waited for.

A call waits on timers of its event loop: for a permit, a backoff, a server that is away. So where calls wait, and
nothing else can happen before the next timer, the loop's clock is moved to it. All timers of the loop fire in their
order, and what the client measures is what it would have waited.

Time is that of a thread, as a rate limit is what the clients of one thread share: a loop that follows another one in
its thread goes on from the time of that one. It never goes back: a loop keeps what was skipped.
"""

from __future__ import annotations

import asyncio
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from zenovay_async._session.connection_pool import ConnectionPool
from zenovay_async._session.session import Session
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.sandbox.server import running_sandboxes
from zenovay_async.testing.limits import forget_limits
from zenovay_async.testing.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._session.state import CallState

# Where an event loop keeps its LoopClock.
_CLOCK = "_zenovay_async_clock"
# Seconds. A loop whose time differs by more has a clock of its own, such as a virtual one.
_SAME_CLOCK = 1.0

_real_time = asyncio.BaseEventLoop.time
_real_run_in_executor: Callable[..., asyncio.Future[Any]] = asyncio.BaseEventLoop.run_in_executor


class LoopClock:
    """The clock of one event loop, and what the clients do on that loop.

    Args:
        thread: The thread of the loop.
        shift: Seconds by which it is ahead of ``time.monotonic``.

    Attributes:
        thread: As given.
        shift: As given, and more with each skip.
        calls: Calls that have not ended.
        in_flight: Requests without a response yet.
        in_threads: Functions that run in threads on behalf of the loop.
        is_attached: Whether the waits of the loop are skipped.
    """

    def __init__(self, thread: int, shift: float) -> None:
        self.thread = thread
        self.shift = shift
        self.calls = self.in_flight = self.in_threads = 0
        self.is_attached = False

    @property
    def is_waiting(self) -> bool:
        """Whether there are calls, and all of them wait for timers."""
        return self.calls > 0 and not self.in_flight and not self.in_threads


class Clocks:
    """The clocks of all event loops.

    Attributes:
        skipped: Seconds that were ever skipped, of all threads.
        entered: Blocks that are entered; without one, nothing is skipped.
    """

    def __init__(self) -> None:
        self.skipped = 0.0
        self.entered = 0
        self._lock = threading.Lock()
        self._patches = Patches()
        # What was skipped in each thread since the first of the blocks was entered.
        self._shifts: dict[int, float] = {}
        self._loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    def enter(self) -> None:
        """Begin a block; blocks may be nested, and entered by several threads."""
        with self._lock:
            self.entered += 1
            if self.entered == 1:
                self._install()

    def leave(self) -> None:
        """End a block; with the last one, time passes as usual again."""
        with self._lock:
            self.entered -= 1
            if self.entered:
                return
            self._patches.undo()
            self._shifts.clear()
            clocks = [clock for loop in self._loops if (clock := _clock_of(loop)) is not None and not loop.is_closed()]
            for clock in clocks:
                clock.is_attached = False
            if not any(clock.shift for clock in clocks):
                _replace_time(_real_time)
        forget_limits()

    def _install(self) -> None:
        # Until the loops that have skipped something are closed, as their time must not go back.
        _replace_time(_shifted_time)
        run, send = Session.run, ConnectionPool.send

        async def run_counted(session: Session, state: CallState[Any]) -> Any:
            clock = self._attach(state.loop, session)
            clock.calls += 1
            try:
                return await run(session, state)
            finally:
                clock.calls -= 1

        async def send_counted(pool: ConnectionPool, *args: Any, **kwargs: Any) -> Any:
            clock = self._adopt(pool.loop)
            clock.in_flight += 1
            try:
                return await send(pool, *args, **kwargs)
            finally:
                clock.in_flight -= 1

        def run_in_executor(loop: asyncio.BaseEventLoop, *args: Any) -> asyncio.Future[Any]:
            future, clock = _real_run_in_executor(loop, *args), self._adopt(loop)
            clock.in_threads += 1

            def end(_: asyncio.Future[Any]) -> None:
                clock.in_threads -= 1

            future.add_done_callback(end)
            return future

        self._patches.set(Session, "run", run_counted)
        self._patches.set(ConnectionPool, "send", send_counted)
        self._patches.set(asyncio.BaseEventLoop, "run_in_executor", run_in_executor)

    def time_of(self, loop: asyncio.AbstractEventLoop) -> float:
        """The time of a loop of asyncio's."""
        clock = _clock_of(loop)
        if clock is None:
            if not self.entered:
                return monotonic()
            clock = self._adopt(loop)
        return monotonic() + clock.shift

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> LoopClock:
        """The clock of a loop, which begins at the time of its thread."""
        clock = _clock_of(loop)
        if clock is None:
            with self._lock:
                thread = threading.get_ident()
                clock = LoopClock(thread, self._shifts.get(thread, 0.0))
                setattr(loop, _CLOCK, clock)
                self._loops.add(loop)
        return clock

    def _attach(self, loop: asyncio.AbstractEventLoop, session: Session) -> LoopClock:
        """Skip the waits of a loop from now on.

        Raises:
            ConfigurationError: The loop is of a kind that lets nobody do so, or the client shares its budget with
                other processes.
        """
        if session._budget._shared.is_shared:  # noqa: SLF001 - of the same package
            raise ConfigurationError(
                "no_waits() cannot skip what other processes wait for: the client has a rate_limit_store="
                " (or ZENOVAY_RATE_LIMIT_STORE); make it without one in this test"
            )
        selector = getattr(loop, "_selector", None)
        if selector is None or not isinstance(loop, asyncio.BaseEventLoop):
            kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
            raise ConfigurationError(
                f"no_waits() cannot move the clock of a {kind}; run this test on one of asyncio's own event loops"
            )
        clock = self._adopt(loop)
        if not clock.is_attached and abs(loop.time() - self.time_of(loop)) < _SAME_CLOCK:
            if not _moves(loop, clock):
                raise ConfigurationError(
                    "no_waits() cannot move the clock of this event loop, whose time() was replaced; freezegun does so "
                    "with real_asyncio=True, which is not needed in the block"
                )
            clock.is_attached = True
            select: Callable[[float | None], list[Any]] = selector.select

            def select_or_skip(timeout: float | None = None) -> list[Any]:
                if timeout is None or timeout <= 0 or not clock.is_waiting:
                    return select(timeout)
                events = select(0)
                if not events:
                    self._skip(loop, clock.thread, timeout)
                return events

            with self._lock:
                self._patches.set(selector, "select", select_or_skip)
        return clock

    def _skip(self, loop: asyncio.AbstractEventLoop, thread: int, seconds: float) -> None:
        with self._lock:
            if not self.entered:
                # The last block was left in another thread meanwhile.
                return
            self.skipped += seconds
            self._shifts[thread] = self._shifts.get(thread, 0.0) + seconds
            for each in self._loops:
                clock = _clock_of(each)
                if clock is not None and clock.thread == thread:
                    clock.shift += seconds
        for sandbox in running_sandboxes(on_other_loops_than=loop):
            sandbox.advance(seconds)


def _clock_of(loop: asyncio.AbstractEventLoop) -> LoopClock | None:
    clock: LoopClock | None = getattr(loop, _CLOCK, None)
    return clock


def _moves(loop: asyncio.AbstractEventLoop, clock: LoopClock) -> bool:
    """Whether the time of a loop is that of its clock, rather than of a function in its place."""
    before = loop.time()
    clock.shift += 2 * _SAME_CLOCK
    moved = loop.time() - before
    clock.shift -= 2 * _SAME_CLOCK
    return moved > _SAME_CLOCK


def _replace_time(function: Callable[[Any], float]) -> None:
    asyncio.BaseEventLoop.time = function  # type: ignore[method-assign,assignment] # the clock of all loops of asyncio


def _shifted_time(loop: asyncio.BaseEventLoop) -> float:
    return CLOCKS.time_of(loop)


CLOCKS = Clocks()
"""The clocks of this process."""
