"""Retention as a grid: a line for each cohort, a shaded cell for each period."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.style import Style

from zenovay_async.cli.blocks import has_blocks, shade, shade_of
from zenovay_async.cli.cells import show_value
from zenovay_async.cli.grid import Column, print_grid, width_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zenovay_async._tables.layout import Layout, Row
    from zenovay_async.cli.streams import OutputConsole

_COHORT, _SIZE, _PERIOD, _RATE = "cohort_date", "total_users", "period_number", "retention_rate"

# Columns before those of the periods.
_FIRST = 2

# From light to dark blue, and text that is readable on each.
_STYLES = (
    None,
    Style(color="color(16)", bgcolor="color(195)"),
    Style(color="color(16)", bgcolor="color(153)"),
    Style(color="color(16)", bgcolor="color(75)"),
    Style(color="color(231)", bgcolor="color(25)"),
)


def are_cohorts(layout: Layout) -> bool:
    """Whether the rows of a layout are cohorts and periods."""
    return {_COHORT, _SIZE, _PERIOD, _RATE} <= set(layout.columns)


def print_cohorts(console: OutputConsole, rows: list[Row]) -> bool:
    """Print rows as a grid; returns whether it could show all that they say."""
    rates = {(row[_COHORT], row[_PERIOD]): row[_RATE] for row in rows}
    if len(rates) < len(rows) or all(rate is None for rate in rates.values()):
        return False
    sizes = {row[_COHORT]: row[_SIZE] for row in rows}
    if any(sizes[row[_COHORT]] != row[_SIZE] for row in rows):
        return False
    has_colors = console.color_system in {"256", "truecolor"} and not console.no_color
    columns = _columns(sizes, rates, digits=1, has_colors=has_colors, has_marks=has_blocks(console.file))
    if width_of(columns) > console.width:
        columns = _columns(sizes, rates, digits=0, has_colors=has_colors, has_marks=False)
    print_grid(console, columns)
    return True


def _columns(
    sizes: Mapping[str, int | None],
    rates: Mapping[tuple[str, int], float | None],
    *,
    digits: int,
    has_colors: bool,
    has_marks: bool,
) -> list[Column]:
    """The columns of the cohorts, and one for each period."""
    columns = [
        Column("cohort", [show_value(cohort) for cohort in sizes], is_whole=True),
        Column("users", [show_value(size) for size in sizes.values()], to_right=True, is_whole=True),
    ]
    for period in sorted({period for _, period in rates}):
        found = [rates.get((cohort, period)) for cohort in sizes]
        cells = [_cell(rate, digits, has_mark=has_marks and not has_colors) for rate in found]
        styles = [None if rate is None else _STYLES[shade_of(rate)] for rate in found] if has_colors else ()
        title = f"period {period}" if len(columns) == _FIRST else str(period)
        columns.append(Column(title, cells, to_right=True, is_whole=True, styles=styles))
    return columns


def _cell(rate: float | None, digits: int, *, has_mark: bool) -> str:
    if rate is None:
        return ""
    text = f"{rate:.{digits}f}%"
    return f"{text} {shade(rate)}" if has_mark else text
