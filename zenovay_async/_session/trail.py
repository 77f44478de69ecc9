"""What one call went through so far: its attempts, and what it waited for."""

from __future__ import annotations

import asyncio
import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from zenovay_async.exceptions import ZenovayError
from zenovay_async.history import Attempt, Wait

if TYPE_CHECKING:
    from collections.abc import Generator

    from zenovay_async._protocol.response import Response
    from zenovay_async.history import WaitReason

T = TypeVar("T")

# Seconds. What is shorter is no wait, but the work between two steps.
_MIN_WAIT = 0.001
# Attempts that are kept of a call, half of them the first ones: one of a batch may wait for a server for hours.
_MAX_HISTORY = 100


class Trail:
    """The attempts and the waits of one call; the base of its state, as an object of its own would cost every call.

    Attributes:
        loop: The running loop; kept, because asking for it is a system call up to Python 3.11.
        started_at: When the call began, in the time of the loop.
        attempts: Attempts begun.
        began_at: When the last attempt began, in the time of the loop.
        pending_waits: What it waited for since the last attempt.
        attempt_waits: What it waited for before the last attempt.
        history: The attempts that failed.
    """

    # Class attributes, which cost no assignment in a call that succeeds at once.
    loop: asyncio.AbstractEventLoop
    started_at: float
    attempts: int = 0
    began_at: float = 0.0
    pending_waits: tuple[Wait, ...] = ()
    attempt_waits: tuple[Wait, ...] = ()
    history: tuple[Attempt, ...] = ()
    _waits_for: tuple[WaitReason, float] | None = None

    @contextmanager
    def waiting(self, reason: WaitReason) -> Generator[None]:
        """Record what the call waits for within the block; within another one, that one goes on afterwards."""
        outer = self._waits_for
        self.pending_waits = self.waits_until_now()
        self._waits_for = reason, self.loop.time()
        try:
            yield
        finally:
            self.pending_waits = self.waits_until_now()
            self._waits_for = None if outer is None else (outer[0], self.loop.time())

    def waits_until_now(self) -> tuple[Wait, ...]:
        """What the call has waited for since the last attempt, also what it waits for now."""
        waits = self.pending_waits
        if self._waits_for is None:
            return waits
        reason, since = self._waits_for
        seconds = self.loop.time() - since
        if seconds < _MIN_WAIT:
            return waits
        if waits and waits[-1].reason == reason:
            waits, seconds = waits[:-1], waits[-1].seconds + seconds
        return (*waits, Wait(reason, seconds))

    def complete(self, response: Response[T]) -> Response[T]:
        """Complete a response that another process requested by what the call waited for."""
        waits, seconds = self.waits_until_now(), self.loop.time() - self.started_at
        return replace(response, _trail=(self.history, 0, waits, 0.0, seconds))

    def history_until_now(self) -> tuple[Attempt, ...]:
        """The attempts that failed, and the one in flight as one that ends now, canceled with its caller."""
        if self.attempts == (self.history[-1].number if self.history else 0):
            return self.history
        twin = copy.copy(self)
        twin.end_attempt(self.loop.time(), None, asyncio.CancelledError(), None)
        return twin.history

    def end_attempt(
        self, ended_at: float, status: int | None, error: BaseException | None, request_id: str | None
    ) -> Attempt:
        """Record the end of an attempt; one that succeeded is part of the response.

        Args:
            ended_at: When it ended, in the time of the loop.
            status: HTTP status; ``None`` if no response came.
            error: Its error, redacted; ``None`` if it succeeded.
            request_id: The server's ID of the request, redacted; ``None`` if it sent none.
        """
        attempt = Attempt(
            number=self.attempts,
            started=self.began_at - self.started_at,
            seconds=ended_at - self.began_at,
            waits=self.attempt_waits,
            status=status,
            error=None if error is None else type(error).__name__,
            message=error.message if isinstance(error, ZenovayError) else "",
            request_id=request_id,
        )
        if error is None:
            return attempt
        history = self.history
        if len(history) >= _MAX_HISTORY:
            history = history[: _MAX_HISTORY // 2] + history[_MAX_HISTORY // 2 + 1 :]
        self.history = (*history, attempt)
        return attempt
