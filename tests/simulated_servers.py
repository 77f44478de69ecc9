"""Rate-limiting servers in virtual time: each of the four ways to count, with latency, jitter, and headers or none."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Protocol

from zenovay_async.rate_limits import Outcome
from zenovay_async.sandbox.limits import Limiter, LimiterKind, make_limiter

if TYPE_CHECKING:
    from zenovay_async.rate_limits import Permit

KINDS: tuple[LimiterKind, ...] = ("fixed", "sliding", "bucket", "counter")


class Permits(Protocol):
    """A rate limiter, as far as a server's callers need it."""

    async def acquire(self, *, background: bool = False) -> Permit: ...


class SmallBucket:
    """A token bucket that holds fewer tokens than a window refills: nginx's ``limit_req``, Envoy's bucket, GCRA.

    Args:
        limit: Requests per window.
        window: Seconds of the window.
        depth: Tokens that it holds; 1 allows no bursts.
    """

    def __init__(self, limit: int, window: float, depth: int) -> None:
        self.limit = limit
        self._rate, self._depth = limit / window, depth
        self._tokens, self._refilled_at = float(depth), 0.0

    def admit(self, now: float) -> bool:
        admitted = self.remaining(now) > 0
        self._tokens -= admitted
        return admitted

    def remaining(self, now: float) -> int:
        self._tokens = min(self._depth, self._tokens + (now - self._refilled_at) * self._rate)
        self._refilled_at = now
        # As nginx does, it counts in thousandths.
        return int(self._tokens + 1e-3)

    def reset_after(self, now: float) -> float:
        return 0.0 if self.remaining(now) else (1 - self._tokens) / self._rate


class Server:
    """Responds to one limiter's requests on the clock of the event loop.

    Args:
        kind: How it counts, or the limiter itself.
        limit: Requests per window.
        window: Seconds of the window.
        latency: Seconds each way, together.
        jitter: Seconds added at most; drawn for each way.
        remaining: The share of responses that state ``X-RateLimit-Remaining``.
        phase: Where in a window its clock starts.
        states_limit: Whether responses state ``X-RateLimit-Limit``.
        states_time: Whether a 429 states ``Retry-After``.
        lie: What responses state in place of the true limit and remaining requests.

    Attributes:
        admitted: Requests that it let through.
        rate_limited: Requests that got a 429.
    """

    def __init__(
        self,
        kind: LimiterKind | Limiter,
        limit: int,
        window: float,
        *,
        latency: float = 0.0,
        jitter: float = 0.0,
        remaining: float = 1.0,
        phase: float = 0.37,
        states_limit: bool = True,
        states_time: bool = True,
        lie: tuple[int, int | None] | None = None,
    ) -> None:
        self.limiter = make_limiter(kind, limit, window) if isinstance(kind, str) else kind
        self._states_limit, self._states_time, self._lie = states_limit, states_time, lie
        self._latency, self._jitter, self._remaining = latency, jitter, remaining
        self._rng = random.Random(7)
        self._offset = 1000 * window + phase * window
        self.admitted = self.rate_limited = 0

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self._offset

    async def call(self, limiter: Permits, *, background: bool = False) -> bool:
        """One attempt: permit, request, response; returns whether it was let through."""
        permit = await limiter.acquire(background=background)
        await asyncio.sleep(self._latency / 2 + self._rng.uniform(0, self._jitter))
        admitted = self.limiter.admit(self.now())
        remaining = self.limiter.remaining(self.now()) if self._rng.random() < self._remaining else None
        limit = self.limiter.limit if self._states_limit else None
        if self._lie is not None:
            limit, remaining = self._lie
        wait = self.limiter.reset_after(self.now())
        self.admitted += admitted
        self.rate_limited += not admitted
        await asyncio.sleep(self._latency / 2 + self._rng.uniform(0, self._jitter))
        outcome = Outcome(
            kind="succeeded" if admitted else "rate_limited",
            limit=limit,
            remaining=remaining,
            retry_after=None if admitted or not self._states_time else float(int(wait) + 1),
        )
        permit.settle(outcome)
        return admitted

    async def until_admitted(self, limiter: Permits, *, background: bool = False) -> None:
        """As many attempts as it takes."""
        while not await self.call(limiter, background=background):
            pass

    async def run(self, limiter: Permits, calls: int, concurrency: int) -> float:
        """Make ``calls`` calls, ``concurrency`` at a time; returns the seconds that it took."""
        began = asyncio.get_running_loop().time()
        left = iter(range(calls))

        async def work() -> None:
            for _ in left:
                await self.until_admitted(limiter)

        await asyncio.gather(*(work() for _ in range(concurrency)))
        return asyncio.get_running_loop().time() - began
