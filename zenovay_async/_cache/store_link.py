"""What a process has of a store: its operations, and what becomes of them while the store is **lost**.

The first error of the store loses it. From then on nobody asks it and nobody waits for it, but for one caller at a time
who tries it again, after pauses that grow. What other processes rely on is sent when it is back: invalidations, and the
release of leases.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from zenovay_async._cache.invalidation import Scope
from zenovay_async._limits.event_loop import running_loop
from zenovay_async._protocol.log_fields import event_fields
from zenovay_async._protocol.text import one_line
from zenovay_async.events import CacheStoreBack, CacheStoreLost

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine

    from zenovay_async._cache.stats import Counters
    from zenovay_async._cache.store import CacheStore, Found
    from zenovay_async.events import Event

T = TypeVar("T")

# Seconds until a lost store is tried again: at first, and at most. Each is shortened at random, so that processes do
# not come at once.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
_SHORTEST_SHARE = 0.8
# Seconds in which a closing link sends what is pending, and after which it is closed in any case.
_SEND_TIMEOUT, _CLOSE_TIMEOUT = 0.75, 1.0
SHORTEST_SLEEP = 1e-3
"""Seconds; a shorter sleep may end before its time on a coarse clock, and again."""
# Scopes that are remembered while the store is lost; beyond these, everything of their accounts is invalidated.
_MAX_SCOPES = 256

_logger = logging.getLogger("zenovay_async.cache")


class StoreLost(Exception):  # noqa: N818 - a state, which no user sees
    """The store cannot be used now."""


class StoreLink:
    """A store, as one process uses it; on one event loop at a time.

    Args:
        store: The store; its operations end by themselves, with an error if it cannot be used.
        emit: Called when it is lost and back.
        counters: Counts the losses.
        keep_invalidations: Seconds for which the store remembers an invalidation.
        clock: The time in seconds.
        rng: Shortens the pauses.

    Attributes:
        store: The store.
        offset: Seconds by which its clock is ahead, as last seen; ``None`` before the first look.
        unrecorded: When each scope was invalidated that the store does not know of yet.
        unreleased: Names of which this process may have the lease without a use for it.
    """

    def __init__(
        self,
        store: CacheStore,
        emit: Callable[[Event], None],
        counters: Counters,
        *,
        keep_invalidations: float,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.store = store
        self.offset: float | None = None
        self.unrecorded: dict[Scope, float] = {}
        self.unreleased: set[str] = set()
        self._emit = emit
        self._counters = counters
        self._keep_invalidations = keep_invalidations
        self._clock = clock
        self._rng = rng
        self._lost_since: float | None = None
        self._pause = _FIRST_PAUSE
        self._retry_at = -math.inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._flusher: asyncio.Task[None] | None = None
        self._trial: asyncio.Task[Found | None] | None = None
        self._in_progress: set[asyncio.Timeout] = set()
        self._closings = 0
        self._has_fault = False
        # A name that no response has.
        self._trial_name = f"trial-{secrets.token_hex(16)}"

    @property
    def is_lost(self) -> bool:
        """Whether the store is lost."""
        return self._lost_since is not None

    def bind(self) -> asyncio.AbstractEventLoop:
        """Use the running event loop; what was pending on another one is sent on this one.

        Raises:
            ClientClosedError: There is none.
        """
        loop = running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._tasks, self._in_progress = set(), set()
            self._flusher = self._trial = None
            self.flush_soon()
        return loop

    def start(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Start a task, which is part of no call."""
        task = self.bind().create_task(work(), name="zenovay-async: cache", context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def use(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Carry out one operation of the store.

        Raises:
            StoreLost: It failed, or another one did meanwhile.
        """
        bound, closings = asyncio.timeout(None), self._closings
        try:
            async with bound:
                self._in_progress.add(bound)
                try:
                    return await operation()
                finally:
                    self._in_progress.discard(bound)
        except Exception as error:  # noqa: BLE001 - whatever a store raises, calls go on without it
            # One that is closed meanwhile may fail for that reason.
            if not bound.expired() and closings == self._closings:
                self._report_fault(error)
                self._lose(error)
        raise StoreLost

    async def find(self, name: str) -> Found | None:
        """Look up a name; ``None`` if the store is lost. One caller at a time tries whether it is back."""
        self.bind()
        if self._lost_since is not None:
            if self.unrecorded or self.unreleased:
                # Sending that is the trial, and may take long.
                self.flush_soon()
                return None
            if self._clock() < self._retry_at or (self._trial is not None and not self._trial.done()):
                return None
            trial = self._try_again(name)
            await asyncio.wait([trial])
            return None if trial.cancelled() else trial.result()
        try:
            return await self._look_up(name)
        except StoreLost:
            return None

    def record_soon(self, scope: Scope) -> asyncio.Task[None]:
        """Record an invalidation from now on; the task ends when the store has it, or is lost.

        Raises:
            ClientClosedError: No event loop is running.
        """
        self.bind()
        self.unrecorded[scope] = self._clock()
        if self._lost_since is not None:
            self._merge_unrecorded()
        return self.start(lambda: self._record_or_remember(scope))

    def flush_soon(self) -> None:
        """Send what is pending, once the store is back."""
        if (self.unrecorded or self.unreleased) and (self._flusher is None or self._flusher.done()):
            self._flusher = self.start(self._flush)

    async def aclose(self) -> None:
        """Send what is pending, and close the store, within a second; a later use opens it again."""
        closes_at = self.bind().time() + _CLOSE_TIMEOUT
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(closes_at - _CLOSE_TIMEOUT + _SEND_TIMEOUT):
                    await self._send_pending()
        finally:
            self._closings += 1
            with suppress(Exception):
                async with asyncio.timeout_at(closes_at):
                    if tasks := set(self._tasks):
                        for task in tasks:
                            task.cancel()
                        await asyncio.wait(tasks)
                    await self.store.aclose()

    async def _send_pending(self) -> None:
        while tasks := self._tasks - {self._flusher}:
            await asyncio.wait(tasks)
        if self._flusher is not None:
            self._flusher.cancel()
        if not self.unrecorded and not self.unreleased:
            return
        if self._lost_since is None:
            with suppress(StoreLost):
                await self._send()
        else:
            await asyncio.wait([self._try_again(None)])

    async def _look_up(self, name: str) -> Found:
        found = await self.use(lambda: self.store.find(name))
        self.offset = found.offset
        return found

    def _merge_unrecorded(self) -> None:
        """Bound what is remembered while the store is lost: of many scopes, one for each account remains."""
        if len(self.unrecorded) > _MAX_SCOPES:
            accounts = {scope.account for scope in self.unrecorded}
            merged = [Scope()] if len(accounts) > _MAX_SCOPES else [Scope(account=account) for account in accounts]
            self.unrecorded.clear()
            self.unrecorded.update(dict.fromkeys(merged, self._clock()))

    async def _record_or_remember(self, scope: Scope) -> None:
        if self._lost_since is None:
            try:
                await self._record(scope)
            except StoreLost:
                pass
            else:
                return
        self.flush_soon()

    async def _record(self, scope: Scope) -> None:
        when = self.unrecorded.get(scope)
        if when is None:
            return
        await self.use(lambda: self.store.invalidate(scope.name, self._keep_invalidations))
        if self.unrecorded.get(scope) == when:
            del self.unrecorded[scope]

    async def _send(self) -> None:
        while self.unrecorded:
            await self._record(next(iter(self.unrecorded)))
        while self.unreleased:
            await self._release(next(iter(self.unreleased)))

    async def _release(self, name: str) -> None:
        await self.use(lambda: self.store.release_lease(name))
        self.unreleased.discard(name)

    async def _flush(self) -> None:
        while self.unrecorded or self.unreleased:
            if self._lost_since is None:
                with suppress(StoreLost):
                    await self._send()
            elif (pause := self._retry_at - self._clock()) > 0:
                await asyncio.sleep(max(pause, SHORTEST_SLEEP))
            else:
                await asyncio.wait([self._try_again(None)])

    def _try_again(self, name: str | None) -> asyncio.Task[Found | None]:
        """Try whether the store is back, unless that is under way."""
        if self._trial is None or self._trial.done():
            self._trial = self.start(lambda: self._return(name))
        return self._trial

    async def _return(self, name: str | None) -> Found | None:
        """Look up a name, or send what is pending; the store is back if that works."""
        found = None
        try:
            if name is None:
                await self._send()
            else:
                found = await self._look_up(name)
            await self.use(self._try_change)
        except StoreLost:
            return None
        if self.unrecorded or self.unreleased:
            # They came meanwhile, and are sent first.
            return None
        self._come_back()
        return found

    async def _try_change(self) -> None:
        """Change something, as one that is full, or a replica, can be looked at all the same."""
        await self.store.acquire_lease(self._trial_name, background=True, steal=True)
        await self.store.release_lease(self._trial_name)

    def _report_fault(self, error: Exception) -> None:
        """Log an error, once, that says nothing of the store, but that there is a fault in this package."""
        if not isinstance(error, OSError) and not self._has_fault:
            self._has_fault = True
            _logger.error("Unexpected %s of the store of the cache", type(error).__name__, exc_info=error)

    def _lose(self, error: Exception) -> None:
        if self._lost_since is None:
            self._lost_since, self._pause = self._clock(), _FIRST_PAUSE
            self._merge_unrecorded()
            self._counters.errors += 1
            event = CacheStoreLost(reason=one_line(str(error)) or type(error).__name__)
            _logger.warning(
                "The store of the cache is lost (%s); going on with what is in memory",
                event.reason,
                extra=event_fields(event),
            )
            # Nobody waits longer for what is lost.
            while self._in_progress:
                self._in_progress.pop().reschedule(-math.inf)
            self._emit(event)
        elif self._clock() < self._retry_at:
            # One of many operations that failed at once, which says nothing new.
            return
        else:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._retry_at = self._clock() + self._pause * self._rng.uniform(_SHORTEST_SHARE, 1.0)

    def _come_back(self) -> None:
        if self._lost_since is None:
            return
        event = CacheStoreBack(seconds=self._clock() - self._lost_since)
        self._lost_since = None
        _logger.info("The store of the cache is back after %.1f s", event.seconds, extra=event_fields(event))
        self._emit(event)
