"""The endpoints as the command line shows them: how each is called, and what of it stands in a row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from zenovay_async._protocol.parameters import quote_segment

if TYPE_CHECKING:
    from zenovay_async import Paged, Zenovay

Row: TypeAlias = dict[str, Any]
Fetch: TypeAlias = Callable[["Zenovay", str, dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Endpoint:
    """An endpoint as a command.

    Attributes:
        call: Calls it, by client, website id and parameters.
        rows: Name of the list in the result that has a row for each thing, or what makes the rows; ``None`` where the
            shape of the result is not documented.
        columns: The columns of a row.
        noun: What the rows are, for the line of a website among many; ``None`` where each website is a row anyway.
        measure: The column to draw as a bar and add up; ``None`` for none.
        label: The column that tells of a website's first row in its line among many; ``None`` for none.
        shown: How many of the columns have room in a table.
        of_a_website: Whether it is called once for each website; else once.
        cost: What a call takes from the month, in requests.
    """

    call: Fetch
    rows: str | Callable[[Any], list[Row]] | None = None
    columns: tuple[str, ...] = field(default=())
    noun: str | None = "rows"
    measure: str | None = None
    label: str | None = None
    shown: int = 6
    of_a_website: bool = True
    cost: int = 1

    def rows_of(self, result: Any) -> list[Row]:
        """The rows of a result; times as ISO 8601 text."""
        plain = msgspec.to_builtins(result)
        rows: list[Row] = self.rows(plain) if callable(self.rows) else plain[self.rows or ""]
        return rows


def _paged(name: str, method: Callable[[Zenovay], Callable[..., Paged[Any, Any]]]) -> Fetch:
    """A list that comes in pages: one page, or with ``take`` or ``all`` the items of as many as it takes."""

    async def call(zenovay: Zenovay, website_id: str, given: dict[str, Any]) -> Any:
        parameters = {key: value for key, value in given.items() if key not in {"all", "take"}}
        paged = method(zenovay)(website_id, **parameters)
        if "take" not in given and not given.get("all"):
            return await paged
        items = paged.take(given["take"]) if "take" in given else paged
        return {name: [item async for item in items]}

    return call


def _cohort_periods(plain: Any) -> list[Row]:
    return [
        {"cohort_date": cohort["cohort_date"], "customers": cohort["customers"], **period}
        for cohort in plain["cohorts"]
        for period in cohort["periods"]
    ]


def _answer_rows(plain: Any) -> list[Row]:
    results = plain["results"]
    return [dict(zip(results["columns"], row, strict=False)) for row in results["rows"]]


def _free(path: str) -> Endpoint:
    """An endpoint of which only the path is documented, ``{}`` in place of the website's id.

    It is called by its path, as its method has arguments of its own, and any name may be a parameter's.
    """
    of_a_website = "{}" in path

    async def call(zenovay: Zenovay, website_id: str, given: dict[str, Any]) -> Any:
        return await zenovay.request(
            "GET", path.format(quote_segment("website_id", website_id)) if of_a_website else path, params=given
        )

    return Endpoint(call, of_a_website=of_a_website)


_WEBSITE = ("id", "domain", "name", "tracking_code", "is_active", "created_at", "team_id")

USAGE = Endpoint(
    lambda zenovay, _, given: zenovay.usage(**given),
    lambda plain: [{**plain["api_key"], **plain["usage"], **plain["rate_limits"], **plain["subscription"]}],
    (
        *("id", "name", "permission", "website_id", "tier", "requests_per_minute", "monthly_requests", "monthly_limit"),
        *("monthly_remaining", "monthly_reset_at", "total_requests"),
    ),
    of_a_website=False,
)
WEBSITES = Endpoint(
    lambda zenovay, _, given: zenovay.websites.list(**given), "websites", _WEBSITE, "websites", of_a_website=False
)
WEBSITE = Endpoint(
    lambda zenovay, site, given: zenovay.websites.get(site, **given),
    lambda plain: [plain],
    (*_WEBSITE, "user_id"),
    None,
)
OVERVIEW = Endpoint(
    lambda zenovay, site, given: zenovay.analytics.overview(site, **given),
    "daily_stats",
    ("date", "total_visitors", "unique_visitors", "page_views"),
    "days",
    "total_visitors",
)
VISITORS = Endpoint(
    _paged("visitors", lambda zenovay: zenovay.analytics.visitors),
    "visitors",
    (
        *("visited_at", "country_code", "city", "device_type", "browser", "os", "value_score", "landing_page"),
        *("referrer", "had_interaction", "country_name", "id"),
    ),
    "visitors",
    label="visited_at",
    shown=9,
)
ANALYTICS_PAGES = _free("analytics/{}/pages")
COUNTRIES = Endpoint(
    lambda zenovay, site, given: zenovay.analytics.countries(site, **given),
    "countries",
    ("country_name", "visitors", "avg_value_score", "country_code"),
    "countries",
    "visitors",
    "country_name",
)
TECHNOLOGY = _free("analytics/{}/technology")
HEATMAP_PAGES = Endpoint(
    lambda zenovay, site, given: zenovay.heatmaps.pages(site, **given),
    "pages",
    ("url", "total_interactions", "last_updated"),
    "pages",
    "total_interactions",
    "url",
)
SESSIONS = Endpoint(
    _paged("sessions", lambda zenovay: zenovay.replays.sessions),
    "sessions",
    (
        *("started_at", "duration_seconds", "event_count", "page_url", "country_code", "device_type", "browser", "os"),
        *("ended_at", "session_id", "id"),
    ),
    "sessions",
    label="started_at",
    shown=8,
)
ERROR_GROUPS = Endpoint(
    lambda zenovay, site, given: zenovay.errors.groups(site, **given),
    "error_groups",
    (
        *("message", "occurrence_count", "affected_users_count", "status", "type", "last_seen_at", "first_seen_at"),
        *("fingerprint", "id"),
    ),
    "error groups",
    "occurrence_count",
    "message",
)
INSIGHTS = Endpoint(
    _paged("insights", lambda zenovay: zenovay.insights.list),
    "insights",
    (
        *("created_at", "severity", "type", "title", "metric_name", "metric_value", "metric_change"),
        *("recommendation", "description", "id"),
    ),
    "insights",
    label="title",
    shown=7,
)
ANOMALIES = Endpoint(
    _paged("anomalies", lambda zenovay: zenovay.anomalies.list),
    "anomalies",
    (
        *("detected_at", "severity", "metric_name", "expected_value", "actual_value", "deviation_percentage"),
        *("is_resolved", "id"),
    ),
    "anomalies",
    label="metric_name",
    shown=7,
)
COHORTS = Endpoint(
    lambda zenovay, site, given: zenovay.retention.cohorts(site, **given),
    "cohorts",
    ("cohort_date", "period_number", "total_users", "retained_users", "retention_rate"),
)
LTV = Endpoint(
    lambda zenovay, site, given: zenovay.revenue.ltv(site, **given),
    _cohort_periods,
    ("cohort_date", "customers", "period", "cumulative_revenue_per_customer"),
)
QUERY = Endpoint(lambda zenovay, site, given: zenovay.query(site, **given), _answer_rows, noun="rows", cost=3)
AGGREGATE = _free("stats/aggregate")
TIMESERIES = _free("stats/timeseries")
BREAKDOWN = _free("stats/breakdown")
