"""Results as rows and columns, the same in every form."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from endpoints import DOCUMENTED
from hypothesis import given
from hypothesis import strategies as st

from zenovay_async import (
    AnalyticsOverview,
    AnalyticsSummary,
    DailyStats,
    HeatmapPage,
    HeatmapPages,
    LifetimeValue,
    LTVCohort,
    LTVPeriod,
    QueryAnswer,
    QueryResults,
    Visitor,
    VisitorPage,
    WebsiteDetail,
    WebsiteSummary,
)
from zenovay_async._protocol.parsing import parse_response
from zenovay_async._protocol.response import RawResponse
from zenovay_async._tables.layout import column_types, has_extra_columns, layout_of
from zenovay_async.resources.query import query_call
from zenovay_async.tables import Table

if TYPE_CHECKING:
    from endpoints import Endpoint


NOON = datetime(2026, 3, 29, 12, tzinfo=timezone(timedelta(hours=2)))
TABLES = [endpoint for endpoint in DOCUMENTED if endpoint.result and issubclass(endpoint.result, Table)]


def documented(endpoint: Endpoint) -> Any:
    """The result of the documented example."""
    data = endpoint.body()["data"]
    result: Any = endpoint.result
    return msgspec.convert(data["website"] if result is WebsiteDetail else data, result)


def overview(*days: DailyStats) -> AnalyticsOverview:
    return AnalyticsOverview(website=WebsiteSummary(), summary=AnalyticsSummary(), daily_stats=days)


@pytest.mark.parametrize("endpoint", DOCUMENTED, ids=lambda endpoint: endpoint.name)
def test_every_column_of_a_documented_result_is_a_field_of_its_rows(endpoint: Endpoint) -> None:
    layout = layout_of(endpoint.result)
    assert layout is not None
    columns, rows = layout.rows_of(documented(endpoint))
    assert rows
    assert columns
    assert all(tuple(row) == columns for row in rows)
    assert {layout.measure, layout.label} <= {None, *columns}
    assert set(column_types(endpoint.result)) == set(layout.columns)


def test_every_result_that_is_a_list_is_a_table() -> None:
    assert {endpoint.name for endpoint in DOCUMENTED} - {endpoint.name for endpoint in TABLES} == {
        "usage",
        "websites.get",
    }


@pytest.mark.parametrize("endpoint", TABLES, ids=lambda endpoint: endpoint.name)
def test_length_rows_columns_and_iteration_agree(endpoint: Endpoint) -> None:
    table = documented(endpoint)
    rows, columns = table.rows(), table.columns()
    assert len(table) == len(rows) > 0
    assert list(table) == rows
    assert all(tuple(row) == tuple(columns) for row in rows)
    assert columns == {name: [row[name] for row in rows] for name in columns}
    assert pickle.loads(pickle.dumps(table)) == table  # noqa: S301 - our own


def test_whether_an_item_is_in_a_table_is_asked_of_the_items() -> None:
    page = HeatmapPage(url="/", total_interactions=1)
    report: Any = HeatmapPages(pages=(page,))
    assert page in report.pages
    with pytest.raises(TypeError):
        _ = page in report


def test_plain_values_have_no_layout() -> None:
    assert layout_of(Any) is None
    assert layout_of(dict[str, int]) is None


def test_rows_are_those_of_a_result_or_of_its_plain_values() -> None:
    layout: Any = layout_of(VisitorPage)
    result = VisitorPage(visitors=(Visitor(id="v1", city="Bern"),))
    assert [(row["id"], row["city"]) for row in result.rows()] == [("v1", "Bern")]
    assert layout.rows_of({"visitors": result.visitors}) == layout.rows_of(result)
    assert layout.rows_of({"visitors": [{"id": "v1", "city": "Bern"}]}) == layout.rows_of(result)


def test_an_empty_result_has_columns_and_no_rows_and_is_false() -> None:
    empty = HeatmapPages(pages=())
    assert empty.rows() == []
    assert empty.columns() == {"url": [], "total_interactions": [], "last_updated": []}
    assert len(empty) == 0
    assert not empty
    assert HeatmapPages(pages=(HeatmapPage(url="/", total_interactions=1),))


def test_times_are_in_utc_whatever_their_zone() -> None:
    never = datetime.max.replace(tzinfo=timezone(timedelta(hours=-2)))
    pages = tuple(HeatmapPage(url="/", total_interactions=1, last_updated=time) for time in (NOON, None, never))
    times = HeatmapPages(pages=pages).columns()["last_updated"]
    assert times == [NOON, None, never]
    assert times[0].tzinfo is UTC


def test_undocumented_fields_are_the_last_columns_of_a_result_that_has_any() -> None:
    days = DailyStats(date=date(2026, 5, 1)), DailyStats(date=date(2026, 5, 2), extra={"bounces": {"rate": 0.5}})
    assert tuple(overview(*days[:1]).columns())[-1] == "page_views"
    assert overview(*days).columns()["extra.bounces.rate"] == [None, 0.5]
    assert tuple(overview(*days).columns())[-1] == "extra.bounces.rate"
    assert has_extra_columns(AnalyticsOverview)
    assert not has_extra_columns(HeatmapPages)


def test_fields_whose_names_are_one_column_lose_no_value() -> None:
    day = DailyStats(date=date(2026, 5, 1), extra={"a.b": 1, "a": {"b": 2}})
    assert {"extra.a.b": 1, "extra.a.b_2": 2}.items() <= overview(day).rows()[0].items()


def test_settings_of_a_website_are_columns_with_dotted_names() -> None:
    layout: Any = layout_of(WebsiteDetail)
    assert "settings.heatmaps" in layout.rows_of(WebsiteDetail(id="w")).columns


@given(st.lists(st.tuples(st.text(), st.integers(0), st.none() | st.datetimes(timezones=st.just(UTC))), max_size=5))
def test_rows_and_columns_have_every_value_of_the_items(items: list[tuple[str, int, datetime | None]]) -> None:
    pages = [HeatmapPage(url=url, total_interactions=total, last_updated=time) for url, total, time in items]
    table = HeatmapPages(pages=tuple(pages))
    assert [tuple(row.values()) for row in table.rows()] == items
    assert list(zip(*table.columns().values(), strict=True)) == items


def test_lifetime_value_has_a_row_for_each_cohort_and_period() -> None:
    periods = tuple(LTVPeriod(period=n, cumulative_revenue_per_customer=10.0 * n) for n in range(2))
    cohort = msgspec.convert({"cohort_date": "2026-05-01", "customers": 7, "periods": periods}, LTVCohort)
    value = LifetimeValue(cohorts=(cohort, cohort))
    rows = value.rows()
    assert len(value) == 4
    assert [(row["cohort_date"], row["customers"], row["period"]) for row in rows] == [
        (date(2026, 5, 1), 7, period) for period in (0, 1, 0, 1)
    ]


def test_an_answer_brings_its_own_columns() -> None:
    answer = QueryAnswer(results=QueryResults(columns=("source", "visitors"), rows=(("google", 5),)))
    assert answer.rows() == [{"source": "google", "visitors": 5}]
    assert tuple(answer.columns()) == ("source", "visitors")
    assert tuple(QueryAnswer(results=QueryResults(columns=("source",))).columns()) == ("source",)
    assert tuple(QueryAnswer().columns()) == ()


@pytest.mark.parametrize(
    ("columns", "row", "expected"),
    [
        (("a", "a", "a_2"), (1, 2, 3), {"a": 1, "a_2": 2, "a_2_2": 3}),
        (("a", "a_2", "a", "a"), (1, 2, 3, 4), {"a": 1, "a_2": 2, "a_3": 3, "a_4": 4}),
        (("a",), (1, 2, [3]), {"a": 1, "column_2": 2, "column_3": [3]}),
        (("", "column_1"), (1, 2), {"column_1": 1, "column_1_2": 2}),
        (("website_id", "a"), (1, 2), {"website_id_2": 1, "a": 2}),
        (("a", "b"), (1,), {"a": 1}),
        ((), (1,), {"column_1": 1}),
    ],
)
def test_no_value_of_an_answer_is_lost(
    columns: tuple[str, ...], row: tuple[Any, ...], expected: dict[str, Any]
) -> None:
    answer = QueryAnswer(results=QueryResults(columns=columns, rows=(row,)))
    assert answer.rows() == [dict.fromkeys(answer.columns()) | expected]
    assert set(expected) <= set(answer.columns())


@pytest.mark.parametrize(
    ("results", "columns", "rows"),
    [
        ({"columns": ["a"], "rows": [[1], "x", [2]]}, ("a",), [{"a": 1}, {"a": "x"}, {"a": 2}]),
        ({"rows": [{"a": 1}, {"a": 2, "b": 3}]}, ("a", "b"), [{"a": 1}, {"a": 2, "b": 3}]),
        ({"columns": ["a", "b"], "rows": [{"b": 1, "c": 2}]}, ("a", "b", "c"), [{"b": 1, "c": 2}]),
        ([{"a": 1}, {"b": [2]}], ("a", "b"), [{"a": 1}, {"b": [2]}]),
        ({"columns": ["a", None], "rows": [[1, 2]]}, ("column_1", "column_2"), [{"column_1": 1, "column_2": 2}]),
        ({"rows": {"a": 1}}, (), []),
    ],
)
def test_an_answer_of_another_shape_than_documented_has_its_rows(
    results: object, columns: tuple[str, ...], rows: list[dict[str, Any]]
) -> None:
    """It was paid for, and one layout alone is documented."""
    call = query_call("x", "Where from?", None, None, None)
    body = msgspec.json.encode({"success": True, "data": {"results": results}})
    answer = parse_response(call, RawResponse(200, {}, body), 0.0).data
    assert tuple(answer.columns()) == columns
    assert answer.rows() == [dict.fromkeys(columns) | row for row in rows]
