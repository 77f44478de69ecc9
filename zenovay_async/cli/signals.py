"""SIGTERM and SIGHUP end a run as Ctrl-C does: what came so far is kept."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_NAMES = ("SIGTERM", "SIGHUP")


class Ended:
    """Whether a signal ended the run.

    Attributes:
        by: The number of the signal; ``None`` if none did.
    """

    by: int | None = None


@contextlib.contextmanager
def ended_by_signals() -> Generator[Ended]:
    """Let the signals cancel the running task; a signal that is ignored, as under ``nohup``, stays so."""
    loop, task, ended = asyncio.get_running_loop(), asyncio.current_task(), Ended()
    caught: list[int] = []

    def end(number: int) -> None:
        ended.by = number
        if task is not None:
            task.cancel()

    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) is signal.SIG_IGN:
            continue
        # Neither on Windows nor outside of the main thread.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, end, number)
            caught.append(number)
    try:
        yield ended
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
