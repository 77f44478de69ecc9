"""A grid of text: as many columns as a width has room for, each as wide as its values.

The layout of rich takes milliseconds for a row; here rich only writes the styles.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment, Segments
from rich.style import Style

from zenovay_async.cli.blocks import FULL_BAR, bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zenovay_async.cli.streams import OutputConsole

BLOCKS = Style(color="cyan")
"""The style of bars and sparklines."""

_TITLE = Style(bold=True)

# Widths in characters: between columns, of a title that is never cut, and of a bar at least.
_GAP = 2
_LONG_TITLE = 32
_SHORT_BAR = 8


@dataclass
class Column:
    """A column of a grid.

    Attributes:
        title: What is above it.
        cells: The text of each row.
        to_right: Whether the text is at the right, as numbers are.
        is_whole: Whether the cells must not be cut.
        shortest: The width to which they may be cut otherwise.
        is_spare: Whether it is shown only where those before it need not be cut for it.
        styles: The style of each row; empty for none.
        bars: The number of each row that is shown as a bar right of the column, if there is room; empty for none.
    """

    title: str
    cells: list[str]
    to_right: bool = False
    is_whole: bool = False
    shortest: int = 12
    is_spare: bool = False
    styles: Sequence[Style | None] = ()
    bars: Sequence[float] = ()
    natural: int = field(init=False)

    def __post_init__(self) -> None:
        self.natural = max(map(_width, (self.title, *self.cells)))

    @property
    def least(self) -> int:
        """The least width of the column."""
        if self.is_whole:
            # A server may name a column with a sentence.
            return max(map(_width, (self.title[:_LONG_TITLE], *self.cells)))
        return min(self.natural, self.shortest)


def print_grid(console: OutputConsole, columns: Sequence[Column], *, all_columns: bool = False) -> None:
    """Print the first columns, as many as fit, with a line of titles.

    Args:
        console: Where to print.
        columns: The columns.
        all_columns: Whether to print all of them, even if the lines get too long; off a terminal, nothing is cut then.
    """
    room = sys.maxsize if all_columns and not console.file.isatty() else console.width
    if columns:
        print_lines(console, _lines(_fitted(columns, room, all_columns=all_columns)))


def width_of(columns: Sequence[Column]) -> int:
    """The width in which nothing of the columns is cut or left out."""
    return sum(column.natural for column in columns) + _GAP * (len(columns) - 1)


def print_lines(console: OutputConsole, segments: list[Segment]) -> None:
    """Print segments of text as they are."""
    console.print(Segments(segments), end="", crop=False, soft_wrap=True)


def _fitted(columns: Sequence[Column], room: int, *, all_columns: bool) -> list[tuple[Column, int]]:
    """The columns that fit and their widths, bars among them."""
    room += _GAP
    fitting: list[Column] = []
    bars: dict[int, Column] = {}
    for column in columns:
        needed = sum(before.natural - before.least for before in fitting) if column.is_spare else 0
        if fitting and column.least + _GAP + needed > room and not all_columns:
            break
        fitting.append(column)
        room -= column.least + _GAP
        if column.bars and room >= _SHORT_BAR + _GAP:
            bars[len(fitting) - 1] = column
            room -= _SHORT_BAR + _GAP
    fitted: list[tuple[Column, int]] = []
    for column in fitting:
        more = max(0, min(room, column.natural - column.least))
        fitted.append((column, column.least + more))
        room -= more
    for at, column in reversed(bars.items()):
        width = min(FULL_BAR, _SHORT_BAR + max(0, room))
        room -= width - _SHORT_BAR
        most = max(column.bars)
        cells = [bar(value, most, width) for value in column.bars]
        fitted.insert(at + 1, (Column("", cells, is_whole=True, styles=[BLOCKS] * len(cells)), width))
    return fitted


def _lines(fitted: list[tuple[Column, int]]) -> list[Segment]:
    titles = [_set_width(column.title, width, to_right=column.to_right) for column, width in fitted]
    segments = [Segment((" " * _GAP).join(titles).rstrip(), _TITLE), Segment.line()]
    made = [[_set_width(cell, width, to_right=column.to_right) for cell in column.cells] for column, width in fitted]
    if not any(column.styles for column, _ in fitted):
        return segments + [Segment((" " * _GAP).join(cells).rstrip() + "\n") for cells in zip(*made, strict=True)]
    styles = [column.styles or () for column, _ in fitted]
    for cells, row_styles in zip(zip(*made, strict=True), zip_longest(*styles), strict=True):
        last = max((at for at, cell in enumerate(cells) if cell.strip() or _is_filled(row_styles[at])), default=0)
        for at, (cell, style) in enumerate(zip(cells[: last + 1], row_styles, strict=False)):
            gap = " " * _GAP if at else ""
            text = cell.rstrip() if at == last and not _is_filled(style) else cell
            segments += [Segment(gap + text)] if style is None else [Segment(gap), Segment(text, style)]
        segments.append(Segment.line())
    return segments


def _is_filled(style: Style | None) -> bool:
    """Whether blanks of a style are seen."""
    return style is not None and style.bgcolor is not None


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _set_width(text: str, width: int, *, to_right: bool) -> str:
    """A text in a width: filled with blanks, or cut."""
    found = _width(text)
    if found > width:
        return f"{set_cell_size(text, width - 1)}…"
    blanks = " " * (width - found)
    return blanks + text if to_right else text + blanks
