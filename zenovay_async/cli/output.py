"""Results as a table, JSON, NDJSON or CSV."""

from __future__ import annotations

from typing import IO, Any, Literal, TypeAlias, cast

import msgspec

from zenovay_async import ConfigurationError, Usage
from zenovay_async.cli.csv_lines import CsvLines
from zenovay_async.cli.json_encoding import encode_json_for
from zenovay_async.cli.table import Rows, UsageSummary
from zenovay_async.cli.writer import Writer
from zenovay_async.tables import WEBSITE_ID, Row, table_of, unique_name

Format: TypeAlias = Literal["table", "json", "ndjson", "csv"]


def is_data(kind: Format, result_type: Any) -> bool:
    """Whether a format is for programs; a result without columns has no table, and is JSON in its place."""
    return kind != "table" or table_of(result_type) is None


def make_writer(kind: Format, result_type: Any, file: IO[str], *, per_website: bool, csv_safe: bool = False) -> Writer:
    """Make the writer of a format.

    Args:
        kind: The format.
        result_type: Type of the results.
        file: Where to write.
        per_website: Whether there is a result for each website, and not a single one.
        csv_safe: Whether to keep spreadsheets from running cells.

    Raises:
        ConfigurationError: The format needs columns, and the results have none; or it has no ``csv_safe``.
    """
    table = table_of(result_type)
    if csv_safe and kind != "csv":
        raise ConfigurationError("--csv-safe: only --format csv has cells to make safe")
    if kind == "csv":
        if table is None:
            raise ConfigurationError("--format csv: this result has no documented columns; use ndjson or json")
        return CsvLines(table, file, per_website=per_website, safe=csv_safe)
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
        self._file.write(encode_json_for(self._file, _object(website_id, result)) + "\n")
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
        self._file.write(msgspec.json.format(encode_json_for(self._file, document), indent=2) + "\n")


def _object(website_id: str, result: Any) -> Any:
    plain = msgspec.to_builtins(result)
    if not website_id:
        return plain
    fields = cast("Row", plain) if isinstance(plain, dict) else {"data": plain}
    own = fields.get(WEBSITE_ID, website_id)
    named = {WEBSITE_ID: website_id} | {name: value for name, value in fields.items() if name != WEBSITE_ID}
    return named if own == website_id else {**named, unique_name(WEBSITE_ID, named): own}
