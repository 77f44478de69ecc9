"""Results in the format that a command asks for."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, cast

import msgspec

from zenovay_async import ConfigurationError, Usage
from zenovay_async._protocol.json_text import encode_json
from zenovay_async._tables.layout import KEY_NAME, WEBSITE_ID, Row, layout_of, unique_names
from zenovay_async.cli.csv_lines import CsvLines
from zenovay_async.cli.json_encoding import encode_json_for
from zenovay_async.cli.parquet_file import ParquetFile
from zenovay_async.cli.table import ResultTable
from zenovay_async.cli.time_zones import Clock
from zenovay_async.cli.usage_summary import UsageSummary
from zenovay_async.cli.view import View
from zenovay_async.cli.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from zenovay_async._tables.layout import Layout
    from zenovay_async.cli.writer import Format

_EVERYTHING = View()


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
    view: View = _EVERYTHING,
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
        view: The columns, their order, and the time zone.

    Raises:
        ConfigurationError: The format needs columns, and the results have none; or a file, and there is none; or it has
            no ``csv_safe``; or the file is not one that it can write.
    """
    layout = layout_of(result_type)
    if csv_safe and kind != "csv":
        raise ConfigurationError("--csv-safe: only --format csv has cells to make safe")
    if kind in {"json", "ndjson"} or (kind == "table" and layout is None):
        return _make_json(kind, layout, file, per_website=per_website)
    if kind == "sqlite":
        return _open_database(result_type, path, name, view, per_website=per_website)
    if layout is None:
        raise ConfigurationError(f"--format {kind}: this result has no documented columns; use ndjson or json")
    if kind == "parquet":
        return ParquetFile(result_type, layout, file, view, per_website=per_website)
    if kind == "csv":
        return CsvLines(result_type, layout, file, view, per_website=per_website, safe=csv_safe)
    return _make_table(result_type, layout, file, view, per_website=per_website)


def _make_json(kind: Format, layout: Layout | None, file: IO[str], *, per_website: bool) -> Writer:
    if kind != "ndjson":
        return _Json(file, per_website=per_website)
    items = None if per_website or layout is None else layout.rows
    return _Lines(file, items if isinstance(items, str) else None)


def _make_table(result_type: Any, layout: Layout, file: IO[str], view: View, *, per_website: bool) -> Writer:
    if result_type is Usage and not view.names:
        return UsageSummary(file, Clock(view.zone))
    return ResultTable(result_type, layout, file, view, per_website=per_website)


def _open_database(result_type: Any, path: Path | None, name: str, view: View, *, per_website: bool) -> Writer:
    if path is None:
        raise ConfigurationError("--format sqlite: needs -o FILE")
    # Some Pythons are built without SQLite.
    from zenovay_async.cli.sqlite_file import SqliteFile  # noqa: PLC0415 - few runs need it

    return SqliteFile(result_type, path, name, view, per_website=per_website)


class _Lines(Writer):
    """One JSON object per line and result, as it comes; for a single result that is a list, per item.

    Args:
        file: Where to write.
        items: The field of a single result that lists its items; ``None`` if each result is a line.
    """

    streams = True

    def __init__(self, file: IO[str], items: str | None) -> None:
        self._file = file
        self._items = items

    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:
        found = _object(website_id, result, key_name)
        for line in [found] if self._items is None else found[self._items]:
            self._write(line)

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
    given = {name: value for name, value in ((KEY_NAME, key_name), (WEBSITE_ID, website_id)) if value}
    if not given:
        return result
    fields = cast("Row", result) if isinstance(result, dict) else {"data": result}
    named = given | {name: value for name, value in fields.items() if name not in given}
    for name, value in given.items():
        if name in fields and fields[name] != value:
            *_, free = unique_names((*named, name))
            named[free] = fields[name]
    return named
