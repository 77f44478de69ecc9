"""The endpoints: how each is called, what it returns, its documented example, and the documented values it takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin

import zenovay_async as z
from zenovay_async import Zenovay
from zenovay_async.cli.operations import Operation, operations

if TYPE_CHECKING:
    import inspect
    from collections.abc import Awaitable, Callable, Iterator

EXAMPLES = Path(__file__).parent / "examples"


class Endpoint(NamedTuple):
    """One endpoint: the name of its operation, its path, a call of it, its result, and the file of its example."""

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

    def path_of(self, website_id: str) -> str:
        """The path for a website."""
        return self.path.format(website_id=website_id)


ENDPOINTS = [
    Endpoint("usage", "/usage", lambda c, _: c.usage(), z.Usage, "usage.json"),
    Endpoint("websites.list", "/websites", lambda c, _: c.websites.list(), z.WebsiteList, "websites.json"),
    Endpoint(
        "websites.get",
        "/websites/{website_id}",
        lambda c, site: c.websites.get(site),
        z.WebsiteDetail,
        "websites-detail.json",
    ),
    Endpoint(
        "analytics.overview",
        "/analytics/{website_id}",
        lambda c, site: c.analytics.overview(site),
        z.AnalyticsOverview,
        "analytics-overview.json",
    ),
    Endpoint(
        "analytics.visitors",
        "/analytics/{website_id}/visitors",
        lambda c, site: c.analytics.visitors(site),
        z.VisitorPage,
        "analytics-visitors.json",
    ),
    Endpoint("analytics.pages", "/analytics/{website_id}/pages", lambda c, site: c.analytics.pages(site)),
    Endpoint(
        "analytics.countries",
        "/analytics/{website_id}/countries",
        lambda c, site: c.analytics.countries(site),
        z.CountryList,
        "analytics-countries.json",
    ),
    Endpoint(
        "analytics.technology", "/analytics/{website_id}/technology", lambda c, site: c.analytics.technology(site)
    ),
    Endpoint(
        "heatmaps.pages",
        "/heatmaps/{website_id}/pages",
        lambda c, site: c.heatmaps.pages(site),
        z.HeatmapPages,
        "heatmaps-pages.json",
    ),
    Endpoint(
        "replays.sessions",
        "/replays/{website_id}/sessions",
        lambda c, site: c.replays.sessions(site),
        z.ReplaySessionPage,
        "replays-sessions.json",
    ),
    Endpoint(
        "errors.groups",
        "/errors/{website_id}/groups",
        lambda c, site: c.errors.groups(site),
        z.ErrorGroupList,
        "errors-groups.json",
    ),
    Endpoint(
        "insights.list", "/insights/{website_id}", lambda c, site: c.insights.list(site), z.InsightPage, "insights.json"
    ),
    Endpoint(
        "anomalies.list",
        "/anomalies/{website_id}",
        lambda c, site: c.anomalies.list(site),
        z.AnomalyPage,
        "anomalies.json",
    ),
    Endpoint(
        "retention.cohorts",
        "/retention/{website_id}",
        lambda c, site: c.retention.cohorts(site),
        z.RetentionCohorts,
        "retention.json",
    ),
    Endpoint(
        "revenue.ltv",
        "/revenue/{website_id}/ltv",
        lambda c, site: c.revenue.ltv(site),
        z.LifetimeValue,
        "revenue-ltv.json",
    ),
    Endpoint("query", "/query/{website_id}", lambda c, site: c.query(site, "Where from?"), z.QueryAnswer, "query.json"),
    Endpoint("stats.aggregate", "/stats/aggregate", lambda c, site: c.stats.aggregate(site_id=site)),
    Endpoint("stats.timeseries", "/stats/timeseries", lambda c, site: c.stats.timeseries(site_id=site)),
    Endpoint("stats.breakdown", "/stats/breakdown", lambda c, site: c.stats.breakdown(site_id=site)),
]
DOCUMENTED = [endpoint for endpoint in ENDPOINTS if endpoint.example]
BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
OPERATIONS = {".".join(operation.path): operation for operation in operations()}
"""The same, as signatures and docstrings describe them."""
PAGED = {name: operation.items for name, operation in OPERATIONS.items() if operation.items}
"""The lists in pages: the name of the operation, and that of the list in a page."""


class Range(NamedTuple):
    """The documented range of an argument; ``high`` is ``None`` for no bound."""

    operation: str
    argument: str
    low: int
    high: int | None


def is_of(argument: inspect.Parameter, kind: type) -> bool:
    """Whether an argument has this type, or may have it."""
    return kind in {argument.annotation, *get_args(argument.annotation)}


def ranges(operation: Operation) -> Iterator[Range]:
    """The ranges of integers that a docstring names, as "1 to 200" or "0 or more"."""
    for argument in operation.arguments:
        found = re.search(r"(\d+) (?:to (\d+)|or more)", operation.help.get(argument.name, ""))
        if found and is_of(argument, int):
            low, high = found.groups()
            yield Range(".".join(operation.path), argument.name, int(low), int(high) if high else None)


def documented_values(operation: Operation) -> Iterator[tuple[str, Any]]:
    """Arguments with each of their documented values: those that the type names, and the bounds of a range."""
    for argument in operation.arguments:
        if is_of(argument, bool):
            yield from ((argument.name, value) for value in (True, False))
        for kind in get_args(argument.annotation):
            if get_origin(kind) is Literal:
                yield from ((argument.name, value) for value in get_args(kind))
    for bounds in ranges(operation):
        yield from ((bounds.argument, bound) for bound in (bounds.low, bounds.high) if bound is not None)


def named(endpoint: Endpoint) -> str:
    """The ID of a test of an endpoint."""
    return endpoint.name
