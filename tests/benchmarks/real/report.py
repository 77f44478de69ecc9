# ruff: noqa: T201 - it prints its results
"""Results of all parts: as JSON, and as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from pages import make_table

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


_CALLS = ("limiter", "calls", "ok", "requests", "rejected", "seconds", "ideal", "share")


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
        show_text(PARTS["bursts"], table_of_bursts(report.bursts))
    if report.another:
        show_calls(PARTS["another"], report.another)
    if report.outage:
        show_text(PARTS["outage"], table_of_outages(report.outage))
        names = (f"{name_of(row)}, {row.items} items, {row.concurrency} at a time" for row in report.outage)
        show_errors(zip(names, (row.errors for row in report.outage), strict=True))
    if report.no_such_host is not None:
        show_no_such_host(report.no_such_host)
    if report.keepalive:
        show_text(PARTS["keepalive"], table_of_keep_alive(report.keepalive))
        show_errors((row.name, row.errors) for row in report.keepalive)
    if report.odd:
        show_text(PARTS["odd"], table_of_odd(report.odd))
        for row in report.odd:
            print(f"{row.name}: {one_line(row.outcome)}")
    for hint in report.skipped:
        print(f"Skipped what needs {hint}")


def show_calls(title: str, rows: Sequence[Calls]) -> None:
    """Print a table of calls, with how they were made."""
    lines = (cells_of_calls(row) for row in rows)
    head = (_CALLS[0], "made with", *_CALLS[1:])
    show_text(title, make_table(head, ((each[0], row.mode, *each[1:]) for row, each in zip(rows, lines, strict=True))))
    show_errors((f"{row.limiter}, {row.mode}", row.errors) for row in rows)


def table_of_bursts(rows: Sequence[Bursts]) -> str:
    numbers = range(1, len(rows[0].rounds) + 1)
    return make_table(
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


def table_of_outages(rows: Sequence[Outage]) -> str:
    return make_table(
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


def name_of(row: Outage) -> str:
    return f"{row.away:g} s, 502" if row.broken else f"{row.away:g} s"


def show_no_such_host(host: NoSuchHost) -> None:
    print(f"\nNo such host: a direct call fails after {host.direct_seconds:.1f} s and {host.direct_attempts} attempts:")
    print(f"  {one_line(host.direct_error)}")
    print(
        f"A batch takes {host.batch_items} items in {host.batch_seconds:.0f} s, with {host.batch_lookups} look-ups; "
        f"{host.batch_failed} items fail; the batch's own error:\n  {one_line(host.batch_error)}"
    )


def table_of_keep_alive(rows: Sequence[KeepAlive]) -> str:
    return make_table(
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


def table_of_odd(rows: Sequence[Odd]) -> str:
    return make_table(("server", "requests"), ((row.name, str(row.requests)) for row in rows))


def page_texts(report: Report) -> dict[str, str]:
    """What the page has of these results, by the names of its blocks: of calls, those in a batch."""
    texts: dict[str, str] = {}
    if calls := [row for row in report.calls if row.mode == "batch"]:
        texts["calls"] = make_table(_CALLS, map(cells_of_calls, calls))
    if report.bursts:
        texts["bursts"] = table_of_bursts(report.bursts)
    if report.another:
        texts["another"] = make_table(_CALLS, map(cells_of_calls, report.another))
    if report.outage:
        texts["outage"] = table_of_outages(report.outage)
    if (host := report.no_such_host) is not None:
        texts["no-such-host"] = (
            f"With a name that no host has, a direct call failed after {host.direct_seconds:.1f} s and "
            f"{host.direct_attempts} attempts. A batch ended after {host.batch_seconds:.0f} s and {host.batch_lookups} "
            f"look-ups; it had begun {host.batch_items} items, of which {host.batch_failed} failed by themselves."
        )
    if report.keepalive:
        texts["keepalive"] = table_of_keep_alive(report.keepalive)
    if report.odd:
        texts["odd"] = table_of_odd(report.odd)
    return texts


def cells_of_calls(row: Calls) -> tuple[str, ...]:
    return (
        *(row.limiter, str(row.calls), str(row.ok), str(row.requests), str(row.rejected)),
        *(f"{row.seconds:.1f}", f"{row.ideal:.1f}", f"{100 * row.share:.0f} %"),
    )


def show_text(title: str, text: str) -> None:
    print(f"\n{title}\n\n{text}")


def show_errors(rows: Iterable[tuple[str, dict[str, int]]]) -> None:
    for name, errors in rows:
        if errors:
            print(f"{name}: {'; '.join(f'{count} x {one_line(error)}' for error, count in errors.items())}")


def one_line(text: str) -> str:
    return " ".join(text.split())
