"""Heatmaps: the pages that visitors interact with.

Source: docs "GET /heatmaps/:websiteId/pages".
"""

from __future__ import annotations

from typing import ClassVar

from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout, optional_int
from zenovay_async._protocol.results import Result
from zenovay_async._tables.layout import Layout
from zenovay_async.resources.base import QueryParameters, Resource
from zenovay_async.tables import Table


class HeatmapPage(Result, frozen=True, kw_only=True, gc=False):
    """A page that has heatmap data.

    Attributes:
        url: Path of the page, such as ``/pricing``.
        total_interactions: Interactions recorded on it, of all time.
        last_updated: When its newest heatmap data arrived; aware.
    """

    url: str
    total_interactions: int
    last_updated: AwareDatetime | None = None


class HeatmapPages(Table, Result, frozen=True, kw_only=True, gc=False):
    """The pages of a website that have heatmap data.

    Attributes:
        pages: The pages, most interactions first; empty if the website has no heatmap data.
    """

    _layout: ClassVar[Layout] = Layout(
        rows="pages",
        columns=("url", "total_interactions", "last_updated"),
        noun="pages",
        measure="total_interactions",
        label="url",
    )

    pages: tuple[HeatmapPage, ...]


_PAGES = Endpoint("heatmaps.pages", "heatmaps/{website_id}/pages", Decoder(HeatmapPages))


class Heatmaps(Resource):
    """``zenovay.heatmaps``: heatmap data of websites."""

    async def pages(
        self,
        website_id: str,
        *,
        limit: int | None = None,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> HeatmapPages:
        """List the pages of a website that have heatmap data, of all time, most interactions first.

        Args:
            website_id: ID of the website.
            limit: Pages to return, 1 to 100; the server's default is 20.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.

        Source: docs "GET /heatmaps/:websiteId/pages".
        """
        call = _PAGES.call(website_id, extra_query=extra_query, limit=optional_int("limit", limit, high=100))
        return (await self._caller.send(call, timeout)).data
