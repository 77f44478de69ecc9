"""What every format of results has in common."""

from __future__ import annotations

from typing import Any


class Writer:
    """Takes results one by one.

    Attributes:
        streams: Whether each is written as it comes, rather than all at the end.
    """

    streams = False

    def add(self, website_id: str, result: Any) -> None:
        """A result has come; of a website, or with ``""`` of none in particular."""
        raise NotImplementedError

    def miss(self) -> None:
        """A result that was asked for will not come."""

    def close(self) -> None:
        """No more will come; what was held back is written."""
