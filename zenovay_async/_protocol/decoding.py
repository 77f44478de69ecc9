"""From the bytes of a body to the result: the envelope around every response, and the Structs inside it.

Source: help "REST API reference" (every response is ``{"success", "data", "timestamp"}``).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeAlias, TypeVar, cast, overload

import msgspec
from msgspec import inspect as shapes

from zenovay_async._protocol.extra_fields import extra_collector
from zenovay_async._protocol.immutability import is_immutable
from zenovay_async._protocol.json_text import UNDECODABLE, loads
from zenovay_async._protocol.leniency import CoercionError, Drift, coerce

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
WireT = TypeVar("WireT")


class _Aware:
    """Tells pydantic what ``msgspec.Meta(tz=True)`` tells msgspec."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {**handler(source), "tz_constraint": "aware"}


AwareDatetime: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True), _Aware()]
"""A time with its zone, as all times of the API are documented."""


class Envelope(msgspec.Struct, Generic[T], frozen=True):
    """The object around the data of every successful response."""

    data: T
    success: bool = True
    timestamp: AwareDatetime | None = None


class Decoder(Generic[T]):
    """Decodes the envelope around one type at msgspec's full speed; only a body that does not decode is coerced.

    Args:
        data_type: The type of ``data``: a Struct, or anything else that msgspec decodes.
        transform: Makes the result out of ``data``; omitted, it is ``data`` itself.

    Attributes:
        decode: From the bytes of a body to the envelope.
        is_shareable: Whether all callers may share one result, as nobody can change it.
    """

    __slots__ = ("_collect", "_envelope", "_shape", "_transform", "decode", "is_shareable")

    @overload
    def __init__(self, data_type: type[T]) -> None: ...
    @overload
    def __init__(self, data_type: type[WireT], transform: Callable[[WireT], T]) -> None: ...
    def __init__(self, data_type: Any, transform: Callable[[Any], T] | None = None) -> None:
        envelope: Any = Envelope
        self._envelope: Any = envelope[data_type]
        self._shape = shapes.type_info(self._envelope)
        self._collect = extra_collector(self._shape)
        self._transform = transform
        # What a transform makes of it is one part of it or the other.
        self.is_shareable = is_immutable(self._shape)
        fast: Callable[[bytes], Envelope[T]] = msgspec.json.Decoder(self._envelope).decode
        self.decode = fast if self._collect is None and transform is None else self._decode

    @property
    def data_type(self) -> shapes.Type:
        """The type of ``data``, as msgspec describes it."""
        envelope = cast("shapes.StructType", self._shape)
        return next(field.type for field in envelope.fields if field.name == "data")

    def coerce(self, document: Any) -> tuple[Envelope[T], tuple[Drift, ...]]:
        """Coerce a body that does not decode to the envelope; also returns each difference from the schema.

        Args:
            document: The body as plain values.

        Raises:
            CoercionError: A required value is missing or cannot be coerced.
            msgspec.ValidationError: The same, for a type that is left to msgspec.
        """
        coerced, drifts, misfits = coerce(document, self._shape)
        if self._collect is not None:
            self._collect(coerced)
        for misfit in misfits:
            misfit.fields["extra"][misfit.name] = misfit.value
        return self._convert(coerced), drifts

    def find_drift(self, body: bytes) -> tuple[Drift, ...]:
        """The differences between a body that decodes and the schema: unknown fields, and text that is not Unicode."""
        try:
            document, replaced = loads(body)
        except UNDECODABLE as error:
            # Decoding to a Struct skips unknown fields without decoding them.
            return (Drift("$", f"an unknown field that cannot be decoded: {error}"),)
        try:
            drifts = coerce(document, self._shape).drifts
        except CoercionError as error:
            # A body that decodes is no error, even if coercion fails.
            drifts = (Drift(error.path, error.problem),)
        return (*text_drifts(replaced), *drifts)

    def _decode(self, body: bytes) -> Envelope[T]:
        document = msgspec.json.decode(body)
        if self._collect is not None:
            self._collect(document)
        return self._convert(document)

    def _convert(self, document: Any) -> Envelope[T]:
        envelope = msgspec.convert(document, self._envelope)
        if self._transform is None:
            return cast("Envelope[T]", envelope)
        return Envelope(self._transform(envelope.data), envelope.success, envelope.timestamp)


UNTYPED: Decoder[Any] = Decoder(cast("type[Any]", Any))
"""For endpoints of which only the path is documented: plain Python values."""


def text_drifts(paths: tuple[str, ...]) -> tuple[Drift, ...]:
    """The drifts of a body in which text was replaced, as ``json_text.loads`` tells."""
    return tuple(Drift(path, "text that is not Unicode; replaced by U+FFFD") for path in paths)
