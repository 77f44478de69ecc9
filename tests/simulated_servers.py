"""Rate-limiting servers in virtual time: each of the four ways to count, with latency, jitter, and headers or none."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from zenovay_async.rate_limits import Outcome
from zenovay_async.sandbox.limits import LimiterKind, make_limiter

if TYPE_CHECKING:
    from zenovay_async.rate_limits import RateLimiter

KINDS: tuple[LimiterKind, ...] = ("fixed", "sliding", "bucket", "counter")


class Server:
    """Responds to one limiter's requests on the clock of the event loop.

    Args:
        kind: How it counts.
        limit: Requests per window.
        window: Seconds of the window.
        latency: Seconds each way, together.
        jitter: Seconds added at most; drawn for each way.
        remaining: The share of responses that state ``X-RateLimit-Remaining``.
        phase: Where in a window its clock starts.

    Attributes:
        admitted: Requests that it let through.
        rate_limited: Requests that got a 429.
    """

    def __init__(
        self,
        kind: LimiterKind,
        limit: int,
        window: float,
        *,
        latency: float = 0.0,
        jitter: float = 0.0,
        remaining: float = 1.0,
        phase: float = 0.37,
    ) -> None:
        self._limiter = make_limiter(kind, limit, window)
        self._latency, self._jitter, self._remaining = latency, jitter, remaining
        self._rng = random.Random(7)
        self._offset = 1000 * window + phase * window
        self.admitted = self.rate_limited = 0

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self._offset

    async def call(self, limiter: RateLimiter, *, background: bool = False) -> bool:
        """One attempt: permit, request, response; returns whether it was let through."""
        permit = await limiter.acquire(background=background)
        await asyncio.sleep(self._latency / 2 + self._rng.uniform(0, self._jitter))
        admitted = self._limiter.admit(self.now())
        remaining = self._limiter.remaining(self.now()) if self._rng.random() < self._remaining else None
        wait = self._limiter.reset_after(self.now())
        self.admitted += admitted
        self.rate_limited += not admitted
        await asyncio.sleep(self._latency / 2 + self._rng.uniform(0, self._jitter))
        outcome = Outcome(
            kind="succeeded" if admitted else "rate_limited",
            limit=self._limiter.limit,
            remaining=remaining,
            retry_after=None if admitted else float(int(wait) + 1),
        )
        permit.settle(outcome)
        return admitted

    async def until_admitted(self, limiter: RateLimiter, *, background: bool = False) -> None:
        """As many attempts as it takes."""
        while not await self.call(limiter, background=background):
            pass

    async def run(self, limiter: RateLimiter, calls: int, concurrency: int) -> float:
        """Make ``calls`` calls, ``concurrency`` at a time; returns the seconds that it took."""
        began = asyncio.get_running_loop().time()
        left = iter(range(calls))

        async def work() -> None:
            for _ in left:
                await self.until_admitted(limiter)

        await asyncio.gather(*(work() for _ in range(concurrency)))
        return asyncio.get_running_loop().time() - began
