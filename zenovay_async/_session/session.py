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
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from zenovay_async._protocol import headers as _headers
from zenovay_async._protocol.call import NOT_GIVEN, Call, Timeout, require_int
from zenovay_async._protocol.response import RawResponse, Response
from zenovay_async._session.retry import Backoff, is_retryable
from zenovay_async._session.transport import as_headers, url_builder
from zenovay_async.events import OnEvent, RetryScheduled, SchemaDrift, emit
from zenovay_async.exceptions import (
    APIConnectionError,
    APITimeoutError,
    ClientClosedError,
    ConfigurationError,
    QuotaExceededError,
    RateLimitError,
    ZenovayError,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import datetime

    from zenovay_async._limits.budget import Budget
    from zenovay_async._protocol.auth import Auth
    from zenovay_async._protocol.leniency import Drift
    from zenovay_async._session.transport import ConnectionPool, Transport

T = TypeVar("T")

logger = logging.getLogger("zenovay_async")

_TOO_MANY = 429
# Seconds that another attempt has to have left: less than a round trip takes is no time at all.
_LEAST = 0.01

BACKGROUND: ContextVar[bool] = ContextVar("zenovay_async_in_batch", default=False)
"""Set while a batch carries out its calls: they wait their turn as long as it takes, behind those made directly."""


class Options(msgspec.Struct, frozen=True):
    """How calls are carried out, where a call does not say otherwise.

    Attributes:
        timeout: Seconds for a whole call: its wait for a permit, each attempt, each backoff; ``None`` for no bound.
        attempt_timeout: Seconds for one attempt, from connecting to the last byte; ``None`` for no bound.
        max_attempts: How many requests a call may send, the first one included.
        on_event: Told what happens; see ``zenovay_async.events``.
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
        require_int("max_attempts", self.max_attempts)


def check_timeout(name: str, seconds: float | None) -> None:
    """Refuse a timeout that leaves no time at all.

    Raises:
        ConfigurationError: It is zero, negative, or no number.
    """
    known = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if seconds is not None and not (known and seconds > 0):
        raise ConfigurationError(f"{name}={seconds!r}: expected seconds above 0, or None for no bound")


class CallState:
    """How far one call has come."""

    attempts = 0
    waits: tuple[float, ...] = ()
    ended = 0.0
    last: ZenovayError | None = None
    # The wait that did not fit the deadline, where there was one.
    no_fit: float | None = None
    reply: RawResponse | None = None
    timestamp: datetime | None = None

    def __init__(self, timeout: float | None, *, background: bool) -> None:
        # Asked for once a call: up to Python 3.11 it takes a system call.
        self.loop = asyncio.get_running_loop()
        self.clock = self.loop.time
        self.timeout = timeout
        self.deadline = None if timeout is None else self.clock() + timeout
        self.background = background

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
    """

    def __init__(self, transport: Transport, auth: Auth, base_url: str, budget: Budget, options: Options) -> None:
        self.transport = transport
        self.budget = budget
        self.options = options
        self._auth = auth
        self._url = url_builder(base_url)
        name, secret = auth.header
        self._headers = as_headers({name: secret})
        self._headers_with_body = as_headers({name: secret, "Content-Type": "application/json"})
        self._backoff = Backoff(paced=budget.limiter is not None)
        if options.on_event is not None:
            budget.listen(self)

    def fetch(self, call: Call[T], timeout: Timeout = NOT_GIVEN) -> Coroutine[Any, Any, T]:
        """Carry out a call and return its result.

        Args:
            call: What to ask.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Raises:
            ZenovayError: Whatever went wrong, with the attempts made and the waits taken.
        """
        return self._carry_out(call, self._begin(timeout))

    async def send(self, call: Call[T], timeout: Timeout = NOT_GIVEN) -> Response[T]:
        """Carry out a call and return its result with all that came with it; otherwise like :meth:`fetch`."""
        progress = self._begin(timeout)
        data = await self._carry_out(call, progress)
        reply = cast("RawResponse", progress.reply)
        return Response(
            data, reply.status, reply.headers, reply.body, progress.timestamp, progress.attempts, progress.waits
        )

    def _begin(self, timeout: Timeout) -> CallState:
        if timeout is NOT_GIVEN:
            return CallState(self.options.timeout, background=BACKGROUND.get())
        check_timeout("timeout", timeout)
        return CallState(timeout, background=BACKGROUND.get())

    async def _carry_out(self, call: Call[T], progress: CallState) -> T:
        try:
            try:
                return await self._attempt(call, progress)
            except ZenovayError as error:
                if self.options.max_attempts == 1 or progress.attempts == 0 or not is_retryable(error, call):
                    raise
            return await self._retry(call, progress)
        except ZenovayError as error:
            raise self._finished(error, call, progress)  # noqa: B904 - it is the error itself

    async def _attempt(self, call: Call[T], progress: CallState) -> T:
        quota, cost, url = self.budget.quota, call.cost, self._url(call.path, call.query)
        try:
            quota.check(cost, reserve=self.budget.reserve if progress.background else 0)
            turn = self._turn_at_once(cost, progress.loop)
            permit, wire = await self._turn(cost, progress) if turn is None else turn
            if progress.attempts:
                progress.waits += (progress.clock() - progress.ended,)
            progress.attempts += 1
            quota.in_flight += cost
            try:
                reply = await wire.send(
                    call.method,
                    url,
                    self._headers if call.body is None else self._headers_with_body,
                    call.body,
                    attempt_timeout=self.options.attempt_timeout,
                    deadline=progress.deadline,
                )
            except BaseException as error:
                self._give_back(permit, error)
                raise
            finally:
                quota.in_flight -= cost
            data = self._judge(call, progress, reply, permit)
        except ZenovayError as error:
            self._auth.redact(error)
            if progress.no_fit is None:
                progress.ended = progress.clock()
                progress.last = error
            raise
        retries = self.budget.retries
        if retries.tokens < retries.CAPACITY:
            retries.earn()
        return data

    def _turn_at_once(self, cost: int, loop: asyncio.AbstractEventLoop) -> tuple[Any, ConnectionPool] | None:
        """A permit and a place on the wire, if both are to be had without waiting."""
        wire, limiter = self.transport.acquire_slot_nowait(loop), self.budget.limiter
        if wire is None or limiter is None:
            return None if wire is None else (None, wire)
        permit = limiter.acquire_nowait(cost=cost)
        if permit is None:
            wire.places.give_back()
            return None
        return permit, wire

    async def _turn(self, cost: int, progress: CallState) -> tuple[Any, ConnectionPool]:
        """Wait for both: within the deadline, or in a batch as long as it takes, as its deadline starts then."""
        limiter, background = self.budget.limiter, progress.background
        began = progress.clock()
        permit: Any = None
        if limiter is not None:
            try:
                max_wait = None if background or progress.deadline is None else max(0.0, progress.left())
                permit = await limiter.acquire(cost=cost, max_wait=max_wait, background=background)
            except RateLimitError as error:
                progress.no_fit = error.retry_after or 0.0
                raise
        try:
            # Others may have used up the month in the meantime.
            self.budget.quota.check(cost, reserve=self.budget.reserve if background else 0)
            if not background and progress.left() < _LEAST:
                self._too_late(progress)
            wire = await self.transport.acquire_slot(None if background else progress.deadline)
        except BaseException:
            if limiter is not None:
                limiter.refund(permit)
            raise
        if background and progress.deadline is not None:
            progress.deadline += progress.clock() - began
        return permit, wire

    def _too_late(self, progress: CallState) -> NoReturn:
        """A wait took longer than it should have; what the last attempt failed with says more than that."""
        raise progress.last or APITimeoutError("The deadline passed before the request could be sent")

    def _give_back(self, permit: Any, error: BaseException) -> None:
        """A permit without an answer: unspent if the request surely did not reach the server."""
        limiter = self.budget.limiter
        if limiter is None:
            return
        # A closed session and a request that aiohttp refuses are found out before anything is sent.
        unsent = isinstance(error, (ClientClosedError, ConfigurationError))
        if unsent or (isinstance(error, APIConnectionError) and not error.sent):
            limiter.refund(permit)
        else:
            limiter.finish(permit, status=None)

    def _judge(self, call: Call[T], progress: CallState, reply: RawResponse, permit: Any) -> T:
        """Read the answer, and let the budget learn from it whatever it says."""
        if logger.isEnabledFor(logging.DEBUG):
            request_id = self._auth.redact_text(reply.headers.get("x-request-id", "without id"))
            logger.debug("%s: HTTP %d, attempt %d, request %s", call, reply.status, progress.attempts, request_id)
        quota = self.budget.quota
        try:
            envelope, drifts = read(call, reply, time.time(), strict=self.options.strict)
        except ZenovayError as error:
            self._learn_from(error, reply, permit)
            raise
        except BaseException:
            # A class of the caller's may raise anything when an answer is decoded to it; the request was answered.
            self._finish(permit, reply, reply.status)
            raise
        self._finish(permit, reply, reply.status)
        quota.read(reply.headers)
        progress.reply, progress.timestamp = reply, envelope.timestamp
        if call.usage_of is not None:
            quota.observe(call.usage_of(envelope.data))
        if drifts:
            self._report(call, drifts)
        return envelope.data

    def _learn_from(self, error: ZenovayError, reply: RawResponse, permit: Any) -> None:
        status: int | None = reply.status
        self.budget.quota.read(reply.headers)
        if isinstance(error, QuotaExceededError):
            # Before the permit goes back, or the next in line would be sent to hear the same. The month being used up
            # says nothing about this minute.
            self.budget.exhausted(error.retry_after)
            status = None
        elif isinstance(error, RateLimitError):
            status = _TOO_MANY  # also where it came under another status
        self._finish(permit, reply, status, error.retry_after)

    def _finish(self, permit: Any, reply: RawResponse, status: int | None, retry_after: float | None = None) -> None:
        limiter, get = self.budget.limiter, reply.headers.get
        if limiter is not None:
            limiter.finish(
                permit,
                status=status,
                limit=_headers.cached_parse_count(get("X-RateLimit-Limit")),
                remaining=_headers.parse_count(get("X-RateLimit-Remaining")),
                retry_after=retry_after,
            )

    def _report(self, call: Call[T], drifts: tuple[Drift, ...]) -> None:
        for drift in call.decoder.not_told(drifts):
            # A path has names out of the answer, and a server may echo anything.
            path, problem = self._auth.redact_text(drift.path), self._auth.redact_text(drift.problem)
            logger.warning("%s: the answer strays from the documented shape: %s: %s", call, path, problem)
            emit(self.options.on_event, SchemaDrift(str(call), path, problem))

    async def _retry(self, call: Call[T], progress: CallState) -> T:
        pending = progress.last

        async def attempt() -> T:
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
                lambda error: isinstance(error, ZenovayError) and progress.no_fit is None and is_retryable(error, call)
            ),
            before_sleep=lambda state: self._announce(call, state),
            reraise=True,
        )
        return await retrying(attempt)

    def _stop(self, state: RetryCallState, progress: CallState) -> bool:
        if state.attempt_number >= self.options.max_attempts:
            return True
        left = progress.left()
        if state.upcoming_sleep > left - _LEAST:
            # With no time left at all it is not the wait that does not fit.
            progress.no_fit = state.upcoming_sleep if left > _LEAST else None
            return True
        # After a 429 a limiter bounds retries, or else the time that the server named.
        error, limiter = progress.last, self.budget.limiter
        bounded = isinstance(error, RateLimitError) and (limiter is not None or error.retry_after is not None)
        return not bounded and not self.budget.retries.spend()

    def _announce(self, call: Call[Any], state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, ZenovayError):
            return
        logger.info("%s: %s; attempt %d in %.2f s", call, error.message, state.attempt_number + 1, state.upcoming_sleep)
        emit(self.options.on_event, RetryScheduled(str(call), state.attempt_number, state.upcoming_sleep, error))

    def _finished(self, error: ZenovayError, call: Call[Any], progress: CallState) -> ZenovayError:
        """The error for the caller: the last real answer, with all that is known of the call."""
        if progress.no_fit is not None and progress.last is not None:
            error = progress.last
            error.retry_after = progress.no_fit
            bound = "time" if progress.timeout is None else f"timeout of {progress.timeout:g} s"
            error.message += (
                f"; another attempt would have to wait {progress.no_fit:.1f} s, which does not fit the {bound}"
            )
            error.args = (error.message,)
        # What is reachable from a traceback would otherwise reach the traceback, and stay until the next collection.
        progress.last = None
        error.call = str(call)
        error.attempts = progress.attempts
        error.waits = progress.waits
        return error
