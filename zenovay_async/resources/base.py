"""What all resources have in common: something that carries out their calls."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self, TypeAlias

import msgspec

if TYPE_CHECKING:
    from zenovay_async.core.call import Caller

AwareDatetime: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time that names its zone, as all times of the API are documented to."""


class Resource:
    """A group of endpoints.

    Args:
        session: Carries out the calls.
    """

    __slots__ = ("_session",)

    def __init__(self, session: Caller) -> None:
        self._session = session

    def through(self, session: Caller) -> Self:
        """The same resource, its calls carried out by another session."""
        return type(self)(session)

    def uses(self, session: Caller) -> bool:
        """Whether this session carries out the calls."""
        return self._session is session
