"""The queue in front of the rate limit: who may send next, and who waits.

:class:`RateLimiter` is what a session needs of a limiter, so that one shared between processes can take the place of
:class:`WindowLimiter`, which serves the callers of one process. *When* a request may go is decided in
``zenovay_async._limits.pacing``; here it is decided *whose*.

Cancellation is normal: a web request that goes away while it waits gives its place to the next. So nothing in here
sleeps on behalf of others. A waiter is a future in a queue; whoever changes the state (a grant, an answer, a
cancellation, the one timer) hands out permits from the front. A waiter's time running out is one more who sets its
future, so either a permit or an error is in it, never both; and a caller that is cancelled in the very moment in which
it got a permit puts it back.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from zenovay_async._limits.pacing import Grant, Pacer
from zenovay_async.events import RateLimited, RateLimitUpdated, emit
from zenovay_async.exceptions import ClientClosedError, RateLimitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.events import OnEvent

# While calls made directly keep coming, one in four permits still goes to a batch that waits: it moves on at a
# quarter of the rate at least, and a direct call waits for one request longer at most.
_BATCH_SHARE = 4
_TOO_MANY = 429


class RateLimit(msgspec.Struct, frozen=True):
    """The state of a rate limit.

    Attributes:
        limit: Requests per window believed in.
        remaining: How many could start now without waiting.
        window: Seconds of the window.
        reset_after: Seconds until another request could start; 0.0 for now.
        learned: Whether an answer has stated the limit; until then it is that of the lowest plan.
    """

    limit: int
    remaining: int
    window: float
    reset_after: float
    learned: bool


@runtime_checkable
class RateLimiter(Protocol):
    """Gives out permits to send. Each is given back exactly once, to ``finish`` or to ``refund``."""

    def acquire_nowait(self, *, cost: int = 1) -> Any:
        """A permit, if a request may go now and nobody waits; else ``None``, and :meth:`acquire` is called.

        Args:
            cost: What it takes of the limit.
        """
        ...

    async def acquire(self, *, cost: int = 1, max_wait: float | None = None, background: bool = False) -> Any:
        """Wait for the turn of a request.

        Args:
            cost: What it takes of the limit.
            max_wait: Seconds that it may wait; ``None`` for as long as it takes.
            background: Whether direct calls may overtake it.

        Returns:
            A permit, to be given back.

        Raises:
            RateLimitError: The wait does not fit ``max_wait``; raised as soon as that is known. ``retry_after`` is the
                wait that it would have been.
        """
        ...

    def finish(
        self,
        permit: Any,
        *,
        status: int | None,
        limit: int | None = None,
        remaining: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Give a permit back with what the answer said.

        Args:
            permit: From :meth:`acquire`.
            status: HTTP status; ``None`` where no answer came but the request may have reached the server.
            limit: ``X-RateLimit-Limit``.
            remaining: ``X-RateLimit-Remaining``.
            retry_after: Seconds that a 429 asked for.
        """
        ...

    def refund(self, permit: Any) -> None:
        """Give a permit back unused: the request never reached the server."""
        ...

    def snapshot(self) -> RateLimit:
        """The state now."""
        ...

    def forecast(self, n: int) -> float:
        """Seconds until the last of ``n`` further requests could start, as far as it is known now."""
        ...


class _Waiter:
    __slots__ = ("cost", "future", "give_up_at", "queue")

    def __init__(self, future: asyncio.Future[Grant], cost: int, give_up_at: float, queue: _Queue) -> None:
        self.future = future
        self.cost = cost
        self.give_up_at = give_up_at
        self.queue = queue


class _Queue(dict[_Waiter, None]):
    """Those who wait: in order, and a waiter that gives up is taken from anywhere at once.

    Attributes:
        cost: What they take of the limit together, so that whoever comes need not count them.
    """

    cost = 0

    def add(self, waiter: _Waiter) -> None:
        self[waiter] = None
        self.cost += waiter.cost

    def remove(self, waiter: _Waiter) -> None:
        del self[waiter]
        self.cost -= waiter.cost

    def clear(self) -> None:
        super().clear()
        self.cost = 0


class WindowLimiter:
    """Keeps the callers of one process within a limit per window; see ``zenovay_async._limits.pacing`` for how.

    First come, first served; calls of a batch stand behind those made directly. It belongs to the event loop that
    uses it; when that loop is gone, to the next, and what it knows of the limit stays.

    Args:
        limit: Requests per window never to be exceeded; ``None`` to learn the server's.
        window: Seconds of the window.
        on_event: Told when a limit is learned and when a 429 closes the gate.
        rng: Draws the jitter; left out, the usual randomness.
    """

    def __init__(
        self,
        *,
        limit: int | None = None,
        window: float = 60.0,
        on_event: OnEvent | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._pacer = Pacer(limit, window, rng or random.Random())  # noqa: S311 - jitter is no secret
        self._on_event = on_event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._direct = _Queue()
        self._batch = _Queue()
        self._passed_over = 0
        self._timer: asyncio.TimerHandle | None = None

    def acquire_nowait(self, *, cost: int = 1) -> Grant | None:
        """A permit, if a request may go now and nobody waits; see :class:`RateLimiter`."""
        loop, pacer = self._loop, self._pacer
        # Which loop runs is for acquire to find out, as up to Python 3.11 that takes a system call.
        if self._direct or self._batch or loop is None or not loop.is_running():
            return None
        now = loop.time()
        return pacer.grant(now, cost) if pacer.ready_at(now, cost) <= now else None

    async def acquire(self, *, cost: int = 1, max_wait: float | None = None, background: bool = False) -> Grant:
        """Wait for the turn of a request; see :class:`RateLimiter`."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        if (granted := self.acquire_nowait(cost=cost)) is not None:
            return granted
        now = loop.time()
        give_up_at = math.inf if max_wait is None else now + max_wait
        queue = self._batch if background else self._direct
        waiter = _Waiter(loop.create_future(), self._pacer.fitting(cost), give_up_at, queue)
        # Where the first answer is on its way it may allow more than the lowest plan does, so it is waited for.
        if (expected := self._expected(waiter, now)) > give_up_at and not self._pacer.guessing:
            raise _no_time(expected - now)
        queue.add(waiter)
        self._hand_out()
        return await self._wait(waiter, loop)

    def finish(
        self,
        permit: Grant,
        *,
        status: int | None,
        limit: int | None = None,
        remaining: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Give a permit back with what the answer said; see :class:`RateLimiter`."""
        now = self._loop.time() if self._loop is not None else 0.0
        # What those who wait were not refused for may be known now.
        news, closed_until = self._pacer.guessing, self._pacer.closed_until
        if status is None:
            self._pacer.unanswered(permit, now)
        elif status == _TOO_MANY:
            seconds = self._pacer.refused(permit, now, retry_after, limit)
            if seconds is not None:
                emit(self._on_event, RateLimited(seconds, retry_after is not None))
            news = news or seconds is not None or self._pacer.closed_until > closed_until
        else:
            before = self._pacer.answered(permit, now, limit=limit, remaining=remaining)
            if before is not None:
                emit(self._on_event, RateLimitUpdated(before, self._pacer.limit))
        if self._direct or self._batch or self._timer:
            if news:
                self._refuse_the_late(now)
            self._hand_out()

    def refund(self, permit: Grant) -> None:
        """Give a permit back unused; see :class:`RateLimiter`."""
        self._pacer.refund(permit)
        if self._direct or self._batch:
            self._hand_out()

    def fail_all(self, make_error: Callable[[], Exception]) -> None:
        """Let every caller that waits fail at once."""
        for queue in (self._direct, self._batch):
            for waiter in queue:
                if not waiter.future.done():
                    waiter.future.set_exception(make_error())
            queue.clear()
        self._set_timer(None)

    def snapshot(self) -> RateLimit:
        """The state now."""
        now, pacer = self._now(), self._pacer
        ready = pacer.ready_at(now)
        # Where it takes an answer to know, a paced request's time is the nearest guess.
        wait = max(0.0, (pacer.free_at(now, 0) if math.isinf(ready) else ready) - now)
        return RateLimit(pacer.limit, pacer.remaining(now), pacer.window, wait, pacer.learned)

    def forecast(self, n: int) -> float:
        """Seconds until the last of ``n`` further requests could start, as far as it is known now."""
        now = self._now()
        ahead = self._direct.cost + self._batch.cost
        return 0.0 if n <= 0 else max(0.0, self._pacer.free_at(now, ahead + n - 1) - now)

    async def _wait(self, waiter: _Waiter, loop: asyncio.AbstractEventLoop) -> Grant:
        alarm = None if math.isinf(waiter.give_up_at) else loop.call_at(waiter.give_up_at, self._give_up, waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise
        finally:
            if alarm is not None:
                alarm.cancel()

    def _give_up(self, waiter: _Waiter) -> None:
        """A waiter's time has run out."""
        # After a delay of the loop its turn may be due in the same moment.
        self._hand_out()
        if not waiter.future.done():
            now = self._now()
            self._refuse(waiter, max(self._expected(waiter, now), now) - now)
            self._hand_out()

    def _withdraw(self, waiter: _Waiter) -> None:
        """A waiter's caller was cancelled: its place, or the permit that it has got already, goes to the next."""
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            self.refund(future.result())
        elif waiter in waiter.queue:
            waiter.queue.remove(waiter)
            self._hand_out()

    def _hand_out(self) -> None:
        now = self._now()
        while (waiter := self._next()) is not None:
            # A future that is done belongs to a caller about to be cancelled.
            if not waiter.future.done():
                ready = self._pacer.ready_at(now, waiter.cost)
                if ready > now:
                    self._set_timer(ready)
                    return
                self._passed_over = self._passed_over + 1 if waiter.queue is self._direct and self._batch else 0
                waiter.future.set_result(self._pacer.grant(now, waiter.cost))
            waiter.queue.remove(waiter)
        self._set_timer(None)

    def _next(self) -> _Waiter | None:
        direct, batch = next(iter(self._direct), None), next(iter(self._batch), None)
        if batch is not None and (direct is None or self._passed_over >= _BATCH_SHARE - 1):
            return batch
        return direct

    def _set_timer(self, when: float | None) -> None:
        if self._timer is not None:
            if when == self._timer.when():
                return
            self._timer.cancel()
            self._timer = None
        if when is not None and not math.isinf(when) and self._loop is not None:
            self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._hand_out()

    def _expected(self, waiter: _Waiter, now: float) -> float:
        """When this waiter's turn comes at the earliest, if no further direct call overtakes it."""
        queue = waiter.queue
        ahead = 0 if queue is self._direct else self._direct.cost
        if waiter in queue:
            ahead += sum(other.cost for other in itertools.takewhile(lambda other: other is not waiter, queue))
        else:
            ahead += queue.cost
        return self._pacer.free_at(now, ahead, waiter.cost)

    def _refuse_the_late(self, now: float) -> None:
        """Those whose wait does not fit, as is known now, need not wait to hear it."""
        ahead = 0
        for queue in (self._direct, self._batch):
            for waiter in list(queue):
                expected = self._pacer.free_at(now, ahead, waiter.cost)
                if expected > waiter.give_up_at and not waiter.future.done():
                    self._refuse(waiter, expected - now)
                else:
                    ahead += waiter.cost

    def _refuse(self, waiter: _Waiter, seconds: float) -> None:
        waiter.queue.remove(waiter)
        waiter.future.set_exception(_no_time(seconds))

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """The first use on this loop: whoever waited on the one before is gone with it."""
        if (self._direct or self._batch) and self._loop is not None and not self._loop.is_closed():
            raise ClientClosedError("Callers of this key wait on another event loop; make a client in each thread")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._direct.clear()
        self._batch.clear()
        self._loop = loop
        self._pacer.abandon(loop.time())

    def _now(self) -> float:
        return 0.0 if self._loop is None else self._loop.time()


def _no_time(seconds: float) -> RateLimitError:
    return RateLimitError(
        f"The rate limit makes this call wait {seconds:.1f} s, which does not fit its timeout; nothing was sent",
        retry_after=seconds,
    )
