"""A result is plain values, JSON, a dataclass to who asks, and what it was before: a frozen, comparable Struct."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import pprint
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from endpoints import DOCUMENTED, Endpoint, named

import zenovay_async
from zenovay_async import (
    AnalyticsOverview,
    AnalyticsSummary,
    DailyStats,
    DateRange,
    HeatmapPage,
    HeatmapPages,
    InsightPage,
    QueryAnswer,
    QueryResults,
    Result,
    WebsiteDetail,
    WebsiteSummary,
)
from zenovay_async._protocol.call import Endpoint as EndpointOf
from zenovay_async._protocol.decoding import Decoder
from zenovay_async._protocol.parsing import parse_response
from zenovay_async._protocol.response import RawResponse
from zenovay_async.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RESULTS: list[type[Result]] = [
    value
    for value in (getattr(zenovay_async, name) for name in zenovay_async.__all__)
    if isinstance(value, type) and issubclass(value, Result)
]
NOON = datetime(2026, 3, 29, 12, tzinfo=timezone(timedelta(hours=2)))
PAGES = HeatmapPages(pages=(HeatmapPage(url="/", total_interactions=3, last_updated=NOON),))
DAYS = (
    DailyStats(date=date(2026, 3, 28), page_views=1),
    DailyStats(date=date(2026, 3, 29), extra={"bounces": 2, "none": {}}),
)
OVERVIEW = AnalyticsOverview(
    website=WebsiteSummary(id="w"),
    summary=AnalyticsSummary(total_visitors=1),
    daily_stats=DAYS,
    date_range=DateRange(start_date_time=NOON),
)


def test_every_documented_result_is_one() -> None:
    assert {endpoint.result for endpoint in DOCUMENTED} <= set(RESULTS)


@pytest.mark.parametrize("cls", RESULTS)
def test_no_field_hides_a_method(cls: type[Result]) -> None:
    methods = {name for name in dir(Result) if not name.startswith("__")}
    assert methods == {"to_dict", "to_json"}
    if issubclass(cls, Table):
        methods |= {"columns", "rows"}
    assert not methods & set(cls.__struct_fields__)


def test_to_dict_is_what_json_takes_and_gives() -> None:
    plain = OVERVIEW.to_dict()
    assert json.loads(json.dumps(plain)) == plain == json.loads(OVERVIEW.to_json())
    assert PAGES.to_dict() == {
        "pages": [{"url": "/", "total_interactions": 3, "last_updated": "2026-03-29T12:00:00+02:00"}]
    }
    assert plain["daily_stats"][0] == {
        "date": "2026-03-28",
        "website_id": None,
        "total_visitors": None,
        "unique_visitors": None,
        "page_views": 1,
    }
    assert plain["daily_stats"][1]["extra"] == {"bounces": 2, "none": {}}
    assert plain["date_range"]["startDateTime"] == "2026-03-29T12:00:00+02:00"


def test_to_json_is_text_of_any_script() -> None:
    page = HeatmapPage(url="/łódź\u2028</script>", total_interactions=1)
    assert json.loads(page.to_json())["url"] == page.url


@pytest.mark.parametrize(
    "result",
    [InsightPage(insights=()), QueryAnswer(), WebsiteDetail(id="w"), *DAYS[:1]],
    ids=lambda each: str(type(each)),
)
def test_an_empty_extra_is_in_no_plain_value(result: Any) -> None:
    """Parquet has no object without a field."""
    assert "extra" not in str(result.to_dict())
    assert "extra" not in result.to_json()
    assert "extra" not in str(dataclasses.asdict(result))
    assert (result.settings if isinstance(result, WebsiteDetail) else result).extra == {}


def test_an_extra_that_has_fields_is_kept_at_any_depth() -> None:
    answer = QueryAnswer(results=QueryResults(extra={"unit": "visitors"}))
    assert answer.to_dict()["results"]["extra"] == {"unit": "visitors"}
    assert "extra" not in answer.to_dict()
    assert dataclasses.asdict(DAYS[1])["extra"] == {"bounces": 2, "none": {}}


def test_rows_of_a_table_have_no_empty_extra() -> None:
    assert [name for name in OVERVIEW.columns() if "extra" in name] == ["extra.bounces"]


def decoded(endpoint: Endpoint, data: Any) -> Any:
    """What a call returns whose response has this data."""
    result: Any = endpoint.result
    described: EndpointOf[Any] = EndpointOf(endpoint.name, endpoint.path, Decoder(result))
    raw = RawResponse(200, {}, msgspec.json.encode({"success": True, "data": data}))
    return parse_response(described.call("x"), raw, 0.0).data


def example(endpoint: Endpoint) -> Any:
    data = endpoint.body()["data"]
    return data["website"] if endpoint.name == "websites.get" else data


@pytest.mark.parametrize("endpoint", DOCUMENTED, ids=named)
def test_a_result_converts_back_from_what_it_gives(endpoint: Endpoint) -> None:
    result = decoded(endpoint, example(endpoint))
    cls = type(result)
    assert msgspec.convert(result.to_dict(), cls) == result
    assert msgspec.json.decode(result.to_json(), type=cls) == result
    assert msgspec.json.decode(msgspec.json.encode(result), type=cls) == result
    assert msgspec.convert(msgspec.to_builtins(result), cls) == result
    for twin in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):  # noqa: S301 - our own
        assert twin == result
        assert repr(twin) == repr(result)


REQUIRED = {
    "HeatmapPages": {"pages"},
    "HeatmapPage": {"url", "total_interactions"},
    "WebsiteList": {"websites"},
    "Website": {"id"},
    "WebsiteDetail": {"id"},
    "BatchReport": {"started"},
    "AnalyticsOverview": {"website", "summary", "daily_stats"},
    "DailyStats": {"date"},
    "VisitorPage": {"visitors"},
    "Visitor": {"id"},
    "CountryList": {"countries"},
    "ReplaySessionPage": {"sessions"},
    "ReplaySession": {"id"},
    "ErrorGroupList": {"error_groups"},
    "ErrorGroup": {"id"},
    "InsightPage": {"insights"},
    "Insight": {"id"},
    "AnomalyPage": {"anomalies"},
    "Anomaly": {"id"},
    "RetentionCohorts": {"cohorts"},
    "RetentionPeriod": {"cohort_date", "period_number"},
    "LifetimeValue": {"cohorts"},
    "LTVCohort": {"cohort_date"},
    "LTVPeriod": {"period"},
    "Pagination": {"has_more"},
    "Usage": {"usage"},
    "MonthlyUsage": {"monthly_requests"},
}
"""What each result is worthless without: nothing else may cost a whole list."""


@pytest.mark.parametrize("cls", RESULTS)
def test_only_what_a_result_is_worthless_without_is_required(cls: type[Result]) -> None:
    required = {field.name for field in msgspec.structs.fields(cls) if field.required}
    assert required == REQUIRED.get(cls.__name__, set())


@pytest.mark.parametrize("endpoint", DOCUMENTED, ids=named)
def test_a_null_costs_its_own_field_alone(endpoint: Endpoint) -> None:
    """Each field of each object of the documented example that is not required is null in turn."""
    whole = decoded(endpoint, example(endpoint)).to_dict()
    required = set().union(*REQUIRED.values())
    for path in [path for path in paths(example(endpoint)) if path[-1] not in required]:
        data = example(endpoint)
        *parents, name = path
        at(data, parents)[name] = None
        result = decoded(endpoint, data).to_dict()
        differing = [other for other in paths(whole) if at(result, other) != at(whole, other)]
        # Else what it is inside of, which differs for its sake.
        assert all(other[: len(path)] == path or path[: len(other)] == other for other in differing)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of each field of each object in a plain value."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield (*path, name)
            yield from paths(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*path, index))


def at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


@pytest.mark.parametrize("cls", RESULTS)
def test_a_result_is_a_dataclass_to_who_asks(cls: type[Result]) -> None:
    assert dataclasses.is_dataclass(cls)
    fields = dataclasses.fields(cls)
    assert [field.name for field in fields] == list(cls.__struct_fields__)
    required = {field.name for field in msgspec.structs.fields(cls) if field.required}
    no_default = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    assert no_default == required


def test_dataclass_functions_work_on_results() -> None:
    assert dataclasses.asdict(PAGES) == {"pages": ({"url": "/", "total_interactions": 3, "last_updated": NOON},)}
    assert dataclasses.replace(OVERVIEW, time_range="7d") == msgspec.structs.replace(OVERVIEW, time_range="7d")
    assert dataclasses.replace(DAYS[0], extra={"a": 1}).extra == {"a": 1}
    assert pprint.pformat(OVERVIEW, width=20) == repr(OVERVIEW)


def test_a_result_is_frozen_and_hashable() -> None:
    unchecked: Any = PAGES
    with pytest.raises(AttributeError):
        unchecked.pages = ()
    assert len({PAGES, copy.deepcopy(PAGES)}) == 1


def test_pydantic_is_imported_only_where_it_is_used() -> None:
    use = "zenovay_async.HeatmapPages(pages=()).to_json()"
    code = f"import sys, zenovay_async; {use}; print('pydantic_core' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own command
    assert done.stdout == "False\n"
