"""The base of all results: as plain values, as JSON, as a dataclass where one is known, and to pydantic.

Frameworks know pydantic models and dataclasses, not msgspec Structs. So a result has the attributes by which they tell
a dataclass, which are made only when somebody asks for them, and the two methods by which pydantic learns its schema.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, cast

import msgspec
from msgspec import inspect as shapes

from zenovay_async._protocol.extra_fields import empty_extra_remover
from zenovay_async._protocol.pydantic_schema import core_schema_of, json_schema_of

if TYPE_CHECKING:
    from zenovay_async._protocol.extra_fields import Action


class _DataclassFields:
    """The fields of a Struct as those of a dataclass; of an instance, without an ``extra`` that is empty."""

    def __get__(self, result: Result | None, cls: type[Result]) -> dict[str, dataclasses.Field[Any]]:
        fields = cast("dict[str, dataclasses.Field[Any]]", cast("Any", _dataclass_of(cls)).__dataclass_fields__)
        if result is None or "extra" not in fields or getattr(result, "extra", True):
            return fields
        return {name: field for name, field in fields.items() if name != "extra"}


class _DataclassParameters:
    """The options of a Struct as those of a dataclass."""

    def __get__(self, result: Result | None, cls: type[Result]) -> Any:
        return cast("Any", _dataclass_of(cls)).__dataclass_params__


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all results and their parts: frozen msgspec Structs.

    Web frameworks take a result as it is: FastAPI returns it, with or without ``-> HeatmapPages``, and describes it in
    OpenAPI; it may be a field of a pydantic model; Litestar knows Structs. To everything that knows dataclasses, such
    as ``dataclasses.asdict``, ``pandas.DataFrame`` and ``flask.jsonify``, it is one.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]] = cast("Any", _DataclassFields())
    __dataclass_params__: ClassVar[Any] = _DataclassParameters()

    def to_dict(self) -> dict[str, Any]:
        """Make plain values that ``json.dumps`` takes: dictionaries, lists, text, numbers.

        Names are those of the API. Times are ISO 8601 text, with their zone, and dates too. An empty ``extra`` is left
        out.
        """
        # Values of JSON alone: no tuples, no NaN.
        plain = msgspec.json.decode(msgspec.json.encode(self))
        remove = _empty_extra_remover(type(self))
        if remove is not None:
            remove(plain)
        return cast("dict[str, Any]", plain)

    def to_json(self) -> str:
        """Make JSON text, of the same values as :meth:`to_dict`."""
        return msgspec.json.encode(self if _empty_extra_remover(type(self)) is None else self.to_dict()).decode()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema_of(cls, handler)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        return json_schema_of(cls, schema, handler)


@cache
def _empty_extra_remover(cls: type[Result]) -> Action | None:
    return empty_extra_remover(shapes.type_info(cls))


@cache
def _dataclass_of(cls: type[Result]) -> type:
    """Make the dataclass with the fields of a Struct."""
    fields: list[tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(cls):
        if field.default is not msgspec.NODEFAULT:
            made: Any = dataclasses.field(default=field.default)
        elif field.default_factory is not msgspec.NODEFAULT:
            made = dataclasses.field(default_factory=field.default_factory)
        else:
            made = dataclasses.field()
        fields.append((field.name, field.type, made))
    return dataclasses.make_dataclass(cls.__name__, fields, frozen=True, kw_only=True)
