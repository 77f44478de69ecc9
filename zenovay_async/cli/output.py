"""Results as a table, JSON, NDJSON or CSV."""

from __future__ import annotations

import csv
from typing import IO, Any, Literal, TypeAlias, cast

import msgspec

from zenovay_async import ConfigurationError
from zenovay_async.cli.table import Glance, Rows
from zenovay_async.cli.writer import Writer
from zenovay_async.tables import USAGE, Endpoint, Row

Format: TypeAlias = Literal["table", "json", "ndjson", "csv"]


def make_writer(kind: Format, endpoint: Endpoint, file: IO[str]) -> Writer:
    """The writer for a format.

    Raises:
        ConfigurationError: There are no columns for it.
    """
    if kind == "csv":
        if endpoint.rows is None:
            raise ConfigurationError("the shape of this answer is not documented, so it has no columns; use ndjson")
        return _Csv(endpoint, file)
    if kind == "ndjson":
        return _Lines(file)
    if kind == "json" or endpoint.rows is None:
        return _Json(file, single=not endpoint.of_a_website)
    return Glance(file) if endpoint is USAGE else Rows(endpoint, file)


class _Lines(Writer):
    """One JSON object a line for each result, as it comes."""

    streams = True

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def add(self, website_id: str, result: Any) -> None:
        self._file.write(msgspec.json.encode(_object(website_id, result)).decode() + "\n")
        self._file.flush()


class _Json(Writer):
    """One JSON array of what :class:`_Lines` writes, or the one object where there is but one."""

    def __init__(self, file: IO[str], *, single: bool) -> None:
        self._file = file
        self._single = single
        self._objects: list[Any] = []

    def add(self, website_id: str, result: Any) -> None:
        self._objects.append(_object(website_id, result))

    def close(self) -> None:
        whole = self._objects[0] if self._single and self._objects else self._objects
        self._file.write(msgspec.json.format(msgspec.json.encode(whole), indent=2).decode() + "\n")


class _Csv(Writer):
    """A row for each thing, with its website's id first; a header line before the first."""

    streams = True

    def __init__(self, endpoint: Endpoint, file: IO[str]) -> None:
        self._endpoint = endpoint
        self._file = file
        self._writer: csv.DictWriter[str] | None = None

    def add(self, website_id: str, result: Any) -> None:
        rows = self._endpoint.rows_of(result)
        # The answer to a question brings its own columns.
        writer = self._writer or self._start(self._endpoint.columns or tuple(rows[0] if rows else ()))
        writer.writerows({"website_id": website_id, **_flat(row)} for row in rows)
        self._file.flush()

    def close(self) -> None:
        if self._writer is None and self._endpoint.columns:
            self._start(self._endpoint.columns)

    def _start(self, columns: tuple[str, ...]) -> csv.DictWriter[str]:
        # A row may have a website_id of its own, which is the same.
        first = ["website_id"] if self._endpoint.of_a_website else []
        names = [*first, *(column for column in columns if column not in first)]
        self._writer = csv.DictWriter(self._file, names, extrasaction="ignore", lineterminator="\n")
        self._writer.writeheader()
        return self._writer


def _object(website_id: str, result: Any) -> Any:
    plain = msgspec.to_builtins(result)
    if not website_id:
        return plain
    named = cast("Row", plain) if isinstance(plain, dict) else {"data": plain}
    return {"website_id": website_id, **named}


def _flat(row: Row) -> Row:
    """A row for a line of text: true and false as JSON has them, and objects as JSON."""
    return {
        name: msgspec.json.encode(value).decode() if isinstance(value, (bool, dict, list)) else value
        for name, value in row.items()
    }
