"""Own responses: the data that a test wants an operation to respond, checked against the operation's result type.

This module alone of the sandbox knows the client: what the client decodes is what data are checked against, so that a
test is not written against a shape that the API does not have. What the sandbox generates is not checked here.
"""

from __future__ import annotations

import inspect
import math
import pkgutil
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec
from msgspec import inspect as shapes

from zenovay_async import resources
from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.extra_fields import ExtraFields, has_extra_fields
from zenovay_async.resources.paging import PagedEndpoint
from zenovay_async.sandbox.near_misses import did_you_mean

if TYPE_CHECKING:
    from zenovay_async._protocol.decoding import Decoder

_ERROR = re.compile(r"(?P<problem>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


class OperationRequest(msgspec.Struct, frozen=True):
    """A request, as a function given to ``Sandbox.respond`` gets it.

    Attributes:
        operation: Name of the operation, such as ``heatmaps.pages``.
        website_id: ID of the website; ``None`` if the operation concerns none.
        query: Query parameters, as text.
        body: The JSON body as plain values; ``None`` without one.
    """

    operation: str
    website_id: str | None
    query: Mapping[str, str]
    body: Any


OwnData: TypeAlias = Mapping[str, Any] | Sequence[Any] | msgspec.Struct | float | bool | None
"""Data of a response: as JSON has them, or a result of the client."""

OwnDataFunction: TypeAlias = Callable[[OperationRequest], OwnData]
"""Return the data of a response."""


class OwnResponse:
    """What an operation responds instead of the generated data.

    Args:
        operation: Name of the operation.
        data: The data, or a function that returns them.
        website_id: The website; ``None`` for all.
        times: Number of responses; ``None`` for no bound.

    Raises:
        ValueError: The data are not such as the operation returns.
    """

    def __init__(
        self, operation: str, data: OwnData | OwnDataFunction, website_id: str | None, times: int | None
    ) -> None:
        __tracebackhide__ = True
        self.operation = operation
        self.website_id = website_id
        self.remaining = times
        self._function = data if callable(data) else None
        self._document = None
        if self._function is None:
            self._document = check(operation, cast("OwnData", data))
        elif inspect.iscoroutinefunction(data) or inspect.isclass(data):
            kind = "class" if inspect.isclass(data) else "async function"
            name = getattr(data, "__name__", kind)
            raise ValueError(f"respond({operation!r}): expected data or a plain function, given the {kind} {name}")

    def respond(self, request: OperationRequest, *, with_position: bool) -> Any:
        """Return the data for a request, as plain values.

        Args:
            request: The request.
            with_position: Whether the operation states the position of a page in its list.

        Raises:
            ValueError: The function returned data that are not such as the operation returns.
            BaseException: The function raised it.
        """
        document = self._document if self._function is None else check(self.operation, self._function(request))
        return _page(self.operation, document, request.query, with_position=with_position)


class OwnResponses:
    """The own responses of a sandbox. Not safe to use in several threads at once."""

    def __init__(self, responses: Sequence[OwnResponse] = ()) -> None:
        self._responses = list(responses)

    def copy(self) -> OwnResponses:
        """Return the same responses, counted on their own from here."""
        return OwnResponses([copy(response) for response in self._responses])

    def add(self, response: OwnResponse) -> None:
        """Add an own response, in front of the others."""
        self._responses.insert(0, response)

    def take(self, operation: str, website_id: str | None) -> OwnResponse | None:
        """Return the own response for a request, and count it: the newest for this website, or for all."""
        found = [
            response
            for response in self._responses
            if response.operation == operation and response.website_id in (None, website_id) and response.remaining != 0
        ]
        # False sorts before True, and the order of equals stays.
        for response in sorted(found, key=lambda response: response.website_id is None)[:1]:
            if response.remaining is not None:
                response.remaining -= 1
            return response
        return None


@cache
def endpoints() -> dict[str, Endpoint[Any]]:
    """Return the endpoints that the client has, by operation."""
    found: dict[str, Endpoint[Any]] = {}
    for module in pkgutil.iter_modules(resources.__path__, f"{resources.__name__}."):
        for value in vars(import_module(module.name)).values():
            if isinstance(value, Endpoint):
                found[value.operation] = value
    return found


def check(operation: str, data: OwnData) -> Any:
    """Return data as plain values, as the API sends them.

    Raises:
        ValueError: They are not such as the operation returns; says where, what was given and what is expected.
    """
    __tracebackhide__ = True
    try:
        return _checked(endpoints()[operation].decoder, data)
    except ValueError as error:
        raise ValueError(f"respond({operation!r}): {error}") from None


def _checked(decoder: Decoder[Any], data: OwnData) -> Any:
    document = _wrapped(data, decoder.data_type)
    _check_fields(document, decoder.data_type, "data")
    try:
        decoder.decode(msgspec.json.encode({"data": document}))
    except msgspec.ValidationError as error:
        raise ValueError(_explain(str(error), document)) from None
    return document


def _wrapped(data: OwnData, kind: shapes.Type) -> Any:
    """Return plain values; a result that the API sends inside an object, inside of it."""
    document = _plain(data, "data")
    if not isinstance(data, msgspec.Struct) or not isinstance(kind, shapes.StructType) or isinstance(data, kind.cls):
        return document
    inner = kind.fields[0]
    expected = kind.cls
    if len(kind.fields) == 1 and isinstance(inner.type, shapes.StructType):
        expected = inner.type.cls
        if isinstance(data, expected):
            return {inner.encode_name: document}
    raise ValueError(f"data: expected a {expected.__name__} or a dict, given a {type(data).__name__}")


def _plain(value: Any, path: str) -> Any:
    """Return values as JSON has them; of a result, the extra fields among the others."""
    if isinstance(value, msgspec.Struct):
        return _plain_fields(value, path)
    if isinstance(value, Mapping):
        given = cast("Mapping[object, Any]", value)
        wrong = [name for name in given if not isinstance(name, str)]
        if wrong:
            raise ValueError(f"{path}: expected names of type str, given {reprlib.repr(wrong[0])}")
        return {name: _plain(item, f"{path}.{name}") for name, item in given.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(cast("Sequence[Any]", value))]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: expected a value that JSON has, given {value}")
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        raise ValueError(f"{path}: expected a value that JSON has, given {reprlib.repr(value)}") from None


def _plain_fields(value: msgspec.Struct, path: str) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    if isinstance(value, ExtraFields):
        plain |= _plain(cast("Any", value).extra, path)
    for field in msgspec.structs.fields(type(value)):
        given = getattr(value, field.name)
        is_extra = field.name == "extra" and isinstance(value, ExtraFields)
        if not is_extra and not (given is None and field.default is None):
            plain[field.encode_name] = _plain(given, f"{path}.{field.encode_name}")
    return plain


def _check_fields(value: Any, kind: shapes.Type, path: str) -> None:
    """Reject a field that the type does not have, and name all that are missing."""
    if isinstance(kind, shapes.UnionType):
        for member in kind.types:
            _check_fields(value, member, path)
    elif isinstance(kind, (shapes.VarTupleType, shapes.ListType)) and isinstance(value, list):
        for index, item in enumerate(cast("Any", value)):
            _check_fields(item, kind.item_type, f"{path}[{index}]")
    elif isinstance(kind, shapes.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in kind.fields}
        for name, item in cast("dict[str, Any]", value).items():
            if name in fields:
                _check_fields(item, fields[name], f"{path}.{name}")
            elif not has_extra_fields(kind):
                expected = did_you_mean(name, fields) or f"; expected {', '.join(fields)}"
                raise ValueError(f"{path}.{name}: unknown field{expected}")
        missing = [field.encode_name for field in kind.fields if field.required and field.encode_name not in value]
        if missing:
            number = "field is" if len(missing) == 1 else "fields are"
            given = ", ".join(map(repr, cast("dict[str, Any]", value))) or "none"
            raise ValueError(f"{path}: required {number} missing: {', '.join(map(repr, missing))}; given {given}")


def _explain(error: str, document: Any) -> str:
    """Return an error of msgspec with the path in ``data``, and what was given there."""
    found = _ERROR.fullmatch(error)
    problem, path = (found["problem"], found["path"] or "data") if found else (error, "data")
    value = document
    for name, index in _STEP.findall(path.removeprefix("data")):
        value = value[name] if name else value[int(index)]
    return f"{path}: {problem[:1].lower()}{problem[1:].replace('`', '')}; given {reprlib.repr(value)}"


def _page(operation: str, document: Any, query: Mapping[str, str], *, with_position: bool) -> Any:
    """Return the part of a list in pages that a request asks for; data that state their position as they are."""
    endpoint = endpoints()[operation]
    if not isinstance(endpoint, PagedEndpoint) or document.get("pagination") is not None:
        return document
    page = endpoint.decoder.decode(msgspec.json.encode({"data": document})).data
    items = cast("Any", endpoint).items(page)
    name = next(field.encode_name for field in msgspec.structs.fields(page) if getattr(page, field.name) is items)
    rows = document[name]
    offset = int(query.get("offset", 0))
    limit = int(query.get("limit", len(rows) or 1))
    part = {**document, name: rows[offset : offset + limit]}
    if with_position:
        part["pagination"] = {"limit": limit, "offset": offset, "has_more": offset + limit < len(rows)}
    return part
