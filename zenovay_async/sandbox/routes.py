"""What each path answers, from parameters that are checked as the documentation says.

Where it does not say (a ``limit`` above the maximum, an unknown ``range``), the sandbox refuses: whoever tests against
it learns of a doubtful request before the real API does something else with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from zenovay_async.sandbox.data import World

Query: TypeAlias = Mapping[str, str]
Site: TypeAlias = Callable[["World", str, Query], dict[str, Any]]

_RANGES = ("24h", "7d", "30d", "90d", "1y")
_SHORT_RANGES = _RANGES[:-1]
_SEVERITIES = ("info", "warning", "critical")
_INSIGHTS = ("anomaly", "trend", "recommendation", "prediction")


class Invalid(Exception):  # noqa: N818 - answered with 400, not raised to anyone
    """A parameter is not as documented."""

    def __init__(self, message: str, code: str = "VALIDATION_ERROR") -> None:
        super().__init__(message)
        self.code = code


def _whole(query: Query, name: str, default: int, low: int, high: int | None) -> int:
    text = query.get(name, str(default))
    value = int(text) if text.isascii() and text.removeprefix("-").isdecimal() else None
    if value is None or value < low or (high is not None and value > high):
        raise Invalid(f"Invalid {name}: expected a whole number from {low}" + (f" to {high}" if high else ""))
    return value


def _one_of(query: Query, name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = query.get(name, default)
    if value not in allowed:
        raise Invalid(f"Invalid {name}: expected one of {', '.join(allowed)}")
    return value


def _matches(
    rows: list[dict[str, Any]], query: Query, name: str, allowed: tuple[str, ...], field: str = ""
) -> list[dict[str, Any]]:
    """The rows whose field, called as the parameter unless it is named, is as asked for; all, if nothing is."""
    if name not in query:
        return rows
    wanted = _one_of(query, name, "", allowed)
    return [row for row in rows if str(row[field or name]).lower() == wanted]


def _page(rows: list[dict[str, Any]], query: Query) -> list[dict[str, Any]]:
    offset = _whole(query, "offset", 0, 0, None)
    return rows[offset : offset + _whole(query, "limit", 50, 1, 200)]


def _overview(world: World, site: str, query: Query) -> dict[str, Any]:
    return world.overview(site, _one_of(query, "range", "7d", _RANGES))


def _visitors(world: World, site: str, query: Query) -> dict[str, Any]:
    limit, offset = _whole(query, "limit", 100, 1, 1000), _whole(query, "offset", 0, 0, None)
    rows, more = world.visitors(site, _one_of(query, "range", "7d", _RANGES), offset, limit)
    return {"visitors": rows, "pagination": {"limit": limit, "offset": offset, "has_more": more}}


def _countries(world: World, site: str, query: Query) -> dict[str, Any]:
    limit = _whole(query, "limit", 20, 1, 100)
    return {"countries": world.countries(site, _one_of(query, "range", "7d", _RANGES))[:limit]}


def _analytics_pages(world: World, site: str, query: Query) -> dict[str, Any]:
    # Only the path is documented: the shape here is a stand-in, not a fact.
    _one_of(query, "range", "7d", _RANGES)
    return {"pages": [{"url": page["url"]} for page in world.heatmap_pages(site)]}


def _technology(world: World, site: str, query: Query) -> dict[str, Any]:
    # As above.
    rows, _ = world.visitors(site, _one_of(query, "range", "7d", _RANGES), 0, 500)
    return {"browsers": sorted({row["browser"] for row in rows}), "os": sorted({row["os"] for row in rows})}


def _heatmap_pages(world: World, site: str, query: Query) -> dict[str, Any]:
    return {"pages": world.heatmap_pages(site)[: _whole(query, "limit", 20, 1, 100)]}


def _sessions(world: World, site: str, query: Query) -> dict[str, Any]:
    limit, offset = _whole(query, "limit", 50, 1, 200), _whole(query, "offset", 0, 0, None)
    rows, more = world.sessions(site, offset, limit)
    return {"sessions": rows, "pagination": {"limit": limit, "offset": offset, "has_more": more}}


def _error_groups(world: World, site: str, query: Query) -> dict[str, Any]:
    rows = _matches(world.error_groups(site), query, "status", ("unresolved", "resolved", "ignored"))
    return {"error_groups": rows[: _whole(query, "limit", 50, 1, 200)]}


def _insights(world: World, site: str, query: Query) -> dict[str, Any]:
    rows = world.insights(site, _one_of(query, "range", "7d", _SHORT_RANGES))
    rows = _matches(rows, query, "type", _INSIGHTS)
    return {"insights": _page(_matches(rows, query, "severity", _SEVERITIES), query)}


def _anomalies(world: World, site: str, query: Query) -> dict[str, Any]:
    rows = world.anomalies(site, _one_of(query, "range", "7d", _SHORT_RANGES))
    rows = _matches(rows, query, "severity", _SEVERITIES)
    rows = _matches(rows, query, "resolved", ("true", "false"), "is_resolved")
    # Of the metrics only some are documented, as examples.
    if metric := query.get("metric"):
        rows = [row for row in rows if row["metric_name"] == metric]
    return {"anomalies": _page(rows, query)}


def _retention(world: World, site: str, query: Query) -> dict[str, Any]:
    range_ = _one_of(query, "range", "30d", _SHORT_RANGES)
    granularity = _one_of(query, "granularity", "weekly", ("daily", "weekly", "monthly"))
    return {"cohorts": world.retention(site, range_, granularity, _whole(query, "periods", 6, 1, 12))}


def _lifetime_value(world: World, site: str, query: Query) -> dict[str, Any]:
    range_ = _one_of(query, "range", "90d", _SHORT_RANGES)
    return world.lifetime_value(site, range_, _one_of(query, "granularity", "monthly", ("weekly", "monthly")))


OF_A_WEBSITE: dict[str, Site] = {
    "/websites/{id}": lambda world, site, _: {"website": world.website_detail(site)},
    "/analytics/{id}": _overview,
    "/analytics/{id}/visitors": _visitors,
    "/analytics/{id}/pages": _analytics_pages,
    "/analytics/{id}/countries": _countries,
    "/analytics/{id}/technology": _technology,
    "/heatmaps/{id}/pages": _heatmap_pages,
    "/replays/{id}/sessions": _sessions,
    "/errors/{id}/groups": _error_groups,
    "/insights/{id}": _insights,
    "/anomalies/{id}": _anomalies,
    "/retention/{id}": _retention,
    "/revenue/{id}/ltv": _lifetime_value,
}
"""The endpoints of one website, by path; ``GET`` all."""

STATS = ("/stats/aggregate", "/stats/timeseries", "/stats/breakdown")
"""Endpoints of which only the path and the purpose are documented."""


def question(body: Any) -> tuple[str, str]:
    """The question and the range of a ``POST /query``, checked (docs "POST /query/:websiteId")."""
    given: dict[str, Any] = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    asked = given.get("question")
    if not isinstance(asked, str) or not asked or len(asked) > 500:  # noqa: PLR2004 - the documented maximum
        raise Invalid("Invalid question: expected text of 1 to 500 characters")
    context: Any = given.get("context", {})
    if not isinstance(context, dict):
        raise Invalid("Invalid context: expected an object")
    context = cast("dict[str, Any]", context)
    _one_of(context, "compare_to", "previous_period", ("previous_period", "previous_year"))
    return asked, _one_of(context, "time_range", "7d", _SHORT_RANGES)


def stats_site(query: Query) -> str:
    """The website that a request to the Stats API is about; that its parameter is called ``site_id`` is a guess."""
    site = query.get("site_id", "")
    if not site:
        raise Invalid("Missing site_id", "MISSING_SITE_ID")
    return site


def stats(world: World, path: str, site: str) -> dict[str, Any]:
    """A stand-in for the Stats API: all shapes are guesses, and said to be."""
    rows = world.daily_stats(site, 30)
    if path.endswith("timeseries"):
        return {"results": [{"date": row["date"], "visitors": row["total_visitors"]} for row in rows]}
    if path.endswith("breakdown"):
        return {"results": world.countries(site, "30d")}
    return {"results": {"visitors": sum(row["total_visitors"] for row in rows)}}
