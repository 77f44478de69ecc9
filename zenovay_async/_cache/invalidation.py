"""Which responses an invalidation concerns. Pure."""

from __future__ import annotations

from urllib.parse import quote_plus, unquote

import msgspec


class Scope(msgspec.Struct, frozen=True, array_like=True):
    """What an invalidation is for; what is ``None`` is for all.

    Attributes:
        website_id: ID of a website.
        operation: Name of an operation, such as ``heatmaps.pages``.
        account: In a store that keeps responses of several keys: how the names of those of one key begin.
    """

    website_id: str | None = None
    operation: str | None = None
    account: str | None = None

    def covers(self, operation: str, path: str, query: str) -> bool:
        """Whether a call is within it.

        Args:
            operation: Name of the operation.
            path: Path below the base URL, quoted.
            query: Query string, encoded.
        """
        if self.operation is not None and self.operation != operation:
            return False
        if self.website_id is None:
            return True
        if any(unquote(segment) == self.website_id for segment in path.split("/")):
            return True
        wanted = quote_plus(self.website_id)
        return any(pair.partition("=")[2] == wanted for pair in query.split("&"))

    @property
    def name(self) -> str:
        """The scope as text, for a store; :meth:`parse` reads it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def parse(cls, name: str) -> Scope:
        """Read a scope; one that cannot be read is for all."""
        try:
            return msgspec.json.decode(name, type=cls)
        except msgspec.DecodeError:
            return cls()
