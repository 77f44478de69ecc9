"""The results as tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .batches import FEW, Spread
from .cached import EVERY
from .calls import Figure, Table
from .contenders import CONTENDERS
from .decoding import Decoded
from .imports import BASE, Import

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Report(msgspec.Struct):
    """All results, as ``--json`` writes them; a part that was not run is empty."""

    python: str
    versions: dict[str, str]
    calls: list[Table] = msgspec.field(default_factory=list[Table])
    cache: list[Table] = msgspec.field(default_factory=list[Table])
    decoding: list[Decoded] = msgspec.field(default_factory=list[Decoded])
    batches: list[Spread] = msgspec.field(default_factory=list[Spread])
    imports: list[Import] = msgspec.field(default_factory=list[Import])
    left_out: list[str] = msgspec.field(default_factory=list[str])
    seconds: float = 0.0


def text_of(report: Report) -> str:
    """The whole report."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    parts = [f"Python {report.python}; {versions}"]
    parts += [_calls(table) for table in [*report.calls, *report.cache]]
    if report.decoding:
        parts.append(_decoding(report.decoding))
    if report.batches:
        parts.append(_batches(report.batches))
    if report.imports:
        parts.append(_imports(report.imports))
    parts += report.left_out
    parts += list(_summary(report))
    parts.append(f"Took {report.seconds:.0f} s")
    return "\n\n".join(parts)


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
        + _table(("client", "CPU µs per call", "calls per s", "p50 µs", "p99 µs", "peak MiB"), rows)
    )


def _decoding(results: Sequence[Decoded]) -> str:
    rows = [
        (result.way, str(result.pages), f"{result.cpu:.2f}", _ratio(result.ratio, result.lowest, result.highest))
        for result in results
    ]
    return "Decoding alone\n\n" + _table(("way", "pages", "CPU µs", "x msgspec by hand"), rows)


def _batches(results: Sequence[Spread]) -> str:
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
    return f"A batch of {results[0].items:,} items that do nothing, 50 at a time\n\n" + _table(heads, rows)


def _imports(results: Sequence[Import]) -> str:
    rows = [
        (
            f"import {result.modules}",
            f"{result.cpu:.0f} ({result.lowest:.0f} to {result.highest:.0f})",
            f"{result.added:+.0f}",
        )
        for result in results
    ]
    return "Imports, without the interpreter's own start\n\n" + _table(("", "CPU ms", f"against {BASE}"), rows)


def _summary(report: Report) -> Iterator[str]:
    """What is asked first: this SDK at 10 in flight and 20 pages, against each of the others."""
    for table in report.calls:
        mine = table.of("sdk")
        if mine is None or (table.cell.in_flight, table.cell.pages) != (10, 20):
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


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])], *rows]
    # Words to the left, figures to the right.
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )
