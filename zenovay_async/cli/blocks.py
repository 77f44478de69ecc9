"""Numbers as characters: bars, days as a sparkline, shades."""

from __future__ import annotations

import math
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FULL_BAR = 16
"""Width of the longest bar, in characters."""

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEVELS = "▁▂▃▄▅▆▇█"
_SHADES = " ░▒▓█"


def has_blocks(file: IO[str]) -> bool:
    """Whether the encoding of a file has the characters of sparklines and shades; bars do without."""
    # What is in memory has none.
    encoding = getattr(file, "encoding", None) or "utf-8"
    try:
        (_LEVELS + _SHADES).encode(encoding)
    except UnicodeError:
        return False
    return True


def bar(value: float, most: float, width: int = FULL_BAR) -> str:
    """A bar, as long as the value is of the greatest."""
    # Changes and refunds may be negative, all of them even.
    eighths = round(value / most * width * 8) if most > 0 else 0
    full, rest = divmod(max(eighths, 1), 8)
    return "█" * full + _EIGHTHS[rest].strip()


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Values in their order as blocks of eight heights, from zero or the least; a blank for a value that lacks.

    Args:
        values: The values.
        width: Characters at most; of more values, as many as necessary are added up to one.
    """
    size = max(1, math.ceil(len(values) / width))
    groups = [[value for value in values[at : at + size] if value is not None] for at in range(0, len(values), size)]
    totals = [sum(group) if group else None for group in groups]
    known = [total for total in totals if total is not None]
    base = min([0, *known])
    most = max([0, *known]) - base
    return "".join(" " if total is None else _LEVELS[_level(total - base, most)] for total in totals)


def shade(percent: float) -> str:
    """A character that is the darker the greater a share is, 0 to 100."""
    return _SHADES[shade_of(percent)]


def shade_of(percent: float) -> int:
    """How dark the shade of a share is: 0 for none, 4 for all."""
    return math.ceil(min(100, max(0, percent)) / 25)


def _level(value: float, most: float) -> int:
    return round(value / most * (len(_LEVELS) - 1)) if most else 0
