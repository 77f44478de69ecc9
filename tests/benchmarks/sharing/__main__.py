# ruff: noqa: T201 - it prints its results
"""Run the measurement: ``python -m tests.benchmarks.sharing``, from the root of the repository.

It takes twenty minutes; with ``--quick`` less than one. ``--only`` runs single parts, and ``--real-minute`` some rows
of the matrix and of people at the lowest plan's minute as it is. A server and those that use its keys, with the client
of this package, are processes of their own. Runs go on at the same time, each with a key of its own, so that no machine
of more than two processors is needed; with more, ``--parallel`` runs more of them.

Figures are printed, not judged, but for those of the matrix that miss the aim. Only a call without a result in the
matrix makes the exit status 1. ``docs/benchmarks.md`` explains the columns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from pages import BENCHMARKS, Blocks, add_write_option, check_complete
from redis_server import find_server

from . import faults, matrix, people, simulation
from .page import page_texts
from .processes import redis_running, serving, warm_up, workers
from .report import Report, show

if TYPE_CHECKING:
    from collections.abc import Collection

PARTS = {
    "matrix": "batches of 1, 2, 4 and 8 processes on one key",
    "faults": "stores and processes that fail",
    "people": "direct calls beside a batch without end",
    "visits": "visitors of a web backend with four processes",
    "simulation": "up to a hundred members in virtual time",
}


async def measure(parts: Collection[str], *, quick: bool, real_minute: bool, parallel: int) -> Report:
    """Run parts: those that only use keys at the same time, the faults afterwards."""
    report, has_redis, room = Report(), True, asyncio.Semaphore(parallel)
    try:
        find_server()
    except RuntimeError as error:
        report.skipped.append(str(error))
        has_redis = False
    runs, cases, kinds = matrix.all_runs(), people.cases(6.0, 8), matrix.KINDS
    if real_minute:
        runs, cases = matrix.minute_runs(), people.cases(60.0, 5, ["sliding"])
    elif quick:
        runs, cases, kinds = matrix.quick_runs(), people.cases(6.0, 2, ["sliding"]), kinds[:1]
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving())
        if {"matrix", "people", "visits"} & set(parts):
            processes = await stack.enter_async_context(workers(max(matrix.PROCESSES)))
            redis = (await stack.enter_async_context(redis_running())).url if has_redis else None
            await warm_up(server, processes, [None, "machine", *([redis] if redis else [])])
            report.matrix, report.people, report.visits = await asyncio.gather(
                matrix.measure_all(runs if "matrix" in parts else (), server, processes, redis, room),
                people.measure_all(cases if "people" in parts else (), server, processes, redis, room),
                people.measure_visits(kinds if "visits" in parts else (), server, processes, redis, room),
            )
        if "faults" in parts:
            report.faults = await faults.measure_all(server, has_redis=has_redis)
    return report


def main() -> None:
    """Measure as the options say."""
    options = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.sharing",
        description="Measure how well processes share the budget of one key.",
        epilog="Parts: " + "; ".join(f"{name}: {text}" for name, text in PARTS.items()),
    )
    options.add_argument("--only", action="append", choices=PARTS, metavar="PART", help="run this part; repeatable")
    options.add_argument("--quick", action="store_true", help="some rows of each part but the faults: a minute")
    options.add_argument("--real-minute", action="store_true", help="a few rows of the lowest plan's minute")
    options.add_argument("--parallel", type=int, default=12, metavar="N", help="runs at the same time; 12")
    options.add_argument("--every-row", action="store_true", help="print each run of the matrix, not only a summary")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    add_write_option(options)
    given = options.parse_args()
    if given.write and given.quick:
        options.error("--write: the page has all rows, and --quick some of them")
    began = time.monotonic()
    parts = given.only or [part for part in PARTS if not (given.quick and part == "faults")]
    if given.real_minute:
        parts = [part for part in parts if part in ("matrix", "people")]
    # Runs that are short are all to go at the same time, and those of a real minute do little.
    parallel = 99 if given.quick or given.real_minute else given.parallel
    report = asyncio.run(measure(parts, quick=given.quick, real_minute=given.real_minute, parallel=parallel))
    if "simulation" in parts:
        cases = simulation.quick_cases() if given.quick else simulation.all_cases()
        report.simulation = [simulation.measure(case) for case in cases]
    show(report, every_row=given.every_row)
    print(f"Took {time.monotonic() - began:.0f} s")
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    if given.write:
        check_complete(report.skipped)
        Blocks(BENCHMARKS, "bench-sharing").write(page_texts(report))
    if lost := sum(row.run.calls - row.ok for row in report.matrix):
        sys.exit(f"{lost} calls got no result.")


if __name__ == "__main__":
    main()
