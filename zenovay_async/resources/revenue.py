"""Revenue: the lifetime value of customers.

Source: docs "GET /revenue/:websiteId/ltv".
"""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar, Literal, TypeAlias

from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import Decoder
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout, optional_str
from zenovay_async._protocol.results import Result
from zenovay_async._tables.layout import Layout, Row
from zenovay_async.resources.base import QueryParameters, Resource, ShortRange
from zenovay_async.tables import Table

RevenueGranularity: TypeAlias = Literal["weekly", "monthly"] | str
"""Length of a cohort's periods."""


class LTVPeriod(Result, frozen=True, kw_only=True, gc=False):
    """One period of a cohort.

    Attributes:
        period: The period, counted from 0.
        cumulative_revenue_per_customer: Revenue per customer up to its end; the response does not name the currency.
    """

    period: int
    cumulative_revenue_per_customer: float | None = None


class LTVCohort(Result, frozen=True, kw_only=True, gc=False):
    """Customers who came at the same time.

    Attributes:
        cohort_date: First day of the cohort.
        customers: Number of customers.
        periods: Their revenue, period by period.
    """

    cohort_date: date
    customers: int | None = None
    periods: tuple[LTVPeriod, ...] = ()


class LTVSummary(Result, frozen=True, kw_only=True, gc=False):
    """Averages over all cohorts.

    Attributes:
        average_ltv_30d: Revenue per customer in 30 days.
        average_ltv_90d: Revenue per customer in 90 days.
    """

    average_ltv_30d: float | None = None
    average_ltv_90d: float | None = None


def _cohort_periods(value: Any) -> list[Row]:
    return [
        {"cohort_date": cohort["cohort_date"], "customers": cohort["customers"], **period}
        for cohort in value["cohorts"]
        for period in cohort["periods"]
    ]


class LifetimeValue(Table, Result, frozen=True, kw_only=True, gc=False):
    """The lifetime value (LTV) of a website's customers.

    Attributes:
        cohorts: The cohorts; empty if no revenue is tracked.
        summary: The averages; ``None`` if there are none.
    """

    _layout: ClassVar[Layout] = Layout(
        rows=_cohort_periods,
        columns=("cohort_date", "customers", "period", "cumulative_revenue_per_customer"),
        noun="periods",
    )

    cohorts: tuple[LTVCohort, ...]
    summary: LTVSummary | None = None


_LTV = Endpoint("revenue.ltv", "revenue/{website_id}/ltv", Decoder(LifetimeValue))


class Revenue(Resource):
    """``zenovay.revenue``: revenue of websites."""

    async def ltv(
        self,
        website_id: str,
        *,
        range: ShortRange | None = None,
        granularity: RevenueGranularity | None = None,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> LifetimeValue:
        """Get the lifetime value of customers by cohort; needs revenue tracking.

        Args:
            website_id: ID of the website.
            range: ``24h``, ``7d``, ``30d`` or ``90d``; the server's default is ``90d``.
            granularity: ``weekly`` or ``monthly``; the server's default is ``monthly``.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.

        Source: docs "GET /revenue/:websiteId/ltv".
        """
        call = _LTV.call(
            website_id,
            extra_query=extra_query,
            range=optional_str("range", range),
            granularity=optional_str("granularity", granularity),
        )
        return (await self._caller.send(call, timeout)).data
