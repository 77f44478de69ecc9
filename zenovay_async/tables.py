"""Results as rows and columns, for frames, notebooks and whatever else takes a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from zenovay_async._tables.arrow import arrow_stream
from zenovay_async._tables.display import MAX_ROWS, describe, html_of
from zenovay_async._tables.layout import Layout, Row, column_types, in_utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zenovay_async._tables.layout import ColumnType, Rows

__all__ = ["Row", "Table"]

_MAX_WHOLE_ROWS, _MAX_WHOLE_CHARS = 3, 2000


class Table:
    """A result that is a list: its rows, its columns, and a frame of them.

    ``polars.DataFrame(report)``, ``pyarrow.table(report)``, ``pandas.DataFrame.from_arrow(report)`` and
    ``duckdb.sql("from report")`` have the documented types, also of an empty result. Iterating yields the rows, as
    ``pandas.DataFrame(report)`` reads them. The items themselves are in the attribute that lists them, such as
    ``report.pages``.

    A column for each field, the most useful first; those of nested objects have dotted names. Undocumented fields, such
    as ``extra.bounce_rate``, are the last columns of a result that has any. Times are aware, in UTC.

    One without rows is false, as an empty list is. ``repr`` shows one of up to 3 rows as any object, cut at 2,000
    characters, and of a longer one the number of its rows, and the first; a notebook shows its first 20 rows.
    """

    __slots__ = ()

    _layout: ClassVar[Layout]

    # Rows are not the items: ``page in report`` would be false, though the page is in ``report.pages``.
    __contains__: ClassVar[None] = None

    def __len__(self) -> int:
        return self._layout.count(self)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows())

    def __repr__(self) -> str:
        count = len(self)
        if count <= _MAX_WHOLE_ROWS:
            whole = super().__repr__()
            return whole if len(whole) <= _MAX_WHOLE_CHARS else f"{whole[:_MAX_WHOLE_CHARS]}…"
        return describe(type(self).__name__, self._rows(1), self._layout, count)

    def rows(self) -> list[Row]:
        """Make a dictionary of each row, with a value for every column."""
        return self._rows().rows

    def columns(self) -> dict[str, list[Any]]:
        """Make a list of each column, by its name; also of a result without rows."""
        columns, rows = self._rows()
        return {name: [row[name] for row in rows] for name in columns}

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Make an Arrow stream, by pyarrow, polars or nanoarrow.

        A column with a value that does not fit its type is text.

        Raises:
            ImportError: None of them is installed.
        """
        columns, rows = self._rows()
        documented = self._column_types()
        return arrow_stream({name: documented.get(name) for name in columns}, rows, requested_schema)

    def _repr_html_(self) -> str:
        return html_of(self._rows(MAX_ROWS), self._layout, len(self))

    def _rows(self, limit: int | None = None) -> Rows:
        """The first rows, or all."""
        return in_utc(self._layout.rows_of(self, limit))

    def _column_types(self) -> Mapping[str, ColumnType | None]:
        kind: Any = type(self)
        return column_types(kind)
