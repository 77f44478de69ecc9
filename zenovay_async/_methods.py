"""Methods of a client with another caller: for their whole responses, or for their calls, which are not sent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeGuard, TypeVar

import msgspec

from zenovay_async._batch.source import End, ItemSource, is_collection
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout, check_timeout
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.resources.base import Resource

if TYPE_CHECKING:
    from zenovay_async._protocol.call import Call, Caller
    from zenovay_async._protocol.response import Response

T = TypeVar("T")

Function: TypeAlias = Callable[..., Any]


class Freshness(Protocol):
    """Knows which calls need no request."""

    def is_fresh(self, call: Call[Any]) -> bool:
        """Whether this process has a fresh response to a call."""
        ...


class Plan(msgspec.Struct):
    """The calls of a method for many items.

    Attributes:
        requests: Requests that they are charged for.
        cached: Calls that need no request.
    """

    requests: int = 0
    cached: int = 0


class WholeResponse:
    """A caller that returns each response as the data of itself, which is what a method returns."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def send(self, call: Call[T], timeout: Timeout) -> Response[Any]:
        """Carry out a call; see :class:`Caller`."""
        response = await self._caller.send(call, timeout)
        whole: Response[Any] = msgspec.structs.replace(response, data=response)
        return whole


class _Planned(BaseException):
    """Ends a method at its call. No ``Exception``, which a method may handle."""

    def __init__(self, call: Call[Any]) -> None:
        self.call = call


class _Planner:
    """A caller that sends nothing."""

    async def send(self, call: Call[Any], timeout: Timeout) -> Response[Any]:
        if timeout is not NOT_GIVEN:
            check_timeout("timeout", timeout)
        raise _Planned(call)


def rebind(method: Callable[..., Any], caller: Caller, other: Caller) -> Function | None:
    """Give a method another caller.

    Args:
        method: A method of a client or of one of its resources.
        caller: The caller of that client.
        other: Carries out the calls instead.

    Returns:
        The method; ``None`` for anything else, such as a method of another client.
    """
    owner, function = getattr(method, "__self__", None), getattr(method, "__func__", None)
    if function is None or not isinstance(owner, Resource) or not owner._is_bound_to(caller):  # noqa: SLF001 - private to users alone
        return None
    twin = owner._bind(other)  # noqa: SLF001 - private to users alone
    return partial(function, twin) if hasattr(twin, function.__name__) else None


def plan_calls(items: Any, method: Callable[..., Any], caller: Caller, cache: Freshness | None) -> Plan:
    """Find the calls of a method for each item, without sending them; equal items share one.

    Args:
        items: A collection.
        method: A method that makes one call and takes the item first, or a ``partial`` of one.
        caller: The caller of its client.
        cache: Knows which calls need no request; ``None`` if each needs one.

    Raises:
        ConfigurationError: An argument is invalid, also one of a call.
        TypeError: The method takes other arguments.
    """
    if isinstance(items, (str, bytes)) or not is_collection(items):
        raise ConfigurationError(
            f"items={items!r}: expected a collection whose length is known, such as a list; "
            "an iterator may be endless, and counting its items would take them away"
        )
    planned = _rebind_partial(method, caller, _Planner())
    if planned is None:
        raise _not_a_method(method)
    plan, source = Plan(), ItemSource[Any](items)
    while (item := source.take_now()) is not End.END:
        source.take_copies(item)
        call = _call_of(planned(item))
        if call is None:
            raise _not_a_method(method)
        if cache is not None and cache.is_fresh(call):
            plan.cached += 1
        else:
            plan.requests += call.endpoint.cost
    return plan


def _rebind_partial(method: Callable[..., Any], caller: Caller, other: Caller) -> Function | None:
    if not isinstance(method, partial):
        return rebind(method, caller, other)
    function = _rebind_partial(method.func, caller, other)
    return None if function is None else partial(function, *method.args, **method.keywords)


def _is_coroutine(value: object) -> TypeGuard[Coroutine[Any, Any, Any]]:
    return isinstance(value, Coroutine)


def _call_of(coroutine: object) -> Call[Any] | None:
    """The call that a coroutine makes first; ``None`` if it awaits something else, or nothing."""
    if not _is_coroutine(coroutine):
        return None
    try:
        coroutine.send(None)
    except _Planned as planned:
        return planned.call
    except StopIteration:
        return None
    finally:
        coroutine.close()
    return None


def _not_a_method(method: object) -> ConfigurationError:
    return ConfigurationError(
        f"estimate(..., {method!r}): expected a method of this client that makes one call, such as "
        "zenovay.heatmaps.pages, or a functools.partial of one"
    )
