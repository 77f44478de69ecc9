"""The interface of all formats of results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Format: TypeAlias = Literal["table", "json", "ndjson", "csv", "sqlite", "parquet"]


class Writer(ABC):
    """Writes results.

    Attributes:
        streams: Whether it writes each result as it comes, not all at the end.
    """

    streams: bool = False

    def record_domains(self, domains: Mapping[str, str]) -> None:  # noqa: B027 - most formats have IDs alone
        """Record the domains of websites, by ID, as far as they are known."""

    @abstractmethod
    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:
        """Add a result.

        Args:
            website_id: ID of its website; ``""`` for a result that belongs to none.
            result: The plain values of the result, as a journal keeps them.
            key_name: Name of the key that requested it, of a run with several keys.
        """

    def add_failure(self, failure: dict[str, Any]) -> None:  # noqa: B027 - most formats have results alone
        """Add a website that failed: its ID and the error, as plain values."""

    def record_early_end(self) -> None:  # noqa: B027 - most formats do not depend on it
        """Record that the run ended before all results came."""

    def close(self) -> None:  # noqa: B027 - a format that streams has nothing left
        """Write the results that are not written yet.

        Raises:
            ConfigurationError: No result has a column that is named; all of them are written all the same.
        """
