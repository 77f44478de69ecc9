"""Results as Parquet, by pyarrow: the extra ``parquet``."""

from __future__ import annotations

from datetime import UTC, date, datetime
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

from zenovay_async import ConfigurationError
from zenovay_async._protocol.json_text import encode_json
from zenovay_async._protocol.text import replace_half_surrogates
from zenovay_async._tables.layout import KEY_NAME, WEBSITE_ID, column_types
from zenovay_async.cli.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._tables.layout import ColumnType, Layout, Row

_NEEDS_EXTRA = "--format parquet: needs an extra: pip install 'zenovay-async[parquet]'"

_READ: dict[ColumnType | None, Callable[[str], Any]] = {
    # Readers fail where a time has no year in UTC.
    "time": lambda text: datetime.fromisoformat(text).astimezone(UTC),
    "date": date.fromisoformat,
}


class ParquetFile(Writer):
    """The rows of all results, with the types that are documented, written at the end.

    Args:
        result_type: Type of the results.
        layout: Its layout.
        file: A file with a ``buffer`` for bytes.
        per_website: Whether there is a result for each website, and not a single one.

    Raises:
        ConfigurationError: pyarrow is not installed, or the file takes text alone, as a terminal does.
    """

    def __init__(self, result_type: Any, layout: Layout, file: IO[str], *, per_website: bool) -> None:
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
        columns = {
            replace_half_surrogates(name): self._array([row.get(name) for row in self._rows], kind)
            for name, kind in self._types.items()
        }
        sink = self._arrow.BufferOutputStream()
        self._parquet.write_table(self._arrow.table(columns), sink)
        self._buffer.write(memoryview(sink.getvalue()))
        self._buffer.flush()

    def _array(self, values: list[Any], kind: ColumnType | None) -> Any:
        """A column; as text if a value does not fit the type, or if the values have none in common."""
        try:
            array = self._arrow.array([_typed(value, kind) for value in values], self._type(kind))
        except (ValueError, TypeError, OverflowError):
            return self._arrow.array(map(_text, values), self._arrow.string())
        return array if array.type != self._arrow.null() else array.cast(self._arrow.string())

    def _type(self, kind: ColumnType | None) -> Any:
        arrow = self._arrow
        types = {
            "integer": arrow.int64(),
            "number": arrow.float64(),
            "boolean": arrow.bool_(),
            "time": arrow.timestamp("us", "UTC"),
            "date": arrow.date32(),
        }
        # Arrow infers the type of a column that is not documented.
        return None if kind is None else types.get(kind, arrow.string())


def _typed(value: Any, kind: ColumnType | None) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str) and kind in _READ:
        return _READ[kind](value)
    return _text(value)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return replace_half_surrogates(value) if isinstance(value, str) else encode_json(value)
