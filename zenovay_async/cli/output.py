"""Results in the format that a command asks for."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias, cast

import msgspec

from zenovay_async import ConfigurationError, Usage
from zenovay_async._protocol.json_text import encode_json
from zenovay_async._tables.layout import KEY_NAME, WEBSITE_ID, Row, layout_of, unique_name
from zenovay_async.cli.csv_lines import CsvLines
from zenovay_async.cli.json_encoding import encode_json_for
from zenovay_async.cli.parquet_file import ParquetFile
from zenovay_async.cli.table import Rows, UsageSummary
from zenovay_async.cli.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

Format: TypeAlias = Literal["table", "json", "ndjson", "csv", "sqlite", "parquet"]


def plain_values(result: Any) -> Any:
    """A result as values of JSON alone, which every format takes and a journal keeps."""
    return msgspec.json.decode(encode_json(msgspec.to_builtins(result)))


def is_data(kind: Format, result_type: Any) -> bool:
    """Whether a format is for programs; a result without columns has no table, and is JSON in its place."""
    return kind != "table" or layout_of(result_type) is None


def make_writer(
    kind: Format,
    result_type: Any,
    file: IO[str],
    *,
    per_website: bool,
    name: str,
    path: Path | None = None,
    csv_safe: bool = False,
) -> Writer:
    """Make the writer of a format.

    Args:
        kind: The format.
        result_type: Type of the results.
        file: Where to write; a format of bytes writes to its ``buffer``.
        per_website: Whether there is a result for each website, and not a single one.
        name: Name of the operation, such as ``heatmaps.pages``.
        path: The database, for ``sqlite``, which does not write to ``file``.
        csv_safe: Whether to keep spreadsheets from running cells.

    Raises:
        ConfigurationError: The format needs columns, and the results have none; or a file, and there is none; or it has
            no ``csv_safe``; or the file is not one that it can write.
    """
    layout = layout_of(result_type)
    if csv_safe and kind != "csv":
        raise ConfigurationError("--csv-safe: only --format csv has cells to make safe")
    if kind == "sqlite":
        return _open_database(result_type, path, name, per_website=per_website)
    if kind in {"csv", "parquet"}:
        if layout is None:
            raise ConfigurationError(f"--format {kind}: this result has no documented columns; use ndjson or json")
        if kind == "parquet":
            return ParquetFile(result_type, layout, file, per_website=per_website)
        return CsvLines(result_type, layout, file, per_website=per_website, safe=csv_safe)
    if kind == "ndjson":
        return _Lines(file)
    if kind == "json" or layout is None:
        return _Json(file, per_website=per_website)
    return UsageSummary(file) if result_type is Usage else Rows(layout, file)


def _open_database(result_type: Any, path: Path | None, name: str, *, per_website: bool) -> Writer:
    if path is None:
        raise ConfigurationError("--format sqlite: needs -o FILE")
    # Some Pythons are built without SQLite.
    from zenovay_async.cli.sqlite_file import SqliteFile  # noqa: PLC0415 - few runs need it

    return SqliteFile(result_type, path, name, per_website=per_website)


class _Lines(Writer):
    """One JSON object per line and result, as it comes."""

    streams = True

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:
        self._write(_object(website_id, result, key_name))

    def add_failure(self, failure: dict[str, Any]) -> None:
        self._write(failure)

    def _write(self, found: Any) -> None:
        self._file.write(encode_json_for(self._file, found) + "\n")
        self._file.flush()


class _Json(Writer):
    """One JSON array with an object for each website, or the single object."""

    def __init__(self, file: IO[str], *, per_website: bool) -> None:
        self._file = file
        self._per_website = per_website
        self._objects: list[Any] = []

    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:
        self._objects.append(_object(website_id, result, key_name))

    def add_failure(self, failure: dict[str, Any]) -> None:
        self._objects.append(failure)

    def close(self) -> None:
        document = self._objects if self._per_website or not self._objects else self._objects[0]
        self._file.write(msgspec.json.format(encode_json_for(self._file, document), indent=2) + "\n")


def _object(website_id: str, result: Any, key_name: str | None) -> Any:
    plain = msgspec.to_builtins(result)
    given = {name: value for name, value in ((KEY_NAME, key_name), (WEBSITE_ID, website_id)) if value}
    if not given:
        return plain
    fields = cast("Row", plain) if isinstance(plain, dict) else {"data": plain}
    named = given | {name: value for name, value in fields.items() if name not in given}
    for name, value in given.items():
        if name in fields and fields[name] != value:
            named[unique_name(name, named)] = fields[name]
    return named
