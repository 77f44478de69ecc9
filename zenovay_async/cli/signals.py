"""SIGTERM and SIGHUP end a run as Ctrl-C does: what came so far is kept; each of them wakes the event loop."""

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
        is_over: Whether all is done, so that a signal has nothing to end.
    """

    by: int | None = None
    is_over: bool = False

    def complete(self) -> None:
        """Record that all is done."""
        self.is_over = True


@contextlib.contextmanager
def restored_signals() -> Generator[None]:
    """Restore at the end what the signals did before."""
    before = {number: signal.getsignal(number) for name in _NAMES if (number := getattr(signal, name, None))}
    try:
        yield
    finally:
        for number, handler in before.items():
            # Only the main thread may.
            with contextlib.suppress(ValueError, TypeError):
                signal.signal(number, handler)


@contextlib.contextmanager
def ended_by_signals() -> Generator[Ended]:
    """Let the signals cancel the running task; a signal that is ignored, as under ``nohup``, stays so.

    Once one has ended the run, they are ignored, as it still has to close its files: whoever stops a group of processes
    often sends more than one.
    """
    loop, task, ended = asyncio.get_running_loop(), asyncio.current_task(), Ended()
    caught: list[int] = []

    def end(number: int) -> None:
        if ended.is_over:
            return
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
        with _woken_by_interrupts(loop):
            yield ended
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
            if ended.by is not None:
                signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _woken_by_interrupts(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Let SIGINT wake the loop; its handler, that of ``asyncio.run``, stays, as a second SIGINT ends the run at once.

    Without, the handler may run only when the loop wakes for something else.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.SIG_IGN:
        yield
        return
    # Neither on Windows, where a proactor wakes by itself, nor outside of the main thread.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGINT, _do_nothing)
        signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            if loop.remove_signal_handler(signal.SIGINT):
                signal.signal(signal.SIGINT, handler)


def _do_nothing() -> None:
    """What the loop calls once it is awake."""
