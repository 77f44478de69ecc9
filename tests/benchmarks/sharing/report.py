# ruff: noqa: T201 - it prints its results
"""Results of all parts: as JSON, and as tables."""

from __future__ import annotations

from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

import msgspec
from pages import make_table

from .faults import Row as FaultRow
from .matrix import Row
from .people import Row as PeopleRow
from .people import VisitsRow
from .simulation import Row as SimulatedRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .matrix import Run

# The aim: see docs/benchmarks.md.
_SLOWER, _SPREAD, _COUNTER_429S = 1.03, 1.0, 0.01


class Report(msgspec.Struct, kw_only=True):
    """All results, as ``--json`` writes them; ``skipped`` says why some are missing."""

    matrix: list[Row] = []
    faults: list[FaultRow] = []
    people: list[PeopleRow] = []
    visits: list[VisitsRow] = []
    simulation: list[SimulatedRow] = []
    skipped: list[str] = []


def show(report: Report, *, every_row: bool) -> None:
    """Print the results.

    Args:
        report: The results.
        every_row: Whether to print each run of the matrix, beside the summary.
    """
    if report.matrix:
        if every_row:
            show_matrix(report.matrix)
        show_summary(report.matrix)
        show_misses(report.matrix)
    if report.faults:
        show_faults(report.faults)
    if report.people:
        show_people(report.people)
    if report.visits:
        show_visits(report.visits)
    if report.simulation:
        show_simulation(report.simulation)
    for hint in report.skipped:
        print(f"Skipped: {hint}")


def seconds_alone(rows: Sequence[Row]) -> dict[object, float]:
    """The time of one process without a store, by what is to be done."""
    alone = [row for row in rows if (row.run.processes, row.run.store) == (1, "none")]
    return {(row.run.setting, row.run.calls): row.seconds for row in alone}


def slower(row: Row, alone: dict[object, float]) -> float | None:
    """The time of a run against that of one process alone."""
    seconds = alone.get((row.run.setting, row.run.calls))
    return None if seconds is None else row.seconds / seconds


def show_matrix(rows: Sequence[Row]) -> None:
    alone = seconds_alone(rows)
    show_rows(
        "Calls of several processes on one key",
        (
            "store, processes, load, server, window, latency, Remaining, calls, ok, "
            "requests, 429s, seconds, of alone, spread, operations, late"
        ),
        (
            (
                row.run.store,
                str(row.run.processes),
                row.run.load,
                row.run.setting.kind,
                f"{row.run.setting.window:g} s",
                f"{1000 * row.run.setting.latency:.0f} ms",
                "yes" if row.run.setting.remaining else "no",
                str(row.run.calls),
                str(row.ok),
                str(row.requests),
                str(row.rate_limited),
                f"{row.seconds:.1f}",
                percent(slower(row, alone)),
                f"{row.spread:.2f}",
                "" if row.operations is None else f"{row.operations:.1f}",
                f"{1000 * row.late:.0f} ms",
            )
            for row in rows
        ),
    )


def show_summary(rows: Sequence[Row]) -> None:
    alone = seconds_alone(rows)

    def group(row: Row) -> tuple[str, int, str, float]:
        return row.run.store, row.run.processes, row.run.load, row.run.setting.window

    groups = [(name, list(each)) for name, each in groupby(sorted(rows, key=group), key=group)]
    show_rows(
        "The same, by who shares",
        (
            "store, processes, load, window, runs, requests, 429s, 429s of counters, "
            "of alone, worst, spread, calls lost, operations, worst"
        ),
        (
            (
                *(store, str(processes), load, f"{window:g} s", str(len(each))),
                str(sum(row.requests for row in each)),
                str(sum(row.rate_limited for row in each)),
                str(sum(row.rate_limited for row in each if row.run.setting.kind == "counter")),
                percent(median(times) if (times := known(slower(row, alone) for row in each)) else None),
                percent(max(times, default=None)),
                f"{max(row.spread for row in each):.2f}",
                str(sum(row.run.calls - row.ok for row in each)),
                f"{median(operations):.1f}" if (operations := known(row.operations for row in each)) else "",
                f"{max(operations):.1f}" if operations else "",
            )
            for (store, processes, load, window), each in groups
        ),
    )


def show_misses(rows: Sequence[Row]) -> None:
    """Print which shared runs miss the aim, and by how much."""
    alone, lines = seconds_alone(rows), list[str]()
    shared = [row for row in rows if row.run.store != "none"]
    for row in shared:
        run, missed = row.run, list[str]()
        allowed = _COUNTER_429S * run.calls if run.setting.kind == "counter" else 0
        if row.rate_limited > allowed:
            missed.append(f"{row.rate_limited} 429s")
        if (times := slower(row, alone)) is not None and times > _SLOWER:
            missed.append(f"{percent(times)} of the time alone")
        if run.load == "equal" and row.spread > _SPREAD * run.setting.window / 3:
            missed.append(f"spread {row.spread:.1f} s")
        if row.ok < run.calls:
            missed.append(f"{run.calls - row.ok} calls lost")
        if missed:
            lines.append(f"{name_of(run)}: {', '.join(missed)}; event loops at most {1000 * row.late:.0f} ms late")
    print(f"\n{len(shared) - len(lines)} of {len(shared)} shared runs within the aim", *lines, sep="\n")


def name_of(run: Run) -> str:
    setting = run.setting
    return (
        f"{run.store}, {run.processes} processes, {run.load}, {setting.kind}, {1000 * setting.latency:.0f} ms, "
        f"{'with' if setting.remaining else 'no'} Remaining, {setting.limit} per {setting.window:g} s"
    )


def show_faults(rows: Sequence[FaultRow]) -> None:
    show_rows(
        "Four processes, and what fails",
        (
            "fault, store, server, calls, ok, requests, 429s, "
            "admitted meanwhile, longest gap, rate afterwards, seconds, ideal, events"
        ),
        (
            (
                *(row.fault, row.store, row.kind, str(row.calls), str(row.ok), str(row.requests)),
                *(str(row.rate_limited), str(row.meanwhile), f"{row.longest_gap:.1f} s", percent(row.afterwards)),
                *(f"{row.seconds:.1f}", f"{row.ideal:.1f}"),
                ", ".join(f"{count} {name}" for name, count in row.events.items()),
            )
            for row in rows
        ),
    )
    show_errors([(f"{row.fault}, {row.kind}", row.errors) for row in rows])


def show_people(rows: Sequence[PeopleRow]) -> None:
    show_rows(
        "Direct calls beside a batch without end: first window, and all later ones",
        (
            "batch, store, server, window, Remaining, start, served first, "
            "later, wait first, later, rate first, later, 429s"
        ),
        (
            (
                "same process" if row.case.processes == 1 else "another",
                row.case.store,
                row.case.kind,
                f"{row.case.window:g} s",
                "yes" if row.case.remaining else "no",
                row.case.start,
                *(share(row.served[part], row.asked[part]) for part in (slice(1), slice(1, None))),
                *(wait(row.median_wait[part]) for part in (slice(1), slice(1, None))),
                *(percent(sum(used) / len(used)) for used in (row.used[:1], row.used[1:])),
                str(row.rate_limited),
            )
            for row in rows
        ),
    )
    show_errors([(f"{row.case.store}, {row.case.kind}, {row.case.start}", row.errors) for row in rows])


def show_visits(rows: Sequence[VisitsRow]) -> None:
    show_rows(
        "30 visitors of four processes, three dashboards of two questions each, at once",
        "store, server, timeout, calls, served, requests, 429s, seconds",
        (
            (
                *(row.store, row.kind, "none" if row.timeout is None else f"{row.timeout:g} s", str(row.calls)),
                *(str(row.served), str(row.requests), str(row.rate_limited), f"{row.seconds:.1f}"),
            )
            for row in rows
        ),
    )
    show_errors([(f"{row.store}, {row.kind}, timeout {row.timeout}", row.errors) for row in rows])


def show_simulation(rows: Sequence[SimulatedRow]) -> None:
    show_rows(
        "In virtual time: many members, and how far away their store is",
        (
            "store, members, distance, lost messages, load, server, calls, 429s, "
            "rate used, spread, wait, longest, operations, tries"
        ),
        (
            (
                *(row.case.store, str(row.case.members), f"{1000 * row.case.distance:g} ms", percent(row.case.loss)),
                *(row.case.load, row.case.kind, str(row.calls), str(row.rate_limited), percent(row.used)),
                *(f"{row.spread:.1f} s", f"{row.median_wait:.1f} s", f"{row.longest_wait:.1f} s"),
                *(f"{row.operations:.1f}", str(row.worst_update)),
            )
            for row in rows
        ),
    )


def show_rows(title: str, head: str, rows: Iterable[Sequence[str]]) -> None:
    print(f"\n{title}\n\n{make_table(head.split(', '), rows)}")


def show_errors(rows: Sequence[tuple[str, dict[str, int]]]) -> None:
    for name, errors in rows:
        if errors:
            print(f"{name}: {', '.join(f'{count} {error}' for error, count in errors.items())}")


def known(figures: Iterable[float | None]) -> list[float]:
    return [figure for figure in figures if figure is not None]


def percent(figure: float | None) -> str:
    return "" if figure is None else f"{100 * figure:.0f} %"


def share(served: Sequence[int], asked: Sequence[int]) -> str:
    return f"{sum(served)} of {sum(asked)}" if sum(asked) else ""


def wait(waits: Sequence[float | None]) -> str:
    return f"{median(seconds):.2f} s" if (seconds := known(waits)) else ""
