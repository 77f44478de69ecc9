"""The results as tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from pages import make_table

from .batches import FEW, Spread
from .cached import EVERY
from .calls import Figure, Table
from .contenders import BARE, CONTENDERS
from .decoding import Decoded
from .imports import BASE, OURS, Import

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Report(msgspec.Struct):
    """All results, as ``--json`` writes them; a part that was not run is empty."""

    python: str
    versions: dict[str, str]
    calls: list[Table] = msgspec.field(default_factory=list[Table])
    cache: list[Table] = msgspec.field(default_factory=list[Table])
    observing: list[Table] = msgspec.field(default_factory=list[Table])
    decoding: list[Decoded] = msgspec.field(default_factory=list[Decoded])
    batches: list[Spread] = msgspec.field(default_factory=list[Spread])
    imports: list[Import] = msgspec.field(default_factory=list[Import])
    left_out: list[str] = msgspec.field(default_factory=list[str])
    seconds: float = 0.0


def text_of(report: Report) -> str:
    """The whole report."""
    parts = [f"Python {report.python}; {_versions(report)}"]
    parts += [_calls(table) for table in [*report.calls, *report.cache, *report.observing]]
    if report.decoding:
        parts += ["Decoding alone", _table_of_decoding(report.decoding)]
    if report.batches:
        title = f"A batch of {report.batches[0].items:,} items that do nothing, 50 at a time"
        parts += [title, _table_of_batches(report.batches)]
    if report.imports:
        parts += ["Imports, without the interpreter's own start", _table_of_imports(report.imports)]
    parts += report.left_out
    parts += list(_summary(report))
    parts.append(f"Took {report.seconds:.0f} s")
    return "\n\n".join(parts)


def page_texts(report: Report) -> dict[str, str]:
    """What the page has of these results, by the names of its blocks."""
    texts = {"versions": _versions(report)}
    first = next((table for table in report.calls if _is_first(table) and not table.cell.heap_as_found), None)
    if first is not None:
        texts["calls"] = _table_of_calls(first)
    if report.calls:
        texts |= {"loads": _table_of_loads(report.calls), "bare": _table_of_bare(report.calls)}
    texts |= guide_texts(report)
    if report.decoding:
        texts["decoding"] = _table_of_decoding(report.decoding)
    if report.batches:
        texts["batch"] = _table_of_batches(report.batches)
    if report.imports:
        texts["import"] = _table_of_imports(report.imports)
    return texts


def guide_texts(report: Report) -> dict[str, str]:
    """What the guide to observability has of these results, by the names of its blocks."""
    return {"observing": _table_of_observing(report.observing[0])} if report.observing else {}


def _table_of_calls(table: Table) -> str:
    return make_table(
        ("client", "CPU µs", "x bare", "calls per s", "p50 µs", "p99 µs", "peak MiB"),
        (
            (
                EVERY[line.contender].title,
                f"{line.cpu.value:.3g}",
                _ratio(line.cpu.ratio, line.cpu.lowest, line.cpu.highest),
                *(f"{figure.value:,.0f}" for figure in (line.rate, line.p50, line.p99, line.peak)),
            )
            for line in table.lines
        ),
    )


def _table_of_observing(table: Table) -> str:
    # From the ratio, which other work on the machine moves less than it does the medians.
    base = next(line.cpu.value for line in table.lines if line.contender == table.base)
    return make_table(
        ("a call with", "CPU µs", "more, µs", "x without"),
        (
            (
                EVERY[line.contender].title,
                f"{line.cpu.value:.0f}",
                "" if line.contender == table.base else f"{base * (line.cpu.ratio - 1):.0f}",
                _ratio(line.cpu.ratio, line.cpu.lowest, line.cpu.highest),
            )
            for line in table.lines
        ),
    )


def _table_of_loads(tables: Sequence[Table]) -> str:
    def ratio(table: Table, contender: str) -> str:
        line = table.of(contender)
        return "" if line is None else f"{line.cpu.ratio:.2f}"

    names = [line.contender for line in tables[0].lines]
    rows = ((EVERY[name].title, *(ratio(table, name) for table in tables)) for name in names)
    return make_table(("client", *map(_load, tables)), rows)


def _table_of_bare(tables: Sequence[Table]) -> str:
    lines = (table.of(BARE) for table in tables)
    figures = ("" if line is None else f"{line.cpu.value:.0f}" for line in lines)
    return make_table(("", *map(_load, tables)), [("bare aiohttp, CPU µs", *figures)])


def _versions(report: Report) -> str:
    return ", ".join(f"{name} {version}" for name, version in report.versions.items())


def _load(table: Table) -> str:
    return f"{table.cell.in_flight} / {table.cell.pages}" + (" found" if table.cell.heap_as_found else "")


def _is_first(table: Table) -> bool:
    """Whether the load is the one that is asked for first."""
    return (table.cell.in_flight, table.cell.pages) == (10, 20)


def _calls(table: Table) -> str:
    cell = table.cell
    heap = ", heap as found" if cell.heap_as_found else ""
    rows = [
        (
            EVERY[line.contender].title,
            *map(_figure, (line.cpu, line.rate, line.p50, line.p99, line.peak)),
        )
        for line in table.lines
    ]
    return (
        f"{cell.in_flight} in flight, {cell.pages} pages{heap}: "
        f"median, and its ratio to {EVERY[table.base].title} with lowest and highest of {cell.rounds * cell.turns} "
        f"rotations; the server used {table.server:.1f} µs per call\n\n"
        + make_table(("client", "CPU µs per call", "calls per s", "p50 µs", "p99 µs", "peak MiB"), rows)
    )


def _table_of_decoding(results: Sequence[Decoded]) -> str:
    rows = [
        (result.way, str(result.pages), f"{result.cpu:.2f}", _ratio(result.ratio, result.lowest, result.highest))
        for result in results
    ]
    return make_table(("way", "pages", "CPU µs", "x msgspec by hand"), rows)


def _table_of_batches(results: Sequence[Spread]) -> str:
    rows = [
        (
            result.pattern,
            f"{result.cpu:.2f} ({result.lowest:.2f} to {result.highest:.2f})",
            f"{result.ratio:.2f}",
            f"{result.peak_few:,.0f}",
            f"{result.peak:,.0f}",
        )
        for result in results
    ]
    heads = ("pattern", "CPU µs per item", "x this SDK", f"peak KiB, {FEW:,} items", f"peak KiB, {results[0].items:,}")
    return make_table(heads, rows)


def _table_of_imports(results: Sequence[Import]) -> str:
    rows = [
        (
            "from zenovay_async import Zenovay" if result.modules == OURS else f"import {result.modules}",
            f"{result.cpu:.0f} ({result.lowest:.0f} to {result.highest:.0f})",
            f"{result.added:+.0f}",
        )
        for result in results
    ]
    return make_table(("", "CPU ms", f"against {BASE}"), rows)


def _summary(report: Report) -> Iterator[str]:
    """What is asked first: this SDK at 10 in flight and 20 pages, against each of the others."""
    for table in report.calls:
        mine = table.of("sdk")
        if mine is None or not _is_first(table):
            continue
        others = [
            f"{mine.cpu.ratio / line.cpu.ratio:.2f} of {CONTENDERS[line.contender].title}"
            for line in table.lines
            if line is not mine
        ]
        heap = " (heap as found)" if table.cell.heap_as_found else ""
        yield f"CPU per call of this SDK, 10 in flight, 20 pages{heap}: {', '.join(others)}"


def _figure(figure: Figure) -> str:
    digits = 1 if figure.value < 1000 else 0
    return f"{figure.value:.{digits}f} x{_ratio(figure.ratio, figure.lowest, figure.highest)}"


def _ratio(ratio: float, lowest: float, highest: float) -> str:
    return f"{ratio:.2f} ({lowest:.2f} to {highest:.2f})"
