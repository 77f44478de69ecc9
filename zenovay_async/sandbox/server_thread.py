"""A server on a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class ServerThread:
    """Starts a server on a daemon thread, and stops it there.

    Args:
        start: Starts the server.
        stop: Stops it.
    """

    def __init__(
        self, start: Callable[[], Coroutine[None, None, None]], stop: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        self._start, self._stop = start, stop
        # Neither a policy of event loops nor a virtual clock of the test's loop concerns this one.
        self._loop = asyncio.SelectorEventLoop()
        self._process = os.getpid()
        self._started: Future[None] = Future()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="zenovay-sandbox", daemon=True)

    def start(self) -> None:
        """Start the server, and wait until it serves or raise the error why it does not."""
        try:
            self._thread.start()
            self._started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, and wait until the thread has ended; a fork of the process, which has none, does nothing."""
        if os.getpid() != self._process:
            return
        if self._thread.is_alive():
            # The loop may be closed just now, if the server did not start.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self._start()
        except BaseException as error:  # noqa: BLE001 - raised by start(), in the other thread
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        try:
            await self._stopping.wait()
        finally:
            await self._stop()
