"""Rows as Arrow, made by whichever of pyarrow, polars and nanoarrow is installed.

What a value becomes is decided here, so that all three make the same table.

Source: Arrow PyCapsule interface, ``__arrow_c_stream__``.
"""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from zenovay_async._protocol.json_text import encode_json
from zenovay_async._protocol.text import replace_half_surrogates
from zenovay_async._tables.layout import unique_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zenovay_async._tables.layout import ColumnType, Row

Types: TypeAlias = "Mapping[str, ColumnType | None]"
"""The columns and what their values are; ``None`` where that is to be inferred."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT64 = range(-(2**63), 2**63)


class ArrowColumn(NamedTuple):
    """A column whose values are all of its kind: times as microseconds, dates as days, since 1970."""

    name: str
    kind: ColumnType
    values: list[Any]


class _MisfitError(Exception):
    """A value is not of the type of its column."""


def pyarrow_table(types: Types, rows: list[Row]) -> Any:
    """Make a ``pyarrow.Table`` of rows; each value that does not fit its column makes it one of text.

    Args:
        types: The columns.
        rows: The rows; a column that a row lacks is null.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """
    arrow: Any = import_module("pyarrow")
    types_of = {
        "integer": arrow.int64(),
        "number": arrow.float64(),
        "boolean": arrow.bool_(),
        "time": arrow.timestamp("us", "UTC"),
        "date": arrow.date32(),
    }
    columns = arrow_columns(types, rows)
    arrays = [arrow.array(column.values, types_of.get(column.kind, arrow.string())) for column in columns]
    return arrow.table(arrays, names=[column.name for column in columns])


def arrow_stream(types: Types, rows: list[Row], requested_schema: Any = None) -> Any:
    """Make the capsule of an Arrow stream of rows, as :func:`pyarrow_table` makes a table.

    Args:
        types: The columns.
        rows: The rows.
        requested_schema: The capsule of a schema that the caller would like; ``None`` for none.

    Raises:
        ImportError: None of the packages that can make it is installed.
    """
    # One that is in use already costs no import.
    for name in sorted(_MAKERS, key=lambda name: name not in sys.modules):
        try:
            import_module(name)
        except ImportError:
            continue
        table = _MAKERS[name](types, rows)
        if not hasattr(table, "__arrow_c_stream__"):
            # Of an older version.
            continue
        try:
            return table.__arrow_c_stream__(requested_schema)
        except NotImplementedError:
            # The schema is a wish; nanoarrow fulfills none.
            return table.__arrow_c_stream__()
    raise ImportError(
        "A table in Arrow's format needs pyarrow, polars 1.3 or nanoarrow: pip install pyarrow. "
        "Without them, rows() and columns() have the same values"
    )


def _polars_frame(types: Types, rows: list[Row]) -> Any:
    polars: Any = import_module("polars")
    types_of = {
        "integer": (polars.Int64, polars.Int64),
        "number": (polars.Float64, polars.Float64),
        "boolean": (polars.Boolean, polars.Boolean),
        "time": (polars.Int64, polars.Datetime("us", "UTC")),
        "date": (polars.Int32, polars.Date),
    }
    series: list[Any] = []
    for column in arrow_columns(types, rows):
        given, wanted = types_of.get(column.kind, (polars.String, polars.String))
        series.append(polars.Series(column.name, column.values, given).cast(wanted))
    return polars.DataFrame(series)


def _nanoarrow_stream(types: Types, rows: list[Row]) -> Any:
    nanoarrow: Any = import_module("nanoarrow")
    types_of = {
        "integer": nanoarrow.int64(),
        "number": nanoarrow.float64(),
        "boolean": nanoarrow.bool_(),
        "time": nanoarrow.timestamp("us", "UTC"),
        "date": nanoarrow.date32(),
    }
    columns = arrow_columns(types, rows)
    fields = {column.name: types_of.get(column.kind, nanoarrow.string()) for column in columns}
    children = [nanoarrow.c_array(column.values, fields[column.name]) for column in columns]
    table = nanoarrow.c_array_from_buffers(nanoarrow.struct(fields), len(rows), [None], children=children)
    return nanoarrow.c_array_stream(table)


_MAKERS: dict[str, Callable[[Types, list[Row]], Any]] = {
    "pyarrow": pyarrow_table,
    "polars": _polars_frame,
    "nanoarrow": _nanoarrow_stream,
}


def arrow_columns(types: Types, rows: list[Row]) -> list[ArrowColumn]:
    """What values a column has in Arrow, and of which kind; text if its values have none in common."""
    columns: list[ArrowColumn] = []
    for (name, kind), shown in zip(types.items(), unique_names(map(replace_half_surrogates, types)), strict=True):
        values = [row.get(name) for row in rows]
        wanted = kind or _inferred(values)
        try:
            columns.append(ArrowColumn(shown, wanted, _fitted(values, _FITS.get(wanted, _text))))
        except (_MisfitError, ValueError, OverflowError):
            columns.append(ArrowColumn(shown, "text", _fitted(values, _text)))
    return columns


def _fitted(values: list[Any], fit: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else fit(value) for value in values]


def _inferred(values: list[Any]) -> ColumnType:
    kinds: set[Any] = {type(value) for value in values if value is not None}
    found: set[ColumnType] = {_INFERRED.get(kind, "json") for kind in kinds}
    if found == {"integer", "number"}:
        return "number"
    return found.pop() if len(found) == 1 else "text"


_INFERRED: dict[type, ColumnType] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
    datetime: "time",
    date: "date",
}


def _integer(value: Any) -> int:
    if type(value) is int and value in _INT64:
        return value
    raise _MisfitError


def _number(value: Any) -> float:
    if type(value) in {int, float}:
        return float(value)
    raise _MisfitError


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _MisfitError


def _time(value: Any) -> int:
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(time, datetime):
        raise _MisfitError
    # Readers fail where a time has no year in UTC.
    utc = time.astimezone(UTC) if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return (utc - _EPOCH) // _MICROSECOND


def _date(value: Any) -> int:
    day = date.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(day, date) or isinstance(day, datetime):
        raise _MisfitError
    return day.toordinal() - _EPOCH.toordinal()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return replace_half_surrogates(value)
    if isinstance(value, date):
        return value.isoformat()
    try:
        return encode_json(value)
    except (TypeError, ValueError, RecursionError):
        # An item of a batch may be anything.
        return replace_half_surrogates(str(value))


_FITS: dict[ColumnType, Callable[[Any], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "time": _time,
    "date": _date,
}
