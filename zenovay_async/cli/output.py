"""Results as a table, JSON, NDJSON or CSV, on standard output or in a file that is written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Generator

    from zenovay_async.cli.endpoints import Endpoint

Format: TypeAlias = Literal["table", "json", "ndjson", "csv"]

_PIPE_WIDTH = 160
_BAR = 16


class Writer(Protocol):
    """Takes results one by one."""

    def add(self, website_id: str, result: Any) -> None:
        """A website's result has come."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


@contextlib.contextmanager
def destination(path: Path | None) -> Generator[IO[str]]:
    """Where to write: standard output, or a file that takes its place only when all of it is written."""
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def make_writer(kind: Format, endpoint: Endpoint, file: IO[str]) -> Writer:
    """The writer for a format."""
    if kind == "ndjson":
        return _Lines(endpoint, file)
    if kind == "csv":
        return _Csv(endpoint, file)
    return _Json(endpoint, file) if kind == "json" else _Table(endpoint, file)


class _Lines:
    """One JSON object a line for each website, as it comes."""

    def __init__(self, endpoint: Endpoint, file: IO[str]) -> None:
        self._endpoint = endpoint
        self._file = file

    def add(self, website_id: str, result: Any) -> None:
        line = _object(self._endpoint, website_id, result)
        self._file.write(msgspec.json.encode(line).decode() + "\n")
        self._file.flush()

    def close(self) -> None:
        """Nothing is held back."""


class _Json:
    """One JSON array of what :class:`_Lines` writes."""

    def __init__(self, endpoint: Endpoint, file: IO[str]) -> None:
        self._endpoint = endpoint
        self._file = file
        self._objects: list[dict[str, Any]] = []

    def add(self, website_id: str, result: Any) -> None:
        self._objects.append(_object(self._endpoint, website_id, result))

    def close(self) -> None:
        text = msgspec.json.format(msgspec.json.encode(self._objects), indent=2).decode()
        self._file.write(text + "\n")


class _Csv:
    """A row for each thing, with its website's id first; a header line before the first."""

    def __init__(self, endpoint: Endpoint, file: IO[str]) -> None:
        self._endpoint = endpoint
        self._file = file
        self._writer = csv.DictWriter(
            file, ["website_id", *endpoint.columns], extrasaction="ignore", lineterminator="\n"
        )
        self._writer.writeheader()

    def add(self, website_id: str, result: Any) -> None:
        self._writer.writerows(self._endpoint.rows_of(website_id, result))
        self._file.flush()

    def close(self) -> None:
        """Nothing is held back."""


class _Table:
    """For people: the rows of one website, or a line for each of many, the busiest first."""

    def __init__(self, endpoint: Endpoint, file: IO[str]) -> None:
        self._endpoint = endpoint
        self._console = Console(file=file, width=None if file.isatty() else _PIPE_WIDTH, highlight=False)
        self._websites: dict[str, list[dict[str, Any]]] = {}

    def add(self, website_id: str, result: Any) -> None:
        self._websites[website_id] = self._endpoint.rows_of(website_id, result)

    def close(self) -> None:
        if len(self._websites) == 1:
            ((_, rows),) = self._websites.items()
            self._print(rows, self._endpoint.columns)
        elif self._websites:
            self._print([self._summary(site, rows) for site, rows in self._websites.items()], None)

    def _summary(self, website_id: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        measure, label = self._endpoint.measure, self._endpoint.label
        top = rows[0] if rows else {}
        summary: dict[str, Any] = {"website_id": website_id, self._endpoint.noun: len(rows)}
        if measure:
            summary[measure] = sum(row[measure] for row in rows)
        if label:
            summary[f"top {label}"] = top.get(label, "")
        if "last_updated" in self._endpoint.columns:
            summary["last_updated"] = max((row["last_updated"] for row in rows), default="")
        return summary

    def _print(self, rows: list[dict[str, Any]], columns: tuple[str, ...] | None) -> None:
        measure = self._endpoint.measure
        if measure:
            rows = sorted(rows, key=lambda row: row[measure], reverse=True)
        names = columns or tuple(rows[0] if rows else ())
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in names:
            number = any(isinstance(row[name], (int, float)) for row in rows)
            table.add_column(
                name.replace("_", " "), justify="right" if number else "left", no_wrap=True, overflow="ellipsis"
            )
            if name == measure:
                table.add_column("", no_wrap=True, min_width=_BAR)
        most = max((row[measure] for row in rows), default=0) if measure else 0
        for row in rows:
            cells: list[Text] = []
            for name in names:
                cells.append(Text(_shown(row[name])))
                if name == measure:
                    cells.append(_bar(row[name], most))
            table.add_row(*cells)
        self._console.print(table)


def _object(endpoint: Endpoint, website_id: str, result: Any) -> dict[str, Any]:
    plain = endpoint.plain(result)
    return {"website_id": website_id, **plain} if isinstance(plain, dict) else {"website_id": website_id, "data": plain}


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    # The minute is enough for people; the other formats have the time as it came.
    return value[:16].replace("T", " ") if _is_time(value) else str(value)


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= 20 and value[10] == "T" and value[4] == "-"  # noqa: PLR2004 - the shape of ISO 8601


def _bar(value: float, most: float) -> Text:
    eighths = round(value / most * _BAR * 8) if most else 0
    full, rest = divmod(max(eighths, 1), 8)
    return Text("█" * full + ("", *"▏▎▍▌▋▊▉")[rest], style="cyan")
