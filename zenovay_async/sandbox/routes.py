"""The routes: one decorated function for each endpoint.

The sandbox rejects what the documentation leaves open, such as a ``limit`` above the maximum or an unknown ``range``,
because the real API may treat it in any way.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from zenovay_async.sandbox.data import RANGE_DAYS, timestamp
from zenovay_async.sandbox.keys import PLANS
from zenovay_async.sandbox.routing import ApiError, ApiRequest, Router

if TYPE_CHECKING:
    from collections.abc import Mapping

Rows: TypeAlias = list[dict[str, Any]]

ROUTES = Router()
"""All endpoints of the API."""

_RANGES = tuple(RANGE_DAYS)
_SHORT_RANGES = _RANGES[:-1]
_INSIGHT_TYPES = ("anomaly", "trend", "recommendation", "prediction")
_SEVERITIES = ("info", "warning", "critical")
_MAX_QUESTION = 500


@ROUTES.route("/usage", operation="usage")
def _usage(request: ApiRequest) -> dict[str, Any]:
    key, quota = request.key, request.key.quota
    return {
        "api_key": {
            "id": f"ak_{uuid.uuid5(uuid.NAMESPACE_URL, key.name)}",
            "name": key.name,
            "permission": "full_access" if key.website_id is None else "site_access",
            "website_id": key.website_id,
        },
        "usage": {
            "monthly_requests": quota.used,
            "monthly_limit": quota.limit,
            "monthly_remaining": quota.limit - quota.used,
            "monthly_reset_at": timestamp(quota.resets_at(datetime.now(UTC))),
            "total_requests": quota.total,
        },
        "rate_limits": {"requests_per_minute": key.limiter.limit if key.limiter else PLANS[key.plan].per_minute},
        "subscription": {"tier": key.plan},
    }


@ROUTES.route("/websites", operation="websites.list")
def _websites(request: ApiRequest) -> dict[str, Any]:
    only = request.key.website_id
    ids = request.data.ids if only is None else [only]
    return {"websites": [request.data.website(website_id) for website_id in ids], "total": len(ids)}


@ROUTES.route("/websites/{website_id}", operation="websites.get")
def _website(request: ApiRequest) -> dict[str, Any]:
    return {"website": request.data.website_detail(request.website_id)}


@ROUTES.route("/analytics/{website_id}", operation="analytics.overview")
def _overview(request: ApiRequest) -> dict[str, Any]:
    return request.data.overview(request.website_id, _choice(request.query, "range", "7d", _RANGES))


@ROUTES.route("/analytics/{website_id}/visitors", operation="analytics.visitors")
def _visitors(request: ApiRequest) -> dict[str, Any]:
    limit, offset = _limit(request.query, 100, 1000), _offset(request.query)
    range_ = _choice(request.query, "range", "7d", _RANGES)
    rows, has_more = request.data.visitors(request.website_id, range_, offset, limit)
    return {"visitors": rows, "pagination": {"limit": limit, "offset": offset, "has_more": has_more}}


@ROUTES.route("/analytics/{website_id}/pages", operation="analytics.pages")
def _analytics_pages(request: ApiRequest) -> dict[str, Any]:
    # The documentation gives only the path; the shape is a placeholder.
    _choice(request.query, "range", "7d", _RANGES)
    return {"pages": [{"url": page["url"]} for page in request.data.heatmap_pages(request.website_id)]}


@ROUTES.route("/analytics/{website_id}/countries", operation="analytics.countries")
def _countries(request: ApiRequest) -> dict[str, Any]:
    limit = _limit(request.query, 20, 100)
    range_ = _choice(request.query, "range", "7d", _RANGES)
    return {"countries": request.data.countries(request.website_id, range_)[:limit]}


@ROUTES.route("/analytics/{website_id}/technology", operation="analytics.technology")
def _technology(request: ApiRequest) -> dict[str, Any]:
    # The documentation gives only the path; the shape is a placeholder.
    range_ = _choice(request.query, "range", "7d", _RANGES)
    rows, _ = request.data.visitors(request.website_id, range_, 0, 500)
    return {"browsers": sorted({row["browser"] for row in rows}), "os": sorted({row["os"] for row in rows})}


@ROUTES.route("/heatmaps/{website_id}/pages", operation="heatmaps.pages")
def _heatmap_pages(request: ApiRequest) -> dict[str, Any]:
    return {"pages": request.data.heatmap_pages(request.website_id)[: _limit(request.query, 20, 100)]}


@ROUTES.route("/replays/{website_id}/sessions", operation="replays.sessions")
def _sessions(request: ApiRequest) -> dict[str, Any]:
    limit, offset = _limit(request.query, 50, 200), _offset(request.query)
    rows, has_more = request.data.sessions(request.website_id, offset, limit)
    return {"sessions": rows, "pagination": {"limit": limit, "offset": offset, "has_more": has_more}}


@ROUTES.route("/errors/{website_id}/groups", operation="errors.groups")
def _error_groups(request: ApiRequest) -> dict[str, Any]:
    rows = request.data.error_groups(request.website_id)
    rows = _filter(rows, request.query, "status", ("unresolved", "resolved", "ignored"))
    return {"error_groups": rows[: _limit(request.query, 50, 200)]}


@ROUTES.route("/insights/{website_id}", operation="insights.list")
def _insights(request: ApiRequest) -> dict[str, Any]:
    rows = request.data.insights(request.website_id, _choice(request.query, "range", "7d", _SHORT_RANGES))
    rows = _filter(rows, request.query, "type", _INSIGHT_TYPES)
    rows = _filter(rows, request.query, "severity", _SEVERITIES)
    return {"insights": _slice(rows, request.query)}


@ROUTES.route("/anomalies/{website_id}", operation="anomalies.list")
def _anomalies(request: ApiRequest) -> dict[str, Any]:
    rows = request.data.anomalies(request.website_id, _choice(request.query, "range", "7d", _SHORT_RANGES))
    rows = _filter(rows, request.query, "severity", _SEVERITIES)
    rows = _filter(rows, request.query, "resolved", ("true", "false"), field="is_resolved")
    # The documentation names some metrics, as examples, so any text is accepted.
    if metric := request.query.get("metric"):
        rows = [row for row in rows if row["metric_name"] == metric]
    return {"anomalies": _slice(rows, request.query)}


@ROUTES.route("/retention/{website_id}", operation="retention.cohorts")
def _retention(request: ApiRequest) -> dict[str, Any]:
    range_ = _choice(request.query, "range", "30d", _SHORT_RANGES)
    granularity = _choice(request.query, "granularity", "weekly", ("daily", "weekly", "monthly"))
    periods = _integer(request.query, "periods", 6, 1, 12)
    return {"cohorts": request.data.retention(request.website_id, range_, granularity, periods)}


@ROUTES.route("/revenue/{website_id}/ltv", operation="revenue.ltv")
def _lifetime_value(request: ApiRequest) -> dict[str, Any]:
    range_ = _choice(request.query, "range", "90d", _SHORT_RANGES)
    granularity = _choice(request.query, "granularity", "monthly", ("weekly", "monthly"))
    return request.data.lifetime_value(request.website_id, range_, granularity)


# The documentation gives only the paths of the Stats API; parameters and shapes are placeholders.
@ROUTES.route("/stats/aggregate", website_parameter="site_id", operation="stats.aggregate")
def _stats_aggregate(request: ApiRequest) -> dict[str, Any]:
    rows = request.data.daily_stats(request.website_id, 30)
    return {"results": {"visitors": sum(row["total_visitors"] for row in rows)}}


@ROUTES.route("/stats/timeseries", website_parameter="site_id", operation="stats.timeseries")
def _stats_timeseries(request: ApiRequest) -> dict[str, Any]:
    rows = request.data.daily_stats(request.website_id, 30)
    return {"results": [{"date": row["date"], "visitors": row["total_visitors"]} for row in rows]}


@ROUTES.route("/stats/breakdown", website_parameter="site_id", operation="stats.breakdown")
def _stats_breakdown(request: ApiRequest) -> dict[str, Any]:
    return {"results": request.data.countries(request.website_id, "30d")}


# Source: docs "POST /query/:website_id".
@ROUTES.route("/query/{website_id}", method="POST", cost=3, plan="scale", operation="query")
def _query(request: ApiRequest) -> dict[str, Any]:
    body = _json_object(request.body)
    question = body.get("question")
    if not isinstance(question, str) or not 0 < len(question) <= _MAX_QUESTION:
        raise _invalid("question", "text of 1 to 500 characters")
    context: Any = body.get("context", {})
    if not isinstance(context, dict):
        raise _invalid("context", "an object")
    context = cast("dict[str, Any]", context)
    _choice(context, "compare_to", "previous_period", ("previous_period", "previous_year"))
    return request.data.query_answer(request.website_id, question, _choice(context, "time_range", "7d", _SHORT_RANGES))


def _invalid(name: str, expected: str) -> ApiError:
    return ApiError(400, "VALIDATION_ERROR", f"Invalid {name}: expected {expected}")


def _integer(query: Mapping[str, str], name: str, default: int, low: int, high: int | None) -> int:
    text = query.get(name, str(default))
    value = int(text) if text.isascii() and text.removeprefix("-").isdecimal() else None
    if value is None or value < low or (high is not None and value > high):
        raise _invalid(name, f"a whole number from {low}" + (f" to {high}" if high else ""))
    return value


def _limit(query: Mapping[str, str], default: int, maximum: int) -> int:
    return _integer(query, "limit", default, 1, maximum)


def _offset(query: Mapping[str, str]) -> int:
    return _integer(query, "offset", 0, 0, None)


def _choice(query: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = query.get(name, default)
    if value not in allowed:
        raise _invalid(name, f"one of {', '.join(allowed)}")
    return value


def _filter(rows: Rows, query: Mapping[str, str], name: str, allowed: tuple[str, ...], *, field: str = "") -> Rows:
    """Return the rows whose ``field`` (default: ``name``) has the value of a parameter; all rows without it."""
    if name not in query:
        return rows
    value = _choice(query, name, "", allowed)
    return [row for row in rows if str(row[field or name]).lower() == value]


def _slice(rows: Rows, query: Mapping[str, str]) -> Rows:
    offset = _offset(query)
    return rows[offset : offset + _limit(query, 50, 200)]


def _json_object(body: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one for JSON of another type."""
    try:
        value: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise ApiError(400, "VALIDATION_ERROR", "Invalid JSON body") from None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
