"""Results as a table, JSON, NDJSON or CSV."""

from __future__ import annotations

import csv
from typing import IO, Any, Literal, TypeAlias, cast

import msgspec

from zenovay_async import ConfigurationError, Usage
from zenovay_async.cli.table import Rows, UsageSummary
from zenovay_async.cli.writer import Writer
from zenovay_async.tables import Row, Table, table_of

Format: TypeAlias = Literal["table", "json", "ndjson", "csv"]


def make_writer(kind: Format, result_type: Any, file: IO[str], *, per_website: bool) -> Writer:
    """Make the writer of a format.

    Args:
        kind: The format.
        result_type: Type of the results.
        file: Where to write.
        per_website: Whether there is a result for each website, and not a single one.

    Raises:
        ConfigurationError: The format needs columns, and the results have none.
    """
    table = table_of(result_type)
    if kind == "csv":
        if table is None:
            raise ConfigurationError("--format csv: this result has no documented columns; use ndjson or json")
        return _Csv(table, file, per_website=per_website)
    if kind == "ndjson":
        return _Lines(file)
    if kind == "json" or table is None:
        return _Json(file, per_website=per_website)
    return UsageSummary(file) if result_type is Usage else Rows(table, file)


class _Lines(Writer):
    """One JSON object per line and result, as it comes."""

    streams = True

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def add(self, website_id: str, result: Any) -> None:
        self._file.write(msgspec.json.encode(_object(website_id, result)).decode() + "\n")
        self._file.flush()


class _Json(Writer):
    """One JSON array with an object for each website, or the single object."""

    def __init__(self, file: IO[str], *, per_website: bool) -> None:
        self._file = file
        self._per_website = per_website
        self._objects: list[Any] = []

    def add(self, website_id: str, result: Any) -> None:
        self._objects.append(_object(website_id, result))

    def close(self) -> None:
        document = self._objects if self._per_website or not self._objects else self._objects[0]
        self._file.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


class _Csv(Writer):
    """The rows of each result, as it comes, with the ID of its website first; a header line before the first."""

    streams = True

    def __init__(self, table: Table, file: IO[str], *, per_website: bool) -> None:
        self._table = table
        self._file = file
        self._first = ("website_id",) if per_website else ()
        self._writer: csv.DictWriter[str] | None = None

    def add(self, website_id: str, result: Any) -> None:
        rows = self._table.rows_of(result)
        writer = self._writer or self._start(self._table.columns_of(rows))
        writer.writerows({"website_id": website_id, **_flat(row)} for row in rows)
        self._file.flush()

    def close(self) -> None:
        if self._writer is None and self._table.columns:
            self._start(self._table.columns)

    def _start(self, columns: tuple[str, ...]) -> csv.DictWriter[str]:
        # A row may have a website_id of its own, which is the same.
        names = (*self._first, *(column for column in columns if column not in self._first))
        self._writer = csv.DictWriter(self._file, names, extrasaction="ignore", lineterminator="\n")
        self._writer.writeheader()
        return self._writer


def _object(website_id: str, result: Any) -> Any:
    plain = msgspec.to_builtins(result)
    if not website_id:
        return plain
    fields = cast("Row", plain) if isinstance(plain, dict) else {"data": plain}
    return {"website_id": website_id, **fields}


def _flat(row: Row) -> Row:
    """A row for a line of text: booleans as in JSON, and objects as JSON."""
    return {
        name: msgspec.json.encode(value).decode() if isinstance(value, (bool, dict, list)) else value
        for name, value in row.items()
    }
