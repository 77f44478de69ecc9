"""One call in flight for which several callers wait.

Each caller has a deadline and a cancellation of its own. The call runs in a task, which no caller's end touches: it
lives to the latest deadline of those who wait, and is canceled with the last of them. A caller whose time is over, or
will not suffice for the wait that the call begins, fails alone. A direct call that joins one of a batch makes it
direct.

The first caller is bounded by the call's own deadline, as if there was no flight. Only where others have more time does
a caller need a timer.
"""

from __future__ import annotations

import asyncio
import copy
import math
import sys
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from zenovay_async._protocol.parsing import parse_response
from zenovay_async._protocol.response import RawResponse
from zenovay_async.exceptions import ZenovayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Hashable
    from contextvars import Context

    from zenovay_async._limits.budget import Budget
    from zenovay_async._limits.patience import ServerUnavailable
    from zenovay_async._protocol.call import Call
    from zenovay_async._protocol.response import Response
    from zenovay_async._session.background import BackgroundScope
    from zenovay_async._session.state import CallState

T = TypeVar("T")


class Aborted(Exception):  # noqa: N818 - a signal inside the package, which callers never see
    """The call ended for a reason of its own client or task, which is none for who joined it."""


class Caller:
    """Who waits for a flight.

    Attributes:
        future: Done when the wait is over.
        scope: The scope of a background call; ``None`` for a direct one.
        timeout: Seconds for the whole call; ``None`` for no bound.
        deadline: When that is over, in the time of the loop.
        joined_at: When the wait began.
        timer: Ends the wait; ``None`` while the deadline of the call does.
        error: Why this wait ended before the call.
    """

    __slots__ = ("deadline", "error", "future", "joined_at", "scope", "timeout", "timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadline: float | None,
        timeout: float | None,
        scope: BackgroundScope | None,
        joined_at: float = -math.inf,
    ) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self.scope = scope
        self.timeout = timeout
        self.joined_at = joined_at
        self.deadline = math.inf if deadline is None else deadline
        self.timer: asyncio.TimerHandle | None = None
        self.error: ZenovayError | None = None


class Flight(Generic[T]):
    """One call in flight.

    Args:
        state: The call, begun.
        budget: The budget of its key.
        flights: Where it is registered, so that others join it.
        key: Under which key.
        owner: Who made it, for a client of its own.
        is_refresh: Whether it goes on with nobody who waits.

    Attributes:
        state: As given.
        owner: As given.
        task: Its task.
        is_done: Whether it ended.
    """

    __slots__ = (
        "_budget",
        "_callers",
        "_error",
        "_flights",
        "_is_canceled",
        "_is_refresh",
        "_is_taken",
        "_key",
        "_response",
        "_untimed",
        "is_done",
        "owner",
        "state",
        "task",
    )

    task: asyncio.Task[None]

    def __init__(
        self,
        state: CallState[T],
        budget: Budget,
        flights: dict[Hashable, Any],
        key: Hashable,
        *,
        owner: object,
        is_refresh: bool = False,
    ) -> None:
        self.state = state
        state.is_shared = True
        self.owner = owner
        self.is_done = False
        self._budget = budget
        self._flights = flights
        self._key = key
        self._is_refresh = is_refresh
        self._is_canceled = False
        self._callers: dict[Caller, None] = {}
        # Those whose time ends with the call's own.
        self._untimed: list[Caller] = []
        self._response: Response[T] | None = None
        self._error: BaseException | None = None
        self._is_taken = False
        flights[key] = self

    def start(
        self, carry_out: Callable[[CallState[T]], Awaitable[Response[T]]], context: Context | None = None
    ) -> None:
        """Start the call, in a task of its own; where Python can, it runs at once until it first waits.

        Args:
            carry_out: Carries it out.
            context: The context of the task; omitted, a copy of the caller's, in which the call then starts later.
        """
        work = self._run(carry_out)
        if _IS_EAGER and context is None:
            self.task = _start_now(work, self.state.loop)
            return
        self.task = self.state.loop.create_task(work, context=context)
        # A task that is canceled before it started runs nothing.
        self.task.add_done_callback(self._end)

    @property
    def is_of_running_loop(self) -> bool:
        """Whether it is one that the running loop carries on; that of a loop that was closed never ends."""
        return self.state.loop is asyncio.get_running_loop()

    def lead(self) -> Caller:
        """The first caller, who began the call."""
        state = self.state
        caller = Caller(state.loop, state.deadline, state.timeout, state.scope)
        self._callers[caller] = None
        self._untimed.append(caller)
        return caller

    def join(self, timeout: float | None, scope: BackgroundScope | None) -> Caller:
        """Join the call.

        Args:
            timeout: Seconds for the whole call of this caller; ``None`` for no bound.
            scope: The scope of a background call; ``None`` for a direct one.
        """
        state = self.state
        now = state.loop.time()
        caller = Caller(state.loop, None if timeout is None else now + timeout, timeout, scope, now)
        ends_at = math.inf if state.deadline is None else state.deadline
        if state.observer is None:
            # Up to now the call kept the time of who leads it.
            state.observer = self
            for leader in self._untimed:
                leader.deadline = ends_at
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
        state.put_off(caller.deadline)
        self._callers[caller] = None
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

    async def wait(self, caller: Caller, call: Call[T]) -> Response[T]:
        """Wait until the call ends, or this caller's time.

        Args:
            caller: The caller.
            call: Its call, which is equal to the others'.

        Raises:
            ZenovayError: The call failed, or the time is over; each caller has an error of its own.
            Aborted: The call ended for a reason that is none for this caller.
        """
        try:
            if not self.is_done:
                await caller.future
        except asyncio.CancelledError:
            self._remove(caller)
            await self._until_canceled()
            raise
        error: BaseException | None = caller.error
        if error is not None:
            await self._until_canceled()
        elif self._error is not None:
            error = self._error_for(caller)
        if error is not None:
            try:
                raise error
            finally:
                # Or its traceback would refer to this frame, which refers to it.
                del error, caller
        return self._result_for(caller, call)

    def forget(self) -> None:
        """Let nobody join any more."""
        if self._flights.get(self._key) is self:
            del self._flights[self._key]

    def on_wait(self, seconds: float, outage: ServerUnavailable | None = None) -> None:
        """Fail the direct callers for whom the wait that begins is too long."""
        state = self.state
        until = state.loop.time() + seconds
        for caller in list(self._callers):
            if caller.scope is None and caller.deadline < until:
                self._fail(caller, state.expire(caller.deadline, caller.timeout, outage=outage, wait=seconds))

    def on_permit(self, began_at: float) -> None:
        """Let the time of background callers count from now, as they wait for permits as long as it takes."""
        now = self.state.loop.time()
        for caller in self._callers:
            if caller.scope is not None:
                caller.deadline += now - max(began_at, caller.joined_at)
                self._set_timer(caller)

    def on_restart(self) -> None:
        """Give background callers their whole time again."""
        now = self.state.loop.time()
        for caller in self._callers:
            if caller.scope is not None and caller.timeout is not None:
                caller.deadline = now + caller.timeout
                self._set_timer(caller)

    async def _run(self, carry_out: Callable[[CallState[T]], Awaitable[Response[T]]]) -> None:
        try:
            self._response = await carry_out(self.state)
        except (KeyboardInterrupt, SystemExit):
            self._error = Aborted()
            raise
        except ZenovayError as error:
            self._error = error.with_traceback(None)
        except asyncio.CancelledError as error:
            # From within, as of a custom limiter, unless somebody else canceled the task.
            self._error = Aborted() if self.task.cancelling() else error
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is awaited
            self._error = error
        finally:
            self._end()

    def _end(self, _: asyncio.Task[None] | None = None) -> None:
        if self.is_done:
            return
        self.is_done = True
        self.forget()
        self.state.observer = None
        if self._response is None and self._error is None:
            self._error = Aborted()
        for caller in self._callers:
            if caller.timer is not None:
                caller.timer.cancel()
                caller.timer = None
            if not caller.future.done():
                caller.future.set_result(None)

    def _remove(self, caller: Caller) -> None:
        """Let a caller go; with the last one, the call is canceled."""
        self._callers.pop(caller, None)
        if caller in self._untimed:
            self._untimed.remove(caller)
        if caller.timer is not None:
            caller.timer.cancel()
            caller.timer = None
        if not self._callers and not self.is_done and not self._is_refresh:
            self.forget()
            self._is_canceled = True
            self.task.cancel()

    async def _until_canceled(self) -> None:
        """Wait for the end of a call that was canceled with its last caller, whatever comes."""
        while self._is_canceled and not self.task.done():
            try:
                await asyncio.wait([self.task])
            except asyncio.CancelledError:
                # The caller raises the first one.
                continue

    def _fail(self, caller: Caller, error: ZenovayError) -> None:
        caller.error = error
        self._remove(caller)
        if not caller.future.done():
            caller.future.set_result(None)

    def _set_timer(self, caller: Caller) -> None:
        """Set the timer of a caller; while a background caller waits for a permit, its time does not run."""
        state = self.state
        if caller.timer is not None:
            caller.timer.cancel()
            caller.timer = None
        if caller.deadline < math.inf and not (caller.scope is not None and state.is_acquiring):
            caller.timer = state.loop.call_at(caller.deadline, self._expire, caller)

    def _expire(self, caller: Caller) -> None:
        caller.timer = None
        state = self.state
        if caller.scope is not None and state.is_acquiring:
            # on_permit() sets the timer again.
            return
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
        if outage is None and caller.joined_at + wait <= caller.deadline:
            return None
        return state.expire(caller.deadline, caller.timeout, outage=outage, wait=wait)

    def _expected_wait(self) -> float:
        """Seconds until the call is expected to have a permit."""
        state = self.state
        wait = self._budget.expected_wait(state.call.endpoint.cost)
        if state.background:
            return wait
        return min(wait, max(0.0, state.expected_at - state.loop.time()))

    def _error_for(self, caller: Caller) -> BaseException | None:
        error = self._error
        if isinstance(error, asyncio.CancelledError):
            return asyncio.CancelledError(*error.args)
        if not isinstance(error, ZenovayError):
            return error
        own = copy.copy(error)
        if caller.scope is not None:
            caller.scope.record_rejection(self.state.call, own)
        return own

    def _result_for(self, caller: Caller, call: Call[T]) -> Response[T]:
        response = self._response
        if response is None:
            raise Aborted
        if caller.scope is not None:
            caller.scope.record_success(call)
        if not self._is_taken or call.endpoint.decoder.is_shareable:
            self._is_taken = True
            return response
        raw = RawResponse(response.status, response.headers, response.body)
        return msgspec.structs.replace(response, data=parse_response(call, raw, time.time()).data)


_IS_EAGER = sys.version_info >= (3, 12)


def _start_now(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    """Make a task that runs at once until it first waits."""
    make: Any = asyncio.Task
    task: asyncio.Task[None] = make(work, loop=loop, eager_start=True)
    return task
