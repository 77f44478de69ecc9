"""The work that is measured, and the servers that it is measured against."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import product
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from zenovay_async import Zenovay
from zenovay_async.sandbox import Sandbox
from zenovay_async.sandbox.limits import LimiterKind

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES: dict[LimiterKind, str] = {
    "fixed": "fixed window",
    "sliding": "sliding log",
    "bucket": "token bucket",
    "counter": "sliding counter",
}
# A client that is not paced may retry as often as it takes, so that it ends with all results, too.
ATTEMPTS_UNPACED = 20


class Work(msgspec.Struct, frozen=True):
    """Calls to make, how many of them at a time, and the server's limit per window; run with each latency (seconds)."""

    calls: int
    concurrency: int
    limit: int
    window: float
    latencies: tuple[float, ...]


# The work that other clients were measured on.
SHORT = Work(calls=200, concurrency=64, limit=50, window=5.0, latencies=(0.0, 0.2))
# The lowest plan's minute in a third of the time: 200 ms are to a minute what 67 ms are to 20 s.
LONG = Work(calls=120, concurrency=64, limit=30, window=20.0, latencies=(0.2 / 3, 0.2))
# The lowest plan's minute as it is.
MINUTE = Work(calls=120, concurrency=64, limit=30, window=60.0, latencies=(0.0, 0.2))


class Run(msgspec.Struct, frozen=True):
    """One configuration.

    Attributes:
        work: What is to be done.
        kind: How the server counts.
        latency: Seconds that a request and its response take on average; each time half to one and a half of it.
        remaining: Whether responses have ``X-RateLimit-Remaining``.
        phase: The share of the server's window that is over at the start.
        paced: Whether the client paces itself, or only waits as long as each 429 asks for.
    """

    work: Work
    kind: LimiterKind
    latency: float
    remaining: bool
    phase: float
    paced: bool = True

    @property
    def ideal(self) -> float:
        """Seconds that the work takes at least: one burst is free, the rest goes at the allowed rate.

        A sliding counter admits nothing more until the window in which the burst fell is over.
        """
        seconds = (self.work.calls / self.work.limit - 1) * self.work.window
        return seconds + (1 - self.phase) * self.work.window if self.kind == "counter" else seconds


class Row(msgspec.Struct, frozen=True):
    """What a run gave; ``requests`` and ``rate_limited`` are what the server counted."""

    server: str
    limit: int
    window: float
    latency_ms: int
    remaining: bool
    paced: bool
    calls: int
    results: int
    requests: int
    rate_limited: int
    seconds: float
    ideal: float
    share: float
    error: str | None


def runs_of(work: Work, latencies: Sequence[float]) -> list[Run]:
    """Each latency, with ``Remaining`` and without, against the four kinds; their starts are spread over a window."""
    every = list(product(latencies, (True, False), NAMES))
    # Counted from 1, round to 0, no counter starts near its window's end, where chance would decide in which window its
    # first burst is counted, and with that its ideal.
    return [
        Run(work, kind, latency, remaining, place % len(every) / len(every))
        for place, (latency, remaining, kind) in enumerate(every, 1)
    ]


async def measure(run: Run) -> Row:
    """Make a run's calls with ``zenovay.batch``, against a sandbox of its own."""
    work = run.work
    # Half of the latency is the request's, which the sandbox simulates; the other half is the response's.
    least, most = run.latency / 4, run.latency * 3 / 4

    async def way_back(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await send(request)
        await asyncio.sleep(random.uniform(least, most))
        return response

    sandbox = Sandbox(
        websites=1,
        rate_limit=work.limit,
        rate_limit_window=work.window,
        rate_limiter=run.kind,
        send_remaining=run.remaining,
        latency=least,
        jitter=most - least,
    )
    errors: list[Exception] = []
    async with (
        sandbox,
        aiohttp.ClientSession(middlewares=[way_back] if run.latency else []) as session,
        Zenovay(
            sandbox.api_key,
            base_url=sandbox.url,
            session=session,
            rate_limit="auto" if run.paced else None,
            rate_limit_window=work.window,
            timeout=None,
            # What a batch leaves for direct calls is measured by itself.
            batch_headroom=0,
            coalesce=False,
            max_attempts=4 if run.paced else ATTEMPTS_UNPACED,
        ) as zenovay,
    ):
        site = sandbox.website_ids[0]
        # The sandbox's windows are those of this clock.
        await asyncio.sleep((run.phase * work.window - time.monotonic()) % work.window)
        began = time.monotonic()
        calls = zenovay.batch(range(work.calls), lambda _: zenovay.heatmaps.pages(site), concurrency=work.concurrency)
        async with calls as results:
            async for result in results:
                if result.error is not None:
                    errors.append(result.error)
        seconds = time.monotonic() - began
    return Row(
        server=NAMES[run.kind],
        limit=work.limit,
        window=work.window,
        latency_ms=round(1000 * run.latency),
        remaining=run.remaining,
        paced=run.paced,
        calls=work.calls,
        results=work.calls - len(errors),
        requests=sandbox.count(),
        rate_limited=sandbox.count(status=429),
        seconds=seconds,
        ideal=run.ideal,
        share=run.ideal / seconds,
        error=repr(errors[0]) if errors else None,
    )
