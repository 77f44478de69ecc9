"""How far one call has come."""

from __future__ import annotations

import asyncio
import math
from contextvars import ContextVar
from typing import TYPE_CHECKING, Generic, TypeVar

from zenovay_async.exceptions import APITimeoutError

if TYPE_CHECKING:
    from zenovay_async._protocol.call import Call
    from zenovay_async.exceptions import ZenovayError

T = TypeVar("T")

# Seconds that another attempt must have left: less than a round trip takes is no time at all.
MIN_ATTEMPT = 0.01

BACKGROUND: ContextVar[bool] = ContextVar("zenovay_async_background", default=False)
"""Set while a batch carries out its calls: they wait for permits as long as it takes, behind direct calls."""


class CallState(Generic[T]):
    """Attempts, waits and deadline of one call, and the error that it ends with.

    Args:
        call: The call.
        timeout: Seconds for the whole call; ``None`` for no deadline.

    Attributes:
        call: As given.
        loop: The running loop, asked for once a call, as up to Python 3.11 that takes a system call.
        deadline: Time of the loop by which the call must be done; ``None`` for none.
        background: Whether the call belongs to a batch.
        attempts: Attempts begun.
        waits: Seconds waited before each attempt after the first.
        last_error: What the last attempt failed with.
        excess_wait: The wait that did not fit the deadline, if one did not.
    """

    # Defaults of the class, as most calls change none of them.
    attempts = 0
    waits: tuple[float, ...] = ()
    last_error: ZenovayError | None = None
    excess_wait: float | None = None
    _failed_at = 0.0

    def __init__(self, call: Call[T], timeout: float | None) -> None:
        self.call = call
        self.loop = asyncio.get_running_loop()
        self.deadline = None if timeout is None else self.loop.time() + timeout
        self.background = BACKGROUND.get()
        self._timeout = timeout

    def remaining(self) -> float:
        """Seconds until the deadline."""
        return math.inf if self.deadline is None else self.deadline - self.loop.time()

    def max_wait(self) -> float | None:
        """Seconds that a permit may be waited for; ``None`` for as long as it takes, as for a background call."""
        return None if self.background or self.deadline is None else max(0.0, self.remaining())

    def check_deadline(self) -> None:
        """Check that time is left for an attempt; a background call gets its time after the wait.

        Raises:
            ZenovayError: There is none; the last attempt's failure, if there was one, as it says more.
        """
        if not self.background and self.remaining() < MIN_ATTEMPT:
            raise self.last_error or APITimeoutError("The deadline passed before the request was sent")

    def begin_attempt(self) -> None:
        """Count an attempt, and the wait before it."""
        if self.attempts:
            self.waits += (self.loop.time() - self._failed_at,)
        self.attempts += 1

    def record_failure(self, error: ZenovayError) -> None:
        """Keep the error of an attempt; a wait that does not fit is not an attempt, and keeps the one before it."""
        _drop_frames(error)
        if self.excess_wait is None:
            self._failed_at = self.loop.time()
            self.last_error = error

    def final_error(self, error: ZenovayError) -> ZenovayError:
        """The error for the caller: that of the last response, with all that is known of the call."""
        if self.excess_wait is not None and self.last_error is not None:
            error = self.last_error
            error.retry_after = self.excess_wait
            bound = "the deadline" if self._timeout is None else f"timeout={self._timeout:g}"
            error.message += f"; a retry in {self.excess_wait:.1f} s does not fit {bound}"
            error.args = (error.message,)
        self.last_error = None
        _drop_frames(error)
        error.operation = self.call.operation
        error.call = str(self.call)
        error.attempts = self.attempts
        error.waits = self.waits
        return error


def _drop_frames(error: ZenovayError) -> None:
    """Let an error forget the frames it went through: they refer to it, and hold what the server sent.

    A server may have echoed the key, and tracebacks may show variables.
    """
    error.__traceback__ = None
    if error.__suppress_context__:
        error.__context__ = None
