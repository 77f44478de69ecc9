"""Analytics: visitors, where they come from, and what they view.

Sources: docs "GET /analytics/:websiteId", "…/visitors", "…/countries"; help "REST API reference".
"""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar

import msgspec

from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import UNTYPED, AwareDatetime, Decoder
from zenovay_async._protocol.extra_fields import ExtraFields
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout, optional_int, optional_str
from zenovay_async._protocol.results import Result
from zenovay_async._tables.layout import Layout
from zenovay_async.resources.base import Pagination, QueryParameters, Range, Resource, free_call
from zenovay_async.resources.paging import Paged, PagedEndpoint
from zenovay_async.tables import Table


class WebsiteSummary(Result, frozen=True, kw_only=True, gc=False):
    """The website of an overview.

    Attributes:
        id: Its ID.
        domain: Its domain.
        name: Its name.
    """

    id: str | None = None
    domain: str | None = None
    name: str | None = None


class DateRange(Result, frozen=True, kw_only=True, gc=False):
    """The days that an overview covers.

    Attributes:
        start: First day.
        end: Last day.
        start_date_time: Start as an exact time, aware; absent from newer responses.
        end_date_time: End as an exact time, aware; absent from newer responses.
    """

    start: date | None = None
    end: date | None = None
    start_date_time: AwareDatetime | None = msgspec.field(default=None, name="startDateTime")
    end_date_time: AwareDatetime | None = msgspec.field(default=None, name="endDateTime")


class AnalyticsSummary(Result, frozen=True, kw_only=True, gc=False):
    """Totals of a time range.

    Attributes:
        total_visitors: Visits.
        total_page_views: Page views.
        unique_visitors: Visitors, each counted once.
    """

    total_visitors: int | None = None
    total_page_views: int | None = None
    unique_visitors: int | None = None


class DailyStats(Result, ExtraFields, frozen=True, kw_only=True):
    """One day; documented as a raw table row, so undocumented columns are in ``extra``.

    Attributes:
        date: The day; its time zone is not documented.
        website_id: ID of the website.
        total_visitors: Visits of the day.
        unique_visitors: Visitors of the day, each counted once.
        page_views: Page views of the day.
        extra: Further columns, by name, as plain values.
    """

    date: date
    website_id: str | None = None
    total_visitors: int | None = None
    unique_visitors: int | None = None
    page_views: int | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class AnalyticsOverview(Table, Result, frozen=True, kw_only=True):
    """Totals and days of a website.

    Attributes:
        website: The website.
        summary: The totals.
        daily_stats: The days, oldest first; may be empty.
        time_range: The requested time range.
        date_range: The days that it covers.
    """

    _layout: ClassVar[Layout] = Layout(
        rows="daily_stats",
        columns=("date", "total_visitors", "unique_visitors", "page_views"),
        noun="days",
        measure="total_visitors",
    )

    website: WebsiteSummary
    summary: AnalyticsSummary
    daily_stats: tuple[DailyStats, ...]
    time_range: str | None = None
    date_range: DateRange = DateRange()


class Visitor(Result, frozen=True, kw_only=True, gc=False):
    """One visit.

    Attributes:
        id: Its ID.
        country_code: Country, ISO 3166-1 alpha-2.
        country_name: Country, in English.
        city: City.
        device_type: Such as ``desktop`` or ``mobile``.
        browser: Browser.
        os: Operating system.
        value_score: Rated value of the visit, 0 to 100.
        visited_at: Time of the visit; aware.
        landing_page: Path of the first page.
        referrer: Referring page or site; ``None`` for a direct visit.
        had_interaction: Whether the visitor interacted with the page.
    """

    id: str
    country_code: str | None = None
    country_name: str | None = None
    city: str | None = None
    device_type: str | None = None
    browser: str | None = None
    os: str | None = None
    value_score: float | None = None
    visited_at: AwareDatetime | None = None
    landing_page: str | None = None
    referrer: str | None = None
    had_interaction: bool | None = None


class VisitorPage(Table, Result, frozen=True, kw_only=True):
    """One page of a website's visits.

    Attributes:
        visitors: The visits, newest first.
        pagination: Position of the page.
    """

    _layout: ClassVar[Layout] = Layout(
        rows="visitors",
        columns=(
            *("visited_at", "country_code", "city", "device_type", "browser", "os", "value_score", "landing_page"),
            *("referrer", "had_interaction", "country_name", "id"),
        ),
        noun="visitors",
        label="visited_at",
        shown=9,
    )

    visitors: tuple[Visitor, ...]
    pagination: Pagination | None = None


class CountryStats(Result, frozen=True, kw_only=True, gc=False):
    """Visitors of one country.

    Attributes:
        visitors: Number of visitors.
        country_code: Country, ISO 3166-1 alpha-2.
        country_name: Country, in English.
        avg_value_score: Average rated value of their visits, 0 to 100.
    """

    visitors: int | None = None
    country_code: str | None = None
    country_name: str | None = None
    avg_value_score: float | None = None


class CountryList(Table, Result, frozen=True, kw_only=True, gc=False):
    """A website's visitors by country.

    Attributes:
        countries: The countries, most visitors first.
    """

    _layout: ClassVar[Layout] = Layout(
        rows="countries",
        columns=("country_name", "visitors", "avg_value_score", "country_code"),
        noun="countries",
        measure="visitors",
        label="country_name",
    )

    countries: tuple[CountryStats, ...]


_OVERVIEW = Endpoint("analytics.overview", "analytics/{website_id}", Decoder(AnalyticsOverview))
_VISITORS = PagedEndpoint(
    "analytics.visitors",
    "analytics/{website_id}/visitors",
    Decoder(VisitorPage),
    items=lambda page: page.visitors,
    join=lambda items: VisitorPage(visitors=tuple(items)),
    max_limit=1000,
)
_PAGES = Endpoint("analytics.pages", "analytics/{website_id}/pages", UNTYPED)
_COUNTRIES = Endpoint("analytics.countries", "analytics/{website_id}/countries", Decoder(CountryList))
_TECHNOLOGY = Endpoint("analytics.technology", "analytics/{website_id}/technology", UNTYPED)


class Analytics(Resource):
    """``zenovay.analytics``: visits of websites."""

    async def overview(
        self,
        website_id: str,
        *,
        range: Range | None = None,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> AnalyticsOverview:
        """Get the totals and the days of a website.

        Args:
            website_id: ID of the website.
            range: ``24h``, ``7d``, ``30d``, ``90d`` or ``1y``; the server's default is ``7d``.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.

        Source: docs "GET /analytics/:websiteId".
        """
        call = _OVERVIEW.call(website_id, extra_query=extra_query, range=optional_str("range", range))
        return (await self._caller.send(call, timeout)).data

    def visitors(
        self,
        website_id: str,
        *,
        range: Range | None = None,
        limit: int | None = None,
        offset: int | None = None,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> Paged[VisitorPage, Visitor]:
        """List single visits, newest first.

        Args:
            website_id: ID of the website.
            range: ``24h``, ``7d``, ``30d``, ``90d`` or ``1y``; the server's default is ``7d``.
            limit: Visits per page, 1 to 1000; the default is the server's 100, or 1000 for several pages.
            offset: Visits to skip, 0 or more.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for each page; omitted, the client's.

        Returns:
            The list: ``await`` it for one page, ``async for`` over it for every visit.

        Source: docs "GET /analytics/:websiteId/visitors".
        """
        return Paged(
            self._caller,
            _VISITORS,
            website_id,
            timeout,
            extra_query,
            limit=limit,
            offset=offset,
            range=optional_str("range", range),
        )

    async def pages(
        self,
        website_id: str,
        *,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
        **parameters: str | float | None,
    ) -> Any:
        """Get the statistics of a website's pages, as plain values.

        Args:
            website_id: ID of the website.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.
            parameters: Query parameters, sent as given; none is documented, ``range`` and ``limit`` are likely.

        Returns:
            The ``data`` of the response as plain values; only the path of this endpoint is documented.

        Source: help "API overview" (the path alone).
        """
        return (await self._caller.send(free_call(_PAGES, parameters, extra_query, website_id), timeout)).data

    async def countries(
        self,
        website_id: str,
        *,
        range: Range | None = None,
        limit: int | None = None,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> CountryList:
        """List a website's visitors by country, most visitors first.

        Args:
            website_id: ID of the website.
            range: ``24h``, ``7d``, ``30d``, ``90d`` or ``1y``; the server's default is ``7d``.
            limit: Countries to return, 1 to 100; the server's default is 20.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.

        Source: docs "GET /analytics/:websiteId/countries".
        """
        call = _COUNTRIES.call(
            website_id,
            extra_query=extra_query,
            range=optional_str("range", range),
            limit=optional_int("limit", limit, high=100),
        )
        return (await self._caller.send(call, timeout)).data

    async def technology(
        self,
        website_id: str,
        *,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
        **parameters: str | float | None,
    ) -> Any:
        """Get a website's browsers, operating systems and devices, as plain values.

        Args:
            website_id: ID of the website.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.
            parameters: Query parameters, sent as given; none is documented, ``range`` is likely.

        Returns:
            The ``data`` of the response as plain values; only the path of this endpoint is documented.

        Source: help "API overview" (the path alone).
        """
        return (await self._caller.send(free_call(_TECHNOLOGY, parameters, extra_query, website_id), timeout)).data
