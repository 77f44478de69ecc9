"""Numbers as characters: bars, days as a sparkline, shades."""

from __future__ import annotations

import math
from fractions import Fraction
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
    """A bar, as long as the value is of the greatest; none for zero, and for changes and refunds that are negative."""
    if value <= 0:
        return ""
    full, rest = divmod(max(1, round(value / most * width * 8)), 8)
    return "█" * full + _EIGHTHS[rest].strip()


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Values in their order as blocks of eight heights, from zero or the least; a blank for a value that lacks.

    Args:
        values: The values.
        width: Characters at most; of more values, a character is the mean of as many as necessary.
    """
    size = max(1, math.ceil(len(values) / width))
    groups = [[value for value in values[at : at + size] if value is not None] for at in range(0, len(values), size)]
    # Not the sum, as the last group may be smaller. Exact, as numbers of a server may be too great for a float.
    means = [Fraction(sum(group)) / len(group) if group else None for group in groups]
    known = [mean for mean in means if mean is not None]
    base = min([Fraction(0), *known])
    most = max([Fraction(0), *known]) - base
    return "".join(" " if mean is None else _LEVELS[_level(mean - base, most)] for mean in means)


def shade(percent: float) -> str:
    """A character that is the darker the greater a share is, 0 to 100."""
    return _SHADES[shade_of(percent)]


def shade_of(percent: float) -> int:
    """How dark the shade of a share is: 0 for none, 4 for all."""
    return math.ceil(min(100, max(0, percent)) / 25)


def _level(value: Fraction, most: Fraction) -> int:
    return round(value / most * (len(_LEVELS) - 1)) if most else 0
