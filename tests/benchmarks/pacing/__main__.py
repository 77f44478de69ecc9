# ruff: noqa: T201 - it prints its results
"""Run the measurement: ``python -m tests.benchmarks.pacing``, from the root of the repository.

It takes less than two minutes; with ``--quick`` half a minute, with ``--minute`` five. All runs go on at the same time,
in one event loop. Each has a server of its own and starts at a set point of that server's window, so that the bursts of
one do not coincide with those of another, and one measurement compares with the next.

Figures are printed, not judged. Only a call without a result makes the exit status 1. ``docs/benchmarks.md`` explains
the columns.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from pages import BENCHMARKS, Blocks, add_write_option, check_complete, make_table

from zenovay_async import Zenovay
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.rate_limits import Outcome
from zenovay_async.sandbox import Sandbox

from .people import Scene, Served, measure_scene, scenes_of
from .servers import LONG, MINUTE, SHORT, Row, Run, measure, runs_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class Canceled(msgspec.Struct, frozen=True):
    """What became of the next callers after others were canceled in the queue."""

    canceled: int
    next: int
    returned: int
    seconds: float
    requests: int


class Report(msgspec.Struct, frozen=True):
    """All results, as ``--json`` writes them."""

    runs: list[Row]
    scenes: list[Served]
    canceled: Canceled
    permit_us: float
    loop_late_ms: float
    took: float


async def measure_all(runs: Sequence[Run], scenes: Sequence[Scene]) -> Report:
    """Measure the cost in CPU by itself, then all that mostly waits, at the same time."""
    began = time.monotonic()
    permit_us = await cost_of_a_permit()
    late: list[float] = []
    watch = asyncio.create_task(watch_the_loop(late))
    canceled, rows, served = await asyncio.gather(
        cancel_the_queue(), asyncio.gather(*map(measure, runs)), asyncio.gather(*map(measure_scene, scenes))
    )
    watch.cancel()
    return Report(
        rows, served, canceled, permit_us, 1000 * sorted(late)[len(late) * 99 // 100], time.monotonic() - began
    )


async def cost_of_a_permit(rounds: int = 100, calls: int = 2_000) -> float:
    """CPU time in µs of a permit acquired and settled where nobody has to wait; the best round, as others disturb."""
    best = float("inf")
    limit = 10 * calls
    outcome = Outcome(kind="succeeded", limit=limit, remaining=limit - 1)
    for _ in range(rounds):
        # The window is so short that requests leave the log as fast as they come in, as in a long run.
        limiter = WindowLimiter(window=0.001)
        (await limiter.acquire()).settle(outcome)
        began = time.process_time()
        for _ in range(calls):
            permit = await limiter.acquire(max_wait=30.0)
            permit.settle(outcome)
        best = min(best, (time.process_time() - began) / calls)
    return 1e6 * best


async def cancel_the_queue(canceled: int = 40, after: int = 10) -> Canceled:
    """Spend a window, cancel callers that wait for the next one, and see whether the callers after them return."""
    async with (
        Sandbox(websites=1, rate_limit=SHORT.limit, rate_limit_window=SHORT.window, rate_limiter="sliding") as sandbox,
        Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit_window=SHORT.window, coalesce=False) as zenovay,
    ):
        site = sandbox.website_ids[0]
        await asyncio.gather(*(zenovay.heatmaps.pages(site) for _ in range(SHORT.limit)))
        queued = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(canceled)]
        await asyncio.sleep(0.5)
        for task in queued:
            task.cancel()
        began = time.monotonic()
        calls = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(after)]
        done, lost = await asyncio.wait(calls, timeout=3 * SHORT.window)
        seconds = time.monotonic() - began
        for task in lost:
            task.cancel()
        await asyncio.gather(*queued, *calls, return_exceptions=True)
        returned = sum(task.exception() is None for task in done)
        return Canceled(canceled, after, returned, seconds, sandbox.count())


async def watch_the_loop(late: list[float]) -> None:
    """Note how late the event loop is: a machine too busy for it would distort all the rest."""
    while True:
        due = time.monotonic() + 0.02
        await asyncio.sleep(0.02)
        late.append(time.monotonic() - due)


WORKS = {"short": SHORT, "long": LONG, "minute": MINUTE}
RUNS = ("server", "latency", "Remaining", "calls", "results", "requests", "429s", "seconds", "ideal", "share")
SCENES = ("server", "Remaining", "direct calls", "first window", "then", "median", "batch", "429s", "used")


def cells_of(row: Row) -> tuple[str, ...]:
    return (
        row.server if row.paced else f"{row.server}, not paced",
        f"{row.latency_ms} ms",
        "yes" if row.remaining else "no",
        str(row.calls),
        str(row.results),
        str(row.requests),
        str(row.rate_limited),
        f"{row.seconds:.1f}",
        f"{row.ideal:.1f}",
        f"{100 * row.share:.1f} %",
    )


def cells_of_scene(row: Served) -> tuple[str, ...]:
    return (
        row.server,
        "yes" if row.remaining else "no",
        "before" if row.direct_first else "after",
        f"{row.first_served} of {row.first_calls}",
        f"{row.later_served} of {row.later_calls}",
        f"{row.later_ms:.0f} ms",
        str(row.background),
        str(row.rate_limited),
        f"{100 * row.used:.1f} %",
    )


def page_texts(report: Report) -> dict[str, str]:
    """What the page has of these results, by the names of its blocks."""
    texts = {
        name: make_table(RUNS, [*map(cells_of, rows)])
        for name, work in WORKS.items()
        if (rows := [row for row in report.runs if (row.limit, row.window) == (work.limit, work.window)])
    }
    if scenes := [row for row in report.scenes if row.window == LONG.window]:
        texts["beside-a-batch"] = make_table(SCENES, [*map(cells_of_scene, scenes)])
    queue = report.canceled
    texts["queue"] = (
        f"{queue.canceled} callers were canceled while they waited for the next window. Of the next {queue.next}, "
        f"{queue.returned} returned, the last after {queue.seconds:.1f} s; {queue.requests} requests were sent in all, "
        f"{SHORT.limit} of them before. A permit acquired and settled without a wait costs {report.permit_us:.1f} "
        "µs of CPU."
    )
    return texts


def show(report: Report) -> None:
    """Print the results."""
    texts = page_texts(report)
    for name, work in WORKS.items():
        if text := texts.get(name):
            print(f"{work.calls} calls, {work.concurrency} at a time; {work.limit} allowed per {work.window:g} s\n")
            print(text, end="\n\n")
    if report.scenes:
        of = report.scenes[0]
        print(f"Direct calls beside a batch; {of.limit} allowed per {of.window:g} s\n")
        print(make_table(SCENES, [*map(cells_of_scene, report.scenes)]), end="\n\n")
    print(texts["queue"])
    print(f"99 of 100 wake-ups of the event loop were at most {report.loop_late_ms:.0f} ms late")
    print(f"Took {report.took:.0f} s")


def complaints(report: Report) -> list[str]:
    """A sentence for each run in which a call got no result."""
    sentences = [
        f"{row.calls - row.results} of {row.calls} calls got no result ({row.server}, {row.latency_ms} ms, "
        f"{row.limit} per {row.window:g} s), the first because of {row.error}."
        for row in report.runs
        if row.results < row.calls
    ]
    if lost := report.canceled.next - report.canceled.returned:
        sentences.append(f"{lost} of the callers after those canceled in the queue got no result.")
    return sentences


def main() -> None:
    """Measure as the options say."""
    options = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.pacing", description="Measure how well the client keeps to a rate limit."
    )
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    options.add_argument("--quick", action="store_true", help="short window, no latency: half a minute")
    options.add_argument("--minute", action="store_true", help="only the real limit of the lowest plan: five minutes")
    add_write_option(options)
    given = options.parse_args()
    if given.write and given.quick:
        options.error("--write: the page has all rows, and --quick some of them")
    unpaced = Run(SHORT, "sliding", latency=0.0, remaining=True, phase=0.5, paced=False)
    if given.quick:
        runs, scenes = [*runs_of(SHORT, [0.0]), unpaced], []
    elif given.minute:
        runs, scenes = runs_of(MINUTE, MINUTE.latencies), scenes_of(MINUTE)
    else:
        runs = [*runs_of(SHORT, SHORT.latencies), unpaced, *runs_of(LONG, LONG.latencies)]
        scenes = scenes_of(LONG)
    report = asyncio.run(measure_all(runs, scenes))
    show(report)
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    sentences = complaints(report)
    if given.write:
        check_complete(sentences)
        texts = page_texts(report)
        if given.minute:
            Blocks(BENCHMARKS, "bench-minute").write({"minute": texts["minute"]})
        else:
            Blocks(BENCHMARKS, "bench").write(texts)
    if sentences:
        sys.exit("\n".join(sentences))


if __name__ == "__main__":
    main()
