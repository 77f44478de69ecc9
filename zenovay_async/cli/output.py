"""Results as a table, JSON, NDJSON or CSV, on standard output or in a file that is written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zenovay_async import ConfigurationError
from zenovay_async.cli.endpoints import USAGE, Endpoint, Row

if TYPE_CHECKING:
    from collections.abc import Generator

    from zenovay_async import Usage

Format: TypeAlias = Literal["table", "json", "ndjson", "csv"]

_PIPE_WIDTH = 160
BAR = 16


class Writer(Protocol):
    """Takes results one by one."""

    def add(self, website_id: str, result: Any) -> None:
        """A result has come; of a website, or with ``""`` of none in particular."""
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
    return _Usage(file) if endpoint is USAGE else _Table(endpoint, file)


class _Lines:
    """One JSON object a line for each result, as it comes."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def add(self, website_id: str, result: Any) -> None:
        self._file.write(msgspec.json.encode(_object(website_id, result)).decode() + "\n")
        self._file.flush()

    def close(self) -> None:
        """Nothing is held back."""


class _Json:
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


class _Csv:
    """A row for each thing, with its website's id first; a header line before the first."""

    def __init__(self, endpoint: Endpoint, file: IO[str]) -> None:
        self._endpoint = endpoint
        self._file = file
        self._writer: csv.DictWriter[str] | None = None
        if endpoint.columns:
            self._start(endpoint.columns)

    def add(self, website_id: str, result: Any) -> None:
        rows = self._endpoint.rows_of(result)
        # The answer to a question brings its own columns.
        writer = self._writer or self._start(tuple(rows[0] if rows else ()))
        writer.writerows({"website_id": website_id, **_flat(row)} for row in rows)
        self._file.flush()

    def close(self) -> None:
        """Nothing is held back."""

    def _start(self, columns: tuple[str, ...]) -> csv.DictWriter[str]:
        # A row may have a website_id of its own, which is the same.
        first = ["website_id"] if self._endpoint.of_a_website else []
        names = [*first, *(column for column in columns if column not in first)]
        self._writer = csv.DictWriter(self._file, names, extrasaction="ignore", lineterminator="\n")
        self._writer.writeheader()
        return self._writer


class _Table:
    """For people: the rows of one website, or a line for each of many, the busiest first."""

    def __init__(self, endpoint: Endpoint, file: IO[str]) -> None:
        self._endpoint = endpoint
        self._console = _console(file)
        self._websites: dict[str, list[Row]] = {}

    def add(self, website_id: str, result: Any) -> None:
        self._websites[website_id] = self._endpoint.rows_of(result)

    def close(self) -> None:
        if len(self._websites) == 1 or self._endpoint.noun is None:
            rows = [row for found in self._websites.values() for row in found]
            self._print(rows, self._endpoint.columns[: self._endpoint.shown])
        elif self._websites:
            self._print([self._summary(site, rows) for site, rows in self._websites.items()], ())

    def _summary(self, website_id: str, rows: list[Row]) -> Row:
        measure, label = self._endpoint.measure, self._endpoint.label
        top = rows[0] if rows else {}
        summary: Row = {"website_id": website_id, self._endpoint.noun or "rows": len(rows)}
        if measure:
            summary[measure] = sum(row[measure] or 0 for row in rows)
        if label:
            summary[f"newest {label}" if measure is None else f"top {label}"] = top.get(label, "")
        if "last_updated" in self._endpoint.columns:
            summary["last_updated"] = max((row["last_updated"] for row in rows), default="")
        return summary

    def _print(self, rows: list[Row], columns: tuple[str, ...]) -> None:
        measure = self._endpoint.measure
        # Days stay in their order; a line for each website does not, nor do things that are ranked.
        if measure and not (columns and "date" in columns):
            rows = sorted(rows, key=lambda row: row[measure] or 0, reverse=True)
        names = columns or tuple(rows[0] if rows else ())
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in names:
            number = any(_is_number(row.get(name)) for row in rows)
            table.add_column(
                name.replace("_", " "), justify="right" if number else "left", no_wrap=True, overflow="ellipsis"
            )
            if name == measure:
                table.add_column("", no_wrap=True, min_width=BAR)
        most = max((row[measure] or 0 for row in rows), default=0) if measure else 0
        for row in rows:
            cells: list[Text] = []
            for name in names:
                cells.append(Text(_shown(row.get(name))))
                if name == measure:
                    cells.append(_bar(row[name] or 0, most))
            table.add_row(*cells)
        self._console.print(table)


class _Usage:
    """For people: plan, minute limit and month at a glance."""

    def __init__(self, file: IO[str]) -> None:
        self._console = _console(file)

    def add(self, website_id: str, result: Usage) -> None:  # noqa: ARG002 - of none in particular
        key, month = result.api_key, result.usage
        limit, resets_at = month.monthly_limit, month.monthly_reset_at
        used = f"{month.monthly_requests:,}"
        grid = Table.grid(padding=(0, 2))
        grid.add_row("key", Text(f"{key.name or key.id}, {key.permission or 'permission not told'}"))
        grid.add_row("plan", Text(result.subscription.tier or "not told"))
        per_minute = result.rate_limits.requests_per_minute
        grid.add_row("rate limit", Text("not told" if per_minute is None else f"{per_minute:,} requests a minute"))
        if limit:
            bar = _bar(min(month.monthly_requests, limit), limit)
            share = f" {month.monthly_requests / limit:.0%}"
            grid.add_row("month", Text.assemble(f"{used} of {limit:,} requests  ", bar, share))
            left = limit - month.monthly_requests if month.monthly_remaining is None else month.monthly_remaining
            grid.add_row("left", Text(f"{max(0, left):,}"))
        else:
            grid.add_row("month", Text(f"{used} requests"))
        if resets_at is not None:
            days = max(0, (resets_at - datetime.now(UTC)).days)
            grid.add_row("resets", Text(f"{resets_at:%Y-%m-%d %H:%M} UTC, in {days} days"))
        self._console.print(grid)

    def close(self) -> None:
        """It is shown already."""


def _console(file: IO[str]) -> Console:
    return Console(file=file, width=None if file.isatty() else _PIPE_WIDTH, highlight=False)


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


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, (int, float)):
        # A year or an id is text; what is a number here is a quantity.
        return f"{value:,}" if isinstance(value, int) or not value.is_integer() else f"{value:,.0f}"
    # The minute is enough for people; the other formats have the time as it came.
    return value[:16].replace("T", " ") if _is_time(value) else str(value)


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= 20 and value[10] == "T" and value[4] == "-"  # noqa: PLR2004 - the shape of ISO 8601


def _bar(value: float, most: float) -> Text:
    eighths = round(value / most * BAR * 8) if most else 0
    full, rest = divmod(max(eighths, 1), 8)
    return Text("█" * full + ("", *"▏▎▍▌▋▊▉")[rest], style="cyan")
