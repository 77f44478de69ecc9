"""Results as rows and columns, for frames, notebooks and whatever else takes a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from zenovay_async._tables.layout import Row

if TYPE_CHECKING:
    from zenovay_async._tables.layout import Layout, Rows

__all__ = ["Row", "Table"]


class Table:
    """A result that is a list: its rows, its columns, and a frame of either.

    It is not a sequence: its items are in the attribute that lists them, such as ``report.pages``.
    """

    __slots__ = ()

    _layout: ClassVar[Layout]

    def __len__(self) -> int:
        return len(self.rows())

    def rows(self) -> list[Row]:
        """Make a dictionary of each row, with a value for every column; times are aware datetimes."""
        return self._rows().rows

    def columns(self) -> dict[str, list[Any]]:
        """Make a list of each column, by its name; also of a result without rows."""
        columns, rows = self._rows()
        return {name: [row[name] for row in rows] for name in columns}

    def _rows(self) -> Rows:
        return self._layout.rows_of(self)
