"""The endpoints as the command line shows them: how each is called, and what of it stands in a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from zenovay_async import Zenovay


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that is called once for each website.

    Attributes:
        call: The client's method, by client and website id.
        rows: Name of the list in the result that has a row for each thing; ``None`` where the result is one row.
        noun: What the rows are, for the summary.
        measure: The column to draw as a bar and add up; ``None`` for none.
        label: The column that names a row where only the greatest of a website is shown.
    """

    call: Callable[[Zenovay, str, dict[str, Any]], Awaitable[Any]]
    rows: str | None
    noun: str
    measure: str | None = None
    label: str | None = None
    columns: tuple[str, ...] = field(default=())

    def rows_of(self, website_id: str, result: Any) -> list[dict[str, Any]]:
        """The rows of one website's result, each with its website's id."""
        plain = self.plain(result)
        found = plain[self.rows] if self.rows else [plain]
        return [{"website_id": website_id, **row} for row in found]

    @staticmethod
    def plain(result: Any) -> Any:
        """A result as plain values; times as ISO 8601 text."""
        return msgspec.to_builtins(result)


HEATMAP_PAGES = Endpoint(
    call=lambda zenovay, website_id, given: zenovay.heatmaps.pages(website_id, **given),
    rows="pages",
    noun="pages",
    measure="total_interactions",
    label="url",
    columns=("url", "total_interactions", "last_updated"),
)
