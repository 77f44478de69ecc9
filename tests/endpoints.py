"""The endpoints: how each is called, where its documented example is, and what it returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import zenovay_async as z
from zenovay_async import Zenovay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EXAMPLES = Path(__file__).parent / "examples"


class Endpoint(NamedTuple):
    """One endpoint: the name of its operation, and its path, in which ``{}`` stands for the website's ID."""

    name: str
    path: str
    call: Callable[[Zenovay, str], Awaitable[Any]]
    result: type | None = None
    example: str = ""

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "POST" if self.name == "query" else "GET"

    def body(self) -> dict[str, Any]:
        """The documented example."""
        found: dict[str, Any] = json.loads((EXAMPLES / self.example).read_text())
        return found


ENDPOINTS = [
    Endpoint("usage", "/usage", lambda c, _: c.usage(), z.Usage, "usage.json"),
    Endpoint("websites.list", "/websites", lambda c, _: c.websites.list(), z.WebsiteList, "websites.json"),
    Endpoint(
        "websites.get", "/websites/{}", lambda c, site: c.websites.get(site), z.WebsiteDetail, "websites-detail.json"
    ),
    Endpoint(
        "analytics.overview",
        "/analytics/{}",
        lambda c, site: c.analytics.overview(site),
        z.AnalyticsOverview,
        "analytics-overview.json",
    ),
    Endpoint(
        "analytics.visitors",
        "/analytics/{}/visitors",
        lambda c, site: c.analytics.visitors(site),
        z.VisitorPage,
        "analytics-visitors.json",
    ),
    Endpoint("analytics.pages", "/analytics/{}/pages", lambda c, site: c.analytics.pages(site)),
    Endpoint(
        "analytics.countries",
        "/analytics/{}/countries",
        lambda c, site: c.analytics.countries(site),
        z.CountryList,
        "analytics-countries.json",
    ),
    Endpoint("analytics.technology", "/analytics/{}/technology", lambda c, site: c.analytics.technology(site)),
    Endpoint(
        "heatmaps.pages",
        "/heatmaps/{}/pages",
        lambda c, site: c.heatmaps.pages(site),
        z.HeatmapPages,
        "heatmaps-pages.json",
    ),
    Endpoint(
        "replays.sessions",
        "/replays/{}/sessions",
        lambda c, site: c.replays.sessions(site),
        z.ReplaySessionPage,
        "replays-sessions.json",
    ),
    Endpoint(
        "errors.groups",
        "/errors/{}/groups",
        lambda c, site: c.errors.groups(site),
        z.ErrorGroupList,
        "errors-groups.json",
    ),
    Endpoint("insights.list", "/insights/{}", lambda c, site: c.insights.list(site), z.InsightPage, "insights.json"),
    Endpoint(
        "anomalies.list", "/anomalies/{}", lambda c, site: c.anomalies.list(site), z.AnomalyPage, "anomalies.json"
    ),
    Endpoint(
        "retention.cohorts",
        "/retention/{}",
        lambda c, site: c.retention.cohorts(site),
        z.RetentionCohorts,
        "retention.json",
    ),
    Endpoint(
        "revenue.ltv", "/revenue/{}/ltv", lambda c, site: c.revenue.ltv(site), z.LifetimeValue, "revenue-ltv.json"
    ),
    Endpoint("query", "/query/{}", lambda c, site: c.query(site, "Where from?"), z.QueryAnswer, "query.json"),
    Endpoint("stats.aggregate", "/stats/aggregate", lambda c, site: c.stats.aggregate(site_id=site)),
    Endpoint("stats.timeseries", "/stats/timeseries", lambda c, site: c.stats.timeseries(site_id=site)),
    Endpoint("stats.breakdown", "/stats/breakdown", lambda c, site: c.stats.breakdown(site_id=site)),
]
DOCUMENTED = [endpoint for endpoint in ENDPOINTS if endpoint.example]


def named(endpoint: Endpoint) -> str:
    """The ID of a test of an endpoint."""
    return endpoint.name
