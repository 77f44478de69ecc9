"""What listeners learn of each call: a Caller around the others, which is there only if somebody listens.

The events of an attempt are emitted where the request is sent, in the context of the call: a flight that several calls
join runs in a copy of its first caller's.
"""

from __future__ import annotations

from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from msgspec.structs import replace

from zenovay_async._limits.event_loop import running_loop
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout
from zenovay_async._session.background import current_scope
from zenovay_async.events import AttemptEnded, AttemptStarted, CallEnded, CallStarted, EndOutcome, emit
from zenovay_async.exceptions import ZenovayError

if TYPE_CHECKING:
    from contextvars import Token

    from yarl import URL

    from zenovay_async._limits.budget import Budget
    from zenovay_async._protocol.auth import Auth
    from zenovay_async._protocol.call import Call, Caller
    from zenovay_async._protocol.response import Response
    from zenovay_async._session.flight import CarryOut
    from zenovay_async._session.state import CallState
    from zenovay_async.events import CacheResult, OnEvent
    from zenovay_async.history import Attempt, Wait

T = TypeVar("T")

_ids = count(1)


class Observe(Protocol):
    """Begins the observation of a call; a partial of :class:`Observation`."""

    def __call__(self, call: Call[Any], *, is_refresh: bool = False) -> Observation:
        """Emit that a call began."""
        ...


class Observation:
    """One call as listeners learn of it.

    Args:
        on_event: Called with each event.
        auth: Redacts the key, which a caller may have passed as an argument.
        call: The call.
        is_refresh: Whether it refreshes a response of the cache.

    Attributes:
        cache: What the cache had for it; ``None`` without a cache.
    """

    __slots__ = (
        *("_attempt", "_auth", "_call", "_cost", "_id", "_loop", "_method", "_on_event", "_operation", "_started_at"),
        *("_address", "_has_joined", "_port", "_state", "_template", "cache"),
    )

    def __init__(self, on_event: OnEvent, auth: Auth, call: Call[Any], *, is_refresh: bool = False) -> None:
        endpoint = call.endpoint
        self._on_event = on_event
        self._auth = auth
        self._call = auth.redact_call(str(call))
        self._cost = endpoint.cost
        # Passed by name to each event, as a mapping of them would take five times as long.
        self._id, self._operation = next(_ids), endpoint.operation
        self._method, self._template = endpoint.method, call.template
        self._state: CallState[Any] | None = None
        self._attempt: Attempt | None = None
        self._has_joined = False
        self._address, self._port = "", 0
        self._loop = running_loop()
        self._started_at = self._loop.time()
        self.cache: CacheResult | None = None
        emit(
            on_event,
            CallStarted(
                call_id=self._id,
                operation=self._operation,
                method=self._method,
                template=self._template,
                call=self._call,
                cost=self._cost,
                background=is_refresh or current_scope() is not None,
                refresh=is_refresh,
            ),
        )

    def follow(self, state: CallState[Any], *, joined: bool = False) -> None:
        """Note which state the call has now: its own, or that of a call that it joined."""
        self._state, self._attempt, self._has_joined = state, None, joined

    def start_attempt(self, state: CallState[Any], url: URL) -> None:
        """Emit that a request is about to be sent."""
        self._address, self._port = url.host or "", url.port or 0
        emit(
            self._on_event,
            AttemptStarted(
                call_id=self._id,
                operation=self._operation,
                method=self._method,
                template=self._template,
                number=state.attempts,
                previous=state.history[-1] if state.history else None,
                waits=state.attempt_waits,
                url=str(url),
                server_address=self._address,
                server_port=self._port,
            ),
        )

    def end_attempt(self, attempt: Attempt, error: BaseException | None, budget: Budget) -> None:
        """Emit how an attempt ended, and keep it, as its texts are redacted."""
        self._attempt = attempt
        rate_limit_remaining, quota_remaining = budget.remaining()
        emit(
            self._on_event,
            AttemptEnded(
                call_id=self._id,
                operation=self._operation,
                method=self._method,
                template=self._template,
                number=attempt.number,
                outcome=_outcome(error),
                seconds=attempt.seconds,
                status=attempt.status,
                error=error if isinstance(error, ZenovayError) else None,
                request_id=attempt.request_id,
                server_address=self._address,
                server_port=self._port,
                rate_limit_remaining=rate_limit_remaining,
                quota_remaining=quota_remaining,
            ),
        )

    def end(self, response: Response[Any] | None, error: BaseException | None = None) -> None:
        """Emit how the call ended.

        Args:
            response: Its response; ``None`` if it failed or was canceled.
            error: What it raised.
        """
        cache = self.cache
        if self._has_joined and cache != "stale":
            cache = "joined"
        elif cache == "miss" and response is not None and response.from_cache:
            # Another process requested it.
            cache = "hit"
        known: Response[Any] | ZenovayError | None = response
        history: tuple[Attempt, ...] = ()
        waits: tuple[Wait, ...] = ()
        request_id, state, self._state = None, self._state, None
        if isinstance(error, ZenovayError):
            known, history, waits, request_id = error, error.history, error.last_waits, error.request_id
        elif response is None:
            if state is not None:
                history, waits = state.history_until_now(), state.waits_until_now()
        elif state is not None and (self._attempt is not None or (response.from_cache and state.history)):
            # Without a success, a stale response is used in place of the error.
            history = state.history
            if self._attempt is not None and self._attempt.error is None:
                history = (*history, self._attempt)
            request_id = history[-1].request_id
        else:
            # Of another call, or kept: the server's text as it came.
            history = tuple(replace(one, request_id=self._redact(one.request_id)) for one in response.history)
            request_id, waits = self._redact(response.request_id), response.last_waits
        emit(
            self._on_event,
            CallEnded(
                call_id=self._id,
                operation=self._operation,
                method=self._method,
                template=self._template,
                call=self._call,
                outcome=_outcome(error),
                seconds=self._loop.time() - self._started_at,
                status=None if known is None else known.status,
                error=error if isinstance(error, ZenovayError) else None,
                request_id=request_id,
                cost=self._cost,
                cache=cache,
                history=history,
                waits=waits,
            ),
        )

    def _redact(self, text: str | None) -> str | None:
        return None if text is None else self._auth.redact_text(text)


OBSERVATION: ContextVar[Observation | None] = ContextVar("zenovay_observation", default=None)
"""The call that is carried out in this context; ``None`` if nobody listens."""


class ObservingCaller:
    """Carries out calls by another Caller, and emits their beginning and end.

    Args:
        caller: Carries them out.
        observe: Begins the observation of a call.
    """

    def __init__(self, caller: Caller, observe: Observe) -> None:
        self._caller = caller
        self._observe = observe

    async def send(self, call: Call[T], timeout: Timeout = NOT_GIVEN) -> Response[T]:
        """Carry out a call; as ``Session.send``."""
        observation = self._observe(call)
        token = OBSERVATION.set(observation)
        try:
            response = await self._caller.send(call, timeout)
        except BaseException as error:
            observation.end(None, error)
            raise
        finally:
            _reset(token)
        observation.end(response)
        return response


def observe_refresh(carry_out: CarryOut, observe: Observe) -> CarryOut:
    """Let what carries out a refresh emit its beginning and end; it runs in a context of its own."""

    async def carry_out_observed(state: CallState[Any]) -> Response[Any]:
        observation = observe(state.call, is_refresh=True)
        OBSERVATION.set(observation)
        try:
            response = await carry_out(state)
        except BaseException as error:
            observation.end(None, error)
            raise
        observation.end(response)
        return response

    return carry_out_observed


def _outcome(error: BaseException | None) -> EndOutcome:
    if error is None:
        return "succeeded"
    return "failed" if isinstance(error, Exception) else "canceled"


def _reset(token: Token[Observation | None]) -> None:
    try:
        OBSERVATION.reset(token)
    except ValueError:
        # The garbage collector ends a coroutine of a loop that was closed, in a context of its own.
        return
