# ruff: noqa: T201 - it prints its results
"""End runs of the command line in every way, in every format: ``python -m tests.benchmarks.nightly``.

From the root of the repository. For each format there are three runs over 500 websites, each ended in every way, one
after the other at random moments, and resumed each time, by real processes. A run that loses something, or sends more
requests than were in flight when it ended, is printed with its seed, which ``--seed`` repeats; the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from kill_helpers import FORMATS, WAYS, check_chain, make_sandbox
from pages import BENCHMARKS, Blocks, add_write_option, check_complete, make_table


async def measure(kinds: list[str], seeds: list[int]) -> dict[str, int]:
    """End runs in every way; returns for each format how many of them lost something."""
    failed: dict[str, int] = {}
    print(f"{'format':8}  {'runs':>4}  {'ends':>4}  {'lost':>4}  seconds")
    for kind in kinds:
        began, lost = time.monotonic(), 0
        with tempfile.TemporaryDirectory() as folder:
            async with make_sandbox() as sandbox:
                for seed in seeds:
                    try:
                        await check_chain(sandbox, Path(folder), kind, list(WAYS), seed)
                    except Exception:  # noqa: BLE001 - whatever it was, the others go on
                        lost += 1
                        print(f"--format {kind} --seed {seed}:")
                        traceback.print_exc()
        seconds = time.monotonic() - began
        print(f"{kind:8}  {len(seeds):4}  {len(seeds) * len(WAYS):4}  {lost:4}  {seconds:7.1f}", flush=True)
        failed[kind] = lost
    return failed


def make_text(failed: dict[str, int], runs: int) -> str:
    """The table of ``docs/benchmarks.md``."""
    rows = [[kind, *map(str, (runs, runs * len(WAYS), lost))] for kind, lost in failed.items()]
    whole = runs * len(failed)
    rows.append(["all", *map(str, (whole, whole * len(WAYS), sum(failed.values())))])
    return make_table(["format", "runs", "ends", "lost"], rows)


def main() -> int:
    """Read the arguments and run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.nightly", description=__doc__)
    parser.add_argument("--format", choices=FORMATS, action="append", help="one format, may be repeated; else all")
    parser.add_argument("--runs", type=int, default=3, help="runs for each format")
    parser.add_argument("--seed", type=int, help="repeat the run with this seed")
    add_write_option(parser)
    # As for pytest: where it is ignored, as in the background, the processes would ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = parser.parse_args()
    seeds = [random.randrange(2**32) for _ in range(arguments.runs)] if arguments.seed is None else [arguments.seed]
    failed = asyncio.run(measure(arguments.format or list(FORMATS), seeds))
    if arguments.write:
        check_complete([f"--format {kind} was not run" for kind in FORMATS if kind not in failed])
        Blocks(BENCHMARKS, "bench-nightly").write({"ends": make_text(failed, len(seeds))})
    return min(1, sum(failed.values()))


if __name__ == "__main__":
    sys.exit(main())
