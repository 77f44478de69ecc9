"""The resources of a client, as its attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from zenovay_async.resources.analytics import Analytics
from zenovay_async.resources.anomalies import Anomalies
from zenovay_async.resources.base import Resource
from zenovay_async.resources.client_methods import ClientMethods
from zenovay_async.resources.errors import Errors
from zenovay_async.resources.heatmaps import Heatmaps
from zenovay_async.resources.insights import Insights
from zenovay_async.resources.replays import Replays
from zenovay_async.resources.retention import Retention
from zenovay_async.resources.revenue import Revenue
from zenovay_async.resources.stats import Stats
from zenovay_async.resources.websites import Websites

if TYPE_CHECKING:
    from collections.abc import Callable

AttributeT = TypeVar("AttributeT")
ResourceT = TypeVar("ResourceT", bound=Resource)


class Attribute(Generic[AttributeT]):
    """An attribute of the client that is made on first access, and kept as one of the instance.

    On the class it is the attribute's class, so that ``create_autospec(Zenovay)`` finds its methods.
    """

    def __init__(self, cls: type[AttributeT], make: Callable[[Any], AttributeT]) -> None:
        self._class = cls
        self._make = make

    def __set_name__(self, owner: type[ClientMethods], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, client: None, owner: type[ClientMethods]) -> type[AttributeT]: ...
    @overload
    def __get__(self, client: ClientMethods, owner: type[ClientMethods]) -> AttributeT: ...
    def __get__(self, client: ClientMethods | None, owner: type[ClientMethods]) -> AttributeT | type[AttributeT]:
        if client is None:
            return self._class
        value = client.__dict__[self._name] = self._make(client)
        return value


def _resource(cls: type[ResourceT]) -> Attribute[ResourceT]:
    return Attribute(cls, lambda client: cls(client._caller))  # noqa: SLF001 - part of the client


class ClientResources(ClientMethods):
    """The methods and the resources of the client, which need neither its options nor a connection."""

    websites = _resource(Websites)
    analytics = _resource(Analytics)
    heatmaps = _resource(Heatmaps)
    replays = _resource(Replays)
    errors = _resource(Errors)
    insights = _resource(Insights)
    anomalies = _resource(Anomalies)
    retention = _resource(Retention)
    revenue = _resource(Revenue)
    stats = _resource(Stats)
