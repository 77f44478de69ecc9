"""Direct calls beside a batch without end, against a sandbox."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from itertools import count, product
from typing import TYPE_CHECKING, Any

import msgspec

from zenovay_async import APITimeoutError, RateLimitError, Zenovay
from zenovay_async.sandbox import Sandbox
from zenovay_async.sandbox.limits import LimiterKind

from .servers import NAMES, Work

if TYPE_CHECKING:
    from collections.abc import Coroutine

# Two thirds of the limit are direct calls at even times, each with a twelfth of the window: one every 3 s, with a
# timeout of 5 s, at 30 a minute.
_SHARE, _TIMEOUT = 2 / 3, 1 / 12
# Windows of direct calls before the batch, and windows of the batch.
_BEFORE, _WINDOWS = 1, 4
_AT_ONCE = 8


class Scene(msgspec.Struct, frozen=True):
    """A batch beside direct calls, which begin before it or just after it."""

    work: Work
    kind: LimiterKind
    remaining: bool
    direct_first: bool


class Served(msgspec.Struct, frozen=True):
    """What became of the direct calls, in the batch's first window and after that, and of the rest of the rate."""

    server: str
    limit: int
    window: float
    remaining: bool
    direct_first: bool
    first_calls: int
    first_served: int
    later_calls: int
    later_served: int
    later_ms: float
    background: int
    used: float
    rate_limited: int


def scenes_of(work: Work) -> list[Scene]:
    """Each kind of server, with ``Remaining`` and without, with direct calls before the batch and none."""
    return [
        Scene(work, kind, remaining, first) for first, remaining, kind in product((True, False), (True, False), NAMES)
    ]


async def measure_scene(scene: Scene) -> Served:
    """Run one scene; waits are until the result, the loopback's latency included."""
    work = scene.work
    calls: list[tuple[float, float | None]] = []
    done: list[float] = []
    async with (
        Sandbox(
            websites=1,
            rate_limit=work.limit,
            rate_limit_window=work.window,
            rate_limiter=scene.kind,
            send_remaining=scene.remaining,
        ) as sandbox,
        Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit_window=work.window, coalesce=False) as zenovay,
    ):
        site = sandbox.website_ids[0]

        async def page() -> None:
            came = time.monotonic()
            try:
                await zenovay.heatmaps.pages(site, timeout=work.window * _TIMEOUT)
            except (RateLimitError, APITimeoutError):
                calls.append((came, None))
            else:
                calls.append((came, time.monotonic() - came))

        async def pages(until: float) -> None:
            async with asyncio.TaskGroup() as group:
                while time.monotonic() < until:
                    group.create_task(page())
                    await asyncio.sleep(work.window / (work.limit * _SHARE))

        async def batch(until: float) -> None:
            endless = zenovay.batch(count(), lambda _: zenovay.heatmaps.pages(site), concurrency=_AT_ONCE)
            try:
                async with asyncio.timeout(until - time.monotonic()), endless as results:
                    async for _ in results:
                        done.append(time.monotonic())
            except TimeoutError:
                pass

        began = time.monotonic() + (_BEFORE * work.window if scene.direct_first else 0.0)
        ends = began + _WINDOWS * work.window
        people = asyncio.create_task(_later(0.0 if scene.direct_first else work.window / work.limit, pages(ends)))
        await asyncio.sleep(began - time.monotonic())
        before = sandbox.count()
        await batch(ends)
        used = sandbox.count() - before - sandbox.count(status=429)
        await people
        rejected = sandbox.count(status=429)
    first = [wait for came, wait in calls if began <= came < began + work.window]
    later = [wait for came, wait in calls if began + work.window <= came]
    waits = [wait for wait in later if wait is not None]
    return Served(
        server=NAMES[scene.kind],
        limit=work.limit,
        window=work.window,
        remaining=scene.remaining,
        direct_first=scene.direct_first,
        first_calls=len(first),
        first_served=len(first) - first.count(None),
        later_calls=len(later),
        later_served=len(waits),
        later_ms=1000 * statistics.median(waits) if waits else math.inf,
        background=len(done),
        used=used / (_WINDOWS * work.limit),
        rate_limited=rejected,
    )


async def _later(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    await asyncio.sleep(seconds)
    await work
