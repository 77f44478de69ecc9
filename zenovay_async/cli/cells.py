"""Values as people read them in a table: numbers with separators, times in one zone, text without controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zenovay_async._protocol.json_text import encode_json
from zenovay_async._protocol.text import printable
from zenovay_async._tables.display import is_number, show_number
from zenovay_async.cli.time_zones import read_time

if TYPE_CHECKING:
    from zenovay_async.cli.time_zones import Clock


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
        return show_number(value)
    return printable(encode_json(value))
