"""What all resources have in common: something that carries out their calls, and the types that recur in them.

Parameters with documented values are typed as those values or any other text: an editor offers what is known, and a
new value works on the day on which the server has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from zenovay_async._protocol.call import Caller

Range: TypeAlias = Literal["24h", "7d", "30d", "90d", "1y"] | str
"""A time range of ``analytics``."""

ShortRange: TypeAlias = Literal["24h", "7d", "30d", "90d"] | str
"""A time range of the other endpoints: the same without a year."""

Severity: TypeAlias = Literal["info", "warning", "critical"] | str
"""How grave an insight or an anomaly is."""


class Pagination(msgspec.Struct, frozen=True, gc=False):
    """Where a page stands in its list.

    Attributes:
        has_more: Whether the list goes on after this page.
        limit: Items asked for.
        offset: Items before this page.
    """

    has_more: bool
    limit: int | None = None
    offset: int | None = None


class Resource:
    """A group of endpoints.

    Args:
        session: Carries out the calls.
    """

    __slots__ = ("_session",)

    def __init__(self, session: Caller) -> None:
        self._session = session

    def _bind(self, session: Caller) -> Resource:
        """The same resource, its calls carried out by another session."""
        return type(self)(session)

    def _is_bound_to(self, session: Caller) -> bool:
        """Whether this session carries out the calls."""
        return self._session is session
