"""Websites that the key can reach.

Sources: docs "GET /websites", "GET /websites/:websiteId".
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.extra_fields import ExtraFields
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout
from zenovay_async._protocol.results import Result
from zenovay_async._tables.layout import Layout
from zenovay_async.resources.base import QueryParameters, Resource
from zenovay_async.tables import Table


class Website(Result, frozen=True, kw_only=True, gc=False):
    """A website.

    Attributes:
        id: Its ID, which the other endpoints take.
        domain: Its domain, such as ``example.com``.
        name: Its name.
        tracking_code: The code of its tracker (``ZV_...``).
        is_active: Whether it is tracked.
        created_at: When it was added; aware.
        team_id: ID of its team.
    """

    id: str
    domain: str | None = None
    name: str | None = None
    tracking_code: str | None = None
    is_active: bool | None = None
    created_at: AwareDatetime | None = None
    team_id: str | None = None


_WEBSITE_COLUMNS = ("id", "domain", "name", "tracking_code", "is_active", "created_at", "team_id")


class WebsiteList(Table, Result, frozen=True, kw_only=True):
    """The websites that a key can reach.

    Attributes:
        websites: The websites.
        total: Number of websites.
    """

    _layout: ClassVar[Layout] = Layout(rows="websites", columns=_WEBSITE_COLUMNS, noun="websites")

    websites: tuple[Website, ...]
    total: int | None = None


class WebsiteSettings(Result, ExtraFields, frozen=True, kw_only=True):
    """Features of a website; documented as open-ended, so other settings are in ``extra``.

    Attributes:
        track_outbound_links: Whether clicks on outbound links are recorded.
        track_downloads: Whether downloads are recorded.
        session_replay: Whether sessions are recorded.
        heatmaps: Whether interactions are recorded.
        extra: Further settings, by name, as plain values.
    """

    track_outbound_links: bool | None = None
    track_downloads: bool | None = None
    session_replay: bool | None = None
    heatmaps: bool | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class WebsiteDetail(Result, frozen=True, kw_only=True):
    """A website with its settings.

    Attributes:
        id: Its ID.
        domain: Its domain, such as ``example.com``.
        name: Its name.
        tracking_code: The code of its tracker (``ZV_...``).
        is_active: Whether it is tracked.
        created_at: When it was added; aware.
        team_id: ID of its team.
        user_id: ID of the user who added it.
        settings: Its features.
    """

    _layout: ClassVar[Layout] = Layout(
        rows=lambda website: [website],
        columns=(
            *_WEBSITE_COLUMNS,
            *("user_id", "settings.track_outbound_links", "settings.track_downloads", "settings.session_replay"),
            "settings.heatmaps",
        ),
        noun=None,
    )

    id: str
    domain: str | None = None
    name: str | None = None
    tracking_code: str | None = None
    is_active: bool | None = None
    created_at: AwareDatetime | None = None
    team_id: str | None = None
    user_id: str | None = None
    settings: WebsiteSettings = WebsiteSettings()


class _Wrapped(msgspec.Struct, frozen=True, kw_only=True):
    website: WebsiteDetail


def _unwrap(wrapped: _Wrapped) -> WebsiteDetail:
    return wrapped.website


_LIST = Endpoint("websites.list", "websites", Decoder(WebsiteList))
_GET = Endpoint("websites.get", "websites/{website_id}", Decoder(_Wrapped, _unwrap))


class Websites(Resource):
    """``zenovay.websites``: the websites that the key can reach."""

    async def list(self, *, extra_query: QueryParameters | None = None, timeout: Timeout = NOT_GIVEN) -> WebsiteList:
        """List the websites that the key can reach.

        A key with full access reaches all websites of its teams, a key for one website that one.

        Args:
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.

        Source: docs "GET /websites".
        """
        return (await self._caller.send(_LIST.call(extra_query=extra_query), timeout)).data

    async def get(
        self, website_id: str, *, extra_query: QueryParameters | None = None, timeout: Timeout = NOT_GIVEN
    ) -> WebsiteDetail:
        """Get one website with its settings.

        Args:
            website_id: ID of the website.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.

        Source: docs "GET /websites/:websiteId".
        """
        return (await self._caller.send(_GET.call(website_id, extra_query=extra_query), timeout)).data
