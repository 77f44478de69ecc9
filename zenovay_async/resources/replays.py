"""Replays: recorded sessions.

Source: docs "GET /replays/:websiteId/sessions".
"""

from __future__ import annotations

from typing import ClassVar

from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout
from zenovay_async._protocol.results import Result
from zenovay_async._tables.layout import Layout
from zenovay_async.resources.base import Pagination, QueryParameters, Resource
from zenovay_async.resources.paging import Paged, PagedEndpoint
from zenovay_async.tables import Table


class ReplaySession(Result, frozen=True, kw_only=True, gc=False):
    """A recorded session.

    Attributes:
        id: ID of the recording (``sr_...``).
        started_at: When the session began; aware.
        session_id: ID of the session (``sess_...``).
        page_url: Path of its page.
        device_type: Such as ``desktop`` or ``mobile``.
        browser: Browser.
        os: Operating system.
        country_code: Country, ISO 3166-1 alpha-2.
        duration_seconds: Duration, in seconds.
        event_count: Events recorded in it.
        ended_at: When it ended; aware.
    """

    id: str
    started_at: AwareDatetime | None = None
    session_id: str | None = None
    page_url: str | None = None
    device_type: str | None = None
    browser: str | None = None
    os: str | None = None
    country_code: str | None = None
    duration_seconds: float | None = None
    event_count: int | None = None
    ended_at: AwareDatetime | None = None


class ReplaySessionPage(Table, Result, frozen=True, kw_only=True):
    """One page of a website's recorded sessions.

    Attributes:
        sessions: The sessions, newest first.
        pagination: Position of the page.
    """

    _layout: ClassVar[Layout] = Layout(
        rows="sessions",
        columns=(
            *("started_at", "duration_seconds", "event_count", "page_url", "country_code", "device_type", "browser"),
            *("os", "ended_at", "session_id", "id"),
        ),
        noun="sessions",
        label="started_at",
        shown=8,
    )

    sessions: tuple[ReplaySession, ...]
    pagination: Pagination | None = None


_SESSIONS = PagedEndpoint(
    "replays.sessions",
    "replays/{website_id}/sessions",
    Decoder(ReplaySessionPage),
    items=lambda page: page.sessions,
    join=lambda items: ReplaySessionPage(sessions=tuple(items)),
    max_limit=200,
)


class Replays(Resource):
    """``zenovay.replays``: recorded sessions of websites."""

    def sessions(
        self,
        website_id: str,
        *,
        limit: int | None = None,
        offset: int | None = None,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> Paged[ReplaySessionPage, ReplaySession]:
        """List recorded sessions, newest first.

        Args:
            website_id: ID of the website.
            limit: Sessions per page, 1 to 200; the default is the server's 50, or 200 for several pages.
            offset: Sessions to skip, 0 or more.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for each page; omitted, the client's.

        Returns:
            The list: ``await`` it for one page, ``async for`` over it for every session.

        Source: docs "GET /replays/:websiteId/sessions".
        """
        return Paged(self._caller, _SESSIONS, website_id, timeout, extra_query, limit=limit, offset=offset)
