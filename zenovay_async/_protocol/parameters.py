"""Arguments of calls, checked before a request is spent on them, and encoded for a URL or a body.

Any text that is not blank is accepted as a query value, as the server may know more values than are documented.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote, quote_plus

import msgspec

from zenovay_async._protocol.text import is_printable
from zenovay_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

_UNRESERVED = re.compile(r"[A-Za-z0-9_-]+")


class NotGiven(Enum):
    """Type of ``NOT_GIVEN``, which distinguishes an omitted argument from ``None``."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN

Timeout: TypeAlias = float | NotGiven | None
"""Seconds for the whole call, ``None`` for no deadline, or omitted for the client's own."""


def check_timeout(name: str, seconds: float | None) -> None:
    """Check a timeout; ``None`` for no bound.

    Raises:
        ConfigurationError: It is not a number above 0.
    """
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and seconds > 0):
        raise ConfigurationError(f"{name}={seconds!r}: expected seconds above 0, or None for no limit")


def optional_int(name: str, value: int | None, *, low: int = 1, high: int | None = None) -> int | None:
    """Check an integer against its documented range; ``None`` leaves the choice to the server.

    Raises:
        ConfigurationError: It is not an int, or outside the range.
    """
    if value is None or (type(value) is int and value >= low and (high is None or value <= high)):
        return value
    return require_int(name, value, low=low, high=high)


def require_int(name: str, value: int, *, low: int = 1, high: int | None = None) -> int:
    """Check an integer that cannot be omitted.

    Raises:
        ConfigurationError: It is not an int, or outside the range.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= low and (high is None or value <= high):
        return value
    expected = f"an int from {low} to {high}" if high is not None else f"an int >= {low}"
    raise ConfigurationError(f"{name}={value!r}: expected {expected}")


def optional_str(name: str, value: str | None) -> str | None:
    """Check a text; ``None`` omits the parameter.

    Raises:
        ConfigurationError: It is not a str, or blank.
    """
    return None if value is None else _checked_str(name, value, "a non-blank str, or None to omit it")


def require_str(name: str, value: str) -> str:
    """Check a text that cannot be omitted.

    Raises:
        ConfigurationError: It is not a str, or blank.
    """
    return _checked_str(name, value, "a non-blank str")


def _checked_str(name: str, value: str, expected: str) -> str:
    # The annotation says str, but not every caller checks types.
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name}={value!r}: expected {expected}")
    return value


def optional_bool(name: str, value: bool | None) -> bool | None:  # noqa: FBT001 - a value to check, not a switch
    """Check a boolean; ``None`` omits the parameter.

    Raises:
        ConfigurationError: It is not a bool.
    """
    if value is None or isinstance(value, bool):
        return value
    raise ConfigurationError(f"{name}={value!r}: expected True, False, or None to omit it")


def require_bool(name: str, value: bool) -> bool:  # noqa: FBT001 - as above
    """Check an option that is true or false.

    Raises:
        ConfigurationError: It is something else.
    """
    if isinstance(value, bool):
        return value
    raise ConfigurationError(f"{name}={value!r}: expected True or False")


def quote_segment(name: str, text: str) -> str:
    """Quote a whole path segment, slashes included, so that no ID can lead to another path.

    Raises:
        ConfigurationError: It is not a str, is blank, is ``.`` or ``..``, has control characters, or is not valid in
            a URL.
    """
    # The annotation says str, but a None may come from a caller's database.
    if not isinstance(text, str):
        raise _invalid_id(name, text)
    # Nearly all IDs need no quoting, which this finds out in a quarter of the time of quote().
    if _UNRESERVED.fullmatch(text):
        return text
    if not text.strip() or text in {".", ".."}:
        raise _invalid_id(name, text)
    quoted = quote_text(text, quote, name=name)
    if not is_printable(text):
        raise _invalid_id(name, text, "contains control characters; ")
    return quoted


def _invalid_id(name: str, given: Any, reason: str = "") -> ConfigurationError:
    return ConfigurationError(
        f"{name}={given!r}: {reason}expected an ID such as 'a1b2c3d4-e5f6-7890-abcd-ef1234567890'"
    )


def encode_query(parameters: Mapping[str, Any]) -> str:
    """Encode query parameters, omitting those that are ``None``; booleans become ``true`` and ``false``.

    Raises:
        ConfigurationError: A value is not a str, number or bool, or is not valid in a URL.
    """
    return _encode_pairs(parameters.items())


def encode_sorted_query(parameters: Mapping[str, Any]) -> str:
    """Encode query parameters as :func:`encode_query` does, sorted by name: equal parameters make equal calls.

    Raises:
        ConfigurationError: As for :func:`encode_query`.
    """
    # A mapping may have a name several times, as one of aiohttp, whose values stay in their order.
    return _encode_pairs(sorted(parameters.items(), key=itemgetter(0)))


def _encode_pairs(parameters: Iterable[tuple[str, Any]]) -> str:
    # Joined, as a format would show a member of an Enum by its name.
    return "&".join(
        ["=".join((_encode_name(name), _encode_value(name, value))) for name, value in parameters if value is not None]
    )


def encode_extra_query(parameters: Mapping[str, Any], own: Container[str]) -> str:
    """Encode the ``extra_query`` of a method, sorted by name.

    Args:
        parameters: Query parameters that the method does not know; those that are ``None`` are omitted.
        own: The parameters that it has arguments for.

    Raises:
        ConfigurationError: It is no mapping, a name is blank, no str or among ``own``, or a value is not a str, number
            or bool.
    """
    if not isinstance(parameters, Mapping):
        raise ConfigurationError(
            f"extra_query: expected a mapping such as {{'segment': 'mobile'}}, not {type(parameters).__name__}"
        )
    for name, value in parameters.items():
        if not isinstance(name, str) or not name.strip():
            given = repr(name) if isinstance(name, str) else type(name).__name__
            raise ConfigurationError(f"extra_query: expected the name of a parameter, not {given}")
        if name in own:
            raise ConfigurationError(f"extra_query: {name!r} is an argument of the method itself; pass {name}= instead")
        if value is not None and not isinstance(value, (str, int, float)):
            raise ConfigurationError(
                f"extra_query: {name!r}: expected a str, a number, a bool or None, not {type(value).__name__}"
            )
    return encode_sorted_query(parameters)


def join_query(*parts: str) -> str:
    """Join encoded query strings; an empty one is left out."""
    return "&".join([part for part in parts if part])


@lru_cache(maxsize=256)
def _encode_name(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else quote_text(name, quote_plus)


def _encode_value(name: str, value: Any) -> str:
    # Most values are integers, which need no quoting. Their own repr, as str() of a member of an Enum is its name.
    if isinstance(value, int):
        return str(value).lower() if isinstance(value, bool) else int.__repr__(value)
    if isinstance(value, float):
        return quote_plus(float.__repr__(value))
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}={value!r}: expected a str, a number, a bool or None")
    return quote_text(value, quote_plus, name=name)


def quote_text(text: str, quoting: Callable[[str, str], str], safe: str = "", *, name: str = "") -> str:
    """Quote a text for a URL.

    Args:
        text: The text.
        quoting: ``quote`` or ``quote_plus`` of ``urllib.parse``.
        safe: Further characters that are not quoted.
        name: The argument that the text is, for the error; ``""`` for none.

    Raises:
        ConfigurationError: It has characters that UTF-8 cannot encode.
    """
    try:
        return quoting(text, safe)
    except UnicodeEncodeError:
        # File names and command lines that are not UTF-8 are such text.
        given = f"{name}={text!r}" if name else repr(text)
        raise ConfigurationError(f"{given}: not valid Unicode; expected text that UTF-8 can encode") from None


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
            f"{name}: cannot encode this {type(value).__name__} as JSON ({problem}); "
            "expected plain values, Structs or dataclasses"
        ) from problem
