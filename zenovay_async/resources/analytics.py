"""Analytics: who came, from where, and what they saw.

Sources: docs "GET /analytics/:websiteId", "…/visitors", "…/countries"; help "REST API reference".
"""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

from zenovay_async._protocol.call import NOT_GIVEN, Call, Timeout, optional_int, optional_str, query, quote_segment
from zenovay_async._protocol.decoding import UNTYPED, AwareDatetime, Decoder
from zenovay_async._protocol.leniency import ExtraFields
from zenovay_async.resources.base import Pagination, Range, Resource
from zenovay_async.resources.paging import Paged, PagedEndpoint


class WebsiteSummary(msgspec.Struct, frozen=True, gc=False):
    """The website that an overview is about.

    Attributes:
        id: Its id.
        domain: Its domain.
        name: Its name.
    """

    id: str
    domain: str | None = None
    name: str | None = None


class DateRange(msgspec.Struct, frozen=True, gc=False):
    """The days that an overview covers.

    Attributes:
        start: First day.
        end: Last day.
        start_date_time: The same as an exact time, aware; newer answers leave it out.
        end_date_time: Likewise.
    """

    start: date | None = None
    end: date | None = None
    start_date_time: AwareDatetime | None = msgspec.field(default=None, name="startDateTime")
    end_date_time: AwareDatetime | None = msgspec.field(default=None, name="endDateTime")


class AnalyticsSummary(msgspec.Struct, frozen=True, gc=False):
    """Totals of a time range.

    Attributes:
        total_visitors: Visits.
        total_page_views: Pages seen.
        unique_visitors: Visitors, each counted once.
    """

    total_visitors: int
    total_page_views: int
    unique_visitors: int


class DailyStats(ExtraFields, frozen=True):
    """One day; documented as a raw row of a table, so the columns that are not documented are in ``extra``.

    Attributes:
        date: The day; in which time zone is not documented.
        website_id: Id of the website.
        total_visitors: Visits of the day.
        unique_visitors: Visitors of the day, each counted once.
        page_views: Pages seen on the day.
        extra: Further columns, by name, as plain values.
    """

    date: date
    website_id: str | None = None
    total_visitors: int | None = None
    unique_visitors: int | None = None
    page_views: int | None = None


class AnalyticsOverview(msgspec.Struct, frozen=True):
    """Totals and days of a website.

    Attributes:
        website: The website.
        summary: The totals.
        daily_stats: The days, oldest first; may be empty.
        time_range: The time range that was asked for.
        date_range: The days that it covers.
    """

    website: WebsiteSummary
    summary: AnalyticsSummary
    daily_stats: tuple[DailyStats, ...]
    time_range: str | None = None
    date_range: DateRange = DateRange()


class Visitor(msgspec.Struct, frozen=True, gc=False):
    """One visit.

    Attributes:
        id: Its id.
        country_code: Country, ISO 3166-1 alpha-2.
        country_name: Country, in English.
        city: City.
        device_type: Such as ``desktop`` or ``mobile``.
        browser: Browser.
        os: Operating system.
        value_score: How valuable the visit is rated, 0 to 100.
        visited_at: When it was; aware.
        landing_page: Path of the first page.
        referrer: Where the visitor came from; ``None`` for a direct visit.
        had_interaction: Whether the visitor did anything on the page.
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


class VisitorPage(msgspec.Struct, frozen=True):
    """One page of a website's visits.

    Attributes:
        visitors: The visits, newest first.
        pagination: Where the page stands.
    """

    visitors: tuple[Visitor, ...]
    pagination: Pagination | None = None


class CountryStats(msgspec.Struct, frozen=True, gc=False):
    """Visitors of one country.

    Attributes:
        visitors: How many.
        country_code: Country, ISO 3166-1 alpha-2.
        country_name: Country, in English.
        avg_value_score: How valuable their visits are rated on average, 0 to 100.
    """

    visitors: int
    country_code: str | None = None
    country_name: str | None = None
    avg_value_score: float | None = None


class CountryList(msgspec.Struct, frozen=True, gc=False):
    """A website's visitors by country.

    Attributes:
        countries: The countries, most visitors first.
    """

    countries: tuple[CountryStats, ...]


_OVERVIEW = Decoder(AnalyticsOverview)
_COUNTRIES = Decoder(CountryList)


def _visitors_of(page: VisitorPage) -> tuple[Visitor, ...]:
    return page.visitors


_VISITORS = PagedEndpoint("analytics/{}/visitors", Decoder(VisitorPage), _visitors_of, max_limit=1000)


class Analytics(Resource):
    """``zenovay.analytics``: visits of websites."""

    __slots__ = ()

    async def overview(
        self, website_id: str, *, range: Range | None = None, timeout: Timeout = NOT_GIVEN
    ) -> AnalyticsOverview:
        """Get the totals and the days of a website.

        Args:
            website_id: Id of the website.
            range: ``24h``, ``7d``, ``30d``, ``90d`` or ``1y``; the server's default is ``7d``.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Raises:
            ConfigurationError: An argument cannot be right; no request was sent.
            NotFoundError: There is no such website.
            PermissionDeniedError: The key has no access to it.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: docs "GET /analytics/:websiteId".
        """
        call = Call("GET", f"analytics/{quote_segment(website_id)}", _OVERVIEW, query(range=optional_str("range", range)))
        return await self._session.fetch(call, timeout)

    def visitors(
        self,
        website_id: str,
        *,
        range: Range | None = None,
        limit: int | None = None,
        offset: int | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> Paged[VisitorPage, Visitor]:
        """List single visits, newest first: ``await`` it for one page, ``async for`` over it for every visit.

        Args:
            website_id: Id of the website.
            range: ``24h``, ``7d``, ``30d``, ``90d`` or ``1y``; the server's default is ``7d``.
            limit: Visits per page, 1 to 1000; left out, the server's default of 100, or 1000 when iterating.
            offset: Visits to leave out, 0 or more.
            timeout: Seconds for each page, ``None`` for no deadline; left out, the client's own.

        Raises:
            ConfigurationError: An argument cannot be right; no request was sent.
            NotFoundError: There is no such website.
            PermissionDeniedError: The key has no access to it.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: docs "GET /analytics/:websiteId/visitors".
        """
        return Paged(
            self._session, _VISITORS, website_id, timeout, limit=limit, offset=offset, range=optional_str("range", range)
        )

    async def pages(self, website_id: str, *, timeout: Timeout = NOT_GIVEN, **parameters: str | float | None) -> Any:
        """Get the statistics of a website's pages, as plain values: only the path of this endpoint is documented.

        Args:
            website_id: Id of the website.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.
            parameters: Query parameters, sent as they are; none is documented, ``range`` and ``limit`` are likely.

        Raises:
            ConfigurationError: The id cannot be right; no request was sent.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: help "API overview" (the path alone).
        """
        call = Call("GET", f"analytics/{quote_segment(website_id)}/pages", UNTYPED, query(**parameters))
        return await self._session.fetch(call, timeout)

    async def countries(
        self, website_id: str, *, range: Range | None = None, limit: int | None = None, timeout: Timeout = NOT_GIVEN
    ) -> CountryList:
        """List a website's visitors by country, most visitors first.

        Args:
            website_id: Id of the website.
            range: ``24h``, ``7d``, ``30d``, ``90d`` or ``1y``; the server's default is ``7d``.
            limit: Countries to return, 1 to 100; the server's default is 20.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Raises:
            ConfigurationError: An argument cannot be right; no request was sent.
            NotFoundError: There is no such website.
            PermissionDeniedError: The key has no access to it.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: docs "GET /analytics/:websiteId/countries".
        """
        call = Call(
            "GET",
            f"analytics/{quote_segment(website_id)}/countries",
            _COUNTRIES,
            query(range=optional_str("range", range), limit=optional_int("limit", limit, high=100)),
        )
        return await self._session.fetch(call, timeout)

    async def technology(
        self, website_id: str, *, timeout: Timeout = NOT_GIVEN, **parameters: str | float | None
    ) -> Any:
        """Get browsers, operating systems and devices, as plain values: only the path of this endpoint is documented.

        Args:
            website_id: Id of the website.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.
            parameters: Query parameters, sent as they are; none is documented, ``range`` is likely.

        Raises:
            ConfigurationError: The id cannot be right; no request was sent.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: help "API overview" (the path alone).
        """
        call = Call("GET", f"analytics/{quote_segment(website_id)}/technology", UNTYPED, query(**parameters))
        return await self._session.fetch(call, timeout)
