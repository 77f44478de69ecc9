"""A call as data: what is asked, what comes back, what it costs, whether it may be repeated.

Resources describe calls with the helpers here, which check each parameter before a request is spent on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar
from urllib.parse import quote, quote_plus

import msgspec
from msgspec import inspect as shapes

from zenovay_async._protocol.decoding import UNTYPED, Decoder
from zenovay_async._protocol.headers import UsageHeaders
from zenovay_async.exceptions import ConfigurationError

T = TypeVar("T")

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


class NotGiven(Enum):
    """Tells an argument that was left out from one that is ``None``."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN

Timeout: TypeAlias = float | NotGiven | None
"""Seconds for the whole call, ``None`` for no deadline, or left out for the client's own."""


class Call(msgspec.Struct, Generic[T], frozen=True):
    """One request to the API, described but not sent.

    Attributes:
        method: HTTP method.
        path: Path below the base URL, quoted, without a leading slash.
        decoder: Turns the body into the result.
        query: Query string, encoded; ``""`` for none.
        body: JSON body; ``None`` for none.
        idempotent: Whether sending it twice does no harm. Where False, it is sent again only if the first
            request surely did not run.
        cost: What it takes from the monthly quota, in requests.
        usage_of: Reads the monthly quota out of the result, where the result is about that.
    """

    method: str
    path: str
    decoder: Decoder[T]
    query: str = ""
    body: bytes | None = None
    idempotent: bool = True
    cost: int = 1
    usage_of: Callable[[T], UsageHeaders] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Caller(Protocol):
    """Carries out calls; what a resource needs of a session."""

    def fetch(self, call: Call[T], timeout: Timeout) -> Coroutine[Any, Any, T]:
        """Send the call and return its result."""
        ...


def quote_segment(text: str) -> str:
    """Quote a path segment whole, so that no id can reach beyond its place.

    Raises:
        ConfigurationError: It is no text, is empty, is ``.`` or ``..``, or cannot stand in a URL.
    """
    # The annotation says str, but a None out of a caller's database gets here all the same.
    if not isinstance(text, str):
        raise _no_id(text)
    # Nearly all ids are letters, digits and hyphens, which quote() takes four times as long to find out.
    if _PLAIN.fullmatch(text):
        return text
    if not text.strip() or text in {".", ".."}:
        raise _no_id(text)
    return _quoted(text, quote)


def _no_id(given: Any) -> ConfigurationError:
    return ConfigurationError(f"{given!r} is not an id: expected text such as 'a1b2c3d4-e5f6-7890-abcd-ef1234567890'")


def query(**parameters: Any) -> str:
    """Encode query parameters, leaving out those that are ``None``; booleans become ``true`` and ``false``.

    Raises:
        ConfigurationError: A value is neither text nor a number, or cannot stand in a URL.
    """
    return "&".join(
        [f"{_named(name)}={_encoded(name, value)}" for name, value in parameters.items() if value is not None]
    )


@lru_cache(maxsize=256)
def _named(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else _quoted(name, quote_plus)


def _encoded(name: str, value: Any) -> str:
    # Whole numbers are most of them, and have nothing to quote.
    if isinstance(value, int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if not isinstance(value, (str, float)):
        raise ConfigurationError(f"{name}={value!r}: expected text, a number, True, False or None; write it as text")
    return _quoted(str(value), quote_plus)


def _quoted(text: str, quoting: Callable[[str, str], str], safe: str = "") -> str:
    try:
        return quoting(text, safe)
    except UnicodeEncodeError:
        # Python has such text from file names and command lines that are not UTF-8.
        raise ConfigurationError(f"{text!r} holds what is no character; expected text that UTF-8 can encode") from None


def json_body(name: str, value: Any) -> bytes:
    """Encode a value as the body of a request.

    Raises:
        ConfigurationError: msgspec cannot encode it.
    """
    try:
        return msgspec.json.encode(value)
    except Exception as problem:
        # Not the value itself, which may be long or endless.
        raise ConfigurationError(
            f"{name}: this {type(value).__name__} cannot be encoded as JSON ({problem}); "
            "expected plain values, Structs or dataclasses, so turn the rest into those first"
        ) from problem


def optional_int(name: str, value: int | None, *, low: int = 1, high: int | None = None) -> int | None:
    """Check a whole number against its documented range; ``None`` leaves the choice to the server.

    Raises:
        ConfigurationError: It is no whole number, or outside the range.
    """
    if value is None or (type(value) is int and value >= low and (high is None or value <= high)):
        return value
    return require_int(name, value, low=low, high=high)


def require_int(name: str, value: int, *, low: int = 1, high: int | None = None) -> int:
    """Check a whole number that cannot be left out.

    Raises:
        ConfigurationError: It is no whole number, or outside the range.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= low and (high is None or value <= high):
        return value
    wanted = f"from {low} to {high}" if high is not None else f"of {low} or more"
    raise ConfigurationError(f"{name}={value!r}: expected a whole number {wanted}")


def optional_str(name: str, value: str | None) -> str | None:
    """Check a parameter that is text; any text passes, as the server may know more values than are documented.

    Raises:
        ConfigurationError: It is no text, or blank.
    """
    if value is None:
        return None
    # The annotation says str, but not every caller checks types.
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name}={value!r}: expected text, or None to leave it out")
    return value


def require_str(name: str, value: str) -> str:
    """Check text that cannot be left out.

    Raises:
        ConfigurationError: It is no text, or blank.
    """
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name}={value!r}: expected text, which cannot be left out here")
    return value


def optional_bool(name: str, value: bool | None) -> bool | None:  # noqa: FBT001 - checks any caller's value, whatever it is
    """Check a parameter that is true or false.

    Raises:
        ConfigurationError: It is something else.
    """
    if value is None or isinstance(value, bool):
        return value
    raise ConfigurationError(f"{name}={value!r}: expected True, False, or None to leave it out")


@lru_cache(maxsize=128)
def _decoder_for(result_type: Any) -> Decoder[Any]:
    if isinstance(shapes.type_info(result_type), shapes.CustomType):
        raise TypeError("it is a class that msgspec does not know")
    return Decoder(result_type)


def _decoder(result_type: Any) -> Decoder[Any]:
    if result_type is None:
        return UNTYPED
    try:
        return _decoder_for(result_type)
    except Exception as problem:
        raise ConfigurationError(
            f"result_type={result_type!r} cannot be decoded to ({problem}); "
            "expected a Struct, a dataclass, a TypedDict or a list of them, or None for plain values"
        ) from problem


def custom_call(
    method: str, path: str, params: Mapping[str, Any] | None, json: Any, result_type: Any, cost: int
) -> Call[Any]:
    """Describe a call to an endpoint that is not known here; see ``Zenovay.request`` for the arguments.

    Raises:
        ConfigurationError: An argument cannot be right.
    """
    if not isinstance(method, str) or method not in {"GET", "POST"}:
        raise ConfigurationError(f"method={method!r}: the API takes 'GET', and 'POST' for queries")
    body = None if json is None else json_body("json", json)
    return Call(
        method,
        _free_path(path),
        _decoder(result_type),
        _free_query(params),
        body,
        idempotent=method == "GET",
        cost=require_int("cost", cost),
    )


def _free_path(path: str) -> str:
    bare = path.strip("/") if isinstance(path, str) else ""
    if "://" in bare or "?" in bare or {"", ".", ".."} & set(bare.split("/")):
        raise ConfigurationError(
            f"path={path!r}: expected a path below the base URL, such as 'heatmaps/{{id}}/pages'; "
            "query parameters go into params"
        )
    # What stands quoted already stays so.
    return _quoted(bare, quote, "/%:@!$&'()*+,;=-._~")


def _free_query(params: Mapping[str, Any] | None) -> str:
    if params is None:
        return ""
    if not isinstance(params, Mapping) or not all(isinstance(name, str) and name for name in params):
        raise ConfigurationError(f"params={params!r}: expected names and values, such as {{'range': '7d'}}")
    return query(**params)
