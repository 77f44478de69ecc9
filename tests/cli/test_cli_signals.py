"""What signals do to a run, whatever its event loop waits for."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from zenovay_async.cli.signals import ended_by_signals

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def ignored(*numbers: signal.Signals) -> Generator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wakes_the_loop() -> bool:
    """Whether a signal is written to a descriptor that the event loop waits for."""
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    return descriptor != -1


@pytest.mark.parametrize("numbers", [(), (signal.SIGTERM, signal.SIGHUP)], ids=["caught", "ignored"])
def test_ctrl_c_ends_a_run_that_waits_for_nothing_else(numbers: tuple[signal.Signals, ...]) -> None:
    async def interrupt() -> None:
        with ended_by_signals():
            assert wakes_the_loop()
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()

    before = signal.getsignal(signal.SIGINT)
    with ignored(*numbers), pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupt())
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_a_run_at_once() -> None:
    async def interrupt_twice() -> None:
        with ended_by_signals():
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupt_twice())


def test_a_ctrl_c_that_is_ignored_stays_so() -> None:
    async def interrupt() -> str:
        with ended_by_signals() as ended:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
            assert ended.by is None
        return "done"

    with ignored(signal.SIGINT):
        assert asyncio.run(interrupt()) == "done"
