"""The interface of all formats of results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Writer(ABC):
    """Writes results.

    Attributes:
        streams: Whether it writes each result as it comes, not all at the end.
    """

    streams: bool = False

    @abstractmethod
    def add(self, website_id: str, result: Any) -> None:
        """Add the result of a website; ``""`` for a result that belongs to none."""

    def record_missing(self) -> None:  # noqa: B027 - most formats do not depend on it
        """Record that a requested result is missing."""

    def close(self) -> None:  # noqa: B027 - a format that streams has nothing left
        """Write the results that are not written yet."""
