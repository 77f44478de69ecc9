"""Insights: findings of the API's own analysis.

Source: docs "GET /insights/:websiteId", whose example is known in part only.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.extra_fields import ExtraFields
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout, optional_str
from zenovay_async._protocol.results import Result
from zenovay_async._tables.layout import Layout
from zenovay_async.resources.base import Pagination, QueryParameters, Resource, Severity, ShortRange
from zenovay_async.resources.paging import Paged, PagedEndpoint
from zenovay_async.tables import Table

InsightType: TypeAlias = Literal["anomaly", "trend", "recommendation", "prediction"] | str
"""Type of an insight."""


class Insight(Result, frozen=True, kw_only=True, gc=False):
    """One insight.

    Attributes:
        id: Its ID (``ins_...``).
        title: The finding in one line.
        type: ``anomaly``, ``trend``, ``recommendation`` or ``prediction``.
        severity: ``info``, ``warning`` or ``critical``.
        description: The finding in a few sentences.
        metric_name: Its metric, such as ``visitors_by_country``.
        metric_value: Value of the metric.
        metric_change: Change of the metric, in percent.
        recommendation: What to do about it.
        created_at: When it was made; aware.
    """

    id: str
    title: str | None = None
    type: str | None = None
    severity: str | None = None
    description: str | None = None
    metric_name: str | None = None
    metric_value: float | None = None
    metric_change: float | None = None
    recommendation: str | None = None
    created_at: AwareDatetime | None = None


class InsightPage(Table, Result, ExtraFields, frozen=True, kw_only=True):
    """One page of a website's insights.

    Attributes:
        insights: The insights.
        pagination: Position of the page; not documented here, so mostly ``None``.
        extra: Undocumented fields, as plain values.
    """

    _layout: ClassVar[Layout] = Layout(
        rows="insights",
        columns=(
            *("created_at", "severity", "type", "title", "metric_name", "metric_value", "metric_change"),
            *("recommendation", "description", "id"),
        ),
        noun="insights",
        label="title",
        shown=7,
    )

    insights: tuple[Insight, ...]
    pagination: Pagination | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


_LIST = PagedEndpoint(
    "insights.list",
    "insights/{website_id}",
    Decoder(InsightPage),
    items=lambda page: page.insights,
    join=lambda items: InsightPage(insights=tuple(items)),
    max_limit=200,
)


class Insights(Resource):
    """``zenovay.insights``: insights about websites."""

    def list(
        self,
        website_id: str,
        *,
        range: ShortRange | None = None,
        type: InsightType | None = None,
        severity: Severity | None = None,
        limit: int | None = None,
        offset: int | None = None,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> Paged[InsightPage, Insight]:
        """List insights: trends, anomalies, recommendations and predictions.

        Args:
            website_id: ID of the website.
            range: ``24h``, ``7d``, ``30d`` or ``90d``; the server's default is ``7d``.
            type: ``anomaly``, ``trend``, ``recommendation`` or ``prediction``; omitted, all.
            severity: ``info``, ``warning`` or ``critical``; omitted, all.
            limit: Insights per page, 1 to 200; the default is the server's 50, or 200 for several pages.
            offset: Insights to skip, 0 or more.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for each page; omitted, the client's.

        Returns:
            The list: ``await`` it for one page, ``async for`` over it for every insight.

        Source: docs "GET /insights/:websiteId".
        """
        return Paged(
            self._caller,
            _LIST,
            website_id,
            timeout,
            extra_query,
            limit=limit,
            offset=offset,
            range=optional_str("range", range),
            type=optional_str("type", type),
            severity=optional_str("severity", severity),
        )
