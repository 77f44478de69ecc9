"""Results are returned from FastAPI as they are, with and without an annotation; pydantic knows them."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter, ValidationError

import zenovay_async
from zenovay_async import (
    AnalyticsOverview,
    AnalyticsSummary,
    DailyStats,
    DateRange,
    HeatmapPage,
    HeatmapPages,
    Result,
    VisitorPage,
    WebsiteDetail,
    WebsiteSummary,
)

RESULTS: list[type[Result]] = [
    value
    for value in (getattr(zenovay_async, name) for name in zenovay_async.__all__)
    if isinstance(value, type) and issubclass(value, Result) and value is not Result
]
NOON = datetime(2026, 3, 29, 12, tzinfo=timezone(timedelta(hours=2)))
PAGES = HeatmapPages(pages=(HeatmapPage(url="/", total_interactions=3, last_updated=NOON),))
OVERVIEW = AnalyticsOverview(
    website=WebsiteSummary(id="w"),
    summary=AnalyticsSummary(total_visitors=1),
    daily_stats=(
        DailyStats(date=NOON.date(), page_views=1),
        DailyStats(date=NOON.date(), extra={"bounces": {"rate": 0.5}}),
    ),
    date_range=DateRange(start_date_time=NOON),
)

app = FastAPI()


class Dashboard(BaseModel):
    report: HeatmapPages
    overview: AnalyticsOverview | None = None
    days: list[DailyStats] = []


# A lambda has no annotation, as many endpoints have none.
app.get("/bare")(lambda: PAGES)
app.get("/bare-overview")(lambda: {"overview": OVERVIEW, "days": list(OVERVIEW.daily_stats)})


@app.get("/typed")
async def typed() -> HeatmapPages:
    return PAGES


@app.get("/overview")
async def overview() -> AnalyticsOverview:
    return OVERVIEW


@app.get("/few", response_model_exclude_none=True)
async def few() -> AnalyticsOverview:
    return OVERVIEW


@app.get("/rows")
async def rows() -> list[HeatmapPage]:
    return list(PAGES.pages)


@app.get("/dashboard")
async def dashboard() -> Dashboard:
    return Dashboard(report=PAGES, overview=OVERVIEW, days=list(OVERVIEW.daily_stats))


@app.post("/pages")
async def store(report: HeatmapPages) -> list[str]:
    return [f"{type(page).__name__} {page.url}" for page in report.pages]


async def request(method: str, path: str, **arguments: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.example") as client:
        return await client.request(method, path, **arguments)


@pytest.mark.parametrize("path", ["/bare", "/typed"])
async def test_an_endpoint_returns_a_result_with_and_without_its_type(path: str) -> None:
    response = await request("GET", path)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == PAGES.to_dict()


async def test_nested_optional_and_extra_fields_are_serialized() -> None:
    expected = OVERVIEW.to_dict()
    assert (await request("GET", "/overview")).json() == expected
    found = (await request("GET", "/bare-overview")).json()
    assert found["days"] == found["overview"]["daily_stats"] == expected["daily_stats"]
    assert (await request("GET", "/rows")).json() == PAGES.to_dict()["pages"]
    # An annotation gives the API's names, its absence those of the attributes; they differ for these two alone.
    assert found["overview"]["date_range"]["start_date_time"] == expected["date_range"]["startDateTime"]


async def test_options_of_the_response_model_apply() -> None:
    assert (await request("GET", "/few")).json() == {
        "website": {"id": "w"},
        "summary": {"total_visitors": 1},
        "daily_stats": [
            {"date": "2026-03-29", "page_views": 1},
            {"date": "2026-03-29", "extra": {"bounces": {"rate": 0.5}}},
        ],
        "date_range": {"startDateTime": "2026-03-29T12:00:00+02:00"},
    }


async def test_a_result_is_a_field_of_a_model_and_a_body() -> None:
    found = (await request("GET", "/dashboard")).json()
    assert found == {
        "report": PAGES.to_dict(),
        "overview": OVERVIEW.to_dict(),
        "days": OVERVIEW.to_dict()["daily_stats"],
    }
    assert (await request("POST", "/pages", json=PAGES.to_dict())).json() == ["HeatmapPage /"]
    refused = await request("POST", "/pages", json={"pages": [{"url": 5}]})
    assert refused.status_code == 422
    assert [error["loc"] for error in refused.json()["detail"]] == [
        ["body", "pages", 0, "url"],
        ["body", "pages", 0, "total_interactions"],
    ]


async def test_the_openapi_schema_describes_results() -> None:
    document = (await request("GET", "/openapi.json")).json()
    schemas = document["components"]["schemas"]
    response = document["paths"]["/typed"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert response["$ref"].removeprefix("#/components/schemas/") in schemas
    name = response["$ref"].rpartition("/")[2]
    assert schemas[name]["description"] == "The pages of a website that have heatmap data."
    item = schemas[name]["properties"]["pages"]["items"]["$ref"].rpartition("/")[2]
    assert schemas[item]["properties"]["last_updated"] == {
        "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
        "title": "Last Updated",
        "description": "When its newest heatmap data arrived; aware.",
    }
    assert schemas[item]["required"] == ["url", "total_interactions", "last_updated"]
    assert {"startDateTime", "endDateTime"} <= set(schemas["DateRange"]["properties"])


@pytest.mark.parametrize("cls", RESULTS)
def test_every_result_has_a_json_schema_with_all_its_fields(cls: type[Result]) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(cls)
    for mode in ("validation", "serialization"):
        schema = adapter.json_schema(mode=mode)
        schema = schema if "properties" in schema else schema["$defs"][schema["$ref"].rpartition("/")[2]]
        assert set(schema["properties"]) == set(cls.__struct_encode_fields__)
        assert schema["title"] == cls.__name__
        assert all("description" in each for each in schema["properties"].values())


@pytest.mark.parametrize("result", [PAGES, OVERVIEW, WebsiteDetail(id="w"), VisitorPage(visitors=())])
def test_a_type_adapter_takes_and_gives_what_a_result_does(result: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(type(result))
    assert adapter.validate_python(result) is result
    assert adapter.validate_python(result.to_dict()) == result
    assert adapter.validate_python(dataclasses.asdict(result)) == result
    assert adapter.validate_json(result.to_json()) == result
    assert adapter.dump_python(result, mode="json") == result.to_dict()
    assert adapter.validate_json(adapter.dump_json(result)) == result
    assert adapter.validate_json(adapter.dump_json(result), strict=True) == result
    assert adapter.validate_python(adapter.dump_python(result)) == result
    assert adapter.validate_python(result, strict=True) is result


def test_fields_are_chosen_at_any_depth() -> None:
    """A field that a program leaves out must not get out all the same."""
    adapter = TypeAdapter(AnalyticsOverview)
    plain = adapter.dump_python(OVERVIEW, include={"website": True, "daily_stats": {"__all__": {"page_views"}}})
    assert set(plain) == {"website", "daily_stats"}
    assert [set(day) for day in plain["daily_stats"]] == [{"page_views"}] * len(OVERVIEW.daily_stats)
    assert b'"website"' not in adapter.dump_json(OVERVIEW, exclude={"website"})
    model = Dashboard(report=PAGES, overview=OVERVIEW)
    shown = model.model_dump(exclude={"report": {"pages": {"__all__": {"url"}}}})
    assert [set(page) for page in shown["report"]["pages"]] == [{"total_interactions", "last_updated"}] * len(
        PAGES.pages
    )
    assert "url" not in model.model_dump_json(exclude={"report": {"pages": {"__all__": {"url"}}}})


def test_a_time_without_its_zone_is_no_time_of_a_result() -> None:
    page = {"url": "/", "total_interactions": 1, "last_updated": "2026-03-29T12:00:00"}
    with pytest.raises(ValidationError, match="timezone"):
        TypeAdapter(HeatmapPage).validate_python(page)


def test_a_model_with_results_round_trips() -> None:
    model = Dashboard(report=PAGES, overview=OVERVIEW)
    assert Dashboard.model_validate_json(model.model_dump_json()) == model
    assert model.model_dump()["report"]["pages"][0]["last_updated"] is NOON
