"""Runs against rate limiters: many calls, bursts after idle windows, a key whose limit someone else has spent."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import aiohttp
import msgspec

from zenovay_async import Zenovay, ZenovayError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .limiters import Limiter
    from .servers import Servers

Mode: TypeAlias = Literal["gather", "batch"]

_numbers = itertools.count()


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """Results of a run of calls; the server counted ``requests`` and ``rejected``."""

    limiter: str
    mode: str
    calls: int
    ok: int
    requests: int
    rejected: int
    seconds: float
    ideal: float
    errors: dict[str, int]

    @property
    def share(self) -> float:
        return self.ideal / self.seconds


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Results of one burst."""

    ok: int
    rejected: int
    seconds: float


class Bursts(msgspec.Struct, frozen=True, kw_only=True):
    """Results of bursts of the same size, one after another."""

    limiter: str
    calls: int
    rounds: list[Round]


def unique_key() -> str:
    """A key that no other run has, as servers count by key."""
    return f"zv_real_{os.getpid()}_{next(_numbers)}"


async def run_calls(servers: Servers, limiter: Limiter, mode: Mode, calls: int, concurrency: int) -> Calls:
    """Make calls at once, or with ``zenovay.batch``."""
    key, errors = unique_key(), Counter[str]()
    began = time.monotonic()
    async with _client(servers, limiter, key) as zenovay:
        if mode == "batch":
            await _batch(zenovay, calls, concurrency, errors)
        else:
            await _gather(zenovay, calls, concurrency, errors)
        seconds = time.monotonic() - began
    counted = await _counted(servers, key)
    return Calls(
        limiter=limiter.name,
        mode=mode,
        calls=calls,
        ok=calls - errors.total(),
        requests=counted.total(),
        rejected=counted.rejected,
        seconds=seconds,
        ideal=limiter.ideal(calls),
        errors=dict(errors),
    )


async def run_bursts(servers: Servers, limiter: Limiter, calls: int, rounds: int) -> Bursts:
    """Make the same number of calls at once, again and again."""
    async with aclosing(bursts(servers, limiter, calls)) as results:
        return Bursts(limiter=limiter.name, calls=calls, rounds=[await anext(results) for _ in range(rounds)])


async def bursts(servers: Servers, limiter: Limiter, calls: int) -> AsyncGenerator[Round, None]:
    """Make calls at once, without end; yield the results of each burst, and make the next after two idle windows."""
    key, before = unique_key(), 0
    async with _client(servers, limiter, key) as zenovay:
        while True:
            errors, began = Counter[str](), time.monotonic()
            await _gather(zenovay, calls, calls, errors)
            seconds = time.monotonic() - began
            rejected = (await _counted(servers, key)).rejected
            yield Round(ok=calls - errors.total(), rejected=rejected - before, seconds=seconds)
            before = rejected
            await asyncio.sleep(2.1 * limiter.window)


async def run_after_another(servers: Servers, limiter: Limiter, calls: int, most: float = 45.0) -> Calls:
    """Spend the key's limit with requests past the client, then make calls in a batch.

    Args:
        servers: Where the limiter is.
        limiter: The limiter.
        calls: Number of calls.
        most: Seconds after which calls that still wait are given up.
    """
    key, errors, done = unique_key(), Counter[str](), 0
    url = servers.url(limiter)
    async with aiohttp.ClientSession(headers={"X-API-Key": key}) as session:

        async def spend() -> None:
            async with session.get(f"{url}/heatmaps/another/pages") as response:
                await response.read()

        await asyncio.gather(*(spend() for _ in range(limiter.limit)))
    before = await _counted(servers, key)
    began = time.monotonic()
    async with Zenovay(key, base_url=url, rate_limit_window=limiter.window) as zenovay:
        try:
            async with asyncio.timeout(most):
                await _batch(zenovay, calls, calls, errors)
        except TimeoutError:
            done = (await _counted(servers, key)).with_status(200) - before.with_status(200)
            errors[f"waits after {most:g} s"] = calls - done
        seconds = time.monotonic() - began
    counted = await _counted(servers, key)
    counted.subtract(before)
    return Calls(
        limiter=limiter.name,
        mode="batch",
        calls=calls,
        ok=calls - errors.total(),
        requests=counted.total(),
        rejected=counted.rejected,
        seconds=seconds,
        ideal=limiter.ideal(calls + (limiter.burst or limiter.limit)),
        errors=dict(errors),
    )


def _client(servers: Servers, limiter: Limiter, key: str) -> Zenovay:
    return Zenovay(key, base_url=servers.url(limiter), rate_limit_window=limiter.window, timeout=120.0)


async def _gather(zenovay: Zenovay, calls: int, concurrency: int, errors: Counter[str]) -> None:
    room = asyncio.Semaphore(concurrency)

    async def call(number: int) -> None:
        async with room:
            try:
                await zenovay.heatmaps.pages(f"site-{number}")
            except ZenovayError as error:
                errors[type(error).__name__] += 1

    await asyncio.gather(*map(call, range(calls)))


async def _batch(zenovay: Zenovay, calls: int, concurrency: int, errors: Counter[str]) -> None:
    def fetch(number: int) -> Any:
        return zenovay.heatmaps.pages(f"site-{number}")

    async with zenovay.batch(range(calls), fetch, concurrency=concurrency) as results:
        async for result in results:
            if result.error is not None:
                errors[type(result.error).__name__] += 1


async def _counted(servers: Servers, key: str) -> Any:
    # Envoy writes its log every 50 ms.
    await asyncio.sleep(0.2)
    return servers.counted(key)
