"""Tables for people: the rows of one website, a line for each of many, a summary of the usage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import msgspec
from rich.cells import cell_len
from rich.table import Table as Grid
from rich.text import Text

from zenovay_async import Usage
from zenovay_async._protocol.json_text import encode_json
from zenovay_async._protocol.text import printable
from zenovay_async._tables.layout import KEY_NAME, WEBSITE_ID
from zenovay_async.cli.streams import OutputConsole
from zenovay_async.cli.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zenovay_async._tables.layout import Layout, Row

# Widths in characters: of a table that is no terminal's, of a full bar, between columns, of text that may be cut.
_PIPE_WIDTH = 160
_BAR = 16
_GAP = 2
_TEXT = 12

# Where floats have more digits than they know.
_EXPONENT = 1e16


class Rows(Writer):
    """The rows of one website, or a line for each of many, the busiest first."""

    def __init__(self, layout: Layout, file: IO[str]) -> None:
        self._layout = layout
        self._console = _console(file)
        # Two keys may reach the same website.
        self._websites: dict[tuple[str | None, str], list[Row]] = {}
        self._domains: Mapping[str, str] = {}
        self._columns: tuple[str, ...] = ()
        self._missing = False

    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:
        self._columns, self._websites[key_name, website_id] = self._layout.rows_of(result)

    def record_domains(self, domains: Mapping[str, str]) -> None:
        self._domains = domains

    def add_failure(self, failure: dict[str, Any]) -> None:  # noqa: ARG002 - stderr has the failure
        self._missing = True

    def record_early_end(self) -> None:
        self._missing = True

    def close(self) -> None:
        # Rows do not name their website, so they are shown only if one website was requested.
        one = len(self._websites) == 1 and not self._missing
        # Those of the only website, where each has its own.
        columns = self._layout.columns[: self._layout.shown] or self._columns
        named = [({KEY_NAME: key_name} if key_name is not None else {}, site) for key_name, site in self._websites]
        if one:
            ((first, _),) = named
            rows = [{**first, **row} for found in self._websites.values() for row in found]
            self._print(rows, (*first, *columns))
        elif self._layout.noun is None:
            rows = [
                {**self._names(site), **row, **first, WEBSITE_ID: site}
                for (first, site), found in zip(named, self._websites.values(), strict=True)
                for row in found
            ]
            # Only the rows that are websites have their IDs, and their domains.
            if "id" not in columns or any(row["id"] != row[WEBSITE_ID] for row in rows):
                columns = (*self._names(""), *(column for column in columns if column not in self._names("")))
            has_key = any(KEY_NAME in row for row in rows)
            self._print(rows, (KEY_NAME, *columns) if has_key else columns)
        elif self._websites:
            found = zip(named, self._websites.values(), strict=True)
            self._print([{**first, **self._summary(site, rows)} for (first, site), rows in found], ())

    def _names(self, website_id: str) -> Row:
        """What names a website: its domain, in a table where one is known, and its ID."""
        has_domains = any(site in self._domains for _, site in self._websites)
        named = {"domain": self._domains.get(website_id)} if has_domains else {}
        return {**named, WEBSITE_ID: website_id}

    def _summary(self, website_id: str, rows: list[Row]) -> Row:
        measure, label = self._layout.measure, self._layout.label
        top: Row = {}
        if rows:
            top = max(rows, key=lambda row: row[measure] or 0) if measure else rows[0]
        summary: Row = {**self._names(website_id), self._layout.noun or "rows": len(rows)}
        if measure:
            summary[measure] = sum(row[measure] or 0 for row in rows)
        if label:
            summary[f"newest {label}" if measure is None else f"top {label}"] = top.get(label, "")
        if "last_updated" in self._layout.columns:
            times = [row["last_updated"] for row in rows if row["last_updated"]]
            summary["last_updated"] = max(times, key=datetime.fromisoformat, default="")
        return summary

    def _print(self, rows: list[Row], columns: tuple[str, ...]) -> None:
        measure = self._layout.measure
        # Days keep their order; other rows with a measure are ranked by it.
        if measure and not (columns and "date" in columns):
            rows = sorted(rows, key=lambda row: row[measure] or 0, reverse=True)
        shown, room = _fitting(columns or tuple(rows[0] if rows else ()), rows, self._console.width)
        bar = measure if room >= _BAR + _GAP else None
        table = Grid(box=None, pad_edge=False, header_style="bold")
        for column in shown:
            title = Text(printable(column.name.replace("_", " ")), no_wrap=True, overflow="ellipsis")
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
    """A column of a table.

    Attributes:
        name: Its name.
        number: Whether it has numbers.
        whole: Whether its values must not be cut.
        room: The least width, in characters.
    """

    def __init__(self, name: str, rows: list[Row]) -> None:
        values = [row.get(name) for row in rows]
        self.name = name
        self.number = any(map(_is_number, values))
        self.whole = self.number or name in {"id", "website_id"} or any(map(_as_time, values))
        width = max(map(cell_len, (printable(name), *map(_shown, values))))
        self.room = width if self.whole else min(width, _TEXT)


def _fitting(names: Iterable[str], rows: list[Row], room: int) -> tuple[list[_Column], int]:
    """The first columns, as many as fit, and the remaining width."""
    fitting: list[_Column] = []
    for name in names:
        column = _Column(name, rows)
        if fitting and column.room > room:
            break
        fitting.append(column)
        room -= column.room + _GAP
    return fitting, room


class UsageSummary(Writer):
    """The key, the plan, the rate limit and the monthly quota."""

    def __init__(self, file: IO[str]) -> None:
        self._console = _console(file)

    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:  # noqa: ARG002 - of no website
        usage = msgspec.convert(result, Usage)
        key, quota = usage.api_key, usage.usage
        limit, resets_at = quota.monthly_limit, quota.monthly_reset_at
        used = f"{quota.monthly_requests:,}"
        per_minute = usage.rate_limits.requests_per_minute
        grid = Grid.grid(padding=(0, 2))
        name, permission = key.name or key.id or "unknown", key.permission or "permission unknown"
        grid.add_row("key", Text(printable(f"{name}, {permission}")))
        grid.add_row("plan", Text(printable(usage.subscription.tier or "unknown")))
        grid.add_row("rate limit", Text("unknown" if per_minute is None else f"{per_minute:,} requests a minute"))
        if limit and limit > 0:
            bar = _bar(min(quota.monthly_requests, limit), limit)
            share = f" {quota.monthly_requests / limit:.0%}"
            grid.add_row("quota", Text.assemble(f"{used} of {limit:,} requests  ", bar, share))
            remaining = limit - quota.monthly_requests if quota.monthly_remaining is None else quota.monthly_remaining
            grid.add_row("remaining", Text(f"{max(0, remaining):,}"))
        else:
            grid.add_row("quota", Text(f"{used} requests"))
        if resets_at is not None:
            days = max(0, (resets_at - datetime.now(UTC)).days)
            grid.add_row("resets", Text(f"{_in_utc(resets_at)}, in {days} days"))
        self._console.print(grid)


def _console(file: IO[str]) -> OutputConsole:
    return OutputConsole(file=file, width=None if file.isatty() else _PIPE_WIDTH, highlight=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, (int, float)):
        # Years and IDs are text, so a number is a quantity. Python writes a float that is greater with an exponent.
        is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXPONENT
        return f"{value:,.0f}" if is_whole else f"{value:,}"
    # Minutes are enough for people, and one zone for all; the other formats have the whole time.
    if (time := _as_time(value)) is not None:
        return f"{time:%Y-%m-%d %H:%M}"
    return printable(value if isinstance(value, str) else encode_json(value))


def _as_time(value: Any) -> datetime | None:
    """A time in UTC, of text that is one."""
    # Text without a zone is at most that long, and no time of the API.
    if not isinstance(value, str) or len(value) < 20 or value[10] != "T":  # noqa: PLR2004 - the shape of ISO 8601
        return None
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _in_utc(time: datetime) -> str:
    try:
        return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except OverflowError:
        # The ends of the calendar, in a zone that is beyond them: a server's word for never.
        return f"{time:%Y-%m-%d %H:%M}"


def _bar(value: float, most: float) -> Text:
    # Changes and refunds may be negative, all of them even.
    eighths = round(value / most * _BAR * 8) if most > 0 else 0
    full, rest = divmod(max(eighths, 1), 8)
    return Text("█" * full + ("", *"▏▎▍▌▋▊▉")[rest], style="cyan")
