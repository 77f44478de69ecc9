"""Results for people: the rows of one website, a line for each of many, the month at a glance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zenovay_async.cli.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zenovay_async import Usage
    from zenovay_async.tables import Endpoint, Row

_PIPE_WIDTH = 160
_BAR = 16
_GAP = 2
_TEXT = 12


class Rows(Writer):
    """The rows of one website, or a line for each of many, the busiest first."""

    def __init__(self, endpoint: Endpoint, file: IO[str]) -> None:
        self._endpoint = endpoint
        self._console = _console(file)
        self._websites: dict[str, list[Row]] = {}
        self._missing = False

    def add(self, website_id: str, result: Any) -> None:
        self._websites[website_id] = self._endpoint.rows_of(result)

    def miss(self) -> None:
        self._missing = True

    def close(self) -> None:
        # The rows alone do not tell whose they are, so there must have been but one website to ask for.
        one = len(self._websites) == 1 and not self._missing
        if one or self._endpoint.noun is None:
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
        shown, room = _fitting(columns or tuple(rows[0] if rows else ()), rows, self._console.width)
        bar = measure if room >= _BAR + _GAP else None
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in shown:
            title = Text(column.name.replace("_", " "), no_wrap=True, overflow="ellipsis")
            table.add_column(title, justify="right" if column.number else "left", no_wrap=column.whole)
            if column.name == bar:
                table.add_column("", no_wrap=True)
        most = max((row[measure] or 0 for row in rows), default=0) if measure else 0
        for row in rows:
            cells: list[Text] = []
            for column in shown:
                cells.append(Text(_shown(row.get(column.name)), no_wrap=True, overflow="ellipsis"))
                if column.name == bar:
                    cells.append(_bar(row[column.name] or 0, most))
            table.add_row(*cells)
        self._console.print(table)


class _Column:
    """A column: whether of numbers, whether of use only as a whole, and the least room that it needs."""

    def __init__(self, name: str, rows: list[Row]) -> None:
        values = [row.get(name) for row in rows]
        self.name = name
        self.number = any(map(_is_number, values))
        self.whole = self.number or name in {"id", "website_id"} or any(map(_is_time, values))
        width = max(map(cell_len, (name, *map(_shown, values))))
        self.room = width if self.whole else min(width, _TEXT)


def _fitting(names: Iterable[str], rows: list[Row], room: int) -> tuple[list[_Column], int]:
    """The first columns, as many as have room, and the room that is left."""
    fitting: list[_Column] = []
    for name in names:
        column = _Column(name, rows)
        if fitting and column.room > room:
            break
        fitting.append(column)
        room -= column.room + _GAP
    return fitting, room


class Glance(Writer):
    """Plan, minute limit and month at a glance."""

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


def _console(file: IO[str]) -> Console:
    return Console(file=file, width=None if file.isatty() else _PIPE_WIDTH, highlight=False)


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
    eighths = round(value / most * _BAR * 8) if most else 0
    full, rest = divmod(max(eighths, 1), 8)
    return Text("█" * full + ("", *"▏▎▍▌▋▊▉")[rest], style="cyan")
