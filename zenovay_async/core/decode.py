"""From the bytes of a body to the result: the envelope of every answer, and the Structs inside it.

Source: help "REST API reference" (every answer is ``{"success", "data", "timestamp"}``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar, cast

import msgspec

T = TypeVar("T")


class Envelope(msgspec.Struct, Generic[T], frozen=True):
    """What every successful answer is wrapped in."""

    data: T
    success: bool = True
    timestamp: datetime | None = None


class Decoder(Generic[T]):
    """Decodes the envelope around one type, at msgspec's full speed.

    Args:
        data_type: The type of ``data``: a Struct, or ``Any`` where only the path of an endpoint is documented.
    """

    __slots__ = ("_envelope", "decode")

    def __init__(self, data_type: type[T] | Any) -> None:
        self._envelope = msgspec.json.Decoder(Envelope[data_type])
        self.decode = cast("msgspec.json.Decoder[Envelope[T]]", self._envelope).decode


def text_of(body: bytes) -> str:
    """A body as text, whatever its bytes."""
    return body.decode("utf-8", "replace")


def plain(body: bytes) -> Any:
    """A body as plain Python values, or ``None`` where it is not JSON."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
