"""A call as data: what is asked, what comes back, what it costs, whether it may be repeated.

Resources describe calls with the helpers here, which check each parameter before a request is spent on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias, TypeVar
from urllib.parse import quote, quote_plus

import msgspec

from zenovay_async.core.decode import PLAIN, Decoder
from zenovay_async.core.errors import ConfigurationError
from zenovay_async.core.headers import UsageHeaders

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        repeatable: Whether sending it twice does no harm. Where False, it is sent again only if the first
            request surely did not run.
        cost: What it takes from the monthly quota, in requests.
        usage_of: Reads the monthly quota out of the result, where the result is about that.
    """

    method: str
    path: str
    decoder: Decoder[T]
    query: str = ""
    body: bytes | None = None
    repeatable: bool = True
    cost: int = 1
    usage_of: Callable[[T], UsageHeaders] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Caller(Protocol):
    """Carries out calls; what a resource needs of a session."""

    async def fetch(self, call: Call[T], timeout: Timeout) -> T:
        """Send the call and return its result."""
        ...


def segment(text: str) -> str:
    """Quote a path segment whole, so that no id can reach beyond its place.

    Raises:
        ConfigurationError: It is no text, is empty, or is ``.`` or ``..``.
    """
    # The annotation says str, but a None out of a caller's database gets here all the same.
    if not isinstance(text, str) or not text.strip() or text in {".", ".."}:
        raise ConfigurationError(f"{text!r} is not an id: expected text such as 'a1b2c3d4-e5f6-7890-abcd-ef1234567890'")
    # Nearly all ids are letters, digits and hyphens, which quote() takes four times as long to find out.
    return text if _PLAIN.fullmatch(text) else quote(text, safe="")


def query(**parameters: Any) -> str:
    """Encode query parameters, leaving out those that are ``None``; booleans become ``true`` and ``false``."""
    return "&".join([f"{_named(name)}={_encoded(value)}" for name, value in parameters.items() if value is not None])


def _named(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else quote_plus(name)


def _encoded(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # Whole numbers are most of them, and have nothing to quote.
    return str(value) if isinstance(value, int) else quote_plus(str(value))


def whole(name: str, value: int | None, *, low: int = 1, high: int | None = None) -> int | None:
    """Check a whole number against its documented range; ``None`` leaves the choice to the server.

    Raises:
        ConfigurationError: It is no whole number, or outside the range.
    """
    if value is None:
        return None
    wanted = f"from {low} to {high}" if high is not None else f"of {low} or more"
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(f"{name}={value!r} is not a whole number; expected one {wanted}")
    if value < low or (high is not None and value > high):
        raise ConfigurationError(f"{name}={value} is out of range; expected a whole number {wanted}")
    return value


def words(name: str, value: str | None) -> str | None:
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


def flag(name: str, value: bool | None) -> bool | None:  # noqa: FBT001 - checks any caller's value, whatever it is
    """Check a parameter that is true or false.

    Raises:
        ConfigurationError: It is something else.
    """
    if value is None or isinstance(value, bool):
        return value
    raise ConfigurationError(f"{name}={value!r}: expected True, False, or None to leave it out")


_decoder_for: Callable[[Any], Decoder[Any]] = lru_cache(maxsize=128)(Decoder)


def free_call(method: str, path: str, params: Mapping[str, Any], json: Any, result_type: Any, cost: int) -> Call[Any]:
    """Describe a call to an endpoint that is not known here; see ``Zenovay.request`` for the arguments.

    Raises:
        ConfigurationError: The method or path cannot be right.
    """
    if method not in {"GET", "POST"}:
        raise ConfigurationError(f"method={method!r}: the API takes 'GET', and 'POST' for queries")
    segments = path.strip("/").split("/")
    if "://" in path or "?" in path or {"", ".", ".."} & set(segments):
        raise ConfigurationError(
            f"path={path!r}: expected a path below the base URL, such as 'heatmaps/{{id}}/pages'; "
            "query parameters go into params"
        )
    body = None if json is None else msgspec.json.encode(json)
    decoder: Decoder[Any] = PLAIN if result_type is None else _decoder_for(result_type)
    # What stands quoted already stays so.
    quoted = quote(path.strip("/"), safe="/%:@!$&'()*+,;=-._~")
    return Call(method, quoted, decoder, query(**params), body, repeatable=method == "GET", cost=cost)
