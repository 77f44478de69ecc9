"""What the page of benchmarks has of the results: less than is printed, in sums and ranges."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, TypeVar, get_args

from pages import make_table

from .matrix import MINUTE, Load
from .messages import StoreName
from .report import known, percent, seconds_alone, share, slower, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .faults import Row as FaultRow
    from .matrix import Row
    from .people import Row as PeopleRow
    from .people import Start, VisitsRow
    from .report import Report

T = TypeVar("T")
K = TypeVar("K")
_MINUTE = MINUTE[1]
_STORES, _LOADS = get_args(StoreName), get_args(Load)
_STARTS: dict[Start, str] = {"direct calls first": "before", "idle key": "after", "batch alone": "none"}


def page_texts(report: Report) -> dict[str, str]:
    """What the page has of these results, by the names of its blocks."""
    texts: dict[str, str] = {}
    short = [row for row in report.matrix if row.run.setting.window != _MINUTE]
    minute = [row for row in report.matrix if row.run.setting.window == _MINUTE]
    if short:
        texts["processes"] = f"{table_of_processes(short)}\n\n{lost(short)}"
    if minute:
        texts["minute"] = f"{table_of_the_minute(minute)}\n\n{lost(minute)}"
    if people := [row for row in report.people if row.case.window == _MINUTE]:
        texts["beside-a-batch"] = table_of_people(people)
    if report.visits:
        texts["visitors"] = table_of_visits(report.visits)
    if report.faults:
        texts["faults"] = table_of_faults(report.faults)
    return texts


def table_of_processes(rows: Sequence[Row]) -> str:
    alone = seconds_alone(rows)
    return make_table(
        (
            *("processes", "load", "store", "runs", "requests", "429s", "on counters", "of alone", "worst", "spread"),
            *("operations", "worst"),
        ),
        (
            (
                *(*name, str(len(each)), *counts(each)),
                *of_alone(known(slower(row, alone) for row in each)),
                f"{max(row.spread for row in each):.2f} s" if name[1] == "equal" else "",
                *operations(each),
            )
            for name, each in by_who_shares(rows)
        ),
        words=3,
    )


def table_of_the_minute(rows: Sequence[Row]) -> str:
    alone = seconds_alone(rows)
    return make_table(
        (
            *("processes", "load", "store", "requests", "429s", "on counters", "seconds", "of alone, worst", "spread"),
            *("operations", "worst"),
        ),
        (
            (
                *(*name, *counts(each), span([row.seconds for row in each], " s", digits=1)),
                of_alone(known(slower(row, alone) for row in each))[1],
                f"{max(row.spread for row in each):.1f} s" if name[1] == "equal" else "",
                *operations(each),
            )
            for name, each in by_who_shares(rows)
        ),
        words=3,
    )


def counts(rows: Sequence[Row]) -> tuple[str, str, str]:
    """Requests, those that got a 429, and of these those on the sliding counter."""
    return (
        f"{sum(row.requests for row in rows):,}",
        str(sum(row.rate_limited for row in rows)),
        str(sum(row.rate_limited for row in rows if row.run.setting.kind == "counter")),
    )


def operations(rows: Sequence[Row]) -> tuple[str, str]:
    """Operations of the store for each request: median and most."""
    figures = known(row.operations for row in rows)
    return (f"{median(figures):.1f}", f"{max(figures):.1f}") if figures else ("", "")


def lost(rows: Sequence[Row]) -> str:
    groups = {name: sum(row.run.calls - row.ok for row in each) for name, each in by_who_shares(rows)}
    of = [f"{calls} of {name[0]} processes with the store `{name[2]}`" for name, calls in groups.items() if calls]
    return f"Calls without a result: {', '.join(of)}." if of else "All calls got a result."


def table_of_people(rows: Sequence[PeopleRow]) -> str:
    first, later = slice(1), slice(1, None)
    return make_table(
        ("batch in", "store", "direct calls", "first window", "then", "median", "then", "used", "then", "429s"),
        (
            (
                "this process" if row.case.processes == 1 else "another",
                row.case.store,
                _STARTS[row.case.start],
                *(share(row.served[part], row.asked[part]) for part in (first, later)),
                *(wait(row.median_wait[part]) for part in (first, later)),
                *(percent(sum(used) / len(used)) for used in (row.used[first], row.used[later])),
                str(row.rate_limited),
            )
            for row in rows
        ),
        words=3,
    )


def table_of_visits(rows: Sequence[VisitsRow]) -> str:
    timeouts = sorted({row.timeout for row in rows if row.timeout is not None})
    lines: list[tuple[str, ...]] = []
    for store, each in grouped(rows, lambda row: row.store):
        unbound = [row for row in each if row.timeout is None]
        bound = [row for row in each if row.timeout is not None]
        lines.append(
            (
                store,
                str(sum(row.calls for row in unbound)),
                str(sum(row.served for row in unbound)),
                str(sum(row.rate_limited for row in unbound)),
                span([row.seconds for row in unbound], " s", digits=1),
                str(sum(row.rate_limited for row in bound)),
                span([row.served for row in bound], f" of {max((row.calls for row in bound), default=0)}"),
            )
        )
    of = f"429s, timeout {' and '.join(f'{timeout:g}' for timeout in timeouts)} s"
    return make_table(("store", "calls", "served", "429s", "time", of, "served"), lines)


def table_of_faults(rows: Sequence[FaultRow]) -> str:
    return make_table(
        (
            *("fault", "store", "calls", "lost", "429s", "admitted meanwhile", "longest gap"),
            "seconds more than ideal",
        ),
        (
            (
                *name,
                f"{sum(row.calls for row in each):,}",
                str(sum(row.calls - row.ok for row in each)),
                str(sum(row.rate_limited for row in each)),
                span(meanwhile) if any(meanwhile := [row.meanwhile for row in each]) else "",
                f"{max(row.longest_gap for row in each):.1f} s",
                span([row.seconds - row.ideal for row in each], " s", digits=1),
            )
            for name, each in grouped(rows, lambda row: (row.fault, row.store))
        ),
        words=2,
    )


def grouped(rows: Iterable[T], key: Callable[[T], K]) -> list[tuple[K, list[T]]]:
    """Rows by what they have in common, in the order of the first of each."""
    groups: dict[K, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def by_who_shares(rows: Iterable[Row]) -> list[tuple[tuple[str, str, str], list[Row]]]:
    """Rows by processes, load and store: few processes first, and those without a store."""

    def rank(row: Row) -> tuple[int, int, int]:
        return row.run.processes, _LOADS.index(row.run.load), _STORES.index(row.run.store)

    def name(row: Row) -> tuple[str, str, str]:
        return str(row.run.processes), "" if row.run.processes == 1 else row.run.load, row.run.store

    return grouped(sorted(rows, key=rank), name)


def of_alone(times: Sequence[float]) -> tuple[str, str]:
    """The time against that of one process: median and worst."""
    return (f"{100 * median(times):.1f} %", f"{100 * max(times):.1f} %") if times else ("", "")


def span(figures: Iterable[float], unit: str = "", *, digits: int = 0) -> str:
    """The least and the most, such as ``15.3 to 17.3 s``."""
    texts = sorted({f"{figure:.{digits}f}" for figure in figures}, key=float)
    return " to ".join(dict.fromkeys((texts[0], texts[-1]))) + unit
