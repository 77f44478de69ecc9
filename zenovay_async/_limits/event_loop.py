"""The event loop of a call."""

from __future__ import annotations

import asyncio

from zenovay_async.exceptions import ClientClosedError


def running_loop() -> asyncio.AbstractEventLoop:
    """The running event loop.

    Raises:
        ClientClosedError: There is none.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise no_running_loop() from None


def no_running_loop() -> ClientClosedError:
    """The error of a call outside asyncio."""
    return ClientClosedError("No asyncio event loop is running: run the program with asyncio.run(...), not with trio")
