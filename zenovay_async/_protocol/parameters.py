"""Arguments of calls, checked before a request is spent on them, and encoded for a URL or a body.

A query value that is text passes whatever it says, as the server may know more values than are documented.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote, quote_plus

import msgspec

from zenovay_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_UNRESERVED = re.compile(r"[A-Za-z0-9_-]+")


class NotGiven(Enum):
    """Tells an argument that was omitted from one that is ``None``."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN

Timeout: TypeAlias = float | NotGiven | None
"""Seconds for the whole call, ``None`` for no deadline, or omitted for the client's own."""


def check_timeout(name: str, seconds: float | None) -> None:
    """Check a timeout, which must leave some time.

    Raises:
        ConfigurationError: It is zero, negative, or no number.
    """
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and seconds > 0):
        raise ConfigurationError(f"{name}={seconds!r}: expected seconds above 0, or None for no limit")


def optional_int(name: str, value: int | None, *, low: int = 1, high: int | None = None) -> int | None:
    """Check an integer against its documented range; ``None`` leaves the choice to the server.

    Raises:
        ConfigurationError: It is no integer, or outside the range.
    """
    if value is None or (type(value) is int and value >= low and (high is None or value <= high)):
        return value
    return require_int(name, value, low=low, high=high)


def require_int(name: str, value: int, *, low: int = 1, high: int | None = None) -> int:
    """Check an integer that cannot be omitted.

    Raises:
        ConfigurationError: It is no integer, or outside the range.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= low and (high is None or value <= high):
        return value
    expected = f"an int from {low} to {high}" if high is not None else f"an int >= {low}"
    raise ConfigurationError(f"{name}={value!r}: expected {expected}")


def optional_str(name: str, value: str | None) -> str | None:
    """Check a parameter that is text.

    Raises:
        ConfigurationError: It is no text, or blank.
    """
    return None if value is None else _checked_str(name, value, "a non-blank str, or None to omit it")


def require_str(name: str, value: str) -> str:
    """Check text that cannot be omitted.

    Raises:
        ConfigurationError: It is no text, or blank.
    """
    return _checked_str(name, value, "a non-blank str")


def _checked_str(name: str, value: str, expected: str) -> str:
    # The annotation says str, but not every caller checks types.
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name}={value!r}: expected {expected}")
    return value


def optional_bool(name: str, value: bool | None) -> bool | None:  # noqa: FBT001 - checks any caller's value, whatever it is
    """Check a parameter that is true or false.

    Raises:
        ConfigurationError: It is something else.
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
    """Quote a path segment whole, so that no ID can reach beyond its place.

    Raises:
        ConfigurationError: It is no text, is blank, is ``.`` or ``..``, or is not valid in a URL.
    """
    # The annotation says str, but a None out of a caller's database gets here all the same.
    if not isinstance(text, str):
        raise _no_id(name, text)
    # Nearly all IDs are letters, digits and hyphens, which quote() takes four times as long to find out.
    if _UNRESERVED.fullmatch(text):
        return text
    if not text.strip() or text in {".", ".."}:
        raise _no_id(name, text)
    return quote_text(text, quote)


def _no_id(name: str, given: Any) -> ConfigurationError:
    return ConfigurationError(f"{name}={given!r}: expected an ID such as 'a1b2c3d4-e5f6-7890-abcd-ef1234567890'")


def encode_query(parameters: Mapping[str, Any]) -> str:
    """Encode query parameters, omitting those that are ``None``; booleans become ``true`` and ``false``.

    Raises:
        ConfigurationError: A value is neither text nor a number, or is not valid in a URL.
    """
    return "&".join(
        [
            f"{_encode_name(name)}={_encode_value(name, value)}"
            for name, value in parameters.items()
            if value is not None
        ]
    )


@lru_cache(maxsize=256)
def _encode_name(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else quote_text(name, quote_plus)


def _encode_value(name: str, value: Any) -> str:
    # Integers are most of them, and have nothing to quote.
    if isinstance(value, int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if not isinstance(value, (str, float)):
        raise ConfigurationError(f"{name}={value!r}: expected a str, a number, a bool or None")
    return quote_text(str(value), quote_plus)


def quote_text(text: str, quoting: Callable[[str, str], str], safe: str = "") -> str:
    """Quote any text for a URL.

    Raises:
        ConfigurationError: It has characters that UTF-8 cannot encode.
    """
    try:
        return quoting(text, safe)
    except UnicodeEncodeError:
        # Python has such text from file names and command lines that are not UTF-8.
        raise ConfigurationError(f"{text!r} is not valid Unicode: expected text that UTF-8 can encode") from None


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
