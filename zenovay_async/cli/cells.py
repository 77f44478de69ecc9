"""Values as people read them in a table: numbers with separators, times in one zone, text without controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zenovay_async._protocol.json_text import encode_json
from zenovay_async._protocol.text import printable
from zenovay_async.cli.time_zones import read_time

if TYPE_CHECKING:
    from zenovay_async.cli.time_zones import Clock

# Where floats have more digits than they know.
_EXPONENT = 1e16


def show_value(value: Any, clock: Clock | None = None) -> str:
    """A value as the cell of a table; the other formats have the whole of it.

    Args:
        value: The value.
        clock: Shows text that is a time; ``None`` leaves it.
    """
    if isinstance(value, str):
        time = None if clock is None else read_time(value)
        if clock is None or time is None:
            return printable(value)
        try:
            return clock.show(time)
        except OverflowError:
            # The ends of the calendar, in a zone that is beyond them.
            return printable(value)
    if value is None:
        return ""
    if is_number(value):
        # Years and IDs are text, so a number is a quantity. Python writes a float that is greater with an exponent.
        is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXPONENT
        return f"{value:,.0f}" if is_whole else f"{value:,}"
    return printable(encode_json(value))


def is_number(value: Any) -> bool:
    """Whether a value is a number, which truth is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
