"""Heatmaps: which pages visitors interact with.

Source: docs "GET /heatmaps/:websiteId/pages".
"""

from __future__ import annotations

import msgspec

from zenovay_async._protocol.call import NOT_GIVEN, Call, Timeout, optional_int, query, quote_segment
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async.resources.base import Resource


class HeatmapPage(msgspec.Struct, frozen=True, gc=False):
    """A page that has heatmap data.

    Attributes:
        url: Path of the page, such as ``/pricing``.
        total_interactions: Interactions recorded on it, of all time.
        last_updated: When its newest heatmap data came in; aware.
    """

    url: str
    total_interactions: int
    last_updated: AwareDatetime


class HeatmapPages(msgspec.Struct, frozen=True, gc=False):
    """The pages of one website that have heatmap data.

    Attributes:
        pages: The pages, most interactions first.
    """

    pages: tuple[HeatmapPage, ...]


_PAGES = Decoder(HeatmapPages)


class Heatmaps(Resource):
    """``zenovay.heatmaps``: heatmap data of websites."""

    __slots__ = ()

    async def pages(self, website_id: str, *, limit: int | None = None, timeout: Timeout = NOT_GIVEN) -> HeatmapPages:
        """List the pages of a website that have heatmap data, of all time, most interactions first.

        Args:
            website_id: Id of the website.
            limit: Pages to return, 1 to 100; the server's default is 20.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Returns:
            The pages; an empty tuple where the website has no heatmap data.

        Raises:
            ConfigurationError: An argument is out of range; no request was sent.
            NotFoundError: There is no such website.
            PermissionDeniedError: The key has no access to it.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: docs "GET /heatmaps/:websiteId/pages".
        """
        call = Call(
            "GET",
            f"heatmaps/{quote_segment(website_id)}/pages",
            _PAGES,
            query(limit=optional_int("limit", limit, high=100)),
        )
        return await self._session.fetch(call, timeout)
