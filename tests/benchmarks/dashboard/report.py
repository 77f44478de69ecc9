# ruff: noqa: T201 - it prints its results
"""Results of all parts: as JSON, and as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from real.report import show_table

from .runs import Row

if TYPE_CHECKING:
    from collections.abc import Sequence


class Report(msgspec.Struct, kw_only=True):
    """All results, as ``--json`` writes them; ``skipped`` says why some are missing."""

    arrivals: list[Row] = []
    restarts: list[Row] = []
    outages: list[Row] = []
    skipped: list[str] = []


def show(report: Report) -> None:
    """Print the results."""
    show_rows("30 visitors, 120 page loads, 6 different questions, 30 requests a minute", report.arrivals)
    show_rows("The same again, after all workers were restarted", report.restarts)
    show_rows("The same while the API is down for a minute, and at once when it is back", report.outages)
    for hint in report.skipped:
        print(f"Skipped: {hint}")


def show_rows(title: str, rows: Sequence[Row]) -> None:
    if rows:
        show_table(
            title,
            ("client", "workers", "visitors", "requests", "429s", "pages served", "p50", "p95"),
            (
                (
                    *(each.variant, str(each.workers), each.part, str(each.requests), str(each.rate_limited)),
                    *(f"{each.served} of {each.loads}", milliseconds(each.p50), milliseconds(each.p95)),
                )
                for each in rows
            ),
        )


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.0f} ms"
