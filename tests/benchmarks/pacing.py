# ruff: noqa: T201 - it prints its results
"""How well the client keeps to a rate limit, measured over real HTTP on the loopback. Takes less than two minutes.

Each run makes its calls with ``zenovay.batch``, against a sandbox of its own, so that each has a budget of its own.
All runs go on at the same time in one event loop. Each starts at a set point of its server's window: so the bursts
of one do not fall on those of another and hold it up, and one measurement can be compared with the next.

Figures are printed, not judged. Only a call without an answer makes the exit status 1. ``docs/pacing.md`` explains
the columns.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from zenovay_async import Zenovay
from zenovay_async.limiter import WindowLimiter
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zenovay_async.sandbox.limits import Kind

NAMES: dict[Kind, str] = {
    "fixed": "fixed window",
    "sliding": "sliding log",
    "bucket": "token bucket",
    "counter": "sliding counter",
}
# The counter comes first and so never starts at a window's end, where it would depend on chance in which window its
# first burst is counted, and with that its ideal.
KINDS: tuple[Kind, ...] = ("counter", "fixed", "sliding", "bucket")
# Seconds of latency each way: 200 ms for both on average, between 100 and 300.
WAY = (0.05, 0.15)
# Not a decision of the pacer: a client that is not paced must be able to wait as often as it takes.
ATTEMPTS_UNPACED = 20


class Work(msgspec.Struct, frozen=True):
    """So many calls, so many at a time, where so many are allowed per window."""

    calls: int
    concurrency: int
    limit: int
    window: float


# The work that other clients were measured on, and one on which latency counts for as little as with the real API.
SHORT = Work(calls=200, concurrency=64, limit=50, window=5.0)
LONG = Work(calls=120, concurrency=64, limit=30, window=20.0)


class Run(msgspec.Struct, frozen=True):
    """One configuration; ``phase`` is the share of the server's window that is over when it starts."""

    work: Work
    kind: Kind
    latency: bool
    remaining: bool
    phase: float
    paced: bool = True

    @property
    def ideal(self) -> float:
        """Seconds that the work takes at least: one burst is free, the rest goes at the allowed rate.

        A sliding counter holds the burst against the client until the window in which it fell is over.
        """
        seconds = (self.work.calls / self.work.limit - 1) * self.work.window
        return seconds + (1 - self.phase) * self.work.window if self.kind == "counter" else seconds


class Row(msgspec.Struct, frozen=True):
    """What a run gave; ``requests`` and ``refused`` are what the server counted."""

    server: str
    limit: int
    window: float
    latency_ms: int
    remaining: bool
    paced: bool
    calls: int
    answers: int
    requests: int
    refused: int
    seconds: float
    ideal: float
    share: float
    error: str | None


class Cancelled(msgspec.Struct, frozen=True):
    """What became of the callers after others were cancelled in the queue."""

    cancelled: int
    next: int
    returned: int
    seconds: float
    requests: int


class Report(msgspec.Struct, frozen=True):
    """All results, as ``--json`` writes them."""

    runs: list[Row]
    cancelled: Cancelled
    acquire_us: float
    loop_late_ms: float
    took: float


def runs_of(work: Work, latencies: Sequence[bool]) -> list[Run]:
    """The four kinds with and without latency and ``X-RateLimit-Remaining``, their starts spread over a window."""
    every = [(latency, remaining, kind) for latency in latencies for remaining in (True, False) for kind in KINDS]
    return [
        Run(work, kind, latency, remaining, place / len(every))
        for place, (latency, remaining, kind) in enumerate(every)
    ]


async def measure(run: Run) -> Row:
    """Carry out one configuration."""
    work = run.work
    there = WAY if run.latency else (0.0, 0.0)
    sandbox = Sandbox(
        websites=1,
        rate_limit=work.limit,
        rate_limit_window=work.window,
        rate_limiter=run.kind,
        send_remaining=run.remaining,
        latency=there[0],
        jitter=there[1] - there[0],
    )
    errors: list[Exception] = []
    async with (
        sandbox,
        aiohttp.ClientSession(middlewares=(way_back,) if run.latency else ()) as session,
        Zenovay(
            sandbox.api_key,
            base_url=sandbox.url,
            session=session,
            rate_limit="auto" if run.paced else None,
            rate_limit_window=work.window,
            timeout=None,
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
        latency_ms=round(1000 * sum(there)),
        remaining=run.remaining,
        paced=run.paced,
        calls=work.calls,
        answers=work.calls - len(errors),
        requests=sandbox.count(),
        refused=sandbox.count(status=429),
        seconds=seconds,
        ideal=run.ideal,
        share=run.ideal / seconds,
        error=repr(errors[0]) if errors else None,
    )


async def way_back(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Latency of the answers; the sandbox has that of the requests."""
    response = await send(request)
    await asyncio.sleep(random.uniform(*WAY))
    return response


async def cancel_the_queue(cancelled: int = 40, after: int = 10) -> Cancelled:
    """Use up the window, cancel callers that wait for the next one, and see whether the callers after them return."""
    work = SHORT
    async with (
        Sandbox(websites=1, rate_limit=work.limit, rate_limit_window=work.window, rate_limiter="sliding") as sandbox,
        Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit_window=work.window) as zenovay,
    ):
        site = sandbox.website_ids[0]
        await asyncio.gather(*(zenovay.heatmaps.pages(site) for _ in range(work.limit)))
        queued = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(cancelled)]
        await asyncio.sleep(0.5)
        for task in queued:
            task.cancel()
        began = time.monotonic()
        calls = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(after)]
        done, _ = await asyncio.wait(calls, timeout=3 * work.window)
        seconds = time.monotonic() - began
        # Who does not return in three windows is lost, and cancelled so that this ends.
        for task in calls:
            task.cancel()
        await asyncio.gather(*queued, *calls, return_exceptions=True)
        returned = sum(not task.cancelled() and task.exception() is None for task in done)
        return Cancelled(cancelled, after, returned, seconds, sandbox.count())


async def cost_of_a_permit(calls: int = 20_000) -> float:
    """CPU time of ``acquire`` and ``finish`` in µs where nobody has to wait; the best of five, as others disturb."""
    best = float("inf")
    for _ in range(5):
        limiter, limit = WindowLimiter(), 10 * calls
        limiter.finish(await limiter.acquire(), status=200, limit=limit, remaining=limit - 1)
        began = time.process_time()
        for used in range(2, calls + 2):
            permit = await limiter.acquire(max_wait=30.0)
            limiter.finish(permit, status=200, limit=limit, remaining=limit - used)
        best = min(best, (time.process_time() - began) / calls)
    return 1e6 * best


async def watch_the_loop(late: list[float]) -> None:
    """Note how late the event loop is, as a busy machine would distort the rest."""
    while True:
        due = time.monotonic() + 0.02
        await asyncio.sleep(0.02)
        late.append(time.monotonic() - due)


async def measure_all(runs: Sequence[Run]) -> Report:
    """Everything: the CPU's cost alone, then all that is mostly waiting at the same time."""
    began = time.monotonic()
    acquire_us = await cost_of_a_permit()
    late: list[float] = []
    watch = asyncio.create_task(watch_the_loop(late))
    cancelled, *rows = await asyncio.gather(cancel_the_queue(), *map(measure, runs))
    watch.cancel()
    return Report(rows, cancelled, acquire_us, 1000 * sorted(late)[len(late) * 99 // 100], time.monotonic() - began)


def table(rows: Sequence[Row]) -> str:
    """The results as a table in Markdown."""
    cells = [
        ("server", "latency", "Remaining", "calls", "answers", "requests", "429s", "seconds", "ideal", "share"),
        *(
            (
                row.server if row.paced else f"{row.server}, not paced",
                f"{row.latency_ms} ms",
                "yes" if row.remaining else "no",
                str(row.calls),
                str(row.answers),
                str(row.requests),
                str(row.refused),
                f"{row.seconds:.1f}",
                f"{row.ideal:.1f}",
                f"{row.share:.1%}",
            )
            for row in rows
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    # Words to the left, figures to the right.
    rule = ["-" * width if place in {0, 2} else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    lines = [
        [cell.ljust(width) if place in {0, 2} else cell.rjust(width) for place, (cell, width) in pairs]
        for pairs in (enumerate(zip(line, widths, strict=True)) for line in cells)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def main() -> int:
    """Measure, print, and return the exit status."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    options.add_argument("--quick", action="store_true", help="only the short window without latency: half a minute")
    given = options.parse_args()
    unpaced = Run(SHORT, "sliding", latency=False, remaining=True, phase=0.5, paced=False)
    short = [*runs_of(SHORT, [False] if given.quick else [False, True]), unpaced]
    report = asyncio.run(measure_all(short if given.quick else [*short, *runs_of(LONG, [True])]))

    for work in (SHORT, LONG):
        if rows := [row for row in report.runs if (row.limit, row.window) == (work.limit, work.window)]:
            print(f"{work.calls} calls, {work.concurrency} at a time; {work.limit} allowed per {work.window:g} s\n")
            print(table(rows), end="\n\n")
    queue = report.cancelled
    print(
        f"{queue.cancelled} callers cancelled in the queue: of the next {queue.next}, {queue.returned} returned, "
        f"the last after {queue.seconds:.1f} s; {queue.requests} requests in all"
    )
    print(f"A permit taken and given back without a wait: {report.acquire_us:.1f} µs of CPU")
    print(f"99 of 100 wake-ups of the event loop were at most {report.loop_late_ms:.1f} ms late")
    print(f"Took {report.took:.0f} s")
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    return complain(report)


def complain(report: Report) -> int:
    """Say which calls got no answer; 1 if there are any."""
    failed = [row for row in report.runs if row.answers < row.calls]
    for row in failed:
        name = f"{row.server}, {row.latency_ms} ms, {row.limit} per {row.window:g} s"
        missing = row.calls - row.answers
        print(f"{missing} of {row.calls} calls got no answer ({name}), the first for: {row.error}", file=sys.stderr)
    lost = report.cancelled.next - report.cancelled.returned
    if lost:
        print(f"{lost} callers got no answer after others were cancelled in the queue", file=sys.stderr)
    return 1 if failed or lost else 0


if __name__ == "__main__":
    sys.exit(main())
