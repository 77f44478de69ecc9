"""How far a run has come, on standard error: live on a terminal, and one line at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

_REASONS = 3


class Report:
    """Counts what is done; shows it while it goes on, if standard error is a terminal.

    Args:
        total: How many items there are; ``None`` if nobody knows.
    """

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.done = 0
        self.failures: list[tuple[str, Exception]] = []
        self.failed = 0
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f}/s"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total, rate=0.0)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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

    def say(self, text: str) -> None:
        """A line on standard error."""
        self._console.print(text, markup=False)

    def conclude(self) -> None:
        """What was done, and what failed."""
        for item, error in self.failures:
            self.say(f"{item}: {error}")
        if self.failed > len(self.failures):
            self.say(f"... and {self.failed - len(self.failures)} more")
        seconds = self._seconds()
        what = "website" if self.done == 1 else "websites"
        self.say(f"{self.done} {what} in {seconds:.1f} s, {self.done / max(seconds, 1e-6):.0f}/s, {self.failed} failed")

    def interrupted(self) -> None:
        """The user has had enough."""
        of = "" if self.total is None else f" of {self.total}"
        self.say(f"interrupted: {self.done}{of} done, {self.failed} failed")

    def _seconds(self) -> float:
        return time.monotonic() - self._began
