"""JSON as servers write it: what msgspec decodes, and what JSON allows beyond that; and as it is kept.

msgspec decodes text that is Unicode and numbers that fit a float. JSON allows more (RFC 8259, sections 6 and 8.2), and
JavaScript writes it: a text that was cut in the middle of an emoji ends with half a surrogate pair. Such text is read
as browsers show it, with U+FFFD.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn, cast

import msgspec

from zenovay_async._protocol.text import replace_half_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterator

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it does not decode."""

_REPLACED = "\ufffd"
BOM = b"\xef\xbb\xbf"
# Every escape is matched, so that the backslash of none is taken for the start of another; the group is half a pair.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
# A number that is cut here is malformed to msgspec, rather than cut short.
_UNFINISHED_NUMBER = b"+-.eE"


def encode_json(value: Any) -> str:
    """A value as JSON on one line; half surrogates, which no encoding has, become U+FFFD, and NaN and infinity null.

    Raises:
        TypeError: A value in it is none that msgspec encodes; as msgspec, also ``ValueError`` and ``RecursionError``.
    """
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value, str_keys=True), ensure_ascii=False)
        return msgspec.json.encode(json.loads(replace_half_surrogates(text))).decode()


def decode_text(body: bytes) -> str:
    """A body as text, whatever its bytes."""
    return body.decode("utf-8", "replace")


def loads(body: bytes) -> tuple[Any, tuple[str, ...]]:
    """A body as plain Python values, and where text that is not Unicode was replaced, such as ``$.data.pages[].url``.

    Raises:
        msgspec.DecodeError: It is no JSON.
        RecursionError: It is nested too deeply.
    """
    try:
        return msgspec.json.decode(body), ()
    except UNDECODABLE:
        repaired = _repair(body)
    try:
        document = msgspec.json.decode(repaired)
    except msgspec.ValidationError:
        document = _loads_large_numbers(repaired)
    is_replaced = repaired != body.removeprefix(BOM)
    return document, tuple(dict.fromkeys(_paths_of_replaced(document))) if is_replaced else ()


def loads_or_none(body: bytes) -> Any:
    """A body as plain Python values, as by :func:`loads`, or ``None`` if it is no JSON."""
    try:
        return loads(body)[0]
    except UNDECODABLE:
        return None


def is_cut_short(body: bytes) -> bool:
    """Whether a body ends before its JSON does, as after a broken connection."""
    try:
        msgspec.json.decode(_repair(body).rstrip().rstrip(_UNFINISHED_NUMBER))
    except UNDECODABLE as error:
        # msgspec has no class of its own for it.
        return str(error).startswith("Input data was truncated")
    return False


def _repair(body: bytes) -> bytes:
    """A body as UTF-8 without a byte order mark, and each half of a surrogate pair replaced."""
    text = decode_text(body.removeprefix(BOM)).encode()
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], text)


def _loads_large_numbers(body: bytes) -> Any:
    try:
        return json.loads(body, parse_int=_to_number, parse_constant=_reject)
    except ValueError as error:
        raise msgspec.DecodeError(f"JSON is malformed: {error}") from None


def _to_number(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        # Python limits the digits that it converts; to a float, they are infinity.
        return float(digits)


def _reject(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _paths_of_replaced(document: Any) -> Iterator[str]:
    """Yield where a document has U+FFFD in a text or a name."""
    # Without recursion, as a server may nest values as deeply as msgspec decodes them.
    pending: list[tuple[Any, str]] = [(document, "$")]
    while pending:
        value, path = pending.pop()
        if isinstance(value, str):
            if _REPLACED in value:
                yield path
        elif isinstance(value, list):
            pending += [(item, f"{path}[]") for item in reversed(cast("Any", value))]
        elif isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            yield from (f"{path}.{name}" for name in fields if _REPLACED in name)
            pending += [(item, f"{path}.{name}") for name, item in reversed(fields.items())]
