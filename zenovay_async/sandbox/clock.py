"""The clock of a sandbox: that of the event loop that serves, and the seconds that were skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Never goes back, even if the sandbox is started again on a loop whose clock is behind."""

    def __init__(self) -> None:
        self._read: Callable[[], float] = float
        self._ahead = 0.0

    def start(self, read: Callable[[], float]) -> None:
        """Count on another clock from now on.

        Args:
            read: Returns its time in seconds.
        """
        before = self.now()
        self._read = read
        self._ahead += max(0.0, before - self.now())

    def now(self) -> float:
        """Return the time in seconds."""
        return self._read() + self._ahead

    def advance(self, seconds: float) -> None:
        """Skip a number of seconds."""
        self._ahead += seconds
