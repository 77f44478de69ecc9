# ruff: noqa: T201 - it prints its results
"""Results of all parts: as JSON, and as tables."""

from __future__ import annotations

import msgspec
from pages import make_table

from .runs import Row

TITLES = {
    "at-once": "30 visitors at once, 120 page loads, 6 different questions, 30 requests a minute",
    "in-ten-seconds": "The same visitors within ten seconds",
    "restarted": "The first again, after all workers were restarted",
    "outage": "The same while the API is down for a minute, and at once when it is back",
}
_HEAD = ("client", "workers", "requests", "429s", "pages served", "p50", "p95")


class Report(msgspec.Struct, kw_only=True):
    """All results, as ``--json`` writes them; ``skipped`` says why some are missing."""

    arrivals: list[Row] = []
    restarts: list[Row] = []
    outages: list[Row] = []
    skipped: list[str] = []


def show(report: Report) -> None:
    """Print the results."""
    for name, text in page_texts(report).items():
        print(f"\n{TITLES[name]}\n\n{text}")
    for hint in report.skipped:
        print(f"Skipped: {hint}")


def page_texts(report: Report) -> dict[str, str]:
    """What the page has of these results, by the names of its blocks."""
    parts = {
        "at-once": [row for row in report.arrivals if row.part == "at once"],
        "in-ten-seconds": [row for row in report.arrivals if row.part != "at once"],
        "restarted": report.restarts,
    }
    texts = {name: make_table(_HEAD, map(cells_of, rows)) for name, rows in parts.items() if rows}
    if report.outages:
        # Of each run, what was while the API was down, and what was just after.
        pairs = zip(report.outages[::2], report.outages[1::2], strict=True)
        texts["outage"] = make_table(
            ("client", "API", "requests", "pages served", "p95", "just after"),
            (
                (
                    *(away.variant, away.part.removeprefix("API down: "), str(away.requests)),
                    *(served(away), milliseconds(away.p95), served(after)),
                )
                for away, after in pairs
            ),
        )
    return texts


def cells_of(row: Row) -> tuple[str, ...]:
    return (
        *(row.variant, str(row.workers), str(row.requests), str(row.rate_limited)),
        *(served(row), milliseconds(row.p50), milliseconds(row.p95)),
    )


def served(row: Row) -> str:
    return f"{row.served} of {row.loads}"


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.0f} ms"
