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

# Seconds that must be left for an attempt: less is not enough for a round trip to the API.
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
        loop: The running loop; kept, because asking for it is a system call up to Python 3.11.
        deadline: Time of the loop by which the call must be done; ``None`` for none.
        background: Whether the call belongs to a batch.
        attempts: Attempts begun.
        waits: Seconds waited before each attempt after the first.
        last_error: Error of the last attempt.
        excess_wait: Seconds of the wait that did not fit the deadline; ``None`` if there was none.
    """

    # Class attributes, which cost no assignment in a call that succeeds at once.
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
        """Seconds until the deadline; ``math.inf`` if there is none."""
        return math.inf if self.deadline is None else self.deadline - self.loop.time()

    def max_wait(self) -> float | None:
        """Seconds to wait for a permit at most; ``None`` for no bound, as for every background call."""
        return None if self.background or self.deadline is None else max(0.0, self.remaining())

    def check_deadline(self) -> None:
        """Check that time is left for an attempt; the deadline of a background call starts after this.

        Raises:
            ZenovayError: No time is left. It is the error of the last attempt, else an ``APITimeoutError``.
        """
        if not self.background and self.remaining() < MIN_ATTEMPT:
            raise self.last_error or APITimeoutError("The deadline passed before the request was sent")

    def begin_attempt(self) -> None:
        """Count an attempt, and record the wait before it."""
        if self.attempts:
            self.waits += (self.loop.time() - self._failed_at,)
        self.attempts += 1

    def record_failure(self, error: ZenovayError) -> None:
        """Keep the error of an attempt; one of a wait that did not fit does not replace it."""
        _drop_frames(error)
        if self.excess_wait is None:
            self._failed_at = self.loop.time()
            self.last_error = error

    def final_error(self, error: ZenovayError) -> ZenovayError:
        """Complete the error for the caller with the operation, attempts and waits of the call.

        If a retry's wait did not fit the deadline, it is the error of the attempt before it that the caller gets.
        """
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
