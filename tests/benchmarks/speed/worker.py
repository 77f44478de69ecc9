# ruff: noqa: T201 - it prints its results
"""One contender in a process of its own; makes a turn of calls whenever a line comes on standard input."""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import sys
import time
import uuid
from typing import TYPE_CHECKING

import msgspec

from .cached import EVERY
from .machine import peak_memory, pin, warm_the_heap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .contenders import Fetch

# Enough for a 99th percentile, and for every connection to be used a few times.
FEWEST = 100


class Turn(msgspec.Struct, frozen=True):
    """One turn of one contender, as measured in its process.

    Attributes:
        calls: How many calls it made.
        cpu: µs of CPU per call, of all threads, user and system.
        rate: Calls per second.
        p50: Median latency in µs.
        p99: 99th percentile of latency in µs.
        peak: Most memory that the process has had so far, in MiB.
    """

    calls: int
    cpu: float
    rate: float
    p50: float
    p99: float
    peak: float


async def turn(fetch: Fetch, sites: Iterator[str], calls: int, in_flight: int, pages: int) -> Turn:
    """Make calls, so many at a time, and measure them."""
    latencies: list[float] = []
    source = itertools.islice(sites, calls)
    clock = time.perf_counter

    async def work() -> None:
        for site in source:
            began = clock()
            await fetch(site, pages)
            latencies.append(clock() - began)

    gc.collect()
    began, cpu = clock(), time.process_time()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    cpu, seconds = time.process_time() - cpu, clock() - began
    latencies.sort()
    return Turn(
        calls,
        cpu=1e6 * cpu / calls,
        rate=calls / seconds,
        p50=1e6 * latencies[calls // 2],
        p99=1e6 * latencies[calls * 99 // 100],
        peak=peak_memory(),
    )


def main() -> None:
    """Open the contender, say so, and make a turn for each line: the seconds of CPU that it should take."""
    options = argparse.ArgumentParser()
    options.add_argument("contender", choices=EVERY)
    options.add_argument("url")
    options.add_argument("in_flight", type=int)
    options.add_argument("pages", type=int)
    options.add_argument("--heap-as-found", action="store_true")
    given = options.parse_args()
    pin(0)
    # Many different ids, as nothing is saved by remembering the URL of one.
    sites = itertools.cycle(
        [str(uuid.UUID(int=number * 0x9E3779B97F4A7C15_F39CC0605CEDC834 % 2**128)) for number in range(5_000)]
    )
    with asyncio.Runner() as runner:
        opened = EVERY[given.contender].open(given.url)
        fetch = runner.run(opened.__aenter__())
        found = len(runner.run(_once(fetch, next(sites), given.pages)))
        if found != given.pages:
            raise RuntimeError(f"{given.contender}: {found} pages came in place of {given.pages}")
        if not given.heap_as_found:
            warm_the_heap()
        # Two turns that do not count: connections and caches, then the cost, to know how many calls fill a turn.
        runner.run(turn(fetch, sites, FEWEST, given.in_flight, given.pages))
        cost = runner.run(turn(fetch, sites, FEWEST, given.in_flight, given.pages)).cpu
        print("ready", flush=True)
        for line in sys.stdin:
            calls = max(FEWEST, int(1e6 * float(line) / cost))
            # What went cold while others had their turn gets warm again.
            runner.run(turn(fetch, sites, 2 * given.in_flight, given.in_flight, given.pages))
            result = runner.run(turn(fetch, sites, calls, given.in_flight, given.pages))
            print(msgspec.json.encode(result).decode(), flush=True)
        runner.run(opened.__aexit__(None, None, None))


async def _once(fetch: Fetch, site: str, pages: int) -> list[object]:
    return list(await fetch(site, pages))


if __name__ == "__main__":
    main()
