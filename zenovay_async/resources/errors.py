"""JavaScript errors of websites, in groups; the errors of this package are in ``zenovay_async.exceptions``.

Source: docs "GET /errors/:websiteId/groups", whose example is known in part only.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.extra_fields import ExtraFields
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout, optional_int, optional_str
from zenovay_async._protocol.results import Result
from zenovay_async._tables.layout import Layout
from zenovay_async.resources.base import QueryParameters, Resource
from zenovay_async.tables import Table

ErrorStatus: TypeAlias = Literal["unresolved", "resolved", "ignored"] | str
"""Status of an error group."""


class ErrorGroup(Result, frozen=True, kw_only=True, gc=False):
    """Occurrences of the same error.

    Attributes:
        id: Its ID (``eg_...``).
        message: The error's message.
        occurrence_count: Number of occurrences.
        type: Its type, such as ``TypeError``.
        status: ``unresolved``, ``resolved`` or ``ignored``.
        fingerprint: What its occurrences have in common.
        first_seen_at: When it occurred first; aware.
        last_seen_at: When it occurred last; aware.
        affected_users_count: Visitors affected.
    """

    id: str
    message: str | None = None
    occurrence_count: int | None = None
    type: str | None = None
    status: str | None = None
    fingerprint: str | None = None
    first_seen_at: AwareDatetime | None = None
    last_seen_at: AwareDatetime | None = None
    affected_users_count: int | None = None


class ErrorGroupList(Table, Result, ExtraFields, frozen=True, kw_only=True):
    """The error groups of a website.

    Attributes:
        error_groups: The groups.
        extra: Undocumented fields, as plain values.
    """

    _layout: ClassVar[Layout] = Layout(
        rows="error_groups",
        columns=(
            *("message", "occurrence_count", "affected_users_count", "status", "type", "last_seen_at"),
            *("first_seen_at", "fingerprint", "id"),
        ),
        noun="error groups",
        measure="occurrence_count",
        label="message",
    )

    error_groups: tuple[ErrorGroup, ...]
    extra: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


_GROUPS = Endpoint("errors.groups", "errors/{website_id}/groups", Decoder(ErrorGroupList))


class Errors(Resource):
    """``zenovay.errors``: JavaScript errors of websites."""

    async def groups(
        self,
        website_id: str,
        *,
        status: ErrorStatus | None = None,
        limit: int | None = None,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> ErrorGroupList:
        """List groups of JavaScript errors; the API lists 200 at most.

        Args:
            website_id: ID of the website.
            status: ``unresolved``, ``resolved`` or ``ignored``; omitted, all.
            limit: Groups to return, 1 to 200; the server's default is 50.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.

        Source: docs "GET /errors/:websiteId/groups".
        """
        call = _GROUPS.call(
            website_id,
            extra_query=extra_query,
            status=optional_str("status", status),
            limit=optional_int("limit", limit, high=200),
        )
        return (await self._caller.send(call, timeout)).data
