"""The queue in front of the rate limit: whose turn it is.

*When* a request may go is decided in ``zenovay_async._limits.pacing``; here it is decided *whose* request it is.

Cancellation is normal: a web request that goes away while it waits makes room for the next. So nothing in here sleeps
on behalf of others. A waiter is a future in a queue; whoever changes the state (a permit acquired or returned, a
cancellation, the one timer) wakes waiters from the front. A waiter whose time has run out gets an error into its
future, so either a permit or an error is in it, never both; and a caller that is canceled in the very moment in which
it got a permit refunds it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from typing import TYPE_CHECKING

import msgspec

from zenovay_async._limits.pacing import Pacer, PermitRecord
from zenovay_async.events import RateLimited, RateLimitUpdated, emit
from zenovay_async.exceptions import ClientClosedError, RateLimitError
from zenovay_async.rate_limits import Outcome, RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.events import OnEvent
    from zenovay_async.exceptions import ZenovayError

# While direct calls keep coming, one in four permits still goes to background calls that wait: a batch moves on at a
# quarter of the rate at least, and a direct call waits for one request longer at most.
_BACKGROUND_SHARE = 4
_UNSENT = Outcome(kind="unsent")


class Statistics(msgspec.Struct, frozen=True):
    """What a :class:`WindowLimiter` holds at the moment.

    Attributes:
        in_flight: What of the limit is in flight: acquired and not returned yet.
        direct_waiting: Direct calls that wait for a permit.
        background_waiting: Background calls that wait for a permit.
        next_wakeup: When the timer wakes waiters, in the time of the event loop; ``None`` if it does not run.
    """

    in_flight: int
    direct_waiting: int
    background_waiting: int
    next_wakeup: float | None


class WindowPermit(msgspec.Struct, eq=False):
    """A permit of a :class:`WindowLimiter`; see :class:`~zenovay_async.rate_limits.Permit`."""

    # A Struct is made in a third of the time of another object. The garbage collector tracks it, as an event loop that
    # ends in mid-call leaves a cycle: limiter, waiter, a caller's frame, its permit.
    _record: PermitRecord | None
    _limiter: WindowLimiter

    def settle(self, outcome: Outcome) -> None:
        """Return the permit of a request that was sent."""
        record, self._record = self._record, None
        if record is None:
            raise RuntimeError("Permit returned twice: settle or refund each permit exactly once")
        self._limiter.return_permit(record, outcome)

    def refund(self) -> None:
        """Return the permit unused."""
        self.settle(_UNSENT)


class _Waiter:
    __slots__ = ("cost", "expires_at", "future", "queue")

    def __init__(self, future: asyncio.Future[WindowPermit], cost: int, expires_at: float, queue: _Queue) -> None:
        self.future = future
        self.cost = cost
        self.expires_at = expires_at
        self.queue = queue


class _Queue(dict[_Waiter, None]):
    """Waiters in order; one that gives up is removed from anywhere at once.

    Attributes:
        cost: What they take of the limit together, so that no newcomer need add it up.
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

    First come, first served; background calls stand behind direct ones. It belongs to the event loop that uses it; when
    that loop is gone, to the next, and what it knows of the limit stays.

    Args:
        limit: Requests per window never to be exceeded; ``None`` to learn the server's.
        window: Seconds of the window.
        on_event: Called when a limit is learned and when a 429 stops all callers.
        rng: Draws the jitter; omitted, a new one.
    """

    def __init__(
        self,
        *,
        limit: int | None = None,
        window: float = 60.0,
        on_event: OnEvent | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._pacer = Pacer.create(limit, window)
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._on_event = on_event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._direct = _Queue()
        self._background = _Queue()
        self._direct_streak = 0
        self._timer: asyncio.TimerHandle | None = None

    def acquire_nowait(self, *, cost: int = 1, background: bool = False) -> WindowPermit | None:  # noqa: ARG002 - if nobody waits, both go
        """Take a permit if a request may go now and nobody waits."""
        loop, pacer = self._loop, self._pacer
        # Which loop runs is for acquire to find out, as up to Python 3.11 that takes a system call.
        if self._direct or self._background or loop is None or not loop.is_running():
            return None
        now = loop.time()
        if pacer.ready_at(now, cost) > now:
            return None
        return WindowPermit(pacer.acquire(now, cost), self)

    async def acquire(self, *, cost: int = 1, max_wait: float | None = None, background: bool = False) -> WindowPermit:
        """Wait until a request may go."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        if (permit := self.acquire_nowait(cost=cost)) is not None:
            return permit
        now = loop.time()
        expires_at = math.inf if max_wait is None else now + max_wait
        queue = self._background if background else self._direct
        waiter = _Waiter(loop.create_future(), self._pacer.clamp_cost(cost), expires_at, queue)
        # While the first response is awaited, which may state a larger limit than the lowest plan's, nobody is turned
        # away.
        if (expected := self._expected_start(waiter, now)) > expires_at and not self._pacer.is_default_limit:
            raise _deadline_error(expected - now)
        queue.add(waiter)
        self._wake_waiters()
        return await self._wait(waiter, loop)

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:
        """Let every caller that waits fail now."""
        for queue in (self._direct, self._background):
            for waiter in queue:
                if not waiter.future.done():
                    waiter.future.set_exception(make_error())
            queue.clear()
        self._set_timer(None)

    def snapshot(self) -> RateLimit:
        """The state now."""
        now, pacer = self._now(), self._pacer
        ready = pacer.ready_at(now)
        # Where it takes a response to know, a paced request's time is the nearest estimate.
        wait = max(0.0, (pacer.earliest_start(now, 0) if math.isinf(ready) else ready) - now)
        return RateLimit(pacer.limit, pacer.remaining(now), pacer.window, wait, pacer.learned)

    def forecast(self, n: int) -> float:
        """Seconds until the last of ``n`` further requests could start, as far as it is known now."""
        now = self._now()
        ahead = self._direct.cost + self._background.cost
        return 0.0 if n <= 0 else max(0.0, self._pacer.earliest_start(now, ahead + n - 1) - now)

    def statistics(self) -> Statistics:
        """What is in flight and who waits."""
        wakeup = None if self._timer is None else self._timer.when()
        return Statistics(self._pacer.log.in_flight, len(self._direct), len(self._background), wakeup)

    async def aclose(self) -> None:
        """Nothing to report or release: all state is in this process."""

    def return_permit(self, record: PermitRecord, outcome: Outcome) -> None:
        """Settle or refund a permit; called by the permit, once."""
        loop, pacer, kind = self._loop, self._pacer, outcome.kind
        now = 0.0 if loop is None else loop.time()
        # Those who wait may be hopeless as of now.
        news = pacer.is_default_limit
        if kind in {"succeeded", "failed"}:
            before = pacer.on_response(record, now, limit=outcome.limit, remaining=outcome.remaining)
            if before is not None:
                emit(self._on_event, RateLimitUpdated(before=before, limit=pacer.limit))
        elif kind == "rate_limited":
            closed_until = pacer.gate.closed_until
            seconds = pacer.on_rate_limited(
                record, now, retry_after=outcome.retry_after, limit=outcome.limit, jitter=self._rng.random()
            )
            if seconds is not None:
                emit(self._on_event, RateLimited(seconds=seconds, from_server=outcome.retry_after is not None))
            news = news or seconds is not None or pacer.gate.closed_until > closed_until
        elif kind == "unsent":
            pacer.refund(record)
            news = False
        else:
            pacer.on_no_response(record, now)
        if self._direct or self._background or self._timer:
            if news:
                self._reject_hopeless(now)
            self._wake_waiters()

    async def _wait(self, waiter: _Waiter, loop: asyncio.AbstractEventLoop) -> WindowPermit:
        timer = None if math.isinf(waiter.expires_at) else loop.call_at(waiter.expires_at, self._expire_waiter, waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._cancel_waiter(waiter)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _expire_waiter(self, waiter: _Waiter) -> None:
        # After a delay of the loop its permit may be due in the same moment.
        self._wake_waiters()
        if not waiter.future.done():
            now = self._now()
            self._reject(waiter, max(self._expected_start(waiter, now), now) - now)
            self._wake_waiters()

    def _cancel_waiter(self, waiter: _Waiter) -> None:
        """Pass a canceled caller's place in the queue, or the permit that it has got already, to the next."""
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result().refund()
        elif waiter in waiter.queue:
            waiter.queue.remove(waiter)
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        now = self._now()
        while (waiter := self._next()) is not None:
            # A future that is done belongs to a caller about to be canceled.
            if not waiter.future.done():
                ready = self._pacer.ready_at(now, waiter.cost)
                if ready > now:
                    self._set_timer(ready)
                    return
                overtaking = waiter.queue is self._direct and self._background
                self._direct_streak = self._direct_streak + 1 if overtaking else 0
                waiter.future.set_result(WindowPermit(self._pacer.acquire(now, waiter.cost), self))
            waiter.queue.remove(waiter)
        self._set_timer(None)

    def _next(self) -> _Waiter | None:
        direct, background = next(iter(self._direct), None), next(iter(self._background), None)
        if background is not None and (direct is None or self._direct_streak >= _BACKGROUND_SHARE - 1):
            return background
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
        self._wake_waiters()

    def _expected_start(self, waiter: _Waiter, now: float) -> float:
        """When this waiter's request may start at the earliest, if no further direct call overtakes it."""
        queue = waiter.queue
        ahead = 0 if queue is self._direct else self._direct.cost
        if waiter in queue:
            ahead += sum(other.cost for other in itertools.takewhile(lambda other: other is not waiter, queue))
        else:
            ahead += queue.cost
        return self._pacer.earliest_start(now, ahead, waiter.cost)

    def _reject_hopeless(self, now: float) -> None:
        """Fail those whose wait does not fit their timeout, as is known now."""
        ahead = 0
        for queue in (self._direct, self._background):
            for waiter in list(queue):
                expected = self._pacer.earliest_start(now, ahead, waiter.cost)
                if expected > waiter.expires_at and not waiter.future.done():
                    self._reject(waiter, expected - now)
                else:
                    ahead += waiter.cost

    def _reject(self, waiter: _Waiter, seconds: float) -> None:
        waiter.queue.remove(waiter)
        waiter.future.set_exception(_deadline_error(seconds))

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """The first use on this loop: whoever waited on the one before is gone with it."""
        if (self._direct or self._background) and self._loop is not None and not self._loop.is_closed():
            raise ClientClosedError("Callers of this key wait on another event loop; make a client in each thread")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._direct.clear()
        self._background.clear()
        self._loop = loop
        self._pacer.abandon(loop.time())

    def _now(self) -> float:
        return 0.0 if self._loop is None else self._loop.time()


def _deadline_error(seconds: float) -> RateLimitError:
    return RateLimitError(
        f"Rate limited: the call would wait {seconds:.1f} s, longer than its timeout; no request was sent",
        retry_after=seconds,
    )
