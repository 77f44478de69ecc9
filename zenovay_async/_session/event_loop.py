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
        raise ClientClosedError(
            "No asyncio event loop is running: run the program with asyncio.run(...), not with trio"
        ) from None
