"""Progress of a run, on standard error: a bar on a terminal, and one line at the end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zenovay_async.cli.shown import redact_keys, shown

if TYPE_CHECKING:
    from types import TracebackType

_MAX_FAILURES = 3
_LONG_RUN = 10.0
_ID_LENGTH = 60


class ProgressReporter:
    """Counts websites, and shows the progress if standard error is a terminal.

    Args:
        total: Number of websites; ``None`` if unknown.
        bar: Whether to draw a bar, as unless lines are written or typed on the same terminal.

    Attributes:
        total: As given.
        done: Websites done, failed ones included.
        failed: Websites failed.
        failures: The first failures, by website.
    """

    def __init__(self, total: int | None, *, bar: bool) -> None:
        self.total = total
        self.done = 0
        self.failures: list[tuple[str, Exception]] = []
        self.failed = 0
        # With FORCE_COLOR set, rich takes a pipe for a terminal.
        self._on_terminal = sys.stderr.isatty()
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._bar = bar and self._on_terminal and self._console.is_interactive
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f}/s"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._bar,
        )
        self._task = self._progress.add_task("", total=total, rate=0.0)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove the bar for good, so that something else can be written."""
        # rich before 14 prints an empty line for a bar that was never drawn.
        if self._bar:
            self._progress.stop()

    def advance(self) -> None:
        """Count a website as done."""
        self.done += 1
        self._progress.update(self._task, advance=1, rate=self.done / max(self._seconds(), 1e-6))

    def record_failure(self, website_id: str, error: Exception) -> None:
        """Count a website as failed."""
        self.failed += 1
        if len(self.failures) < _MAX_FAILURES:
            self.failures.append((website_id, error))
        self.advance()

    def show_estimate(self, seconds: float, requests: int, per_minute: float) -> None:
        """Show on a terminal what a long run takes.

        Args:
            seconds: Time until its last request can start.
            requests: Number of requests.
            per_minute: Requests per minute that the rate limit allows.
        """
        if self._on_terminal and seconds > _LONG_RUN:
            self.print(f"{requests:,} requests, about {_duration(seconds)} at {per_minute:,.0f} a minute")

    def print(self, text: str) -> None:
        """Print a line to standard error."""
        self._console.print(shown(text))

    def summarize(self, skipped: int = 0) -> None:
        """Print the failures; and the totals, on a terminal or if something failed.

        Args:
            skipped: Number of IDs left out, as they came before.
        """
        self._print_failures(skipped)
        if self.failed or self._on_terminal:
            seconds = self._seconds()
            what = "website" if self.done == 1 else "websites"
            rate = self.done / max(seconds, 1e-6)
            self.print(f"{self.done} {what} in {seconds:.1f} s, {rate:.0f}/s, {self.failed} failed")

    def summarize_early_end(self, reason: str, skipped: int = 0) -> None:
        """Print the failures, and the totals of a run that ends before all is done.

        Args:
            reason: Such as ``"interrupted"``.
            skipped: Number of IDs left out, as they came before.
        """
        self._print_failures(skipped)
        of = "" if self.total is None else f" of {self.total}"
        self.print(f"{reason}: {self.done}{of} done, {self.failed} failed")

    def _print_failures(self, skipped: int) -> None:
        for website_id, error in self.failures:
            # Redacted before it is cut, as nobody recognizes half a key.
            short = redact_keys(website_id)
            if len(short) > _ID_LENGTH:
                short = f"{short[:_ID_LENGTH]}..."
            self.print(f"{short if short.strip() else repr(short)}: {error}")
        if self.failed > len(self.failures):
            self.print(f"... and {self.failed - len(self.failures)} more")
        if skipped:
            self.print(f"{skipped:,} duplicate {'ID' if skipped == 1 else 'IDs'} skipped")

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
