"""From the bytes of a body to the result: the envelope of every answer, and the Structs inside it.

Source: help "REST API reference" (every answer is ``{"success", "data", "timestamp"}``).
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeAlias, TypeVar, cast, overload

import msgspec
from msgspec import inspect as shapes

from zenovay_async._protocol.leniency import CoercionError, Drift, coerce, extra_collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
WireT = TypeVar("WireT")

# A server that answers with endless new fields must not fill the memory with what was told of them.
_MOST_TOLD = 1000
# Seconds between two looks at answers that decode: at the pace that the API allows, nearly every answer is looked at,
# and where thousands come in a second, nobody notices.
_LOOK_AGAIN = 1.0


AwareDatetime: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time that names its zone, as all times of the API are documented to."""


class Envelope(msgspec.Struct, Generic[T], frozen=True):
    """What every successful answer is wrapped in."""

    data: T
    success: bool = True
    timestamp: AwareDatetime | None = None


class Decoder(Generic[T]):
    """Decodes the envelope around one type, at msgspec's full speed; tolerance is paid only where it is needed.

    Args:
        data_type: The type of ``data``: a Struct, or anything else that msgspec decodes.
        finish: Makes the result out of ``data``; left out, it is ``data`` itself.

    Attributes:
        decode: From the bytes of a body to the envelope.
        look_at: When the next answer that decodes is compared with the documented shape, field by field.
    """

    __slots__ = ("_collect", "_envelope", "_finish", "_shape", "_told", "decode", "look_at")

    @overload
    def __init__(self, data_type: type[T]) -> None: ...
    @overload
    def __init__(self, data_type: type[WireT], finish: Callable[[WireT], T]) -> None: ...
    def __init__(self, data_type: Any, finish: Callable[[Any], T] | None = None) -> None:
        envelope: Any = Envelope
        self._envelope: Any = envelope[data_type]
        self._shape = shapes.type_info(self._envelope)
        self._collect = extra_collector(self._shape)
        self._finish = finish
        self._told: set[Drift] = set()
        self.look_at = -math.inf
        fast: Callable[[bytes], Envelope[T]] = msgspec.json.Decoder(self._envelope).decode
        self.decode = fast if self._collect is None and finish is None else self._decode

    def coerce(self, whole: Any) -> tuple[Envelope[T], tuple[Drift, ...]]:
        """The envelope of an answer that does not decode as it is, and each way in which it strays.

        Args:
            whole: The body as plain values.

        Raises:
            CoercionError: A required value is missing or cannot be read.
            msgspec.ValidationError: The same, of a type that only msgspec knows.
        """
        mended, drifts = coerce(whole, self._shape)
        return self._convert(mended), drifts

    def look(self, body: bytes, now: float) -> tuple[Drift, ...]:
        """How an answer that decodes strays all the same: the fields that are not known here.

        Args:
            body: The body.
            now: Seconds of any clock.
        """
        self.look_at = now + _LOOK_AGAIN
        try:
            return coerce(msgspec.json.decode(body), self._shape)[1]
        except CoercionError as strange:
            # What msgspec made sense of is no error, even where the second look does not see it.
            return (Drift(strange.path, strange.problem),)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as strange:
            # Decoding skips unknown fields unread, whatever is in them.
            return (Drift("$", f"a field that this version does not know, and cannot be read: {strange}"),)

    def not_told(self, drifts: Iterable[Drift]) -> list[Drift]:
        """Those that are new, each of them once in the life of the process."""
        new = [drift for drift in drifts if drift not in self._told]
        if len(self._told) >= _MOST_TOLD:
            return []
        self._told.update(new)
        return new

    def _decode(self, body: bytes) -> Envelope[T]:
        return self._convert(msgspec.json.decode(body))

    def _convert(self, whole: Any) -> Envelope[T]:
        if self._collect is not None:
            self._collect(whole)
        envelope = msgspec.convert(whole, self._envelope)
        if self._finish is None:
            return cast("Envelope[T]", envelope)
        return Envelope(self._finish(envelope.data), envelope.success, envelope.timestamp)


UNTYPED: Decoder[Any] = Decoder(cast("type[Any]", Any))
"""For answers of which only the endpoint's path is documented: plain Python values."""


def decode_text(body: bytes) -> str:
    """A body as text, whatever its bytes."""
    return body.decode("utf-8", "replace")


def plain(body: bytes) -> Any:
    """A body as plain Python values, or ``None`` where it is not JSON."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
