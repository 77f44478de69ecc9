"""What every format of results has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Writer(ABC):
    """Takes results one by one.

    Attributes:
        streams: Whether each is written as it comes, rather than all at the end.
    """

    streams = False

    @abstractmethod
    def add(self, website_id: str, result: Any) -> None:
        """A result has come; of a website, or with ``""`` of none in particular."""

    def miss(self) -> None:  # noqa: B027 - most formats need not know
        """A result that was asked for will not come."""

    def close(self) -> None:  # noqa: B027 - what streams holds nothing back
        """No more will come; what was held back is written."""
