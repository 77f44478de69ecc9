"""Tables for people: the rows of one website, or a line for each of many."""

from __future__ import annotations

from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from rich.segment import Segment

from zenovay_async._protocol.text import printable
from zenovay_async._tables.display import is_number
from zenovay_async._tables.layout import KEY_NAME, WEBSITE_ID, column_types
from zenovay_async.cli.blocks import has_blocks, sparkline
from zenovay_async.cli.cells import show_value
from zenovay_async.cli.cohorts import are_cohorts, print_cohorts
from zenovay_async.cli.grid import BLOCKS, Column, print_grid, print_lines
from zenovay_async.cli.streams import console_of
from zenovay_async.cli.time_zones import Clock, read_time
from zenovay_async.cli.view import DOMAIN, LAST_UPDATED, count_name, line_names, row_names, top_name
from zenovay_async.cli.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zenovay_async._tables.layout import ColumnType, Layout, Row
    from zenovay_async.cli.view import View

# The column of days, that of their number, and the sparkline that is shown in its place.
_DATE, _DAYS, _TREND = "date", "days", "trend"

# Of one day, there is nothing to draw.
_LEAST_DAYS = 2

# Widths in characters: of a sparkline, and to which domains and other text may be cut.
_SHORTEST_TREND, _LONGEST_TREND = 7, 30
_LONG_NAME, _SHORT_TEXT = 30, 12


class Source(NamedTuple):
    """Where rows come from; two keys may reach the same website.

    Attributes:
        key_name: Name of the key, of a run with several keys.
        website_id: ID of the website; ``""`` for a result that belongs to none.
    """

    key_name: str | None
    website_id: str


class ResultTable(Writer):
    """The rows of one website, or a line for each of many, the busiest first.

    Columns that are named decide which of both it is, where only one of them has such columns.

    Args:
        result_type: Type of the results.
        layout: Its layout.
        file: Where to write.
        view: The columns and their order, and the time zone.
        per_website: Whether there is a result for each website, and not a single one.
    """

    def __init__(self, result_type: Any, layout: Layout, file: IO[str], view: View, *, per_website: bool) -> None:
        self._layout = layout
        self._view = view
        self._console = console_of(file)
        self._clock = Clock(view.zone)
        self._has_blocks = has_blocks(file)
        self._of_rows = row_names(layout, "table", per_website=per_website)
        self._of_lines = line_names(layout) if per_website else ()
        self._types: dict[str, ColumnType] = {**column_types(result_type)}
        if layout.label is not None:
            self._types[top_name(layout)] = self._types[layout.label]
        self._results: dict[Source, list[Row]] = {}
        self._domains: dict[str, str] = {}
        # An ordered set.
        self._found: dict[str, None] = {}
        self._is_incomplete = False

    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:
        columns, self._results[Source(key_name, website_id)] = self._layout.rows_of(result)
        self._found |= dict.fromkeys(columns)
        domain = _domain_in(result)
        if domain is not None:
            self._domains.setdefault(website_id, domain)

    def record_domains(self, domains: Mapping[str, str]) -> None:
        self._domains |= domains

    def add_failure(self, failure: dict[str, Any]) -> None:  # noqa: ARG002 - stderr has the failure
        self._is_incomplete = True

    def record_early_end(self) -> None:
        self._is_incomplete = True

    def close(self) -> None:
        if not self._results:
            return
        # Rows do not name their website, so they are shown only if one website was requested.
        is_one = len(self._results) == 1 and not self._is_incomplete
        names = set(self._view.names)
        if not names <= set(self._of_lines):
            has_lines = False
        elif not names <= {*self._of_rows, *self._found}:
            has_lines = True
        else:
            has_lines = not is_one and bool(self._of_lines)
        if not has_lines:
            self._print_rows(is_one=is_one)
        else:
            self._print_lines()

    def _print_rows(self, *, is_one: bool) -> None:
        rows = [{**self._names(source), **row} for source, found in self._results.items() for row in found]
        error = None
        if rows:
            self._view, error = self._view.fitted({**dict.fromkeys(self._of_rows), **self._found})
        if is_one and not self._view.names and error is None:
            if are_cohorts(self._layout) and print_cohorts(self._console, rows):
                return
            self._print_trend(rows)
        measure = self._layout.measure
        # Days keep their order; other rows with a measure are ranked by it.
        if measure is not None and _DATE not in self._layout.columns:
            rows.sort(key=lambda row: row[measure] or 0, reverse=True)
        # Those of the results, where each has its own.
        columns = self._layout.columns[: self._layout.shown] or tuple(self._found)
        # Rows that are websites have their IDs, and their domains.
        if not is_one and any(row.get("id") != row[WEBSITE_ID] for row in rows):
            columns = self._with_names(columns)
        self._print(self._view.sorted(rows), columns)
        if error is not None:
            raise error

    def _print_lines(self) -> None:
        lines = [self._line(source, rows) for source, rows in self._results.items()]
        order = self._layout.measure or count_name(self._layout)
        lines.sort(key=itemgetter(order), reverse=True)
        names = (KEY_NAME, DOMAIN, WEBSITE_ID)
        columns = self._with_names(tuple(name for name in self._of_lines if name not in names))
        self._print(self._view.sorted(lines), columns)

    def _line(self, source: Source, rows: list[Row]) -> Row:
        measure, label = self._layout.measure, self._layout.label
        line: Row = {**self._names(source), count_name(self._layout): len(rows)}
        if measure is not None:
            line[measure] = sum(row[measure] or 0 for row in rows)
        if measure is not None and _DATE in self._layout.columns:
            line[_TREND] = sparkline([row[measure] for row in rows], _LONGEST_TREND)
        if label is not None and rows:
            top = rows[0] if measure is None else max(rows, key=lambda row: row[measure] or 0)
            line[top_name(self._layout)] = top[label]
        if LAST_UPDATED in self._layout.columns:
            times = [(time, row[LAST_UPDATED]) for row in rows if (time := read_time(row[LAST_UPDATED])) is not None]
            line[LAST_UPDATED] = max(times, key=itemgetter(0), default=(None, None))[1]
        return line

    def _names(self, source: Source) -> Row:
        """What names the source of a row."""
        named = {DOMAIN: self._domains.get(source.website_id), WEBSITE_ID: source.website_id}
        return {KEY_NAME: source.key_name, **(named if source.website_id else {})}

    def _with_names(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Columns and those that name the source: the domain first, and the ID last if the domain is enough."""
        domains = [(source.key_name, self._domains.get(source.website_id)) for source in self._results]
        known = [domain for domain in domains if domain[1] is not None]
        others = tuple(column for column in columns if column not in {DOMAIN, WEBSITE_ID})
        if not known:
            return (WEBSITE_ID, *columns)
        if len(set(known)) < len(domains):
            return (DOMAIN, WEBSITE_ID, *others)
        return (DOMAIN, *others, WEBSITE_ID)

    def _print_trend(self, rows: list[Row]) -> None:
        """Print the days of one website as a line."""
        measure = self._layout.measure
        if measure is None or _DATE not in self._layout.columns or not self._has_blocks:
            return
        values = [row[measure] for row in rows]
        known = [value for value in values if value is not None]
        if len(known) < _LEAST_DAYS:
            return
        total, least, most = (show_value(value) for value in (sum(known), min(known), max(known)))
        title, figures = f"{measure.replace('_', ' ')}  ", f"  {total} in all, {least} to {most} a day\n\n"
        room = self._console.width - len(title + figures.rstrip())
        if room >= _SHORTEST_TREND:
            trend = Segment(sparkline(values, room), BLOCKS)
            print_lines(self._console, [Segment(title), trend, Segment(figures)])

    def _print(self, rows: list[Row], columns: tuple[str, ...]) -> None:
        if any(source.key_name is not None for source in self._results):
            columns = (KEY_NAME, *columns)
        named = self._view.columns
        made = [self._column(name, rows) for name in named or columns]
        if not named and columns[-1:] == (WEBSITE_ID,):
            # The domain, which is first, is enough.
            made[-1].is_spare = True
        print_grid(self._console, made, all_columns=bool(named))

    def _column(self, name: str, rows: list[Row]) -> Column:
        values = [row.get(name) for row in rows]
        kind = self._types.get(name)
        title = printable(name.replace("_", " "))
        if self._has_blocks and name == _DAYS and any(_TREND in row for row in rows):
            trends = [row[_TREND] for row in rows]
            return Column(title, trends, is_whole=True, styles=[BLOCKS] * len(trends))
        is_time = kind == "time" or (name not in self._types and any(read_time(value) for value in values))
        known = [value for value in values if value is not None]
        has_numbers = kind in {"integer", "number"} or (bool(known) and all(map(is_number, known)))
        return Column(
            title + self._clock.title if is_time else title,
            [show_value(value, self._clock if is_time else None) for value in values],
            to_right=has_numbers,
            is_whole=has_numbers or is_time or name in {"id", WEBSITE_ID},
            shortest=_LONG_NAME if name == DOMAIN else _SHORT_TEXT,
            bars=[value or 0 for value in values] if name == self._layout.measure else (),
        )


def _domain_in(result: Any) -> str | None:
    """The domain of the website that a result names."""
    website: Any = result.get("website")
    domain: Any = cast("Row", website).get(DOMAIN) if isinstance(website, dict) else None
    return domain if isinstance(domain, str) and domain else None
