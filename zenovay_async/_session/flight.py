"""One call in flight for which several callers wait.

Each caller has a deadline and a cancellation of its own. The call runs in a task, which no caller's end touches, as
canceling a task cancels whatever it awaits: it lives to the latest deadline of those who wait, and is canceled with the
last of them. A caller whose time is over, or will not suffice for the wait that the call begins, fails alone. A direct
call that joins one of a batch makes it direct.

The first caller is bounded by the call's own deadline, as if there was no flight. Only where others have more time does
a caller need a timer.
"""

from __future__ import annotations

import asyncio
import copy
import math
import sys
import time
import types
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import msgspec

from zenovay_async._protocol.parsing import parse_response
from zenovay_async._protocol.response import RawResponse
from zenovay_async._session.deadlines import CLOSED
from zenovay_async._session.state import MIN_ATTEMPT
from zenovay_async.exceptions import BatchStoppedError, ClientClosedError, ZenovayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Hashable
    from contextvars import Context

    from zenovay_async._cache.invalidation import Scope
    from zenovay_async._limits.budget import Budget
    from zenovay_async._limits.patience import ServerUnavailable
    from zenovay_async._protocol.call import Call
    from zenovay_async._protocol.response import Response
    from zenovay_async._session.background import BackgroundScope
    from zenovay_async._session.state import CallState

T = TypeVar("T")

CarryOut: TypeAlias = "Callable[[CallState[Any]], Awaitable[Response[Any]]]"
"""Carries out a call that was begun, as ``Session.run`` does."""


class Aborted(Exception):  # noqa: N818 - a signal inside the package, which callers never see
    """The call ended for a reason of its own client or task, which is none for who joined it."""


class Caller:
    """Who waits for a flight, as soon as there is more than one.

    Attributes:
        future: Done when the wait is over.
        scope: The scope of a background call; ``None`` for a direct one.
        timeout: Seconds for the whole call; ``None`` for no bound.
        deadline: When that is over, in the time of the loop.
        joined_at: When the wait began.
        is_timed: Whether the timer of the flight ends the wait, rather than the deadline of the call.
        error: Why this wait ended before the call.
    """

    __slots__ = ("deadline", "error", "future", "is_timed", "joined_at", "scope", "timeout")

    def __init__(
        self,
        future: asyncio.Future[None],
        deadline: float | None,
        timeout: float | None,
        scope: BackgroundScope | None,
        joined_at: float,
    ) -> None:
        self.future = future
        self.scope = scope
        self.timeout = timeout
        self.joined_at = joined_at
        self.deadline = math.inf if deadline is None else deadline
        self.is_timed = False
        self.error: ZenovayError | None = None


class Flight(Generic[T]):
    """One call in flight.

    Args:
        state: The call, begun.
        owner: Who made it, for a client of its own.
        budget: The budget of its key, beside which it is registered so that others join it.
        key: Under which key.
        is_refresh: Whether it goes on with nobody who waits.

    Attributes:
        state: As given.
        owner: As given.
        future: What its first caller awaits.
        task: Its task.
        is_done: Whether it ended.
        leader: Its first caller, once others joined.
        response: What it ended with.
    """

    # Class attributes, which cost no assignment in a flight that nobody joins.
    task: asyncio.Task[None]
    is_done = False
    leader: Caller | None = None
    response: Response[T] | None = None
    _error: BaseException | None = None
    _is_canceled = False
    _is_taken = False
    _callers: dict[Caller, None] | None = None
    _timer: asyncio.TimerHandle | None = None

    def __init__(
        self, state: CallState[T], owner: object, budget: Budget, key: Hashable, *, is_refresh: bool = False
    ) -> None:
        self.state = state
        self.owner = owner
        self.future: asyncio.Future[None] = state.loop.create_future()
        self._budget = budget
        self._flights = flights = budget.flights
        self._key = key
        self._is_refresh = is_refresh
        state.is_shared = True
        flights[key] = self

    @property
    def is_of_running_loop(self) -> bool:
        """Whether it is one that the running loop carries on; that of a loop that was closed never ends."""
        return self.state.loop is asyncio.get_running_loop()

    def start(self, carry_out: CarryOut, context: Context | None = None) -> None:
        """Start the call, in a task of its own; where Python can, it runs at once until it first waits.

        Args:
            carry_out: Carries it out.
            context: The context of the task; omitted, a copy of the caller's.
        """
        if _IS_EAGER and context is None:
            self.task = _start_now(self._run(carry_out), self.state.loop)
            return
        work = self._run(carry_out, later=True)
        # A task that is canceled before it started would run nothing, and so end without a word.
        work.send(None)
        self.task = self.state.loop.create_task(work, context=context)

    def join(self, timeout: float | None, scope: BackgroundScope | None) -> Caller:
        """Join the call.

        Args:
            timeout: Seconds for the whole call of this caller; ``None`` for no bound.
            scope: The scope of a background call; ``None`` for a direct one.
        """
        state = self.state
        now, ends_at = state.loop.time(), math.inf if state.deadline is None else state.deadline
        caller = Caller(state.loop.create_future(), None if timeout is None else now + timeout, timeout, scope, now)
        callers = self._callers
        if callers is None:
            callers = self._admit_leader()
        if scope is None:
            error = self._foreseen_error(caller)
            if error is not None:
                caller.error = error
                caller.future.set_result(None)
                return caller
            if state.background:
                state.promote(self.task)
        else:
            state.make_patient(scope.background.max_outage)
        state.put_off(caller.deadline, timeout)
        callers[caller] = None
        if state.is_patient or caller.deadline > ends_at:
            # The deadline of the call is no longer that of those before.
            for other in self._untimed:
                self._set_timer(other)
            self._untimed.clear()
        if state.is_patient or caller.deadline < ends_at:
            self._set_timer(caller)
        else:
            self._untimed.append(caller)
        return caller

    async def wait(self, caller: Caller | None, call: Call[T]) -> Response[T]:
        """Wait until the call ends, or the time of this caller.

        Args:
            caller: The caller; ``None`` for the first one, if nobody joined.
            call: Its call, which is equal to the others'.

        Raises:
            ZenovayError: The call failed, or the time is over; each caller has an error of its own.
            Aborted: The call ended for a reason that is none for this caller.
        """
        try:
            await (self.future if caller is None else caller.future)
        except asyncio.CancelledError:
            await self.leave(caller)
            raise
        if caller is not None and caller.error is not None:
            canceled = await self._until_canceled()
            if canceled is not None:
                try:
                    raise canceled
                finally:
                    # Or its traceback would refer to this frame, which refers to it.
                    del canceled
        return self._result_for(caller, call)

    def time_left(self, caller: Caller | None) -> float | None:
        """Seconds that a caller has left, at least those for an attempt; all of them for a background call."""
        state, deadline = self.state, self.state.deadline if caller is None else caller.deadline
        scope, timeout = (state.scope, state.timeout) if caller is None else (caller.scope, caller.timeout)
        if scope is not None or timeout is None or deadline is None:
            return timeout
        return max(MIN_ATTEMPT, deadline - state.loop.time())

    async def leave(self, caller: Caller | None) -> None:
        """Let a caller go who was canceled; with the last one, the call is canceled, and this waits for its end.

        Args:
            caller: The caller; ``None`` for the first one, if nobody joined.
        """
        self._remove(caller)
        await self._until_canceled()

    def _result_for(self, caller: Caller | None, call: Call[T]) -> Response[T]:
        error = self._error_for(caller)
        if error is not None:
            try:
                raise error
            finally:
                # Or its traceback would refer to this frame, which refers to it.
                del error, caller
        response = self.response
        if response is None:
            raise Aborted
        if caller is not None and caller.scope is not None:
            caller.scope.record_success(call)
        if not self._is_taken or call.endpoint.decoder.is_shareable:
            self._is_taken = True
            return response
        raw = RawResponse(response.status, response.headers, response.body)
        return msgspec.structs.replace(response, data=parse_response(call, raw, time.time()).data)

    def forget(self) -> None:
        """Let nobody join any more; may be called in another thread."""
        if self._flights.get(self._key) is self:
            self._flights.pop(self._key, None)

    def on_wait(self, seconds: float, outage: ServerUnavailable | None = None) -> None:
        """Fail the direct callers for whom the wait that begins is too long."""
        state = self.state
        until = state.loop.time() + seconds
        for caller in list(self._callers or ()):
            if caller.scope is None and caller.deadline < until:
                self._fail(caller, state.expire(caller.deadline, caller.timeout, outage=outage, wait=seconds))

    def on_acquire(self) -> None:
        """Fail the direct callers whose time does not suffice for the wait for a permit that begins."""
        for caller in list(self._callers or ()):
            if caller.scope is None:
                error = self._foreseen_error(caller)
                if error is not None:
                    self._fail(caller, error)

    def on_permit(self, began_at: float) -> None:
        """Let the time of background callers count from now, as they wait for permits as long as it takes."""
        now = self.state.loop.time()
        for caller in self._callers or ():
            if caller.scope is not None:
                caller.deadline += now - max(began_at, caller.joined_at)
                self._set_timer(caller)

    def on_restart(self) -> None:
        """Give background callers their whole time again."""
        now = self.state.loop.time()
        for caller in self._callers or ():
            if caller.scope is not None and caller.timeout is not None:
                caller.deadline = now + caller.timeout
                self._set_timer(caller)

    async def _run(self, carry_out: CarryOut, *, later: bool = False) -> None:
        try:
            if later:
                await _pause()
            self.response = await carry_out(self.state)
        except GeneratorExit:
            # Of the garbage collector, after the loop.
            raise
        except (KeyboardInterrupt, SystemExit):
            self._error = Aborted()
            self._end()
            raise
        except ZenovayError as error:
            self._error = error.with_traceback(None)
        except asyncio.CancelledError as error:
            # From within, as of a custom limiter, unless somebody else canceled the task.
            task = asyncio.current_task()
            self._error = Aborted() if task is not None and task.cancelling() else error.with_traceback(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is awaited
            self._error = error
        self._end()

    def _end(self) -> None:
        self.is_done = True
        self.forget()
        if self._callers is not None:
            self._wake(self._callers)
        if not self.future.done():
            self.future.set_result(None)

    def _wake(self, callers: dict[Caller, None]) -> None:
        self.state.observer = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for caller in callers:
            if not caller.future.done():
                caller.future.set_result(None)

    def _admit_leader(self) -> dict[Caller, None]:
        """Make the first caller one of several; up to now the call kept its time."""
        state = self.state
        state.observer = self
        self._callers = callers = dict[Caller, None]()
        # Those whose time ends with the call's own.
        self._untimed = list[Caller]()
        if not self._is_refresh:
            self.leader = Caller(self.future, state.deadline, state.timeout, state.scope, -math.inf)
            callers[self.leader] = None
            self._untimed.append(self.leader)
        return callers

    def _remove(self, caller: Caller | None) -> None:
        callers = self._callers
        if caller is not None and callers is not None:
            callers.pop(caller, None)
            if not caller.is_timed and caller in self._untimed:
                self._untimed.remove(caller)
        if not callers and not self.is_done and not self._is_refresh:
            self.forget()
            self._is_canceled = True
            self.task.cancel()

    async def _until_canceled(self) -> asyncio.CancelledError | None:
        """Wait for the end of a call that was canceled with its last caller, whatever comes.

        Returns:
            What came: a cancellation of the caller itself, to be raised unless one is raised already.
        """
        canceled: asyncio.CancelledError | None = None
        while self._is_canceled and not self.task.done():
            try:
                await asyncio.wait([self.task])
            except asyncio.CancelledError as error:
                canceled = error.with_traceback(None)
        return canceled

    def close(self, caller: Caller, _: asyncio.Future[None]) -> None:
        """End the wait of a caller whose client was closed; the call itself goes on for the others."""
        if not self.is_done and caller in (self._callers or ()):
            error = ClientClosedError(CLOSED)
            error.sent = self.state.attempt is not None
            self._fail(caller, copy.copy(self.state).final_error(error))

    def _fail(self, caller: Caller, error: ZenovayError) -> None:
        caller.error = error
        self._remove(caller)
        if not caller.future.done():
            caller.future.set_result(None)

    def _set_timer(self, caller: Caller) -> None:
        """Let the timer end the wait of a caller; while a background one waits for a permit, its time does not run."""
        caller.is_timed = True
        if caller.deadline < math.inf and not (caller.scope is not None and self.state.is_acquiring):
            self._schedule(caller.deadline)

    def _schedule(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self.state.loop.call_at(when, self._expire_due, when)

    def _expire_due(self, due: float) -> None:
        state, self._timer = self.state, None
        # A loop may run a timer early by as much as its clock resolves.
        now, following = max(due, state.loop.time()), math.inf
        for caller in list(self._callers or ()):
            # on_permit() sets the timer for those whose time does not run.
            if caller.is_timed and not (caller.scope is not None and state.is_acquiring):
                if caller.deadline <= now:
                    self._expire(caller)
                else:
                    following = min(following, caller.deadline)
        if following < math.inf and not self.is_done:
            self._schedule(following)

    def _expire(self, caller: Caller) -> None:
        state = self.state
        outage = wait = None
        if state.is_acquiring:
            outage = self._budget.outage_until(caller.deadline)
            wait = self._expected_wait()
        self._fail(caller, state.expire(caller.deadline, caller.timeout, outage=outage, wait=wait))

    def _foreseen_error(self, caller: Caller) -> ZenovayError | None:
        """Why a direct call cannot wait for what this one waits for; ``None`` if it can."""
        state = self.state
        if not state.is_acquiring:
            return None
        outage, wait = self._budget.outage_until(caller.deadline), self._expected_wait()
        if outage is None and state.loop.time() + wait <= caller.deadline:
            return None
        return state.expire(caller.deadline, caller.timeout, outage=outage, wait=wait)

    def _expected_wait(self) -> float:
        """Seconds until the call is expected to have a permit."""
        state = self.state
        wait = self._budget.expected_wait(state.call.endpoint.cost)
        if state.background:
            return wait
        return min(wait, max(0.0, state.expected_at - state.loop.time()))

    def _error_for(self, caller: Caller | None) -> BaseException | None:
        if caller is not None and caller.error is not None:
            # Not kept, as the frames of the caller, to which its traceback refers, refer to this.
            own, caller.error = caller.error, None
            return own
        error, scope = self._error, self.state.scope if caller is None else caller.scope
        if isinstance(error, BatchStoppedError) and not _is_same_batch(scope, self.state.scope):
            return Aborted()
        if isinstance(error, asyncio.CancelledError):
            return asyncio.CancelledError(*error.args)
        if not isinstance(error, ZenovayError):
            # Of the caller's own code, such as a limiter.
            if error is None or caller is not self.leader:
                return error and _copy_of(error)
            if caller is None:
                self._error = None
            return error
        own = copy.copy(error)
        if scope is not None:
            scope.record_rejection(self.state.call, own)
        return own


def forget_flights(budget: Budget, scope: Scope) -> None:
    """Let no further call of a key join those in flight within a scope; who waits for them gets their response."""
    for flight in budget.all_flights():
        call = flight.state.call
        if scope.covers(call.operation, call.path, call.query):
            flight.forget()


def _is_same_batch(scope: BackgroundScope | None, other: BackgroundScope | None) -> bool:
    return scope is not None and other is not None and scope.background is other.background


def _copy_of(error: BaseException) -> BaseException:
    """A copy, or the error itself if it cannot be copied: raised in several tasks, its traceback grows."""
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001 - the constructor of a class of the caller's
        return error
    if type(twin) is not type(error):
        return error
    twin.__cause__ = error.__cause__
    return twin


@types.coroutine
def _pause() -> Generator[None, None, None]:
    """Wait for the first step of the task."""
    yield


_IS_EAGER = sys.version_info >= (3, 12)


def _start_now(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    """Make a task that runs at once until it first waits."""
    make: Any = asyncio.Task
    task: asyncio.Task[None] = make(work, loop=loop, eager_start=True)
    return task
