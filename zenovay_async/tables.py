"""Results as rows and columns: one :class:`Table` for each result type.

A result type without a table is shown as JSON. A new endpoint adds the table of its result here, unless that is plain
values.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import msgspec
from msgspec import inspect as shapes

from zenovay_async._protocol.results import Result
from zenovay_async.resources.analytics import AnalyticsOverview, CountryList, VisitorPage
from zenovay_async.resources.anomalies import AnomalyPage
from zenovay_async.resources.errors import ErrorGroupList
from zenovay_async.resources.heatmaps import HeatmapPages
from zenovay_async.resources.insights import InsightPage
from zenovay_async.resources.query import QueryAnswer
from zenovay_async.resources.replays import ReplaySessionPage
from zenovay_async.resources.retention import RetentionCohorts
from zenovay_async.resources.revenue import LifetimeValue
from zenovay_async.resources.usage import Usage
from zenovay_async.resources.websites import WebsiteDetail, WebsiteList

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

__all__ = ["Row", "Table", "table_of"]

WEBSITE_ID = "website_id"
"""The column for the ID of a row's website, which the rows of a table leave free unless they have that ID."""

KEY_NAME = "key_name"
"""The column for the name of the key that requested a row, of a run with several keys; no row has it."""

Row: TypeAlias = dict[str, Any]
"""A row: its values by column."""

ColumnType: TypeAlias = Literal["integer", "number", "boolean", "text", "time", "date", "json"]
"""What the values of a column are, if not ``None``."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows and columns of one result type.

    Attributes:
        rows: The field that lists the rows, or a function that makes them of the result's plain values.
        columns: Names of the columns, the most useful first; empty if each result has its own.
        own_columns: A function that names the columns of a result's plain values, where ``columns`` is empty.
        noun: What the rows are, in the plural; ``None`` if a result is a single row.
        measure: The column that ranks rows and is summed; ``None`` for none.
        label: The column that names a row; ``None`` for none.
        shown: Columns that a table for people shows at most; other formats have all.
    """

    rows: str | Callable[[Any], list[Row]]
    columns: tuple[str, ...] = ()
    own_columns: Callable[[Any], tuple[str, ...]] | None = None
    noun: str | None = "rows"
    measure: str | None = None
    label: str | None = None
    shown: int = 6

    def rows_of(self, result: Any) -> list[Row]:
        """The rows of a result, as plain values; times are ISO 8601 text, and an empty ``extra`` is left out.

        Args:
            result: A result of the type, or its plain values.
        """
        plain = result.to_dict() if isinstance(result, Result) else msgspec.to_builtins(result)
        return list(plain[self.rows]) if isinstance(self.rows, str) else self.rows(plain)

    def columns_of(self, result: Any) -> tuple[str, ...]:
        """The columns of a result, also of one without rows: those of the type, or else its own.

        Args:
            result: A result of the type, or its plain values.
        """
        if self.own_columns is None:
            return self.columns
        return self.own_columns(msgspec.to_builtins(result))


def table_of(result_type: Any) -> Table | None:
    """The table of a result type, such as ``HeatmapPages``; ``None`` where it has none."""
    return _TABLES.get(result_type)


def column_types(result_type: Any) -> dict[str, ColumnType]:
    """The columns of a result type and what their values are, as its Structs declare them; empty if it has none."""
    table = table_of(result_type)
    if table is None:
        return {}
    root = shapes.type_info(result_type)
    if isinstance(table.rows, str):
        root = next(field.type for name, field in _fields(root) if name == table.rows)
    declared = dict(reversed([(name, _column_type(field.type)) for name, field in _fields(root)]))
    return {column: declared[column] for column in table.columns}


def unique_name(name: str, taken: Container[str]) -> str:
    """The name, or else the first of ``name_2``, ``name_3`` and so on that is not taken."""
    names = (name if number == 1 else f"{name}_{number}" for number in count(1))
    return next(found for found in names if found not in taken)


def _fields(kind: shapes.Type) -> Iterator[tuple[str, shapes.Field]]:
    """The fields of a type's Structs, by their names in the API; those of a Struct before those inside them."""
    if isinstance(kind, shapes.StructType):
        yield from ((field.encode_name, field) for field in kind.fields)
        for field in kind.fields:
            yield from _fields(field.type)
    elif isinstance(kind, (shapes.VarTupleType, shapes.ListType)):
        yield from _fields(kind.item_type)
    elif isinstance(kind, shapes.UnionType):
        for member in kind.types:
            yield from _fields(member)


def _column_type(kind: shapes.Type) -> ColumnType:
    members = kind.types if isinstance(kind, shapes.UnionType) else (kind,)
    values = [type(member) for member in members if not isinstance(member, shapes.NoneType)]
    found: set[ColumnType] = {_COLUMN_TYPES.get(value, "json") for value in values}
    return found.pop() if len(found) == 1 else "json"


def _usage_row(usage: Any) -> list[Row]:
    return [{**usage["api_key"], **usage["usage"], **usage["rate_limits"], **usage["subscription"]}]


def _cohort_periods(value: Any) -> list[Row]:
    return [
        {"cohort_date": cohort["cohort_date"], "customers": cohort["customers"], **period}
        for cohort in value["cohorts"]
        for period in cohort["periods"]
    ]


def _query_columns(result: Any) -> tuple[str, ...]:
    rows = _query_values(result)
    return tuple(_column_names(result["results"]["columns"], rows).values())


def _query_rows(result: Any) -> list[Row]:
    rows = _query_values(result)
    names = _column_names(result["results"]["columns"], rows)
    return [{names[key]: value for key, value in row.items()} for row in rows]


def _query_values(result: Any) -> list[dict[int | str, Any]]:
    """The values of each row, by the position of their column or, in a row that is an object, by their names.

    Rows of another shape than documented are in ``extra``.
    """
    results = result["results"]
    columns = list(results["columns"])
    rows: Any = results["rows"] or results.get("extra", {}).get("rows", result.get("extra", {}).get("results"))
    values: list[dict[int | str, Any]] = []
    for row in cast("Any", rows if isinstance(rows, (list, tuple)) else ()):
        if isinstance(row, dict):
            named = cast("dict[str, Any]", row)
            values.append({columns.index(name) if name in columns else name: named[name] for name in named})
        else:
            values.append(dict(enumerate(cast("list[Any]", row) if isinstance(row, (list, tuple)) else [row])))
    return values


def _column_names(columns: Sequence[str], rows: list[dict[int | str, Any]]) -> dict[int | str, str]:
    """A name of its own for each column: two sources may both be called ``visitors``."""
    names: dict[int | str, str] = dict(enumerate(columns))
    for row in rows:
        for key in row:
            names.setdefault(key, key if isinstance(key, str) else "")
    taken: dict[str, None] = {WEBSITE_ID: None, KEY_NAME: None}
    for number, (key, name) in enumerate(names.items(), 1):
        names[key] = unique_name(name or f"column_{number}", taken)
        taken[names[key]] = None
    return names


_COLUMN_TYPES: dict[type[shapes.Type], ColumnType] = {
    shapes.IntType: "integer",
    shapes.FloatType: "number",
    shapes.BoolType: "boolean",
    shapes.StrType: "text",
    shapes.DateTimeType: "time",
    shapes.DateType: "date",
}

_WEBSITE_COLUMNS = ("id", "domain", "name", "tracking_code", "is_active", "created_at", "team_id")

_TABLES: dict[Any, Table] = {
    Usage: Table(
        rows=_usage_row,
        columns=(
            *("id", "name", "permission", "website_id", "tier", "requests_per_minute"),
            *("monthly_requests", "monthly_limit", "monthly_remaining", "monthly_reset_at", "total_requests"),
        ),
        noun=None,
    ),
    WebsiteList: Table(rows="websites", columns=_WEBSITE_COLUMNS, noun="websites"),
    WebsiteDetail: Table(rows=lambda website: [website], columns=(*_WEBSITE_COLUMNS, "user_id"), noun=None),
    AnalyticsOverview: Table(
        rows="daily_stats",
        columns=("date", "total_visitors", "unique_visitors", "page_views"),
        noun="days",
        measure="total_visitors",
    ),
    VisitorPage: Table(
        rows="visitors",
        columns=(
            *("visited_at", "country_code", "city", "device_type", "browser", "os", "value_score", "landing_page"),
            *("referrer", "had_interaction", "country_name", "id"),
        ),
        noun="visitors",
        label="visited_at",
        shown=9,
    ),
    CountryList: Table(
        rows="countries",
        columns=("country_name", "visitors", "avg_value_score", "country_code"),
        noun="countries",
        measure="visitors",
        label="country_name",
    ),
    HeatmapPages: Table(
        rows="pages",
        columns=("url", "total_interactions", "last_updated"),
        noun="pages",
        measure="total_interactions",
        label="url",
    ),
    ReplaySessionPage: Table(
        rows="sessions",
        columns=(
            *("started_at", "duration_seconds", "event_count", "page_url", "country_code", "device_type", "browser"),
            *("os", "ended_at", "session_id", "id"),
        ),
        noun="sessions",
        label="started_at",
        shown=8,
    ),
    ErrorGroupList: Table(
        rows="error_groups",
        columns=(
            *("message", "occurrence_count", "affected_users_count", "status", "type", "last_seen_at"),
            *("first_seen_at", "fingerprint", "id"),
        ),
        noun="error groups",
        measure="occurrence_count",
        label="message",
    ),
    InsightPage: Table(
        rows="insights",
        columns=(
            *("created_at", "severity", "type", "title", "metric_name", "metric_value", "metric_change"),
            *("recommendation", "description", "id"),
        ),
        noun="insights",
        label="title",
        shown=7,
    ),
    AnomalyPage: Table(
        rows="anomalies",
        columns=(
            *("detected_at", "severity", "metric_name", "expected_value", "actual_value", "deviation_percentage"),
            *("is_resolved", "id"),
        ),
        noun="anomalies",
        label="metric_name",
        shown=7,
    ),
    RetentionCohorts: Table(
        rows="cohorts",
        columns=("cohort_date", "period_number", "total_users", "retained_users", "retention_rate"),
    ),
    LifetimeValue: Table(
        rows=_cohort_periods,
        columns=("cohort_date", "customers", "period", "cumulative_revenue_per_customer"),
    ),
    QueryAnswer: Table(rows=_query_rows, own_columns=_query_columns),
}
