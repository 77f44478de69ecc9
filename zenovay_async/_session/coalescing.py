"""One request for all equal calls that are in flight at one time: a Caller around a Session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout

if TYPE_CHECKING:
    from zenovay_async._cache.invalidation import Scope
    from zenovay_async._cache.stats import Counters
    from zenovay_async._limits.budget import Budget
    from zenovay_async._protocol.call import Call
    from zenovay_async._protocol.response import Response
    from zenovay_async._session.session import Session
    from zenovay_async._session.state import CallState

T = TypeVar("T")

CarryOut: TypeAlias = "Callable[[CallState[Any]], Awaitable[Response[Any]]]"
"""Carries out a call that was begun, as ``Session.run`` does."""


class Coalescer:
    """Sends equal calls once.

    Args:
        session: Carries out the calls.
        budget: The budget of the key, beside which the calls in flight are kept: all clients of the key share them.
        kind: What else two calls must have in common, such as the options of their clients.
        counters: Counts the calls that join.
        enabled: Whether calls join others.
    """

    def __init__(
        self, session: Session, budget: Budget, kind: Hashable, counters: Counters, *, enabled: bool = True
    ) -> None:
        self._session = session
        self._budget = budget
        self._kind = kind
        self._counters = counters
        self._enabled = enabled

    async def send(self, call: Call[T], timeout: Timeout = NOT_GIVEN, carry_out: CarryOut | None = None) -> Response[T]:
        """Carry out a call, or join an equal one in flight.

        Args:
            call: The call.
            timeout: Seconds for the whole call.
            carry_out: Carries it out if it joins none; omitted, the session does.
        """
        return await (carry_out or self._session.run)(self._session.begin(call, timeout))

    def refresh(self, call: Call[Any], carry_out: CarryOut | None = None) -> bool:
        """Carry out a call in the background, as one of a batch, unless an equal one is in flight; never raises.

        Returns:
            Whether it began. A call that needs the response meanwhile joins it.
        """
        raise RuntimeError("lead is writing this")

    def is_in_flight(self, call: Call[Any]) -> bool:
        """Whether an equal call is in flight."""
        return False

    def forget(self, scope: Scope) -> None:
        """Let no further call join those in flight within a scope; those who wait for them get their response."""

    async def aclose(self) -> None:
        """Cancel the refreshes of this client, and wait for them."""
