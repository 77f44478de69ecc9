"""Retention: visitors who come back.

Source: docs "GET /retention/:websiteId", whose example is known in part only.
"""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import Decoder
from zenovay_async._protocol.extra_fields import ExtraFields
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout, optional_int, optional_str
from zenovay_async._protocol.results import Result
from zenovay_async._tables.layout import Layout
from zenovay_async.resources.base import QueryParameters, Resource, ShortRange
from zenovay_async.tables import Table

RetentionGranularity: TypeAlias = Literal["daily", "weekly", "monthly"] | str
"""Length of a cohort's periods."""


class RetentionPeriod(Result, frozen=True, kw_only=True, gc=False):
    """One cohort in one period.

    Attributes:
        cohort_date: First day of the cohort.
        period_number: The period, counted from 0.
        total_users: Visitors in the cohort.
        retained_users: Those of them who came in this period.
        retention_rate: Their share, in percent, 0 to 100.
    """

    cohort_date: date
    period_number: int
    total_users: int | None = None
    retained_users: int | None = None
    retention_rate: float | None = None


class RetentionCohorts(Table, Result, ExtraFields, frozen=True, kw_only=True):
    """The cohorts of a website.

    Attributes:
        cohorts: A flat list with a row for each cohort and period.
        extra: Undocumented fields, as plain values.
    """

    _layout: ClassVar[Layout] = Layout(
        rows="cohorts",
        columns=("cohort_date", "period_number", "total_users", "retained_users", "retention_rate"),
        noun="periods",
    )

    cohorts: tuple[RetentionPeriod, ...]
    extra: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


_COHORTS = Endpoint("retention.cohorts", "retention/{website_id}", Decoder(RetentionCohorts))


class Retention(Resource):
    """``zenovay.retention``: visitors of websites who come back."""

    async def cohorts(
        self,
        website_id: str,
        *,
        range: ShortRange | None = None,
        granularity: RetentionGranularity | None = None,
        periods: int | None = None,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> RetentionCohorts:
        """Get how many visitors of each cohort came back in each period.

        Args:
            website_id: ID of the website.
            range: ``24h``, ``7d``, ``30d`` or ``90d``; the server's default is ``30d``.
            granularity: ``daily``, ``weekly`` or ``monthly``; the server's default is ``weekly``.
            periods: Periods of each cohort, 1 to 12; the server's default is 6.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.

        Source: docs "GET /retention/:websiteId".
        """
        call = _COHORTS.call(
            website_id,
            extra_query=extra_query,
            range=optional_str("range", range),
            granularity=optional_str("granularity", granularity),
            periods=optional_int("periods", periods, high=12),
        )
        return (await self._caller.send(call, timeout)).data
