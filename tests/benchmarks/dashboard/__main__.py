# ruff: noqa: T201 - it prints its results
"""Run the measurement: ``python -m tests.benchmarks.dashboard``, from the root of the repository.

It takes eight minutes; with ``--quick`` less than one. ``--only`` runs single parts. The API, a sandbox, and the
workers of the web application, FastAPI under uvicorn, are processes of their own. Runs follow one another, as they
compare times; those with an API that is down for a minute, which is a minute here as well, go on at the same time.

Figures are printed, not judged. ``docs/dashboard.md`` explains them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from pages import DASHBOARD, Blocks, add_write_option, check_complete
from redis_server import find_server
from sharing.processes import redis_running

from .report import Report, page_texts, show
from .runs import BUDGET, CACHES, COALESCING, NOTHING, SPREAD, WORKERS, Bench, Failure

if TYPE_CHECKING:
    from collections.abc import Collection

    from .runs import Row, Variant

PARTS = {
    "arrivals": "visitors at once, and over some seconds, without and with all that helps",
    "restarts": "visitors after all workers were restarted",
    "outages": "visitors while the API is down for a minute",
}
_AT_ONCE = 4
"""Runs with an outage at the same time: few requests, many processes."""


async def measure(parts: Collection[str], *, quick: bool) -> Report:
    """Run parts, those that need a Redis only where there is one."""
    report = Report()
    try:
        find_server()
    except RuntimeError as error:
        report.skipped.append(str(error))
        await _measure(report, Bench(None), parts, quick=quick)
    else:
        async with redis_running() as redis:
            await _measure(report, Bench(redis.url), parts, quick=quick)
    return report


async def _measure(report: Report, bench: Bench, parts: Collection[str], *, quick: bool) -> None:
    caches = bench.present(CACHES)
    if "arrivals" in parts:
        arrivals = list(SPREAD)[: 1 if quick else None]
        for arrival, workers in product(arrivals, WORKERS):
            shared = [BUDGET] if workers > 1 else []
            for variant in (NOTHING, *shared, COALESCING, *caches):
                report.arrivals.append(_noted(await bench.arrive(variant, workers, arrival)))
    if "restarts" in parts:
        for workers, variant in product(WORKERS, caches):
            report.restarts.append(_noted(await bench.restart(variant, workers)))
    if "outages" in parts:
        room = asyncio.Semaphore(_AT_ONCE)
        failures: list[Failure] = ["503", "no connection"]

        async def outage(failure: Failure, variant: Variant) -> list[Row]:
            async with room:
                return [_noted(row) for row in await bench.fail(variant, WORKERS[-1], failure)]

        rows = await asyncio.gather(*(outage(*each) for each in product(failures, (COALESCING, *caches))))
        report.outages = [row for each in rows for row in each]


def _noted(row: Row) -> Row:
    served = f"{row.served} of {row.loads} pages with {row.requests} requests"
    print(f"{row.variant}, workers: {row.workers}, {row.part}: {served}", file=sys.stderr, flush=True)
    return row


def main() -> None:
    """Measure as the options say."""
    options = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.dashboard",
        description="Measure what a dashboard with many visitors costs.",
        epilog="Parts: " + "; ".join(f"{name}: {text}" for name, text in PARTS.items()),
    )
    options.add_argument("--only", action="append", choices=PARTS, metavar="PART", help="run this part; repeatable")
    options.add_argument("--quick", action="store_true", help="visitors at once alone: a minute")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    add_write_option(options)
    given = options.parse_args()
    if given.write and given.quick:
        options.error("--write: the page has all rows, and --quick some of them")
    if missing := [name for name in ("fastapi", "uvicorn") if not find_spec(name)]:
        sys.exit(f"{' and '.join(missing)} not installed: pip install --group dashboard")
    began = time.monotonic()
    parts = given.only or (["arrivals"] if given.quick else list(PARTS))
    report = asyncio.run(measure(parts, quick=given.quick))
    show(report)
    print(f"Took {time.monotonic() - began:.0f} s")
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    if given.write:
        check_complete(report.skipped)
        Blocks(DASHBOARD, "bench-dashboard").write(page_texts(report))


if __name__ == "__main__":
    main()
