"""One call, from description to result: permit, send, judge, wait, and again, under one deadline.

The first attempt goes straight through; tenacity is entered only when it failed in a way worth repeating, so that
a call that succeeds, which is nearly every call, pays nothing for the retries it does not make.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from zenovay_async.core import headers as _headers
from zenovay_async.core.call import NOT_GIVEN, Call, Timeout
from zenovay_async.core.errors import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    QuotaExceededError,
    RateLimitError,
    ZenovayError,
)
from zenovay_async.core.events import OnEvent, RetryScheduled, SchemaDrift
from zenovay_async.core.response import Reading, Reply, Response, read
from zenovay_async.core.retry import Backoff, may_repeat
from zenovay_async.transport import prepared, urls_below

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.budget import Budget
    from zenovay_async.core.auth import Auth
    from zenovay_async.transport import Transport

T = TypeVar("T")

logger = logging.getLogger("zenovay_async")

# Seconds that another attempt has to have left: less than a round trip takes is no time at all.
_LEAST = 0.01

IN_BATCH: ContextVar[bool] = ContextVar("zenovay_async_in_batch", default=False)
"""Set while a batch carries out its calls: they wait their turn as long as it takes, behind those made directly."""


class Options(msgspec.Struct, frozen=True):
    """How calls are carried out, where a call does not say otherwise.

    Attributes:
        timeout: Seconds for a whole call: its wait for a permit, each attempt, each backoff; ``None`` for no bound.
        attempt_timeout: Seconds for one attempt, from connecting to the last byte; ``None`` for no bound.
        max_attempts: How many requests a call may send, the first one included.
        on_event: Told what happens; see ``zenovay_async.core.events``.
        strict: Take nothing but the documented shape of an answer, for tests.
    """

    timeout: float | None = 30.0
    attempt_timeout: float | None = 15.0
    max_attempts: int = 4
    on_event: OnEvent | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        for name in ("timeout", "attempt_timeout"):
            check_timeout(name, getattr(self, name))
        if self.max_attempts < 1:
            raise ConfigurationError(f"max_attempts={self.max_attempts!r}: expected 1 (no retries) or more")


def check_timeout(name: str, seconds: float | None) -> None:
    """Refuse a timeout that leaves no time at all.

    Raises:
        ConfigurationError: It is zero, negative, or no number.
    """
    if seconds is not None and not (isinstance(seconds, (int, float)) and seconds > 0):
        raise ConfigurationError(f"{name}={seconds!r}: expected seconds above 0, or None for no bound")


class _Progress:
    """How far one call has come."""

    __slots__ = ("attempts", "background", "clock", "deadline", "ended", "last", "no_fit", "timeout", "waits")

    def __init__(self, timeout: float | None, clock: Callable[[], float], *, background: bool) -> None:
        now = clock()
        self.clock = clock
        self.timeout = timeout
        self.deadline = None if timeout is None else now + timeout
        self.background = background
        self.attempts = 0
        self.waits: tuple[float, ...] = ()
        self.ended = now
        self.last: ZenovayError | None = None
        # The wait that did not fit the deadline, where there was one.
        self.no_fit: float | None = None

    def left(self) -> float:
        """Seconds until the deadline."""
        return math.inf if self.deadline is None else self.deadline - self.clock()


class Session:
    """Carries out calls with one key.

    Args:
        transport: Sends the requests; may be shared.
        auth: The key and its header.
        base_url: Where the API is, without a slash at the end.
        budget: What the key may spend; may be shared.
        options: Time and attempts for each call.
        user_agent: The ``User-Agent`` to send.
    """

    def __init__(
        self, transport: Transport, auth: Auth, base_url: str, budget: Budget, options: Options, user_agent: str
    ) -> None:
        self.transport = transport
        self.budget = budget
        self.options = options
        self._auth = auth
        self._url = urls_below(base_url)
        name, secret = auth.header
        headers = {name: secret, "User-Agent": user_agent, "Accept": "application/json"}
        self._headers = prepared(headers)
        self._headers_with_body = prepared({**headers, "Content-Type": "application/json"})
        self._backoff = Backoff(paced=budget.limiter is not None)
        if options.on_event is not None:
            budget.listen(self, options.on_event)

    async def fetch(self, call: Call[T], timeout: Timeout) -> T:
        """Carry out a call and return its result; see :meth:`send`."""
        return (await self.send(call, timeout)).data

    async def send(self, call: Call[T], timeout: Timeout = NOT_GIVEN) -> Response[T]:
        """Carry out a call and return its result with all that came with it.

        Args:
            call: What to ask.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Raises:
            ZenovayError: Whatever went wrong, with the attempts made and the waits taken.
        """
        seconds = self.options.timeout
        if timeout is not NOT_GIVEN:
            check_timeout("timeout", timeout)
            seconds = timeout
        progress = _Progress(seconds, asyncio.get_running_loop().time, background=IN_BATCH.get())
        try:
            try:
                return await self._attempt(call, progress)
            except ZenovayError as error:
                if self.options.max_attempts == 1 or progress.attempts == 0 or not may_repeat(error, call):
                    raise
                first = error
            return await self._retry(call, progress, first)
        except ZenovayError as error:
            raise self._finished(error, call, progress)  # noqa: B904 - it is the error itself

    async def _attempt(self, call: Call[T], progress: _Progress) -> Response[T]:
        quota = self.budget.quota
        quota.enter(call.cost, reserve=self.budget.reserve if progress.background else 0, now=datetime.now(UTC))
        try:
            permit = await self._permit(call, progress)
            if progress.left() < _LEAST:
                # The wait took longer than it should have. What the last attempt failed with says more than that.
                if self.budget.limiter is not None:
                    self.budget.limiter.refund(permit)
                raise progress.last or APITimeoutError("The deadline passed before the request could be sent")
            if progress.attempts:
                progress.waits += (progress.clock() - progress.ended,)
            progress.attempts += 1
            reply = await self._send(call, progress, permit)
            reading = self._judge(call, reply, permit)
        except ZenovayError as error:
            if progress.no_fit is None:
                progress.ended = progress.clock()
                progress.last = error
            raise
        finally:
            quota.leave(call.cost)
        self.budget.retries.succeeded()
        data = reading.data
        if call.usage_of is not None:
            quota.observe(call.usage_of(data))
        if reading.drifts:
            self._report(call, reading)
        return Response(
            data, reply.status, reply.headers, reply.body, reading.timestamp, progress.attempts, progress.waits
        )

    async def _permit(self, call: Call[Any], progress: _Progress) -> Any:
        """Wait for this call's turn: within the deadline, or in a batch as long as it takes."""
        limiter = self.budget.limiter
        if limiter is None:
            return None
        if progress.background:
            began = progress.clock()
            permit = await limiter.acquire(cost=call.cost, background=True)
            if progress.deadline is not None:
                progress.deadline += progress.clock() - began
            return permit
        left = None if progress.deadline is None else max(0.0, progress.deadline - progress.clock())
        try:
            return await limiter.acquire(cost=call.cost, max_wait=left)
        except RateLimitError as error:
            progress.no_fit = error.retry_after or 0.0
            raise

    async def _send(self, call: Call[Any], progress: _Progress, permit: Any) -> Reply:
        began = progress.clock()
        try:
            reply = await self.transport.send(
                call.method,
                self._url(call.path, call.query),
                self._headers if call.body is None else self._headers_with_body,
                call.body,
                attempt_timeout=self.options.attempt_timeout,
                deadline=progress.deadline,
            )
        except BaseException as error:
            self._give_back(permit, error)
            raise
        if logger.isEnabledFor(logging.DEBUG):
            request_id = reply.headers.get("x-request-id")
            took = progress.clock() - began
            logger.debug(
                "%s: HTTP %d in %.3f s, attempt %d, request %s", call, reply.status, took, progress.attempts, request_id
            )
        return reply

    def _give_back(self, permit: Any, error: BaseException) -> None:
        """A permit without an answer: unspent if the request surely did not reach the server."""
        if permit is None or self.budget.limiter is None:
            return
        if isinstance(error, APIConnectionError) and not error.sent:
            self.budget.limiter.refund(permit)
        else:
            self.budget.limiter.finish(permit, status=None)

    def _judge(self, call: Call[T], reply: Reply, permit: Any) -> Reading[T]:
        """Read the answer, and let the budget learn from it whatever it says."""
        failure: ZenovayError | None = None
        try:
            return read(call, reply, time.time(), strict=self.options.strict)
        except ZenovayError as error:
            failure = error
            raise
        finally:
            self._learn(reply, permit, failure)

    def _learn(self, reply: Reply, permit: Any, failure: ZenovayError | None) -> None:
        get = reply.headers.get
        limiter, quota = self.budget.limiter, self.budget.quota
        if "X-Usage-Monthly" in reply.headers:
            quota.observe(_headers.usage(reply.headers))
        if isinstance(failure, QuotaExceededError):
            # Before the permit goes back, or the next in line would be sent to hear the same.
            quota.exhausted(datetime.now(UTC), failure.retry_after)
            if limiter is not None:
                limiter.fail_all(lambda: quota.refusal(datetime.now(UTC)))
        if limiter is not None:
            limiter.finish(
                permit,
                # The month being used up says nothing about this minute.
                status=None if isinstance(failure, QuotaExceededError) else reply.status,
                limit=_headers.count(get("X-RateLimit-Limit")),
                remaining=_headers.count(get("X-RateLimit-Remaining")),
                retry_after=None if failure is None else failure.retry_after,
            )

    def _report(self, call: Call[T], reading: Reading[T]) -> None:
        for drift in call.decoder.not_told(reading.drifts):
            logger.warning("%s: the answer strays from the documented shape: %s", call, drift)
            if self.options.on_event is not None:
                self.options.on_event(SchemaDrift(str(call), drift.path, drift.problem))

    async def _retry(self, call: Call[T], progress: _Progress, first: ZenovayError) -> Response[T]:
        pending: ZenovayError | None = first

        async def attempt() -> Response[T]:
            # tenacity counts from the first attempt, so that one is played to it again.
            nonlocal pending
            if pending is not None:
                error, pending = pending, None
                raise error
            return await self._attempt(call, progress)

        retrying = AsyncRetrying(
            sleep=asyncio.sleep,
            stop=lambda state: self._stop(state, progress),
            wait=self._backoff,
            retry=retry_if_exception(
                lambda error: isinstance(error, ZenovayError) and progress.no_fit is None and may_repeat(error, call)
            ),
            before_sleep=lambda state: self._announce(call, state),
            reraise=True,
        )
        return await retrying(attempt)

    def _stop(self, state: RetryCallState, progress: _Progress) -> bool:
        if state.attempt_number >= self.options.max_attempts:
            return True
        left = progress.left()
        if state.upcoming_sleep > left - _LEAST:
            # With no time left at all it is not the wait that does not fit.
            progress.no_fit = state.upcoming_sleep if left > _LEAST else None
            return True
        return not isinstance(progress.last, RateLimitError) and not self.budget.retries.spend()

    def _announce(self, call: Call[Any], state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, ZenovayError):
            return
        logger.info("%s: %s; attempt %d in %.2f s", call, error.message, state.attempt_number + 1, state.upcoming_sleep)
        if self.options.on_event is not None:
            self.options.on_event(RetryScheduled(str(call), state.attempt_number, state.upcoming_sleep, error))

    def _finished(self, error: ZenovayError, call: Call[Any], progress: _Progress) -> ZenovayError:
        """The error for the caller: the last real answer, with all that is known of the call."""
        if progress.no_fit is not None and progress.last is not None:
            error = progress.last
            error.retry_after = progress.no_fit
            error.message += (
                f"; another attempt would have to wait {progress.no_fit:.1f} s, "
                f"which does not fit the timeout of {progress.timeout:g} s"
            )
        error.message = self._auth.redact(error.message)
        error.body = None if error.body is None else self._auth.redact(error.body)
        error.call = str(call)
        error.attempts = progress.attempts
        error.waits = progress.waits
        return error
