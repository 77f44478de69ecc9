"""Servers that limit, in virtual time: each of the four ways to count, with latency, jitter, and headers or none."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from zenovay_async.sandbox.limits import Kind, make_limiter

if TYPE_CHECKING:
    from zenovay_async._limits.window import RateLimiter

KINDS: tuple[Kind, ...] = ("fixed", "sliding", "bucket", "counter")


class Server:
    """Answers one limiter's requests on the clock of the event loop.

    Args:
        kind: How it counts.
        limit: Requests per window.
        window: Seconds of the window.
        latency: Seconds each way, together.
        jitter: Up to so many seconds more, each way for itself.
        remaining: The share of answers that tell ``X-RateLimit-Remaining``.
        phase: Where in a window its clock starts.
    """

    def __init__(
        self,
        kind: Kind,
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
        self.admitted = self.refused = 0

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self._offset

    async def call(self, limiter: RateLimiter, *, background: bool = False) -> int:
        """One attempt: permit, send, answer."""
        permit = await limiter.acquire(background=background)
        await asyncio.sleep(self._latency / 2 + self._rng.uniform(0, self._jitter))
        allowed = self._limiter.admit(self.now())
        left = self._limiter.remaining(self.now()) if self._rng.random() < self._remaining else None
        wait = self._limiter.reset_after(self.now())
        self.admitted += allowed
        self.refused += not allowed
        await asyncio.sleep(self._latency / 2 + self._rng.uniform(0, self._jitter))
        status = 200 if allowed else 429
        limiter.finish(
            permit,
            status=status,
            limit=self._limiter.limit,
            remaining=left,
            retry_after=None if allowed else float(int(wait) + 1),
        )
        return status

    async def until_allowed(self, limiter: RateLimiter, *, background: bool = False) -> None:
        """As many attempts as it takes."""
        while await self.call(limiter, background=background) != 200:
            pass

    async def run(self, limiter: RateLimiter, calls: int, concurrency: int) -> float:
        """So many calls, so many at a time; returns the seconds that it took."""
        began = asyncio.get_running_loop().time()
        left = iter(range(calls))

        async def work() -> None:
            for _ in left:
                await self.until_allowed(limiter)

        await asyncio.gather(*(work() for _ in range(concurrency)))
        return asyncio.get_running_loop().time() - began
