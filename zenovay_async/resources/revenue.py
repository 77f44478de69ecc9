"""Revenue: what customers bring in over time.

Source: docs "GET /revenue/:websiteId/ltv".
"""

from __future__ import annotations

from datetime import date
from typing import Literal, TypeAlias

import msgspec

from zenovay_async._protocol.call import NOT_GIVEN, Call, Timeout, optional_str, query, quote_segment
from zenovay_async._protocol.decoding import Decoder
from zenovay_async.resources.base import Resource, ShortRange

RevenueGranularity: TypeAlias = Literal["weekly", "monthly"] | str
"""How long a cohort's periods are."""


class LTVPeriod(msgspec.Struct, frozen=True, gc=False):
    """One period of a cohort.

    Attributes:
        period: The period, counted from 0.
        cumulative_revenue_per_customer: Revenue per customer up to its end; the currency is not in the answer.
    """

    period: int
    cumulative_revenue_per_customer: float


class LTVCohort(msgspec.Struct, frozen=True, gc=False):
    """Customers who came at the same time.

    Attributes:
        cohort_date: First day of the cohort.
        customers: How many they are.
        periods: Their revenue, period by period.
    """

    cohort_date: date
    customers: int
    periods: tuple[LTVPeriod, ...]


class LTVSummary(msgspec.Struct, frozen=True, gc=False):
    """Averages over all cohorts.

    Attributes:
        average_ltv_30d: Revenue per customer in 30 days.
        average_ltv_90d: Revenue per customer in 90 days.
    """

    average_ltv_30d: float | None = None
    average_ltv_90d: float | None = None


class LifetimeValue(msgspec.Struct, frozen=True, gc=False):
    """The lifetime value (LTV) of a website's customers.

    Attributes:
        cohorts: The cohorts; empty where no revenue is tracked.
        summary: The averages; ``None`` where there are none.
    """

    cohorts: tuple[LTVCohort, ...]
    summary: LTVSummary | None = None


_LTV = Decoder(LifetimeValue)


class Revenue(Resource):
    """``zenovay.revenue``: revenue of websites."""

    __slots__ = ()

    async def ltv(
        self,
        website_id: str,
        *,
        range: ShortRange | None = None,
        granularity: RevenueGranularity | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> LifetimeValue:
        """Get the lifetime value of customers by cohort; needs revenue tracking.

        Args:
            website_id: Id of the website.
            range: ``24h``, ``7d``, ``30d`` or ``90d``; the server's default is ``90d``.
            granularity: ``weekly`` or ``monthly``; the server's default is ``monthly``.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Raises:
            ConfigurationError: An argument cannot be right; no request was sent.
            NotFoundError: There is no such website.
            PermissionDeniedError: The key has no access to it.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: docs "GET /revenue/:websiteId/ltv".
        """
        call = Call(
            "GET",
            f"revenue/{quote_segment(website_id)}/ltv",
            _LTV,
            query(range=optional_str("range", range), granularity=optional_str("granularity", granularity)),
        )
        return await self._session.fetch(call, timeout)
