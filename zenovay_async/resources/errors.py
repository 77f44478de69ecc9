"""Errors that visitors ran into: groups of JavaScript errors. Errors of this package are in ``core/errors.py``.

Source: docs "GET /errors/:websiteId/groups", whose example is known in part only.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from zenovay_async._protocol.call import NOT_GIVEN, Call, Timeout, optional_int, optional_str, query, quote_segment
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.leniency import ExtraFields
from zenovay_async.resources.base import Resource

ErrorStatus: TypeAlias = Literal["unresolved", "resolved", "ignored"] | str
"""What has become of an error group."""


class ErrorGroup(msgspec.Struct, frozen=True, gc=False):
    """Errors that are the same.

    Attributes:
        id: Its id (``eg_...``).
        message: The error's message.
        occurrence_count: How often it occurred.
        type: Its type, such as ``TypeError``.
        status: ``unresolved``, ``resolved`` or ``ignored``.
        fingerprint: What its errors have in common.
        first_seen_at: When it occurred first; aware.
        last_seen_at: When it occurred last; aware.
        affected_users_count: Visitors who ran into it.
    """

    id: str
    message: str
    occurrence_count: int
    type: str | None = None
    status: str | None = None
    fingerprint: str | None = None
    first_seen_at: AwareDatetime | None = None
    last_seen_at: AwareDatetime | None = None
    affected_users_count: int | None = None


class ErrorGroupList(ExtraFields, frozen=True):
    """The error groups of a website.

    Attributes:
        error_groups: The groups.
        extra: What follows them, which is not documented, as plain values.
    """

    error_groups: tuple[ErrorGroup, ...]


_GROUPS = Decoder(ErrorGroupList)


class Errors(Resource):
    """``zenovay.errors``: JavaScript errors of websites."""

    __slots__ = ()

    async def groups(
        self,
        website_id: str,
        *,
        status: ErrorStatus | None = None,
        limit: int | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> ErrorGroupList:
        """List groups of JavaScript errors; the API has no way to list more than 200.

        Args:
            website_id: Id of the website.
            status: ``unresolved``, ``resolved`` or ``ignored``; left out, all.
            limit: Groups to return, 1 to 200; the server's default is 50.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Raises:
            ConfigurationError: An argument cannot be right; no request was sent.
            NotFoundError: There is no such website.
            PermissionDeniedError: The key has no access to it.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: docs "GET /errors/:websiteId/groups".
        """
        call = Call(
            "GET",
            f"errors/{quote_segment(website_id)}/groups",
            _GROUPS,
            query(status=optional_str("status", status), limit=optional_int("limit", limit, high=200)),
        )
        return await self._session.fetch(call, timeout)
