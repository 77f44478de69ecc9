"""A custom rate limiter: requests at an even pace, and one 429 pauses every caller.

Run it with: python docs/examples/limiter.py WEBSITE_ID...
"""

import asyncio
import math
import sys
import time
from collections.abc import Callable

from zenovay_async import Outcome, Permit, RateLimit, RateLimiter, RateLimitError, Zenovay, ZenovayError


class EvenPace:
    """One request every ``interval`` seconds, first come, first served; for one event loop."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._next = 0.0
        self._line = asyncio.Lock()
        self._waiters: set[asyncio.Future[ZenovayError]] = set()

    def acquire_nowait(self, *, cost: int = 1, background: bool = False) -> Permit | None:
        del background  # here, direct calls do not overtake those of a batch
        if self._waiters or time.monotonic() < self._next:
            return None
        return self._permit(cost)

    async def acquire(self, *, cost: int = 1, max_wait: float | None = None, background: bool = False) -> Permit:
        del background
        now = time.monotonic()
        latest = math.inf if max_wait is None else now + max_wait
        # Callers that wait already go first.
        self._check(now, max(now, self._next) + len(self._waiters) * self.interval, latest)
        waiter: asyncio.Future[ZenovayError] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with self._line:
                while not waiter.done() and (now := time.monotonic()) < self._next:
                    self._check(now, self._next, latest)
                    await asyncio.wait([waiter], timeout=self._next - now)
                if waiter.done():
                    raise waiter.result()
                return self._permit(cost)
        finally:
            self._waiters.discard(waiter)

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(make_error())

    def snapshot(self) -> RateLimit:
        wait = self.forecast(1)
        return RateLimit(limit=1, remaining=int(not wait), window=self.interval, reset_after=wait, learned=False)

    def forecast(self, n: int, *, background: bool = False) -> float:
        del background
        ahead = len(self._waiters) + n - 1
        return max(0.0, self._next - time.monotonic()) + ahead * self.interval if n else 0.0

    async def aclose(self) -> None:
        """Nothing is held outside this process."""

    def pause(self, seconds: float) -> None:
        """Let no request go for this long."""
        self._next = max(self._next, time.monotonic() + seconds)

    def _permit(self, cost: int) -> Permit:
        self._next = time.monotonic() + cost * self.interval
        return EvenPermit(self)

    def _check(self, now: float, start: float, latest: float) -> None:
        if start > latest:
            message = f"Rate limited: the call would wait {start - now:.1f} s, longer than its timeout"
            raise RateLimitError(message, retry_after=start - now)


class EvenPermit:
    """Leave to send one request; settled or refunded exactly once."""

    def __init__(self, limiter: EvenPace) -> None:
        self._limiter: EvenPace | None = limiter

    def settle(self, outcome: Outcome) -> None:
        limiter = self._return()
        if outcome.kind == "rate_limited":
            limiter.pause(10 * limiter.interval if outcome.retry_after is None else outcome.retry_after)

    def refund(self) -> None:
        self._return()

    def _return(self) -> EvenPace:
        limiter, self._limiter = self._limiter, None
        if limiter is None:
            raise RuntimeError("This permit was settled or refunded before")
        return limiter


async def main(website_ids: list[str]) -> None:
    limiter: RateLimiter = EvenPace(interval=0.1)
    async with Zenovay(rate_limit=limiter) as zenovay:
        print(f"{len(website_ids)} websites take {zenovay.estimate(len(website_ids)).seconds:.1f} s")
        async with zenovay.batch(website_ids, zenovay.heatmaps.pages) as results:
            async for result in results:
                print(result.item, len(result.value.pages) if result.error is None else result.error)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
