"""Layout: the rows and columns of one result type, declared beside its Struct.

The Structs know the types of the columns, so that an empty result has the same columns as any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

import msgspec
from msgspec import inspect as shapes

from zenovay_async._protocol.extra_fields import has_extra_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

WEBSITE_ID = "website_id"
"""The column for the ID of a row's website, which the rows of a table leave free unless they have that ID."""

KEY_NAME = "key_name"
"""The column for the name of the key that requested a row, of a run with several keys; no row has it."""

Row: TypeAlias = dict[str, Any]
"""A row: its values by column."""

ColumnType: TypeAlias = Literal["integer", "number", "boolean", "text", "time", "date", "json"]
"""What the values of a column are, if not ``None``."""


class Rows(NamedTuple):
    """The rows of one result.

    Attributes:
        columns: Names of the columns, the documented ones first.
        rows: The rows; each has a value for every column.
    """

    columns: tuple[str, ...]
    rows: list[Row]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The rows and columns of one result type.

    Nested objects are columns with dotted names, such as ``settings.heatmaps``. Undocumented fields, such as
    ``extra.bounce_rate``, are columns of a result that has any, after the others.

    Attributes:
        rows: The field that lists the rows, or a function that makes them of the result's plain values.
        columns: Names of the documented columns, the most useful first; empty if each result has its own.
        own_columns: A function that names the columns of a result's plain values, where ``columns`` is empty.
        noun: What the rows are, in the plural; ``None`` if a result is a single row.
        measure: The column that ranks rows and is summed; ``None`` for none.
        label: The column that names a row; ``None`` for none.
        shown: Columns that a table for people shows at most; other formats have all.
    """

    rows: str | Callable[[Any], list[Row]]
    columns: tuple[str, ...] = ()
    own_columns: Callable[[Any], tuple[str, ...]] | None = None
    noun: str | None = "rows"
    measure: str | None = None
    label: str | None = None
    shown: int = 6

    def rows_of(self, result: Any, limit: int | None = None) -> Rows:
        """The rows of a result; its times are aware datetimes, those of plain values the text that they are there.

        Args:
            result: A result of the type, or its plain values.
            limit: Rows to make, the first ones; omitted, all. Undocumented columns are those of these rows.
        """
        if isinstance(self.rows, str):
            plain: Any = _plain(_items(result, self.rows)[:limit])
            found: list[Row] = list(plain)
        else:
            plain = _plain(result)
            found = self.rows(plain)[:limit]
        if self.own_columns is not None:
            columns = self.own_columns(plain)
        else:
            found = list(map(_flat, found))
            columns = tuple(dict.fromkeys((*self.columns, *(name for row in found for name in row if is_extra(name)))))
        return Rows(columns, [{name: row.get(name) for name in columns} for row in found])

    def count(self, result: Any) -> int:
        """The number of rows of a result."""
        return len(_items(result, self.rows)) if isinstance(self.rows, str) else len(self.rows(_plain(result)))


def layout_of(result_type: Any) -> Layout | None:
    """The layout of a result type, such as ``HeatmapPages``; ``None`` if it has none."""
    return getattr(result_type, "_layout", None)


@cache
def column_types(result_type: Any) -> dict[str, ColumnType]:
    """The documented columns of a result type and what their values are, as its Structs declare them.

    Args:
        result_type: A type that has a layout.
    """
    layout = cast("Layout", layout_of(result_type))
    declared: dict[str, shapes.Type] = {}
    for name, kind in _fields(_row_type(result_type, layout)):
        declared.setdefault(name, kind)
        # As where the rows are made by a function, which names the columns.
        declared.setdefault(name.rpartition(".")[2], kind)
    return {column: _column_type(declared[column]) for column in layout.columns}


@cache
def has_extra_columns(result_type: Any) -> bool:
    """Whether results of a type with a layout may have columns that are not documented."""
    layout = cast("Layout", layout_of(result_type))
    return layout.own_columns is not None or _has_extra(_row_type(result_type, layout))


def in_utc(rows: Rows) -> Rows:
    """Change the times of rows to UTC, as frames have one zone for all times of a column; returns the same rows."""
    for row in rows.rows:
        for name, value in row.items():
            if isinstance(value, datetime) and value.tzinfo is not UTC:
                row[name] = _as_utc(value)
    return rows


def unique_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The names; one that is taken, or was before, is the first of ``name_2``, ``name_3`` and so on that is not."""
    used = set(taken)
    numbers: dict[str, int] = {}
    found: list[str] = []
    for name in names:
        unique = name
        while unique in used:
            numbers[name] = numbers.get(name, 1) + 1
            unique = f"{name}_{numbers[name]}"
        used.add(unique)
        found.append(unique)
    return found


def _as_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        # It has no year there.
        return time


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, builtin_types=(datetime, date))


def _items(result: Any, field: str) -> Any:
    if isinstance(result, dict):
        return cast("dict[str, Any]", result)[field]
    return getattr(result, field)


def _flat(row: Row) -> Row:
    if not any(isinstance(value, dict) for value in row.values()):
        return row
    pairs = list(_flattened(row))
    flat = dict(pairs)
    if len(flat) < len(pairs):
        # A field "a.b" beside an object "a" with a field "b".
        flat = dict(zip(unique_names(name for name, _ in pairs), [value for _, value in pairs], strict=True))
    return flat


def _flattened(row: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        # An object without fields has no columns, as an ``extra`` that is empty.
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def is_extra(name: str) -> bool:
    """Whether a column is of an undocumented field."""
    return name.startswith("extra.") or ".extra." in name


def _row_type(result_type: Any, layout: Layout) -> shapes.Type:
    root = shapes.type_info(result_type)
    if not isinstance(layout.rows, str):
        return root
    fields = cast("shapes.StructType", root).fields
    return next(field.type for field in fields if field.encode_name == layout.rows)


def _fields(kind: shapes.Type, prefix: str = "") -> Iterator[tuple[str, shapes.Type]]:
    """The fields of a type's Structs, by their names in the API; those of a Struct before those inside them."""
    if isinstance(kind, shapes.StructType):
        yield from ((f"{prefix}{field.encode_name}", field.type) for field in kind.fields)
        for field in kind.fields:
            yield from _fields(field.type, f"{prefix}{field.encode_name}.")
    else:
        for part in _parts(kind):
            yield from _fields(part, prefix)


def _has_extra(kind: shapes.Type) -> bool:
    if isinstance(kind, shapes.StructType):
        return has_extra_fields(kind) or any(_has_extra(field.type) for field in kind.fields)
    return any(map(_has_extra, _parts(kind)))


def _parts(kind: shapes.Type) -> tuple[shapes.Type, ...]:
    """The types that a type is made of, where it is a list or a union."""
    if isinstance(kind, (shapes.VarTupleType, shapes.ListType)):
        return (kind.item_type,)
    return kind.types if isinstance(kind, shapes.UnionType) else ()


def _column_type(kind: shapes.Type) -> ColumnType:
    members = kind.types if isinstance(kind, shapes.UnionType) else (kind,)
    values = [type(member) for member in members if not isinstance(member, shapes.NoneType)]
    found: set[ColumnType] = {_COLUMN_TYPES.get(value, "json") for value in values}
    return found.pop() if len(found) == 1 else "json"


_COLUMN_TYPES: dict[type[shapes.Type], ColumnType] = {
    shapes.IntType: "integer",
    shapes.FloatType: "number",
    shapes.BoolType: "boolean",
    shapes.StrType: "text",
    shapes.DateTimeType: "time",
    shapes.DateType: "date",
}
