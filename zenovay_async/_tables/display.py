"""Tables as notebooks and consoles show them: HTML, and one line.

What is shown was written by strangers, so it is neither markup nor a control character there.
"""

from __future__ import annotations

from datetime import date, datetime
from html import escape
from typing import TYPE_CHECKING, Any

from zenovay_async._protocol.json_text import encode_json
from zenovay_async._protocol.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zenovay_async._tables.layout import Layout, Rows

MAX_ROWS = 20
"""Rows that HTML shows at most."""

_MAX_COLUMNS = 24
# In characters, of a cell and of a label in one line.
_MAX_TEXT, _MAX_LABEL = 100, 40
# In pixels.
_BAR_WIDTH, _BAR_HEIGHT = 60, 8
# Python writes a float that is greater with an exponent.
_EXPONENT = 1e16

# Notebooks have styles of their own for tables, which align everything to the right.
_LEFT = "text-align:left;white-space:nowrap;padding:2px 8px"
_RIGHT = "text-align:right;white-space:nowrap;padding:2px 8px;font-variant-numeric:tabular-nums"


def describe(name: str, rows: Rows, layout: Layout, count: int) -> str:
    """A table in one line: its type, the number of its rows, and the first of them.

    Args:
        name: Name of the type.
        rows: The first row, if there is one.
        layout: Its layout.
        count: The number of all rows.
    """
    facts = [f"{count:,} {layout.noun or 'rows'}"]
    for first in rows.rows[:1]:
        label = layout.label or next(iter(rows.columns), "")
        shown = [_label(first[column]) for column in (label, layout.measure) if column and first[column] is not None]
        facts += [" ".join([*shown, "…"])] if shown else []
    return f"{name}({', '.join(facts)})"


def html_of(rows: Rows, layout: Layout, count: int, notes: Iterable[str] = ()) -> str:
    """A table in HTML: without scripts, links, IDs and colors of its own, so that it suits light and dark pages.

    Args:
        rows: The rows to show.
        layout: The layout of the table; a bar shows its measure.
        count: The number of all rows.
        notes: Sentences to put below.
    """
    noun, columns = layout.noun or "rows", rows.columns[:_MAX_COLUMNS]
    largest = max((_size(row.get(layout.measure or "")) for row in rows.rows), default=0.0)
    # Numbers and their names are aligned alike.
    styles = {name: _RIGHT if any(is_number(row[name]) for row in rows.rows) else _LEFT for name in columns}
    head = "".join(f'<th scope="col" style="{styles[name]}">{_escaped(name)}</th>' for name in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="{styles[name]}">{_escaped(_cell(row[name]))}'
            f"{_bar(row[name], largest) if name == layout.measure else ''}</td>"
            for name in columns
        )
        + "</tr>"
        for row in rows.rows
    )
    below = [f"{noun}: {count:,}" if count else f"no {noun}"]
    if count > len(rows.rows):
        below = [f"{noun}: {len(rows.rows):,} of {count:,} shown"]
    if len(columns) < len(rows.columns):
        below.append(f"{len(rows.columns) - len(columns):,} more columns")
    return (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"{''.join(f'<div>{_escaped(line)}</div>' for line in ('; '.join(below), *notes))}</div>"
    )


def html_note(text: str) -> str:
    """One sentence in HTML."""
    return f"<div>{_escaped(text)}</div>"


def is_number(value: Any) -> bool:
    """Whether a value is a number, which truth is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def show_number(value: float) -> str:
    """A number with separators of thousands."""
    # Years and IDs are text, so a number is a quantity.
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXPONENT
    return f"{value:,.0f}" if is_whole else f"{value:,}"


def _escaped(text: str) -> str:
    cut = text if len(text) <= 2 * _MAX_TEXT else f"{text[: 2 * _MAX_TEXT]}…"
    return escape(printable(cut))


def _bar(value: Any, largest: float) -> str:
    share = _size(value) / largest if largest else 0.0
    return (
        f'<svg role="img" aria-label="{share:.0%} of the largest" width="{_BAR_WIDTH}" height="{_BAR_HEIGHT}" '
        'style="margin-left:8px;vertical-align:middle">'
        f'<rect width="{share * _BAR_WIDTH:.1f}" height="{_BAR_HEIGHT}" fill="currentColor" opacity="0.4"/></svg>'
    )


def _size(value: Any) -> float:
    """The length of a value's bar: none for what is no number, not finite, or negative."""
    try:
        size = float(value) if is_number(value) else 0.0
    except OverflowError:
        return 0.0
    return size if 0 < size < float("inf") else 0.0


def _label(value: Any) -> str:
    is_text = isinstance(value, str)
    text = value if is_text else _cell(value)
    cut = text if len(text) <= _MAX_LABEL else f"{text[:_MAX_LABEL]}…"
    return repr(cut) if is_text else printable(cut)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if is_number(value):
        return show_number(value)
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds").replace("+00:00", " UTC")
    if isinstance(value, date):
        return value.isoformat()
    text = value if isinstance(value, str) else _json(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


def _json(value: Any) -> str:
    try:
        return encode_json(value)
    except (TypeError, ValueError, RecursionError):
        # An item of a batch may be anything.
        return str(value)
