"""The queue for permits: which caller gets the next one.

``zenovay_async._limits.pacing`` decides *when* the next request may be sent; this module decides *whose* it is.

Cancellation is normal: a web request may go away while it waits. So no caller sleeps on behalf of others. A waiter is a
future in a queue. Every change of the state (a permit acquired or returned, a cancellation, the one timer) wakes
waiters from the front. The future of a waiter gets either a permit or, once its wait cannot fit, an error. A caller
that is canceled after its future got a permit refunds it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from typing import TYPE_CHECKING

from zenovay_async._limits.headroom import AUTO, BACKGROUND_SHARE
from zenovay_async._limits.pacing import Pacer
from zenovay_async._limits.permit import LimiterPermit
from zenovay_async._limits.queue import Queue, Statistics, Waiter, ahead_of_next, deadline_error
from zenovay_async._limits.reports import report_limit, report_pause
from zenovay_async._limits.settlement import settle
from zenovay_async._limits.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._limits.neighbors import Watch
    from zenovay_async._limits.request_log import PermitRecord
    from zenovay_async.events import OnEvent
    from zenovay_async.exceptions import ZenovayError
    from zenovay_async.rate_limits import Outcome, RateLimit


class WindowLimiter:
    """Keeps the callers of one process within a limit per window; see ``zenovay_async._limits.pacing`` for how.

    First come, first served; direct calls overtake background calls. It serves one event loop at a time, and keeps what
    it has learned of the limit from one to the next.

    Args:
        limit: Requests per window never to be exceeded; ``None`` to learn the server's.
        window: Seconds of the window.
        on_event: Called when a limit is learned and when a 429 pauses all callers.
        rng: Draws the jitter; omitted, a new generator.
        processes: How many processes use the key, each with a limiter of its own.
        watch: Warns of others that use the key.
    """

    def __init__(
        self,
        *,
        limit: int | None = None,
        window: float = 60.0,
        on_event: OnEvent | None = None,
        rng: random.Random | None = None,
        processes: int = 1,
        watch: Watch | None = None,
    ) -> None:
        self._pacer = Pacer.create(limit, window, processes)
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._on_event = on_event
        self._watch = watch
        self._loop: asyncio.AbstractEventLoop | None = None
        self._direct: Queue = Queue()
        self._background: Queue = Queue()
        self._direct_streak = 0
        self._wakeup = Wakeup(self._wake_waiters)

    def acquire_nowait(self, *, cost: int = 1, background: bool = False, headroom: int = AUTO) -> LimiterPermit | None:
        """Acquire a permit if a request may be sent now and no caller that goes before it waits; else ``None``."""
        loop, pacer = self._loop, self._pacer
        # acquire() checks that this loop is the running one, which is a system call up to Python 3.11.
        if self._direct or loop is None or not loop.is_running():
            return None
        if self._background and (background or self._direct_streak >= BACKGROUND_SHARE - 1):
            return None
        now = loop.time()
        if pacer.ready_at(now, cost, headroom if background else 0) > now:
            return None
        if not background:
            pacer.headroom.record_arrival(now, cost, pacer.window)
            if self._background:
                self._direct_streak += 1
        return LimiterPermit(pacer.acquire(now, cost, background=background), self)

    async def acquire(
        self, *, cost: int = 1, max_wait: float | None = None, background: bool = False, headroom: int = AUTO
    ) -> LimiterPermit:
        """Wait until a request may be sent.

        Args:
            cost: Requests that it takes of the limit.
            max_wait: Seconds to wait at most; ``None`` for no bound.
            background: Whether direct calls overtake it.
            headroom: Requests of each window that a background call leaves for direct calls; ``AUTO`` for as many as
                are to be expected.

        Raises:
            RateLimitError: The wait does not fit ``max_wait``.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        if (permit := self.acquire_nowait(cost=cost, background=background, headroom=headroom)) is not None:
            return permit
        now, pacer = loop.time(), self._pacer
        cost = pacer.clamp_cost(cost)
        if not background:
            pacer.record_arrival(now, cost)
        expires_at = math.inf if max_wait is None else now + max_wait
        queue = self._background if background else self._direct
        waiter = Waiter(loop.create_future(), cost, expires_at, queue, headroom if background else 0)
        # Before the first response the limit is an assumption, on which no caller is rejected.
        if not pacer.is_default_limit and expires_at < math.inf:
            expected = self._expected_start(waiter, now)
            if expected > expires_at:
                raise deadline_error(expected - now)
        queue.add(waiter)
        self._wake_waiters()
        return await waiter.wait(self._expire_waiter, self._wake_waiters)

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:
        """Fail every waiting caller."""
        self._direct.fail(make_error)
        self._background.fail(make_error)
        self._wakeup.set(None, math.inf)

    def snapshot(self) -> RateLimit:
        """The state now."""
        return self._pacer.snapshot(self._now())

    def forecast(self, n: int, *, background: bool = False, headroom: int = AUTO) -> float:
        """Seconds until the last of ``n`` further requests could start, as far as known.

        Args:
            n: Number of requests.
            background: Whether direct calls overtake them.
            headroom: Requests of each window that background calls leave for direct calls.
        """
        if n <= 0:
            return 0.0
        now, ahead = self._now(), ahead_of_next(n, self._direct.cost, self._background.cost, background=background)
        return max(0.0, self._pacer.earliest_start(now, ahead, headroom=headroom if background else 0) - now)

    def expected_wait(self, cost: int) -> float:
        """Seconds that a direct call would wait from now, as far as known; 0.0 while the limit is an assumption."""
        return 0.0 if self._pacer.is_default_limit else self.forecast(cost)

    def statistics(self) -> Statistics:
        """The permits in flight, and the waiters."""
        return Statistics(self._pacer.log.in_flight, len(self._direct), len(self._background), self._wakeup.at)

    async def aclose(self) -> None:
        """Do nothing: all state is in this process."""

    def return_permit(self, record: PermitRecord, outcome: Outcome) -> None:
        """Settle or refund a permit; called by the permit, once."""
        loop, pacer = self._loop, self._pacer
        now, before, is_delayed = 0.0 if loop is None else loop.time(), pacer.limit, pacer.is_default_limit
        if outcome.kind == "succeeded" and outcome.limit_window is None:
            # As settle() does, without its cost: nearly every request is one of these.
            pacer.on_response(record, now, limit=outcome.limit, remaining=outcome.remaining, sent_at=outcome.sent_at)
        else:
            jitter = self._rng.random() if outcome.kind == "rate_limited" else 0.0
            pause, is_delayed = settle(pacer, record, outcome, now, sent_at=outcome.sent_at, jitter=jitter)
            if pause is not None:
                report_pause(self._on_event, pause, outcome.retry_after, pacer.window)
        watch = self._watch
        if watch is not None and (watch.is_due or pacer.key_share.others) and watch.is_over(pacer.key_share):
            self._watch = None
        if pacer.limit != before:
            report_limit(self._on_event, before, pacer.limit)
        if self._direct or self._background or self._wakeup.at is not None:
            if is_delayed:
                self._reject_hopeless(now)
            self._wake_waiters()

    def _expire_waiter(self, waiter: Waiter) -> None:
        # If the loop was held up, its permit may be due as well.
        self._wake_waiters()
        if not waiter.future.done():
            now = self._now()
            waiter.reject(max(self._expected_start(waiter, now), now) - now)
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        now = self._now()
        while (waiter := self._next(now)) is not None:
            # The future of a caller that is being canceled is done.
            if not waiter.future.done():
                ready = self._pacer.ready_at(now, waiter.cost, waiter.headroom)
                if ready > now:
                    self._wakeup.set(self._loop, ready)
                    return
                direct = waiter.queue is self._direct
                self._direct_streak = self._direct_streak + 1 if direct and self._background else 0
                permit = self._pacer.acquire(now, waiter.cost, background=not direct)
                waiter.future.set_result(LimiterPermit(permit, self))
            waiter.queue.remove(waiter)
        self._wakeup.set(None, math.inf)

    def _next(self, now: float) -> Waiter | None:
        direct, background = next(iter(self._direct), None), next(iter(self._background), None)
        if direct is None or background is None:
            return direct or background
        # A batch that waits only to leave room keeps nobody waiting.
        due = self._direct_streak >= BACKGROUND_SHARE - 1
        return background if due and self._pacer.is_owed(now, background.cost, background.headroom) else direct

    def _expected_start(self, waiter: Waiter, now: float) -> float:
        """The earliest start of this waiter's request, if no further direct call overtakes it."""
        queue = waiter.queue
        ahead = 0 if queue is self._direct else self._direct.cost
        if waiter in queue:
            ahead += sum(other.cost for other in itertools.takewhile(lambda other: other is not waiter, queue))
        else:
            ahead += queue.cost
        return self._pacer.earliest_start(now, ahead, waiter.cost, waiter.headroom)

    def _reject_hopeless(self, now: float) -> None:
        """Fail the waiters whose expected wait no longer fits their timeout."""
        ahead = 0
        for queue in (self._direct, self._background):
            for waiter in list(queue):
                if waiter.expires_at < math.inf and not waiter.future.done():
                    expected = self._pacer.earliest_start(now, ahead, waiter.cost, waiter.headroom)
                    if expected > waiter.expires_at:
                        waiter.reject(expected - now)
                        continue
                ahead += waiter.cost

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve another event loop; the waiters of a closed one are dropped.

        Raises:
            ClientClosedError: Callers wait on the loop before, which is not closed.
        """
        self._wakeup.leave(self._loop, waiting=bool(self._direct or self._background))
        self._direct.clear()
        self._background.clear()
        self._loop = loop
        self._pacer.abandon(loop.time())

    def _now(self) -> float:
        return 0.0 if self._loop is None else self._loop.time()
