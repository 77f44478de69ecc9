# ruff: noqa: T201 - it prints its results
"""Run the client against real servers: ``python -m tests.benchmarks.real``, from the root of the repository.

Which of them run depends on what is installed; the others are named. Figures are printed, not judged, except that a
call without a result, where one is due, makes the exit status 1. ``docs/benchmarks.md`` explains the columns.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from .limiters import BEHIND, BEHIND_MINUTE, LIMITERS, Limiter
from .network import (
    KEEP_ALIVE_CASES,
    ODD_SERVERS,
    KeepAlive,
    NoSuchHost,
    Odd,
    Outage,
    OutageCase,
    Watch,
    run_keep_alive,
    run_no_such_host,
    run_odd,
    run_outage,
)
from .runs import Bursts, Calls, run_after_another, run_bursts, run_calls
from .servers import Servers, free_port

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

T = TypeVar("T")

PARTS = {
    "calls": "150 calls against each limiter",
    "bursts": "30 calls at once, three times, each after two idle windows",
    "another": "40 calls after someone else has used the key up",
    "outage": "a batch during which the server goes away",
    "keepalive": "calls on connections that the server has closed",
    "odd": "servers whose response cannot be read",
}
# Bursts smaller than the limit, which have to be learned.
BURSTS = ("nginx, no burst", "nginx, burst=10", "envoy, bucket of 10", "GCRA of")
ANOTHER = ("nginx", "envoy, bucket of 30", "express, legacy", "express, no headers", "express, draft", "Retry-After")


class Report(msgspec.Struct, kw_only=True):
    """All results, as ``--json`` writes them."""

    calls: list[Calls] = []
    bursts: list[Bursts] = []
    another: list[Calls] = []
    outage: list[Outage] = []
    no_such_host: NoSuchHost | None = None
    keepalive: list[KeepAlive] = []
    odd: list[Odd] = []
    skipped: list[str] = []


def chosen(limiters: Iterable[Limiter], names: Sequence[str]) -> list[Limiter]:
    """Those whose name has one of these texts in it; all of them without any."""
    return [limiter for limiter in limiters if not names or any(name in limiter.name for name in names)]


async def staggered(runs: Sequence[Coroutine[Any, Any, T]], gap: float) -> list[T]:
    """Start one after another, so that no start disturbs another; they go on at the same time."""

    async def later(number: int, run: Coroutine[Any, Any, T]) -> T:
        await asyncio.sleep(number * gap)
        return await run

    return await asyncio.gather(*(later(number, run) for number, run in enumerate(runs)))


async def measure(given: argparse.Namespace, servers: Servers) -> Report:
    """Run the parts: those that mostly wait at the same time, then those that depend on moments."""
    parts, report = set(given.parts or PARTS), Report()
    report.skipped = [f"{name}: {hint}" for name, hint in servers.missing.items()]
    limiters = [limiter for limiter in chosen(LIMITERS, given.only) if servers.can_run(limiter)]
    outages = outage_cases(given) if "outage" in parts and not {"nginx", "node"} & servers.missing.keys() else []
    if parts & {"calls", "bursts", "another"} or outages:
        await servers.start_limiters(
            [*(limiters if parts & {"calls", "bursts", "another"} else []), *([BEHIND, BEHIND_MINUTE] if outages else [])]
        )
    watch = Watch()
    calls = [(limiter, mode) for limiter in limiters for mode in given.mode] if "calls" in parts else []
    bursts = chosen(limiters, () if given.only else BURSTS) if "bursts" in parts else []
    another = chosen(limiters, () if given.only else ANOTHER) if "another" in parts else []
    no_such_host = [run_no_such_host(watch)] if "outage" in parts else []
    report.calls, report.bursts, report.another, report.outage, hosts = await asyncio.gather(
        staggered([run_calls(servers, limiter, mode, given.calls, given.concurrency) for limiter, mode in calls], 0.4),
        staggered([run_bursts(servers, limiter, 30, given.rounds) for limiter in bursts], 0.7),
        staggered([run_after_another(servers, limiter, 40) for limiter in another], 0.3),
        staggered([run_outage(servers, watch, case) for case in outages], 0.9),
        asyncio.gather(*no_such_host),
    )
    report.no_such_host = hosts[0] if hosts else None
    if parts & {"keepalive", "odd"} and "certificates" not in servers.missing:
        certificates = servers.make_certificates()
        if "keepalive" in parts and "nginx" not in servers.missing:
            ports = {"tls": free_port(), "clear": free_port()}
            await servers.start_nginx("nginx_keepalive.conf", certificates=certificates, **ports)
            report.keepalive = [await run_keep_alive(servers, certificates, ports, case) for case in KEEP_ALIVE_CASES]
        if "odd" in parts and "node" not in servers.missing:
            odd = await servers.start_odd_servers(certificates, ODD_SERVERS)
            report.odd = [await run_odd(servers, certificates, name, port) for name, port in odd.items()]
    return report


def outage_cases(given: argparse.Namespace) -> list[OutageCase]:
    """Short ones; long ones only where asked for."""
    cases = [
        OutageCase(limiter=BEHIND, away=3.0, items=150, concurrency=8),
        OutageCase(limiter=BEHIND, away=3.0, items=150, concurrency=64),
        OutageCase(limiter=BEHIND, away=10.0, items=150, concurrency=64),
        OutageCase(limiter=BEHIND, away=3.0, items=150, concurrency=8, broken=True),
        OutageCase(limiter=BEHIND, away=10.0, items=150, concurrency=64, broken=True),
    ]
    if given.long:
        cases += [
            OutageCase(limiter=BEHIND, away=3.0, items=1000, concurrency=8),
            OutageCase(limiter=BEHIND, away=3.0, items=1000, concurrency=64),
            OutageCase(limiter=BEHIND_MINUTE, away=10.0, items=200, concurrency=8),
            OutageCase(limiter=BEHIND_MINUTE, away=10.0, items=200, concurrency=64),
        ]
    return cases


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its first column aligned to the left."""
    cells = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in cells
    ]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def calls_cells(row: Calls) -> tuple[str, ...]:
    return (
        row.limiter,
        row.mode,
        str(row.ok),
        str(row.requests),
        str(row.refused),
        f"{row.seconds:.1f}",
        f"{row.ideal:.1f}",
        f"{100 * row.share:.0f} %",
    )


def listed(errors: dict[str, int]) -> str:
    return "; ".join(f"{count} {error}" for error, count in errors.items())


def show(report: Report) -> None:
    """Print the results."""
    for name, rows in (("calls", report.calls), ("another", report.another)):
        if rows:
            print(f"\n{PARTS[name]}\n")
            head = ("limiter", "mode", "ok", "requests", "refused", "seconds", "ideal", "share")
            print(table(head, [calls_cells(row) for row in rows]))
            for row in rows:
                if row.errors:
                    print(f"{row.limiter}, {row.mode}: {listed(row.errors)}")
    if report.bursts:
        print(f"\n{PARTS['bursts']}\n")
        rounds = range(len(report.bursts[0].rounds))
        head = ("limiter", "ok", *(f"{what} {number + 1}" for what in ("refused", "seconds") for number in rounds))
        print(
            table(
                head,
                [
                    (
                        row.limiter,
                        str(sum(each.ok for each in row.rounds)),
                        *(str(each.refused) for each in row.rounds),
                        *(f"{each.seconds:.1f}" for each in row.rounds),
                    )
                    for row in report.bursts
                ],
            )
        )
    if report.outage:
        print(f"\n{PARTS['outage']}\n")
        head = ("away", "window", "items", "at a time", "ok", "attempts meanwhile", "429s", "seconds", "lost")
        print(
            table(
                head,
                [
                    (
                        f"{row.away:g} s, 502" if row.broken else f"{row.away:g} s",
                        f"{row.window:g} s",
                        str(row.items),
                        str(row.concurrency),
                        str(row.ok),
                        str(row.attempts),
                        str(row.refused),
                        f"{row.seconds:.1f}",
                        f"{row.lost:.1f}",
                    )
                    for row in report.outage
                ],
            )
        )
        for row in report.outage:
            if row.errors:
                print(f"{row.away:g} s, {row.items}, {row.concurrency} at a time: {listed(row.errors)}")
    if (host := report.no_such_host) is not None:
        print("\na name that no host has\n")
        print(f"direct call: {host.direct_seconds:.1f} s, {host.direct_attempts} attempts: {host.direct_error}")
        print(
            f"batch, {host.batch_seconds:.0f} s of it: {host.batch_items} items taken, {host.batch_failed} failed, "
            f"{host.batch_lookups} look-ups; it ended with: {host.batch_error}"
        )
    if report.keepalive:
        print(f"\n{PARTS['keepalive']}\n")
        head = ("case", "calls", "ok", "requests", "received twice", "slowest")
        print(
            table(
                head,
                [
                    (
                        row.name,
                        str(row.calls),
                        str(row.ok),
                        str(row.requests),
                        str(row.repeated),
                        f"{row.slowest_ms:.0f} ms",
                    )
                    for row in report.keepalive
                ],
            )
        )
        for row in report.keepalive:
            if row.errors:
                print(f"{row.name}: {listed(row.errors)}")
    if report.odd:
        print(f"\n{PARTS['odd']}\n")
        print(table(("server", "requests"), [(row.name, str(row.requests)) for row in report.odd]))
        for row in report.odd:
            print(f"{row.name}: {' '.join(row.outcome.split())}")
    for hint in report.skipped:
        print(f"Skipped what needs {hint}")


async def main(given: argparse.Namespace) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with Servers(Path(folder)) as servers:
            report = await measure(given, servers)
    show(report)
    print(f"Took {time.monotonic() - began:.0f} s")
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    sys.stdout.flush()


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks.real")
    options.add_argument("parts", nargs="*", help=f"what to run, of: {', '.join(PARTS)}; all without one")
    options.add_argument("--only", action="append", default=[], metavar="TEXT", help="limiters with this in their name")
    options.add_argument("--mode", action="append", choices=("gather", "batch"), help="how calls are made; both without")
    options.add_argument("--calls", type=int, default=150, help="calls against each limiter")
    options.add_argument("--concurrency", type=int, default=64, help="calls in flight")
    options.add_argument("--rounds", type=int, default=3, help="bursts")
    options.add_argument("--long", action="store_true", help="also batches of 1000 items, and real minutes: seven minutes")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    given = options.parse_args()
    given.mode = given.mode or ["gather", "batch"]
    asyncio.run(main(given))
