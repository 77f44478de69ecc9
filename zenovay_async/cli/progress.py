"""How far a run has come, on standard error: live on a terminal, and one line at the end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

_REASONS = 3
_LONG_RUN = 10.0
_ITEM_LENGTH = 60


class Report:
    """Counts what is done; shows it while it goes on, if standard error is a terminal.

    Args:
        total: How many items there are; ``None`` if nobody knows.
        bar: Whether a bar may be drawn; it would mix with what is written or typed on the same terminal meanwhile.
    """

    def __init__(self, total: int | None, *, bar: bool) -> None:
        self.total = total
        self.done = 0
        self.failures: list[tuple[str, Exception]] = []
        self.failed = 0
        # rich takes a pipe for a terminal where FORCE_COLOR is set.
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
        """Take the bar away, so that something else can be written; it does not come back."""
        # rich before 14 prints an empty line for a bar that never was.
        if self._bar:
            self._progress.stop()

    def advance(self) -> None:
        """One more item has its result."""
        self.done += 1
        self._progress.update(self._task, advance=1, rate=self.done / max(self._seconds(), 1e-6))

    def fail(self, item: str, error: Exception) -> None:
        """One more item failed."""
        self.failed += 1
        if len(self.failures) < _REASONS:
            self.failures.append((item, error))
        self.advance()

    def foretell(self, seconds: float, requests: int, per_minute: float) -> None:
        """Say on a terminal what the run takes, if that is long.

        Args:
            seconds: Until its last request can start.
            requests: How many it takes.
            per_minute: How many the rate limit allows.
        """
        if self._on_terminal and seconds > _LONG_RUN:
            self.say(f"{requests:,} requests, about {_duration(seconds)} at {per_minute:,.0f} a minute")

    def say(self, text: str) -> None:
        """A line on standard error."""
        self._console.print(text)

    def conclude(self) -> None:
        """What failed; and what was done, if someone looks on or not all is well."""
        self._tell_failures()
        if self.failed or self._on_terminal:
            seconds = self._seconds()
            what = "website" if self.done == 1 else "websites"
            rate = self.done / max(seconds, 1e-6)
            self.say(f"{self.done} {what} in {seconds:.1f} s, {rate:.0f}/s, {self.failed} failed")

    def cut_short(self, how: str) -> None:
        """The run ends before all is done.

        Args:
            how: Such as ``"interrupted"``.
        """
        self._tell_failures()
        of = "" if self.total is None else f" of {self.total}"
        self.say(f"{how}: {self.done}{of} done, {self.failed} failed")

    def _tell_failures(self) -> None:
        for item, error in self.failures:
            self.say(f"{item if len(item) <= _ITEM_LENGTH else item[:_ITEM_LENGTH] + '...'}: {error}")
        if self.failed > len(self.failures):
            self.say(f"... and {self.failed - len(self.failures)} more")

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
