"""Anomalies: metrics far from their expected value.

Source: docs "GET /anomalies/:websiteId", whose example is known in part only.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.extra_fields import ExtraFields
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout, optional_bool, optional_str
from zenovay_async._protocol.results import Result
from zenovay_async._tables.layout import Layout
from zenovay_async.resources.base import Pagination, QueryParameters, Resource, Severity, ShortRange
from zenovay_async.resources.paging import Paged, PagedEndpoint
from zenovay_async.tables import Table


class Anomaly(Result, frozen=True, kw_only=True, gc=False):
    """One anomaly.

    Attributes:
        id: Its ID (``anom_...``).
        metric_name: Its metric, such as ``visitors`` or ``bounce_rate``.
        expected_value: Expected value, in the metric's unit.
        actual_value: Measured value.
        deviation_percentage: Deviation from the expected value, in percent of it.
        severity: ``info``, ``warning`` or ``critical``.
        detected_at: When it was detected; aware.
        is_resolved: Whether it is resolved.
    """

    id: str
    metric_name: str | None = None
    expected_value: float | None = None
    actual_value: float | None = None
    deviation_percentage: float | None = None
    severity: str | None = None
    detected_at: AwareDatetime | None = None
    is_resolved: bool | None = None


class AnomalyPage(Table, Result, ExtraFields, frozen=True, kw_only=True):
    """One page of a website's anomalies.

    Attributes:
        anomalies: The anomalies.
        pagination: Position of the page; not documented here, so mostly ``None``.
        extra: Undocumented fields, as plain values.
    """

    _layout: ClassVar[Layout] = Layout(
        rows="anomalies",
        columns=(
            *("detected_at", "severity", "metric_name", "expected_value", "actual_value", "deviation_percentage"),
            *("is_resolved", "id"),
        ),
        noun="anomalies",
        label="metric_name",
        shown=7,
    )

    anomalies: tuple[Anomaly, ...]
    pagination: Pagination | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


_LIST = PagedEndpoint(
    "anomalies.list",
    "anomalies/{website_id}",
    Decoder(AnomalyPage),
    items=lambda page: page.anomalies,
    join=lambda items: AnomalyPage(anomalies=tuple(items)),
    max_limit=200,
)


class Anomalies(Resource):
    """``zenovay.anomalies``: metrics of websites that are far from their expected value."""

    def list(
        self,
        website_id: str,
        *,
        range: ShortRange | None = None,
        severity: Severity | None = None,
        metric: str | None = None,
        resolved: bool | None = None,
        limit: int | None = None,
        offset: int | None = None,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> Paged[AnomalyPage, Anomaly]:
        """List anomalies: metrics far from their expected value.

        Args:
            website_id: ID of the website.
            range: ``24h``, ``7d``, ``30d`` or ``90d``; the server's default is ``7d``.
            severity: ``info``, ``warning`` or ``critical``; omitted, all.
            metric: Name of a metric, such as ``visitors``, ``bounce_rate`` or ``error_rate``; omitted, all.
            resolved: Whether they are resolved; omitted, all.
            limit: Anomalies per page, 1 to 200; the default is the server's 50, or 200 for several pages.
            offset: Anomalies to skip, 0 or more.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for each page; omitted, the client's.

        Returns:
            The list: ``await`` it for one page, ``async for`` over it for every anomaly.

        Source: docs "GET /anomalies/:websiteId".
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
            severity=optional_str("severity", severity),
            metric=optional_str("metric", metric),
            resolved=optional_bool("resolved", resolved),
        )
