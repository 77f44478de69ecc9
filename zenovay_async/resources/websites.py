"""Websites: those that the key can reach.

Sources: docs "GET /websites", "GET /websites/:websiteId".
"""

from __future__ import annotations

import msgspec

from zenovay_async._protocol.call import NOT_GIVEN, Call, Timeout, quote_segment
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.leniency import ExtraFields
from zenovay_async.resources.base import Resource


class Website(msgspec.Struct, frozen=True, gc=False):
    """A website.

    Attributes:
        id: Its id, to call the other endpoints with.
        domain: Its domain, such as ``example.com``.
        name: Its name.
        tracking_code: The code of its tracker (``ZV_...``).
        is_active: Whether it is tracked.
        created_at: When it was added; aware.
        team_id: Id of the team that it belongs to.
    """

    id: str
    domain: str
    name: str
    tracking_code: str | None = None
    is_active: bool | None = None
    created_at: AwareDatetime | None = None
    team_id: str | None = None


class WebsiteList(msgspec.Struct, frozen=True):
    """The websites that a key can reach.

    Attributes:
        websites: The websites.
        total: How many they are.
    """

    websites: tuple[Website, ...]
    total: int | None = None


class WebsiteSettings(ExtraFields, frozen=True):
    """What is switched on for a website; documented as free, so the rest is in ``extra``.

    Attributes:
        track_outbound_links: Whether clicks on links to elsewhere are recorded.
        track_downloads: Whether downloads are recorded.
        session_replay: Whether sessions are recorded.
        heatmaps: Whether interactions are recorded.
        extra: Further settings, by name, as plain values.
    """

    track_outbound_links: bool | None = None
    track_downloads: bool | None = None
    session_replay: bool | None = None
    heatmaps: bool | None = None


class WebsiteDetail(msgspec.Struct, frozen=True):
    """A website with its settings.

    Attributes:
        id: Its id.
        domain: Its domain, such as ``example.com``.
        name: Its name.
        tracking_code: The code of its tracker (``ZV_...``).
        is_active: Whether it is tracked.
        created_at: When it was added; aware.
        team_id: Id of the team that it belongs to.
        user_id: Id of the user who added it.
        settings: What is switched on for it.
    """

    id: str
    domain: str
    name: str
    tracking_code: str | None = None
    is_active: bool | None = None
    created_at: AwareDatetime | None = None
    team_id: str | None = None
    user_id: str | None = None
    settings: WebsiteSettings = WebsiteSettings()


class _Wrapped(msgspec.Struct, frozen=True):
    website: WebsiteDetail


def _unwrap(wrapped: _Wrapped) -> WebsiteDetail:
    return wrapped.website


_LIST = Call("GET", "websites", Decoder(WebsiteList))
_DETAIL = Decoder(_Wrapped, _unwrap)


class Websites(Resource):
    """``zenovay.websites``: the websites that the key can reach."""

    __slots__ = ()

    async def list(self, *, timeout: Timeout = NOT_GIVEN) -> WebsiteList:
        """List the websites that the key can reach: all of its teams, or the one that it is made for.

        Args:
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Raises:
            ZenovayError: Whatever went wrong; see ``zenovay_async.exceptions``.

        Source: docs "GET /websites".
        """
        return await self._session.fetch(_LIST, timeout)

    async def get(self, website_id: str, *, timeout: Timeout = NOT_GIVEN) -> WebsiteDetail:
        """Get one website with its settings.

        Args:
            website_id: Id of the website.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Raises:
            ConfigurationError: The id cannot be right; no request was sent.
            NotFoundError: There is no such website.
            PermissionDeniedError: The key has no access to it.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: docs "GET /websites/:websiteId".
        """
        return await self._session.fetch(Call("GET", f"websites/{quote_segment(website_id)}", _DETAIL), timeout)
