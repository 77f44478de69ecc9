"""The public methods of the client as operations of the command line: arguments, help, and a way to call them.

Operations derive from signatures, annotations and docstrings, so that a new method is a new command.
"""

from __future__ import annotations

import inspect
import re
import shlex
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from zenovay_async import BadRequestError, Paged, Response
from zenovay_async.cli.shown import redact_keys
from zenovay_async.resources.base import Resource
from zenovay_async.resources.client_methods import ClientMethods
from zenovay_async.resources.client_resources import ClientResources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zenovay_async import Timeout, Zenovay
    from zenovay_async._protocol.call import Call

T = TypeVar("T")

WEBSITE_ID = "website_id"
"""The argument of a method for which a command takes any number of IDs."""

SITE_ID = "site_id"
"""The parameter of any name that is the ID of a website, for a method that takes no other."""

_EXTRA_QUERY = "extra_query"
_CLIENT_ARGUMENTS = {"self", WEBSITE_ID, "timeout", _EXTRA_QUERY}
_NO_COMMANDS = {"request"}
_ARGUMENT = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Operation:
    """A public method of the client or of one of its resources.

    Attributes:
        path: Its attributes from the client on, such as ``("heatmaps", "pages")``.
        resource: The class that defines it.
        summary: First paragraph of its docstring.
        arguments: Its arguments, with evaluated annotations; without those that every command has.
        help: The docstring's text on each argument.
        is_per_website: Whether it takes the ID of a website.
        is_free: Whether it takes further query parameters of any name.
        result: Type of its result; for a list that comes in pages, the type of one page.
        items: Name of the list in a page; ``None`` if it does not list in pages.
    """

    path: tuple[str, ...]
    resource: type[Resource]
    summary: str
    arguments: tuple[inspect.Parameter, ...]
    help: dict[str, str]
    is_per_website: bool
    is_free: bool
    result: Any
    items: str | None

    @property
    def command(self) -> str:
        """Its words on the command line, such as ``heatmaps pages``."""
        return dashed(" ".join(self.path))

    @property
    def required(self) -> tuple[inspect.Parameter, ...]:
        """Those of its arguments that have no default, which are positions of a command."""
        return tuple(argument for argument in self.arguments if argument.default is argument.empty)

    @property
    def takes_site_id(self) -> bool:
        """Whether the website is one of its parameters of any name."""
        return self.is_free and not self.is_per_website

    @property
    def is_paged(self) -> bool:
        """Whether it lists in pages."""
        return self.items is not None


@dataclass(frozen=True)
class Request:
    """An operation with the arguments of one command.

    Attributes:
        operation: The operation.
        arguments: Arguments of the method, by name.
        parameters: Further query parameters, by name.
        take: Number of items to request, over as many pages as needed; ``None`` for one page.
        all: Whether to request every page.
    """

    operation: Operation
    arguments: dict[str, Any]
    parameters: dict[str, str]
    take: int | None = None
    all: bool = False

    @property
    def is_one_call(self) -> bool:
        """Whether it is one call for each website, not one for each page."""
        return self.take is None and not self.all

    @property
    def description(self) -> str:
        """What is requested of each website, in words, by which one run is told from another."""
        given = {**self.arguments, "take": self.take, "all": self.all or None}
        words = [".".join(self.operation.path)]
        words += [f"{name}={value}" for name, value in given.items() if value is not None]
        # Apart from the options, as a parameter may be called take or all.
        for name, value in sorted(self.parameters.items()):
            words += ["--param", f"{name}={value}"]
        return redact_keys(shlex.join(words))

    async def send(self, zenovay: Zenovay, website_id: str = "") -> Any:
        """Call the method.

        Args:
            zenovay: The client.
            website_id: ID of the website, for an operation that is per website; the one to take if the parameters of
                an operation lack it.

        Returns:
            The result of the method; for several pages, an object with the list of all items.
        """
        method = attrgetter(".".join(self.operation.path))(zenovay)
        listed = method(**self._arguments(website_id))
        if self.is_one_call:
            try:
                return await listed
            except BadRequestError as error:
                if self.operation.takes_site_id and SITE_ID not in self.parameters:
                    error.message = f"{error.message}; pass --param {SITE_ID}=ID"
                raise
        found = listed if self.take is None else listed.take(self.take)
        return {self.operation.items: [item async for item in found]}

    async def cost(self) -> int:
        """Requests that one call takes from the monthly quota; sends none."""
        method = getattr(self.operation.resource(_Describer()), self.operation.path[-1])
        call: Call[Any] = await method(**self._arguments("any"))
        return call.endpoint.cost

    def _arguments(self, website_id: str) -> dict[str, Any]:
        """The arguments of the method, for a website."""
        if self.operation.is_per_website:
            return {WEBSITE_ID: website_id, **self.arguments, _EXTRA_QUERY: self.parameters}
        site = {SITE_ID: website_id} if website_id and self.operation.takes_site_id else {}
        return {**self.arguments, _EXTRA_QUERY: {**site, **self.parameters}}


class _Describer:
    """A caller that sends nothing: its response has the call as data."""

    async def send(self, call: Call[T], timeout: Timeout) -> Response[Any]:  # noqa: ARG002 - the Caller protocol
        return Response(data=call, status=200, headers={}, body=b"", timestamp=None, attempts=0, waits=())


def operations() -> Iterator[Operation]:
    """Every public method of the client, but ``request``, and of its resources."""
    for name in _public_methods(ClientMethods):
        yield _operation((name,), ClientMethods)
    for attribute, resource in resources().items():
        for name in _public_methods(resource):
            yield _operation((attribute, name), resource)


def resources() -> dict[str, type[Resource]]:
    """The resource classes of the client, by attribute."""
    return {
        name: value
        for name in dir(ClientResources)
        if isinstance(value := getattr(ClientResources, name), type) and issubclass(value, Resource)
    }


def dashed(name: str) -> str:
    """A name as the command line has it."""
    return name.replace("_", "-")


def first_paragraph(documented: Any) -> str:
    """First paragraph of a docstring, on one line, without markup."""
    return _plain((inspect.getdoc(documented) or "").partition("\n\n")[0])


def _public_methods(resource: type[Resource]) -> list[str]:
    return [
        name
        for name, _ in inspect.getmembers(resource, inspect.isfunction)
        if not name.startswith("_") and name not in _NO_COMMANDS
    ]


def _operation(path: tuple[str, ...], resource: type[Resource]) -> Operation:
    function = getattr(resource, path[-1])
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters
    result, items = hints["return"], None
    if get_origin(result) is Paged:
        result, item = get_args(result)
        items = next(field.encode_name for field in msgspec.structs.fields(result) if item in get_args(field.type))
    text = (inspect.getdoc(function) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    return Operation(
        path=path,
        resource=resource,
        summary=first_paragraph(function),
        arguments=tuple(
            parameter.replace(annotation=hints[name])
            for name, parameter in parameters.items()
            if name not in _CLIENT_ARGUMENTS and parameter.kind is not parameter.VAR_KEYWORD
        ),
        help={name: _plain(words) for name, words in _ARGUMENT.findall(text)},
        is_per_website=WEBSITE_ID in parameters,
        is_free=any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()),
        result=result,
        items=items,
    )


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "").split())
