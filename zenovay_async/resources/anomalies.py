"""Anomalies: metrics that were far from what was expected.

Source: docs "GET /anomalies/:websiteId", whose example is known in part only.
"""

from __future__ import annotations

import msgspec

from zenovay_async._protocol.call import NOT_GIVEN, Timeout, optional_bool, optional_str
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.leniency import ExtraFields
from zenovay_async.resources.base import Pagination, Resource, Severity, ShortRange
from zenovay_async.resources.paging import Paged, PagedEndpoint


class Anomaly(msgspec.Struct, frozen=True, gc=False):
    """One anomaly.

    Attributes:
        id: Its id (``anom_...``).
        metric_name: The metric that it is about, such as ``visitors`` or ``bounce_rate``.
        expected_value: What was expected, in the metric's unit.
        actual_value: What was measured.
        deviation_percentage: How far the two are apart, in percent of what was expected.
        severity: ``info``, ``warning`` or ``critical``.
        detected_at: When it was noticed; aware.
        is_resolved: Whether it is over.
    """

    id: str
    metric_name: str | None = None
    expected_value: float | None = None
    actual_value: float | None = None
    deviation_percentage: float | None = None
    severity: str | None = None
    detected_at: AwareDatetime | None = None
    is_resolved: bool | None = None


class AnomalyPage(ExtraFields, frozen=True):
    """One page of a website's anomalies.

    Attributes:
        anomalies: The anomalies.
        pagination: Where the page stands; not documented here, so mostly ``None``.
        extra: What else follows them, which is not documented, as plain values.
    """

    anomalies: tuple[Anomaly, ...]
    pagination: Pagination | None = None


def _anomalies_of(page: AnomalyPage) -> tuple[Anomaly, ...]:
    return page.anomalies


_ANOMALIES = PagedEndpoint("anomalies/{}", Decoder(AnomalyPage), _anomalies_of, max_limit=200)


class Anomalies(Resource):
    """``zenovay.anomalies``: metrics of websites that were far from what was expected."""

    __slots__ = ()

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
        timeout: Timeout = NOT_GIVEN,
    ) -> Paged[AnomalyPage, Anomaly]:
        """List anomalies: ``await`` it for one page, ``async for`` over it for every anomaly.

        Args:
            website_id: Id of the website.
            range: ``24h``, ``7d``, ``30d`` or ``90d``; the server's default is ``7d``.
            severity: ``info``, ``warning`` or ``critical``; left out, all.
            metric: Name of a metric, such as ``visitors``, ``bounce_rate`` or ``error_rate``; left out, all.
            resolved: Whether they are over; left out, all.
            limit: Anomalies per page, 1 to 200; left out, the server's default of 50, or 200 when iterating.
            offset: Anomalies to leave out, 0 or more.
            timeout: Seconds for each page, ``None`` for no deadline; left out, the client's own.

        Raises:
            ConfigurationError: An argument cannot be right; no request was sent.
            NotFoundError: There is no such website.
            PermissionDeniedError: The key has no access to it.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: docs "GET /anomalies/:websiteId".
        """
        return Paged(
            self._session,
            _ANOMALIES,
            website_id,
            timeout,
            limit=limit,
            offset=offset,
            range=optional_str("range", range),
            severity=optional_str("severity", severity),
            metric=optional_str("metric", metric),
            resolved=optional_bool("resolved", resolved),
        )
