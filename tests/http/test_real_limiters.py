"""Real rate limiters, in real time: Envoy, which is a test dependency, and nginx where it is installed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from real.limiters import Limiter
from real.runs import bursts, run_calls
from real.servers import Servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# The thirty requests of the API's minute, at one each 30 ms.
WINDOW = 0.9
BUCKET = {"burst": 10, "fill": 2, "interval": 0.06, "headers": False}
SMALL_BURSTS = {
    "envoy": [Limiter(name="bucket of 10", program="envoy", window=WINDOW, burst=10, settings=BUCKET)],
    "nginx": [
        Limiter(name="no burst", program="nginx", window=WINDOW, burst=1, settings={"server": "no_burst"}),
        Limiter(name="burst=10", program="nginx", window=WINDOW, burst=11, settings={"server": "burst_10"}),
    ],
}
WHOLE_BURSTS = {
    "envoy": [Limiter(name="bucket of 30", program="envoy", window=WINDOW, burst=30, settings=BUCKET | {"burst": 30})],
    "nginx": [
        Limiter(name="burst=29", program="nginx", window=WINDOW, burst=30, settings={"server": "burst_29_nodelay"})
    ],
}


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    async with Servers(tmp_path) as running:
        yield running


async def start(servers: Servers, limiters: list[Limiter]) -> None:
    if not servers.can_run(limiters[0]):
        pytest.skip(servers.missing[limiters[0].program])
    await servers.start_limiters(limiters)


@pytest.mark.parametrize("limiters", SMALL_BURSTS.values(), ids=SMALL_BURSTS)
async def test_the_burst_that_a_server_allows_is_learned(servers: Servers, limiters: list[Limiter]) -> None:
    await start(servers, limiters)
    await asyncio.gather(*(learn_the_burst(servers, limiter) for limiter in limiters))


async def learn_the_burst(servers: Servers, limiter: Limiter) -> None:
    async with aclosing(bursts(servers, limiter, calls=30)) as rounds:
        first, second, third = [await anext(rounds) for _ in range(3)]
        # A busy machine disturbs a burst now and then, but not each of three.
        for _ in range(2):
            if third.rejected > 3:
                third = await anext(rounds)
    assert (first.ok, second.ok, third.ok) == (30, 30, 30)
    assert first.rejected <= 15
    assert third.rejected <= 3


@pytest.mark.parametrize("limiters", WHOLE_BURSTS.values(), ids=WHOLE_BURSTS)
async def test_a_server_that_allows_a_burst_of_its_whole_limit_rejects_nothing(
    servers: Servers, limiters: list[Limiter]
) -> None:
    await start(servers, limiters)
    result = await run_calls(servers, limiters[0], "batch", calls=60, concurrency=64)
    assert (result.ok, result.requests, result.rejected) == (60, 60, 0)
