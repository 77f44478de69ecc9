"""Progress of a run, on standard error: a bar on a terminal, a line a minute elsewhere, and one line at the end."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

    from zenovay_async.cli.failures import FailureReporter
    from zenovay_async.cli.log_lines import LogLines
    from zenovay_async.cli.options import ProgressKind

_LONG_RUN = 10.0
# Seconds between two lines, and lines over which the rate is taken: longer than the window of any rate limit.
_INTERVAL = 60.0
_RATE_OVER = 5


class ProgressReporter:
    """Counts websites, and shows the progress; within an event loop, whose clock it uses.

    Args:
        total: Number of websites; ``None`` if unknown.
        kind: How to show it; ``"auto"`` is a bar on a terminal, and lines elsewhere.
        bar: Whether a bar may be drawn, as unless lines are written or typed on the same terminal.
        lines: Where to write.
        failures: Names the websites that failed.

    Attributes:
        total: As given.
        done: Websites done, failed ones included.
        replayed: Websites whose result is of an earlier run.
    """

    def __init__(
        self, total: int | None, *, kind: ProgressKind, bar: bool, lines: LogLines, failures: FailureReporter
    ) -> None:
        self.total = total
        self.done = 0
        self.replayed = 0
        self._kind = kind
        self._lines = lines
        self._failures = failures
        self._bar = bar and kind in {"auto", "bar"} and lines.on_terminal and lines.console.is_interactive
        self._logs = kind == "log" or (kind == "auto" and not lines.on_terminal)
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=lines.console,
            transient=True,
            disable=not self._bar,
        )
        self._task = self._progress.add_task("", total=total, rate="0/s")
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._began = self._loop.time()
        # Times, and websites fetched until then.
        self._fetched = deque([(self._began, 0)], _RATE_OVER)

    def __enter__(self) -> Self:
        self._progress.start()
        if self._logs:
            self._timer = self._loop.call_later(_INTERVAL, self._log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()

    @property
    def failed(self) -> int:
        """Websites failed."""
        return self._failures.count

    def clear(self) -> None:
        """Remove the bar for good, and write no further line by itself, so that something else can be written."""
        if self._timer is not None:
            self._timer.cancel()
        # rich before 14 prints an empty line for a bar that was never drawn.
        if self._bar:
            self._progress.stop()

    def advance(self, *, replayed: bool = False) -> None:
        """Count a website as done.

        Args:
            replayed: Whether its result is of an earlier run.
        """
        self.done += 1
        self.replayed += replayed
        self._progress.update(self._task, advance=1, rate=_per_time(self._rate))

    def record_failure(self, website_id: str, error: Exception, key_name: str | None = None) -> dict[str, Any]:
        """Count a website as failed; returns its failure as plain values."""
        failure = self._failures.add(website_id, error, key_name)
        self.advance()
        return failure

    def show_estimate(self, seconds: float, requests: int, per_minute: float) -> None:
        """Show on a terminal what a long run takes.

        Args:
            seconds: Time until its last request can start.
            requests: Number of requests.
            per_minute: Requests per minute that the rate limit allows.
        """
        if self._kind != "none" and self._lines.on_terminal and seconds > _LONG_RUN:
            self._lines.write(f"{requests:,} requests, about {_duration(seconds)} at {per_minute:,.0f} a minute")

    def summarize(self, duplicates: int = 0) -> None:
        """Write the failures and the totals.

        Args:
            duplicates: Number of IDs left out, as they came before.
        """
        self._summarize_failures(duplicates)
        if self._kind == "none":
            return
        seconds = self._loop.time() - self._began
        replayed = f" ({self.replayed:,} of an earlier run)" if self.replayed else ""
        self._lines.write(
            f"{_websites(self.done)}{replayed} in {seconds:,.1f} s, {_per_time(self._rate)}, {self.failed:,} failed",
            **self._counts,
            seconds=round(seconds, 1),
        )

    def summarize_early_end(self, reason: str, duplicates: int = 0) -> None:
        """Write the failures, and the totals of a run that ends before all is done.

        Args:
            reason: Such as ``"interrupted"``.
            duplicates: Number of IDs left out, as they came before.
        """
        self._summarize_failures(duplicates)
        of = "" if self.total is None else f" of {self.total:,}"
        self._lines.write(f"{reason}: {self.done:,}{of} done, {self.failed:,} failed", "warning", **self._counts)

    def _summarize_failures(self, duplicates: int) -> None:
        self._failures.summarize()
        if duplicates:
            text = f"{duplicates:,} duplicate {'ID' if duplicates == 1 else 'IDs'} skipped"
            self._lines.write(text, duplicates=duplicates)

    @property
    def _counts(self) -> dict[str, Any]:
        return {"done": self.done, "total": self.total, "failed": self.failed, "replayed": self.replayed}

    @property
    def _rate(self) -> float:
        """Websites fetched per second, on average."""
        return (self.done - self.replayed) / max(self._loop.time() - self._began, 1e-6)

    def _log(self) -> None:
        self._timer = self._loop.call_later(_INTERVAL, self._log)
        now, fetched = self._loop.time(), self.done - self.replayed
        # Of late, as the first requests may have been a burst.
        since, before = self._fetched[0]
        rate = (fetched - before) / max(now - since, 1e-6)
        self._fetched.append((now, fetched))
        text = f"{_websites(self.done)}, {self.failed:,} failed, {_per_time(rate)}"
        fields = self._counts | {"per_minute": round(rate * 60, 1)}
        if self.total is not None:
            text = f"{self.done:,} of {_websites(self.total)}, {self.failed:,} failed, {_per_time(rate)}"
            if rate:
                seconds_left = (self.total - self.done) / rate
                text += f", about {_duration(seconds_left)} left"
                fields["seconds_left"] = round(seconds_left)
        self._lines.write(text, **fields)


def _websites(number: int) -> str:
    return f"{number:,} {'website' if number == 1 else 'websites'}"


def _per_time(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 1 else f"{rate * 60:.0f}/min"


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
