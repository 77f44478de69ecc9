"""Results as rows and columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from endpoints import DOCUMENTED

from zenovay_async import (
    HeatmapPages,
    LifetimeValue,
    LTVCohort,
    LTVPeriod,
    QueryAnswer,
    QueryResults,
    Visitor,
    VisitorPage,
    WebsiteDetail,
)
from zenovay_async._protocol.parsing import parse_response
from zenovay_async._protocol.response import RawResponse
from zenovay_async.resources.query import query_call
from zenovay_async.tables import Table, table_of

if TYPE_CHECKING:
    from endpoints import Endpoint


def table(result_type: Any) -> Table:
    found = table_of(result_type)
    assert found is not None, f"zenovay_async/tables.py has no Table of {result_type.__name__}"
    return found


@pytest.mark.parametrize("endpoint", DOCUMENTED, ids=lambda endpoint: endpoint.name)
def test_every_column_of_a_documented_result_is_a_field_of_its_rows(endpoint: Endpoint) -> None:
    data = endpoint.body()["data"]
    result: Any = msgspec.convert(data["website"] if endpoint.result is WebsiteDetail else data, endpoint.result)
    declared = table(endpoint.result)
    rows = declared.rows_of(result)
    columns = declared.columns_of(result)
    assert rows
    assert columns
    assert all(set(columns) <= set(row) for row in rows)
    assert {declared.measure, declared.label} <= {None, *columns}


def test_plain_values_have_no_table() -> None:
    assert table_of(Any) is None
    assert table_of(dict[str, int]) is None


def test_rows_are_those_of_a_result_or_of_its_plain_values() -> None:
    visits = table(VisitorPage)
    result = VisitorPage(visitors=(Visitor(id="v1", city="Bern"),))
    assert [(row["id"], row["city"]) for row in visits.rows_of(result)] == [("v1", "Bern")]
    assert visits.rows_of({"visitors": result.visitors}) == visits.rows_of(result)


def test_an_empty_result_has_columns_and_no_rows() -> None:
    pages = table(HeatmapPages)
    assert pages.rows_of(HeatmapPages(pages=())) == []
    assert pages.columns_of(HeatmapPages(pages=())) == ("url", "total_interactions", "last_updated")


def test_lifetime_value_has_a_row_for_each_cohort_and_period() -> None:
    periods = tuple(LTVPeriod(period=n, cumulative_revenue_per_customer=10.0 * n) for n in range(2))
    cohort = msgspec.convert({"cohort_date": "2026-05-01", "customers": 7, "periods": periods}, LTVCohort)
    rows = table(LifetimeValue).rows_of(LifetimeValue(cohorts=(cohort, cohort)))
    assert [(row["cohort_date"], row["customers"], row["period"]) for row in rows] == [
        ("2026-05-01", 7, period) for period in (0, 1, 0, 1)
    ]


def test_an_answer_brings_its_own_columns() -> None:
    answers = table(QueryAnswer)
    answer = QueryAnswer(results=QueryResults(columns=("source", "visitors"), rows=(("google", 5),)))
    assert answers.rows_of(answer) == [{"source": "google", "visitors": 5}]
    assert answers.columns_of(answer) == ("source", "visitors")
    assert answers.columns_of(QueryAnswer(results=QueryResults(columns=("source",)))) == ("source",)
    assert answers.columns_of(QueryAnswer()) == ()


@pytest.mark.parametrize(
    ("columns", "row", "expected"),
    [
        (("a", "a", "a_2"), (1, 2, 3), {"a": 1, "a_2": 2, "a_2_2": 3}),
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
    answers = table(QueryAnswer)
    answer = QueryAnswer(results=QueryResults(columns=columns, rows=(row,)))
    assert answers.rows_of(answer) == [expected]
    assert set(expected) <= set(answers.columns_of(answer))


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
    call = query_call("x", "Where from?", None, None)
    body = msgspec.json.encode({"success": True, "data": {"results": results}})
    answer = parse_response(call, RawResponse(200, {}, body), 0.0).data
    answers = table(QueryAnswer)
    assert answers.columns_of(answer) == columns
    assert answers.rows_of(answer) == rows
