"""A call as data: an endpoint, declared once, and the arguments of one request to it.

Resources declare an :class:`Endpoint` and describe a :class:`Call` to it; a :class:`Caller` carries calls out.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import inspect as shapes

from zenovay_async._protocol.decoding import UNTYPED, Decoder
from zenovay_async._protocol.parameters import (
    Timeout,
    encode_extra_query,
    encode_query,
    encode_sorted_query,
    join_query,
    json_body,
    quote_segment,
    quote_text,
    require_int,
)
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.rate_limits import UsageHeaders

if TYPE_CHECKING:
    from zenovay_async._protocol.response import Response

T = TypeVar("T")

Method: TypeAlias = Literal["GET", "POST"]

CUSTOM_OPERATION = "request"
"""Operation of calls to endpoints without a method of their own; see ``Zenovay.request``."""


class Endpoint(msgspec.Struct, Generic[T], frozen=True, eq=False):
    """An endpoint of the API, declared once.

    Attributes:
        operation: Name of the operation, such as ``heatmaps.pages``: the attribute of the client, and the method.
        template: Path below the base URL; ``{website_id}`` stands for the website's ID.
        decoder: Decodes the body to the result.
        method: HTTP method.
        idempotent: Whether sending a request twice does no harm. If not, it is retried only if the first request never
            reached the server, or was rejected before it ran.
        cost: Requests that a call is charged for.
        may_be_empty: Whether a successful response may have no content, for which the result is ``None``, or ``{}``.
        usage_of: Returns the monthly quota that a result states; ``None`` for results that state none. A call to an
            endpoint that states it is sent even when the quota is exhausted.
    """

    operation: str
    template: str
    decoder: Decoder[T]
    method: Method = "GET"
    idempotent: bool = True
    cost: int = 1
    may_be_empty: bool = False
    usage_of: Callable[[T], UsageHeaders] | None = None

    def call(
        self,
        website_id: str = "",
        /,
        *,
        extra_query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        **query: Any,
    ) -> Call[T]:
        """Describe one call.

        Args:
            website_id: ID of the website, for a template that has one.
            extra_query: Further query parameters of the caller, checked here; ``None`` for none.
            body: JSON body; ``None`` for none.
            query: Query parameters, checked; those that are ``None`` are omitted.

        Raises:
            ConfigurationError: The ID or a value is not valid in a URL, or ``extra_query`` is invalid.
        """
        path = self.template
        if "{" in path:
            path = path.replace("{website_id}", quote_segment("website_id", website_id))
        encoded = encode_query(query) if query else ""
        if extra_query is not None:
            encoded = join_query(encoded, encode_extra_query(extra_query, query))
        return Call(self, path, encoded, body)


class Call(msgspec.Struct, Generic[T], frozen=True):
    """One request to the API, described but not sent.

    Attributes:
        endpoint: The endpoint.
        path: Path below the base URL, quoted, without a leading slash.
        query: Query string, encoded; ``""`` for none.
        body: JSON body; ``None`` for none.
    """

    endpoint: Endpoint[T]
    path: str
    query: str = ""
    body: bytes | None = None

    @property
    def operation(self) -> str:
        """Name of the operation, such as ``heatmaps.pages``."""
        return self.endpoint.operation

    @property
    def template(self) -> str:
        """Path below the base URL without what is particular to one call, such as ``heatmaps/{website_id}/pages``."""
        return self.endpoint.template if self.endpoint.operation != CUSTOM_OPERATION else "{path}"

    @property
    def is_cacheable(self) -> bool:
        """Whether its response is also that of every equal call at the time (RFC 9110, section 9.2.3)."""
        endpoint = self.endpoint
        return self.body is None and endpoint.idempotent and endpoint.method == "GET"

    def __str__(self) -> str:
        return f"{self.endpoint.method} {self.path}"


class Caller(Protocol):
    """Carries out calls: the seam between resources, which describe calls, and a session, which sends them."""

    def send(self, call: Call[T], timeout: Timeout) -> Coroutine[Any, Any, Response[T]]:
        """Carry out a call.

        Args:
            call: The call.
            timeout: Seconds for the whole call; ``None`` for no deadline; ``NOT_GIVEN`` for the client's own.

        Returns:
            The response, with the result of the call as its data.

        Raises:
            ZenovayError: The call failed.
        """
        ...


@lru_cache(maxsize=128)
def _decoder_for(result_type: Any) -> Decoder[Any]:
    if isinstance(shapes.type_info(result_type), shapes.CustomType):
        raise TypeError("msgspec does not know this class")
    return Decoder(result_type)


def _decoder(result_type: Any) -> Decoder[Any]:
    if result_type is None:
        return UNTYPED
    try:
        return _decoder_for(result_type)
    except Exception as problem:
        raise ConfigurationError(
            f"result_type={result_type!r}: cannot be decoded ({problem}); "
            "expected a Struct, a dataclass, a TypedDict, a list of them, or None for plain values"
        ) from problem


def custom_call(
    method: str, path: str, params: Mapping[str, Any] | None, json: Any, result_type: Any, cost: int
) -> Call[Any]:
    """Describe a call to an endpoint that has no method here; see ``Zenovay.request`` for the arguments.

    Raises:
        ConfigurationError: An argument is invalid.
    """
    if not isinstance(method, str) or method not in {"GET", "POST"}:
        raise ConfigurationError(f"method={method!r}: expected 'GET' or 'POST'")
    body = None if json is None else json_body("json", json)
    endpoint: Endpoint[Any] = Endpoint(
        CUSTOM_OPERATION,
        _custom_path(path),
        _decoder(result_type),
        "GET" if method == "GET" else "POST",
        idempotent=method == "GET",
        cost=require_int("cost", cost),
        may_be_empty=True,
    )
    return Call(endpoint, endpoint.template, _custom_query(params), body)


def _custom_path(path: str) -> str:
    bare = path.strip("/") if isinstance(path, str) else ""
    if "://" in bare or "?" in bare or {"", ".", ".."} & set(bare.split("/")):
        raise ConfigurationError(
            f"path={path!r}: expected a path below the base URL such as 'heatmaps/{{id}}/pages'; "
            "pass query parameters as params="
        )
    # Percent signs are safe: what is quoted already stays as it is.
    return quote_text(bare, quote, "/%:@!$&'()*+,;=-._~", name="path")


def _custom_query(params: Mapping[str, Any] | None) -> str:
    if params is None:
        return ""
    if not isinstance(params, Mapping) or not all(isinstance(name, str) and name for name in params):
        raise ConfigurationError(f"params={params!r}: expected a mapping such as {{'range': '7d'}}")
    return encode_sorted_query(params)
