"""One request for all equal calls that are in flight at one time: a Caller around a Session."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from zenovay_async._protocol.log_fields import call_fields
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout
from zenovay_async._session.background import SCOPE, Background, BackgroundScope, current_scope
from zenovay_async._session.flight import Aborted, Caller, CarryOut, Flight
from zenovay_async._session.observing import observe_refresh
from zenovay_async.exceptions import ClientClosedError, ZenovayError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from zenovay_async._cache.stats import Counters
    from zenovay_async._limits.budget import Budget
    from zenovay_async._protocol.call import Call
    from zenovay_async._protocol.response import Response
    from zenovay_async._session.observing import Observe
    from zenovay_async._session.session import Session

T = TypeVar("T")

_logger = logging.getLogger("zenovay_async.http")

# A number for each kind, as it is hashed with every call.
_kinds: dict[Hashable, int] = {}


class Coalescer:
    """Sends equal calls once: those with the same path, query and result type, of clients with the same key.

    Args:
        session: Carries out the calls.
        budget: The budget of the key, beside which the calls in flight are kept: all clients of the key share them.
        kind: What else two calls must have in common, such as the options of their clients.
        counters: Counts the calls that join.
        observe: Begins the observation of a refresh; ``None`` if nobody listens.
        enabled: Whether calls join others.
    """

    def __init__(
        self,
        session: Session,
        budget: Budget,
        kind: Hashable,
        counters: Counters,
        observe: Observe | None = None,
        *,
        enabled: bool = True,
    ) -> None:
        self._observe = observe
        self._session = session
        self._budget = budget
        self._kind = _kinds.setdefault(kind, len(_kinds))
        self._counters = counters
        self._enabled = enabled
        self._refreshes: set[asyncio.Task[None]] = set()

    async def send(self, call: Call[T], timeout: Timeout = NOT_GIVEN, carry_out: CarryOut | None = None) -> Response[T]:
        """Carry out a call, or join an equal one in flight.

        Args:
            call: The call.
            timeout: Seconds for the whole call.
            carry_out: Carries it out if it joins none; omitted, the session does.

        Raises:
            ZenovayError: The call failed; each caller has an error of its own.
        """
        session, endpoint = self._session, call.endpoint
        carry_out = carry_out or session.run
        # As Call.is_cacheable, and Coalescer._key(), without two calls on the path of every call.
        if not self._enabled or call.body is not None or not endpoint.idempotent or endpoint.method != "GET":
            return await carry_out(session.begin(call, timeout))
        key = endpoint.decoder, call.path, call.query, self._kind
        watcher: asyncio.Future[None] | None = None
        caller: Caller | None
        has_joined = False
        self._budget.enter_thread()
        while True:
            flight: Flight[T] | None = self._budget.flights.get(key)
            if flight is not None and flight.is_of_running_loop:
                session.check_open()
                caller = flight.join(session.timeout_of(timeout), current_scope())
                watcher = self._watch(flight, caller)
                session.note_joined(flight.state)
                if not has_joined:
                    has_joined = True
                    self._count_joined(call)
            else:
                flight = Flight(session.begin(call, timeout), self, self._budget, key)
                flight.start(carry_out)
                try:
                    await flight.future
                except asyncio.CancelledError:
                    await flight.leave(flight.leader)
                    raise
                caller = flight.leader
                if caller is None and flight.response is not None:
                    return flight.response
            try:
                return await flight.wait(caller, call)
            except Aborted:
                pass
            except ZenovayError as error:
                # A client that led may be closed, while this one goes on.
                is_of_leader = isinstance(error, ClientClosedError) and flight.owner is not self
                if not is_of_leader or (watcher is not None and watcher.done()):
                    # What is below here is the same for every error, and says nothing of the call.
                    error.__traceback__ = None
                    raise
            timeout = flight.time_left(caller)

    def refresh(self, call: Call[Any], carry_out: CarryOut | None = None) -> asyncio.Task[None] | None:
        """Carry out a call in the background, as one of a batch, unless an equal one is in flight; never raises.

        It belongs to nobody's context, as of a web request that ends before it.

        Args:
            call: The call.
            carry_out: Carries it out; omitted, the session does.

        Returns:
            Its task; ``None`` if it did not begin. A call that needs the response meanwhile joins it.
        """
        key = self._key(call)
        self._budget.enter_thread()
        flight: Flight[Any] | None = self._budget.flights.get(key)
        if flight is not None and flight.is_of_running_loop:
            return None
        context = Context()
        context.run(SCOPE.set, BackgroundScope(Background()))
        state = context.run(self._session.begin, call)
        flight = Flight(state, self, self._budget, key, is_refresh=True)
        carry_out = carry_out or self._session.run
        if self._observe is not None:
            carry_out = observe_refresh(carry_out, self._observe)
        flight.start(carry_out, context)
        self._refreshes.add(flight.task)
        flight.task.add_done_callback(self._refreshes.discard)
        return flight.task

    def forget_call(self, call: Call[Any]) -> None:
        """Let no further call join an equal one in flight."""
        for flight in list(self._budget.flights.values()):
            if (flight.state.call.path, flight.state.call.query) == (call.path, call.query):
                flight.forget()

    def _watch(self, flight: Flight[Any], caller: Caller) -> asyncio.Future[None] | None:
        """End the wait of a caller with this client; that of the call itself ends with the client that sends it."""
        if flight.owner is self:
            return None
        watcher = self._session.watch()
        watcher.add_done_callback(partial(flight.close, caller))
        return watcher

    async def aclose(self) -> None:
        """Cancel the refreshes of this client, and wait for them."""
        tasks = [task for task in self._refreshes if not task.get_loop().is_closed()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _count_joined(self, call: Call[Any]) -> None:
        self._counters.joined += 1
        if _logger.isEnabledFor(logging.DEBUG):
            _logger.debug("%s: joined an equal call in flight", call, extra=call_fields(call))

    def _key(self, call: Call[Any]) -> Hashable:
        # Of the decoder too, as a custom request names its own.
        return call.endpoint.decoder, call.path, call.query, self._kind
