# ruff: noqa: PLC0415, T201 - a process must load only what it measures, and prints its result
"""Many calls at once, without the calls: what spreading 100 000 items costs by itself.

An item is a coroutine that gives way to the event loop once, 50 at a time, and each pattern adds up the results. Each
measurement is a process of its own. CPU time is that of the batch alone. Memory is the peak of what Python allocated
during the batch, as ``tracemalloc`` counts it, in a process apart, since counting takes time: unlike the resident
set, it is exact to the byte, and so shows whether a pattern's memory grows with the items.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import subprocess
import sys
import time
import tracemalloc
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from .machine import pin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

LIMIT = 50
FEW = 1_000


async def _item(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def sdk(items: range) -> int:
    """``Zenovay.batch``: results as they complete, each with its item, failures beside successes."""
    from zenovay_async.batch import Batch

    total = 0
    async with Batch(items, _item, concurrency=LIMIT) as results:
        async for result in results:
            total += result.value or 0
    return total


async def gather(items: range) -> int:
    """A task for each item behind a semaphore; results when all are done."""
    slots = asyncio.Semaphore(LIMIT)

    async def work(item: int) -> int:
        async with slots:
            return await _item(item)

    return sum(await asyncio.gather(*(work(item) for item in items)))


async def task_group(items: range) -> int:
    """The same in a ``TaskGroup``."""
    slots, total = asyncio.Semaphore(LIMIT), 0

    async def work(item: int) -> None:
        nonlocal total
        async with slots:
            result = await _item(item)
        total += result

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(work(item))
    return total


async def task_group_bounded(items: range) -> int:
    """A ``TaskGroup`` that waits for a slot before it makes the next task, which bounds its memory."""
    slots, total = asyncio.Semaphore(LIMIT), 0

    async def work(item: int) -> None:
        nonlocal total
        try:
            result = await _item(item)
        finally:
            slots.release()
        total += result

    async with asyncio.TaskGroup() as group:
        for item in items:
            await slots.acquire()
            group.create_task(work(item))
    return total


async def workers_queue(items: range) -> int:
    """Workers that share one iterator and hand results over in a bounded queue, as one writes it by hand."""
    results, source, total = asyncio.Queue[int | None](2 * LIMIT), iter(items), 0

    async def work() -> None:
        for item in source:
            await results.put(await _item(item))
        await results.put(None)

    async with asyncio.TaskGroup() as group:
        for _ in range(LIMIT):
            group.create_task(work())
        working = LIMIT
        while working:
            result = await results.get()
            if result is None:
                working -= 1
            else:
                total += result
    return total


async def aiometer(items: range) -> int:
    """``aiometer.amap``: results as they complete."""
    total = 0
    results: AsyncIterator[int]
    async with import_module("aiometer").amap(_item, items, max_at_once=LIMIT) as results:
        async for result in results:
            total += result
    return total


SDK = "this SDK"
PATTERNS: dict[str, Callable[[range], Awaitable[int]]] = {
    SDK: sdk,
    "workers and a queue": workers_queue,
    "TaskGroup, slot first": task_group_bounded,
    "aiometer.amap": aiometer,
    "TaskGroup + Semaphore": task_group,
    "gather + Semaphore": gather,
}


class Spread(msgspec.Struct, frozen=True):
    """What one pattern costs: µs of CPU per item with its spread, and KiB at the peak for few items and for all."""

    pattern: str
    items: int
    cpu: float
    lowest: float
    highest: float
    ratio: float
    peak_few: float
    peak: float


def measure(items: int = 100_000, rounds: int = 3) -> tuple[list[Spread], list[str]]:
    """Measure all patterns in rotation; returns the results and what was left out."""
    patterns, left_out = list(PATTERNS), list[str]()
    if not find_spec("aiometer"):
        patterns.remove("aiometer.amap")
        left_out.append("aiometer.amap is left out: aiometer not installed")
    rotations = [{name: _run(name, items) for name in patterns} for _ in range(rounds)]
    results: list[Spread] = []
    for name in patterns:
        costs = sorted(rotation[name] for rotation in rotations)
        ratio = statistics.median(rotation[name] / rotation[SDK] for rotation in rotations)
        peaks = [_run(name, count, "--memory") for count in (FEW, items)]
        results.append(Spread(name, items, statistics.median(costs), costs[0], costs[-1], ratio, *peaks))
    return results, left_out


def _run(pattern: str, items: int, *options: str) -> float:
    command = [sys.executable, "-m", __spec__.name, pattern, str(items), *options]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)  # noqa: S603 - this module


async def _measure(pattern: str, items: int, *, memory: bool) -> float:
    run = PATTERNS[pattern]
    # The first use loads and prepares what later uses have.
    await run(range(FEW))
    gc.collect()
    if memory:
        tracemalloc.start()
    began = time.process_time()
    total = await run(range(items))
    took = time.process_time() - began
    if total != sum(range(items)):
        raise RuntimeError(f"{pattern} lost items")
    return tracemalloc.get_traced_memory()[1] / 1024 if memory else 1e6 * took / items


def main() -> None:
    """Measure one pattern and print µs per item, or KiB."""
    options = argparse.ArgumentParser()
    options.add_argument("pattern", choices=PATTERNS)
    options.add_argument("items", type=int)
    options.add_argument("--memory", action="store_true")
    given = options.parse_args()
    pin(0)
    print(asyncio.run(_measure(given.pattern, given.items, memory=given.memory)))


if __name__ == "__main__":
    main()
