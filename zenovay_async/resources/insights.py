"""Insights: what the API's own analysis has noticed.

Source: docs "GET /insights/:websiteId", whose example is known in part only.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from zenovay_async._protocol.call import NOT_GIVEN, Timeout, optional_str
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.leniency import ExtraFields
from zenovay_async.resources.base import Pagination, Resource, Severity, ShortRange
from zenovay_async.resources.paging import Paged, PagedEndpoint

InsightType: TypeAlias = Literal["anomaly", "trend", "recommendation", "prediction"] | str
"""What kind of insight it is."""


class Insight(msgspec.Struct, frozen=True, gc=False):
    """One insight.

    Attributes:
        id: Its id (``ins_...``).
        title: What was noticed, in a line.
        type: ``anomaly``, ``trend``, ``recommendation`` or ``prediction``.
        severity: ``info``, ``warning`` or ``critical``.
        description: What was noticed, in a few sentences.
        metric_name: The metric that it is about, such as ``visitors_by_country``.
        metric_value: Its value.
        metric_change: Its change, in percent.
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


class InsightPage(ExtraFields, frozen=True):
    """One page of a website's insights.

    Attributes:
        insights: The insights.
        pagination: Where the page stands; not documented here, so mostly ``None``.
        extra: What else follows them, which is not documented, as plain values.
    """

    insights: tuple[Insight, ...]
    pagination: Pagination | None = None


def _insights_of(page: InsightPage) -> tuple[Insight, ...]:
    return page.insights


_INSIGHTS = PagedEndpoint("insights/{}", Decoder(InsightPage), _insights_of, max_limit=200)


class Insights(Resource):
    """``zenovay.insights``: what was noticed about websites."""

    __slots__ = ()

    def list(
        self,
        website_id: str,
        *,
        range: ShortRange | None = None,
        type: InsightType | None = None,
        severity: Severity | None = None,
        limit: int | None = None,
        offset: int | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> Paged[InsightPage, Insight]:
        """List insights: ``await`` it for one page, ``async for`` over it for every insight.

        Args:
            website_id: Id of the website.
            range: ``24h``, ``7d``, ``30d`` or ``90d``; the server's default is ``7d``.
            type: ``anomaly``, ``trend``, ``recommendation`` or ``prediction``; left out, all.
            severity: ``info``, ``warning`` or ``critical``; left out, all.
            limit: Insights per page, 1 to 200; left out, the server's default of 50, or 200 when iterating.
            offset: Insights to leave out, 0 or more.
            timeout: Seconds for each page, ``None`` for no deadline; left out, the client's own.

        Raises:
            ConfigurationError: An argument cannot be right; no request was sent.
            NotFoundError: There is no such website.
            PermissionDeniedError: The key has no access to it.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: docs "GET /insights/:websiteId".
        """
        return Paged(
            self._session,
            _INSIGHTS,
            website_id,
            timeout,
            limit=limit,
            offset=offset,
            range=optional_str("range", range),
            type=optional_str("type", type),
            severity=optional_str("severity", severity),
        )
