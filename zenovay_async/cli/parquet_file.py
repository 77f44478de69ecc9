"""Results as Parquet, by pyarrow: the extra ``parquet``."""

from __future__ import annotations

from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

from zenovay_async import ConfigurationError
from zenovay_async._tables.arrow import pyarrow_table
from zenovay_async._tables.layout import KEY_NAME, WEBSITE_ID, column_types
from zenovay_async.cli.writer import Writer

if TYPE_CHECKING:
    from zenovay_async._tables.layout import ColumnType, Layout, Row
    from zenovay_async.cli.view import View

_NEEDS_EXTRA = "--format parquet: needs an extra: pip install 'zenovay-async[parquet]'"


class ParquetFile(Writer):
    """The rows of all results, with the types that are documented, written at the end.

    Args:
        result_type: Type of the results.
        layout: Its layout.
        file: A file with a ``buffer`` for bytes.
        view: The columns and the order of the rows.
        per_website: Whether there is a result for each website, and not a single one.

    Raises:
        ConfigurationError: pyarrow is not installed, or the file takes text alone, as a terminal does.
    """

    def __init__(self, result_type: Any, layout: Layout, file: IO[str], view: View, *, per_website: bool) -> None:
        buffer = None if file.isatty() else getattr(file, "buffer", None)
        if buffer is None:
            raise ConfigurationError("--format parquet: not text, as a terminal shows it; needs -o FILE or a pipe")
        try:
            # It has no types.
            self._arrow: Any = import_module("pyarrow")
            self._parquet: Any = import_module("pyarrow.parquet")
        except ModuleNotFoundError as error:
            raise ConfigurationError(_NEEDS_EXTRA) from error
        self._buffer: IO[bytes] = buffer
        self._layout = layout
        self._view = view
        self._types: dict[str, ColumnType | None] = {WEBSITE_ID: "text"} if per_website else {}
        self._types |= column_types(result_type)
        self._rows: list[Row] = []

    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:
        if key_name is not None and KEY_NAME not in self._types:
            self._types = {KEY_NAME: "text", **self._types}
        columns, rows = self._layout.rows_of(result)
        for column in columns:
            self._types.setdefault(column, None)
        self._rows += [{KEY_NAME: key_name, WEBSITE_ID: website_id, **row} for row in rows]

    def close(self) -> None:
        view, error = self._view, None
        if self._rows:
            view, error = view.fitted({KEY_NAME: None, **self._types})
        # A column of results that did not come has no type.
        types: dict[str, ColumnType | None] = {name: self._types.get(name) for name in view.columns} or self._types
        sink = self._arrow.BufferOutputStream()
        self._parquet.write_table(pyarrow_table(types, view.sorted(self._rows)), sink)
        self._buffer.write(memoryview(sink.getvalue()))
        self._buffer.flush()
        if error is not None:
            raise error
