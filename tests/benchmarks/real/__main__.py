"""Run the client against real servers: ``python -m tests.benchmarks.real``, from the root of the repository.

What runs depends on what is installed; the rest is named. All that mostly waits goes on at the same time, in one event
loop. Figures are printed, not judged. ``docs/benchmarks.md`` explains the columns.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from pages import BENCHMARKS, Blocks, add_write_option, check_complete

from .limiters import BEHIND, BEHIND_MINUTE, LIMITERS, MISTIMED, Limiter
from .network import (
    KEEP_ALIVE_CASES,
    ODD_SERVERS,
    OutageCase,
    Watch,
    run_keep_alive,
    run_no_such_host,
    run_odd,
    run_outage,
)
from .report import PARTS, Report, page_texts, show
from .runs import run_after_another, run_bursts, run_calls
from .servers import Servers, free_port

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

    from .network import NoSuchHost, Outage

T = TypeVar("T")

# Where a part runs against some of the limiters: those with one of these texts in their name.
BURSTS = ("nginx, no burst", "nginx, burst=10", "envoy, bucket of 10", "GCRA of")
ANOTHER = ("nginx", "envoy, bucket of 30", "express, legacy", "express, no headers", "express, draft")

OUTAGES = [
    OutageCase(limiter=BEHIND, away=3.0, items=150, concurrency=8),
    OutageCase(limiter=BEHIND, away=3.0, items=150, concurrency=64),
    OutageCase(limiter=BEHIND, away=10.0, items=150, concurrency=64),
    OutageCase(limiter=BEHIND, away=3.0, items=150, concurrency=8, broken=True),
    OutageCase(limiter=BEHIND, away=10.0, items=150, concurrency=64, broken=True),
]
LONG_OUTAGES = [
    OutageCase(limiter=BEHIND, away=3.0, items=1000, concurrency=8),
    OutageCase(limiter=BEHIND, away=3.0, items=1000, concurrency=64),
    OutageCase(limiter=BEHIND_MINUTE, away=10.0, items=200, concurrency=8),
    OutageCase(limiter=BEHIND_MINUTE, away=10.0, items=200, concurrency=64),
]


async def measure(given: argparse.Namespace, servers: Servers) -> Report:
    """Run the parts: those that mostly wait at the same time, then those that depend on moments."""
    report = Report(skipped=list(servers.missing.values()))
    await measure_limiters_and_outages(report, given, servers)
    if "trustme" not in servers.missing:
        certificates = servers.make_certificates()
        if "keepalive" in given.parts and "nginx" not in servers.missing:
            ports = {"tls": free_port(), "clear": free_port()}
            await servers.start_nginx("nginx_keepalive.conf", certificates=certificates, **ports)
            report.keepalive = [await run_keep_alive(servers, certificates, ports, case) for case in KEEP_ALIVE_CASES]
        if "odd" in given.parts and "node" not in servers.missing:
            odd = await servers.start_odd_servers(certificates, ODD_SERVERS)
            report.odd = [await run_odd(servers, certificates, name, port) for name, port in odd.items()]
    return report


async def measure_limiters_and_outages(report: Report, given: argparse.Namespace, servers: Servers) -> None:
    """Start all that is needed, and do all at the same time."""
    installed = [limiter for limiter in LIMITERS if servers.can_run(limiter)]
    calls = chosen(installed, given.only) if "calls" in given.parts else []
    bursts = chosen(installed, given.only or BURSTS) if "bursts" in given.parts else []
    another: list[Limiter] = []
    if "another" in given.parts:
        mistimed = [limiter for limiter in MISTIMED if servers.can_run(limiter)]
        another = [*chosen(installed, given.only or ANOTHER), *chosen(mistimed, given.only)]
    outages = [*OUTAGES, *(LONG_OUTAGES if given.long else [])]
    if "outage" not in given.parts or servers.missing.keys() & {"nginx", "node"}:
        outages = []
    needed = [*calls, *bursts, *another, *(case.limiter for case in outages)]
    if needed:
        await servers.start_limiters({limiter.name: limiter for limiter in needed}.values())
    report.calls, report.bursts, report.another, outage = await asyncio.gather(
        staggered([run_calls(servers, each, mode, given.calls, 64) for each in calls for mode in given.mode]),
        staggered([run_bursts(servers, each, calls=30, rounds=3) for each in bursts]),
        staggered([run_after_another(servers, each, calls=40) for each in another]),
        staggered([measure_outages(outages, servers)] if "outage" in given.parts else []),
    )
    if outage:
        ((report.outage, report.no_such_host),) = outage


async def measure_outages(cases: Sequence[OutageCase], servers: Servers) -> tuple[list[Outage], NoSuchHost]:
    watch = Watch()
    outages = staggered([run_outage(servers, watch, case) for case in cases])
    return await asyncio.gather(outages, run_no_such_host(watch))


def chosen(limiters: Iterable[Limiter], texts: Sequence[str]) -> list[Limiter]:
    """Those whose name has one of these texts in it; without any, all of them."""
    return [limiter for limiter in limiters if not texts or any(text in limiter.name for text in texts)]


async def staggered(runs: Sequence[Coroutine[Any, Any, T]], gap: float = 0.4) -> list[T]:
    """Start one after another, so that the bursts of one do not coincide with those of another."""

    async def later(number: int, run: Coroutine[Any, Any, T]) -> T:
        await asyncio.sleep(number * gap)
        return await run

    return await asyncio.gather(*(later(number, run) for number, run in enumerate(runs)))


async def main(given: argparse.Namespace) -> Report:
    """Run the parts with servers in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        async with Servers(Path(folder)) as servers:
            return await measure(given, servers)


if __name__ == "__main__":
    options = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.real", description="Run the client against real servers."
    )
    options.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without one")
    options.add_argument("--only", action="append", metavar="TEXT", help="limiters with this text in their name")
    options.add_argument("--mode", action="append", choices=("gather", "batch"), help="how calls are made")
    options.add_argument("--calls", type=int, default=150, metavar="N", help="calls against each limiter")
    options.add_argument("--long", action="store_true", help="also batches of 1000 items, and real minutes")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    add_write_option(options)
    given = options.parse_args()
    if given.write and (given.only or not given.long):
        options.error("--write: the page has all rows: add --long, without --only")
    given.parts = given.parts or list(PARTS)
    if unknown := set(given.parts) - PARTS.keys():
        options.error(f"no such part: {', '.join(sorted(unknown))}; expected of {', '.join(PARTS)}")
    given.mode, given.only = given.mode or ["gather", "batch"], given.only or []
    began = time.monotonic()
    report = asyncio.run(main(given))
    show(report)
    print(f"\nTook {time.monotonic() - began:.0f} s")  # noqa: T201 - it prints its results
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    if given.write:
        check_complete(report.skipped)
        Blocks(BENCHMARKS, "bench-real").write(page_texts(report))
