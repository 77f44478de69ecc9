# ruff: noqa: T201 - it prints its results
"""Results of all parts: as JSON, and as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .network import KeepAlive, NoSuchHost, Odd, Outage
from .runs import Bursts, Calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PARTS = {
    "calls": "Calls against each limiter",
    "bursts": "Calls at once, again and again, each time after two idle windows",
    "another": "A batch after someone else has spent the key's limit",
    "outage": "A batch during which the server goes away, and a name that no host has",
    "keepalive": "Calls on connections that the server closes",
    "odd": "One call to a server whose response is unusual",
}


class Report(msgspec.Struct, kw_only=True):
    """All results, as ``--json`` writes them; ``skipped`` says what to install for the rest."""

    calls: list[Calls] = []
    bursts: list[Bursts] = []
    another: list[Calls] = []
    outage: list[Outage] = []
    no_such_host: NoSuchHost | None = None
    keepalive: list[KeepAlive] = []
    odd: list[Odd] = []
    skipped: list[str] = []


def show(report: Report) -> None:
    """Print the results."""
    if report.calls:
        show_calls(PARTS["calls"], report.calls)
    if report.bursts:
        show_bursts(report.bursts)
    if report.another:
        show_calls(PARTS["another"], report.another)
    if report.outage:
        show_outages(report.outage)
    if report.no_such_host is not None:
        show_no_such_host(report.no_such_host)
    if report.keepalive:
        show_keep_alive(report.keepalive)
    if report.odd:
        show_odd(report.odd)
    for hint in report.skipped:
        print(f"Skipped what needs {hint}")


def show_calls(title: str, rows: Sequence[Calls]) -> None:
    head = ("limiter", "made with", "calls", "ok", "requests", "rejected", "seconds", "ideal", "share")
    show_table(
        title,
        head,
        (
            (
                row.limiter,
                row.mode,
                str(row.calls),
                str(row.ok),
                str(row.requests),
                str(row.rejected),
                f"{row.seconds:.1f}",
                f"{row.ideal:.1f}",
                f"{100 * row.share:.0f} %",
            )
            for row in rows
        ),
    )
    show_errors((f"{row.limiter}, {row.mode}", row.errors) for row in rows)


def show_bursts(rows: Sequence[Bursts]) -> None:
    numbers = range(1, len(rows[0].rounds) + 1)
    show_table(
        PARTS["bursts"],
        ("limiter", "ok", *(f"rejected {n}" for n in numbers), *(f"seconds {n}" for n in numbers)),
        (
            (
                row.limiter,
                f"{sum(burst.ok for burst in row.rounds)} of {len(row.rounds) * row.calls}",
                *(str(burst.rejected) for burst in row.rounds),
                *(f"{burst.seconds:.1f}" for burst in row.rounds),
            )
            for row in rows
        ),
    )


def show_outages(rows: Sequence[Outage]) -> None:
    show_table(
        PARTS["outage"],
        ("away", "window", "items", "at a time", "ok", "tried meanwhile", "429s", "seconds", "lost"),
        (
            (
                name_of(row),
                f"{row.window:g} s",
                str(row.items),
                str(row.concurrency),
                str(row.ok),
                str(row.tried),
                str(row.rejected),
                f"{row.seconds:.1f}",
                f"{row.lost:.1f}" if row.ok == row.items else "",
            )
            for row in rows
        ),
    )
    show_errors((f"{name_of(row)}, {row.items} items, {row.concurrency} at a time", row.errors) for row in rows)


def name_of(row: Outage) -> str:
    return f"{row.away:g} s, 502" if row.broken else f"{row.away:g} s"


def show_no_such_host(host: NoSuchHost) -> None:
    print(f"\nNo such host: a direct call fails after {host.direct_seconds:.1f} s and {host.direct_attempts} attempts:")
    print(f"  {one_line(host.direct_error)}")
    print(
        f"A batch takes {host.batch_items} items in {host.batch_seconds:.0f} s, with {host.batch_lookups} look-ups; "
        f"{host.batch_failed} items fail; the batch's own error:\n  {one_line(host.batch_error)}"
    )


def show_keep_alive(rows: Sequence[KeepAlive]) -> None:
    show_table(
        PARTS["keepalive"],
        ("case", "calls", "ok", "received", "received twice", "slowest"),
        (
            (
                row.name,
                str(row.calls),
                str(row.ok),
                str(row.received),
                str(row.repeated),
                f"{row.slowest_ms:.0f} ms",
            )
            for row in rows
        ),
    )
    show_errors((row.name, row.errors) for row in rows)


def show_odd(rows: Sequence[Odd]) -> None:
    show_table(PARTS["odd"], ("server", "requests"), ((row.name, str(row.requests)) for row in rows))
    for row in rows:
        print(f"{row.name}: {one_line(row.outcome)}")


def show_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown, its first column aligned to the left."""
    cells = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in cells
    ]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    print(f"\n{title}\n", *(f"| {' | '.join(line)} |" for line in lines), sep="\n")


def show_errors(rows: Iterable[tuple[str, dict[str, int]]]) -> None:
    for name, errors in rows:
        if errors:
            print(f"{name}: {'; '.join(f'{count} x {one_line(error)}' for error, count in errors.items())}")


def one_line(text: str) -> str:
    return " ".join(text.split())
