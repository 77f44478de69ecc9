"""What of the results is shown, and how: ``--columns``, ``--sort``, ``--tz``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from zenovay_async import ConfigurationError
from zenovay_async._protocol.json_text import encode_json
from zenovay_async._protocol.text import one_line
from zenovay_async._tables.display import is_number
from zenovay_async._tables.layout import KEY_NAME, WEBSITE_ID, has_extra_columns, is_extra, layout_of
from zenovay_async.cli.time_zones import find_zone, read_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from zenovay_async._tables.layout import Layout, Row
    from zenovay_async.cli.writer import Format

DOMAIN = "domain"
"""The column of tables for the domain of a row's website."""

LAST_UPDATED = "last_updated"
"""The column of times of which a line for each website has the latest."""

_HAVE_COLUMNS = ("table", "csv", "parquet", "sqlite")
_CAN_SORT = ("table", "csv", "parquet")
# Other columns are named in a message up to this number.
_NAMED = 30


@dataclass(frozen=True)
class View:
    """What of the results to show, and how.

    Attributes:
        columns: Names of the columns, in this order; empty for those that a format has by itself.
        sort: The column that the rows are sorted by; ``None`` for the order in which they come.
        descending: Whether the greatest comes first.
        zone: The time zone of tables; ``None`` is that of the machine.
    """

    columns: tuple[str, ...] = ()
    sort: str | None = None
    descending: bool = False
    zone: tzinfo | None = UTC

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are named."""
        return self.columns if self.sort is None else (*self.columns, self.sort)

    def sorted(self, rows: list[Row]) -> list[Row]:
        """The rows in their order; those without a value come last."""
        if self.sort is None:
            return rows
        name = self.sort
        known = [row for row in rows if row.get(name) is not None]
        known.sort(key=partial(_rank, name=name), reverse=self.descending)
        return known + [row for row in rows if row.get(name) is None]

    def fitted(self, columns: Collection[str]) -> tuple[View, ConfigurationError | None]:
        """This view if results have all columns that are named, else one of all columns and the error.

        What was paid for is not lost with a name that is misspelled.

        Args:
            columns: The columns that the results have.
        """
        name = next((name for name in self.names if name not in columns), None)
        if name is None:
            return self, None
        unknown = f"{_option(name, self.sort)}: no result has this column"
        return View(zone=self.zone), ConfigurationError(unknown + _expected(name, columns))


def make_view(
    kind: Format,
    result_type: Any,
    *,
    per_website: bool,
    columns: str | None = None,
    sort: str | None = None,
    tz: str | None = None,
) -> View:
    """Make the view of a command's options.

    Args:
        kind: The format.
        result_type: Type of the results.
        per_website: Whether there is a result for each website, and not a single one.
        columns: Names, separated by commas.
        sort: A name; with a leading ``-``, the greatest comes first.
        tz: Name of a time zone.

    Raises:
        ConfigurationError: The format has no such thing, or there is no column or no time zone of the name.
    """
    layout = layout_of(result_type)
    _check_format(kind, columns, sort, tz)
    view = View(
        () if columns is None else _names(columns),
        None if sort is None else sort.removeprefix("-"),
        sort is not None and sort.startswith("-"),
        UTC if tz is None else find_zone(tz),
    )
    if view.sort == "":
        raise ConfigurationError(f"--sort {sort!r}: expected the name of a column")
    if layout is None:
        for option, value in (("columns", columns), ("sort", sort), ("tz", tz)):
            if value is not None:
                raise ConfigurationError(f"--{option}: this result has no documented columns; use ndjson or json")
        return view
    of_rows = row_names(layout, kind, per_website=per_website)
    of_lines = line_names(layout) if kind == "table" and per_website else ()
    for name in view.names:
        if name not in (*of_rows, *of_lines) and not _may_come(name, result_type, layout):
            raise ConfigurationError(
                f"{_option(name, view.sort)}: unknown column{_expected(name, dict.fromkeys((*of_rows, *of_lines)))}"
            )
    only_rows = [name for name in view.names if name not in of_lines]
    only_lines = [name for name in view.names if name in of_lines and name not in of_rows]
    if only_rows and only_lines and layout.own_columns is None:
        raise ConfigurationError(
            f"--columns, --sort: {only_rows[0]} is a column of rows, {only_lines[0]} one of a line for each website; "
            "expected columns of one of them"
        )
    return view


def row_names(layout: Layout, kind: Format, *, per_website: bool) -> tuple[str, ...]:
    """The columns that rows have: those of the website and the documented ones."""
    if not per_website:
        return layout.columns
    named = (KEY_NAME, DOMAIN, WEBSITE_ID) if kind == "table" else (KEY_NAME, WEBSITE_ID)
    return tuple(dict.fromkeys((*named, *layout.columns)))


def line_names(layout: Layout) -> tuple[str, ...]:
    """The columns of a table with a line for each website; none of rows that are websites."""
    if layout.noun is None:
        return ()
    names = [KEY_NAME, DOMAIN, WEBSITE_ID, count_name(layout)]
    if layout.measure is not None:
        names.append(layout.measure)
    if layout.label is not None:
        names.append(top_name(layout))
    if LAST_UPDATED in layout.columns:
        names.append(LAST_UPDATED)
    return tuple(names)


def count_name(layout: Layout) -> str:
    """The column of a line that has the number of rows."""
    return (layout.noun or "rows").replace(" ", "_")


def top_name(layout: Layout) -> str:
    """The column of a line that names the row which comes first."""
    return f"newest_{layout.label}" if layout.measure is None else f"top_{layout.label}"


def _check_format(kind: Format, columns: str | None, sort: str | None, tz: str | None) -> None:
    if columns is not None and kind not in _HAVE_COLUMNS:
        raise ConfigurationError(f"--columns: --format {kind} has no columns; expected {_any_of(_HAVE_COLUMNS)}")
    if sort is not None and kind not in _CAN_SORT:
        raise ConfigurationError(f"--sort: --format {kind} is not sorted; expected {_any_of(_CAN_SORT)}")
    if tz is not None and kind != "table":
        raise ConfigurationError(
            f"--tz: --format {kind} has times as the API sends them, with their zone; only tables show another"
        )


def _any_of(formats: Sequence[str]) -> str:
    return f"{', '.join(formats[:-1])} or {formats[-1]}"


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ConfigurationError(f"--columns {text!r}: expected names separated by commas")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigurationError(f"--columns: {twice} is there twice; expected each name once")
    return names


def _may_come(name: str, result_type: Any, layout: Layout) -> bool:
    """Whether a column that is not documented may be in a result."""
    return layout.own_columns is not None or (has_extra_columns(result_type) and is_extra(name))


def _option(name: str, sort: str | None) -> str:
    return f"--sort {name}" if name == sort else f"--columns {name}"


def _expected(name: str, known: Iterable[str]) -> str:
    """The columns that there are, one of which may be meant."""
    # Those of results are text of strangers.
    names = [one_line(column) for column in known]
    near = get_close_matches(name.casefold().replace("-", "_").replace(" ", "_"), names, 1)
    hint = f"; did you mean {near[0]}?" if near else "."
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{hint} The columns are {', '.join(names[:_NAMED])}{more}"


def _rank(row: Row, *, name: str) -> tuple[int, Any]:
    """What rows are compared by: numbers come before times, and these before text, whose case matters least."""
    value = row[name]
    if isinstance(value, bool) or is_number(value):
        return 0, value
    time = read_time(value)
    if time is not None:
        return 1, _instant(time)
    text = value if isinstance(value, str) else encode_json(value)
    return 2, (text.casefold(), text)


def _instant(time: datetime) -> float:
    """Seconds since year 1 in UTC, also of times that have no year there."""
    offset = time.utcoffset()
    naive = (time.replace(tzinfo=None) - datetime.min).total_seconds()  # noqa: DTZ901 - the calendar itself
    return naive - (0 if offset is None else offset.total_seconds())
