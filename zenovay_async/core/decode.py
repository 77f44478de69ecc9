"""From the bytes of a body to the result: the envelope of every answer, and the Structs inside it.

Source: help "REST API reference" (every answer is ``{"success", "data", "timestamp"}``).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Envelope(msgspec.Struct, Generic[T], frozen=True):
    """What every successful answer is wrapped in."""

    data: T
    success: bool = True
    timestamp: datetime | None = None


class Decoder(Generic[T]):
    """Decodes the envelope around one type, at msgspec's full speed.

    Args:
        data_type: The type of ``data``: a Struct, or anything else that msgspec decodes.

    Attributes:
        decode: From the bytes of a body to the envelope.
    """

    __slots__ = ("decode",)

    def __init__(self, data_type: type[T]) -> None:
        envelope: Any = Envelope
        self.decode: Callable[[bytes], Envelope[T]] = msgspec.json.Decoder(envelope[data_type]).decode


PLAIN: Decoder[Any] = Decoder(cast("type[Any]", Any))
"""For answers of which only the endpoint's path is documented: plain Python values."""


def text_of(body: bytes) -> str:
    """A body as text, whatever its bytes."""
    return body.decode("utf-8", "replace")


def plain(body: bytes) -> Any:
    """A body as plain Python values, or ``None`` where it is not JSON."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
