"""Undocumented fields of objects that are documented in part only, kept in ``extra``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec
from msgspec import inspect as shapes

if TYPE_CHECKING:
    from collections.abc import Callable


class ExtraFields(msgspec.Struct, frozen=True, kw_only=True):
    """Base of Structs whose fields are documented in part only.

    A subclass declares ``extra: dict[str, Any]`` as its last field: the fields without an attribute, by name, as plain
    values. This base does not declare it, as msgspec puts the keyword-only fields of a base first.
    """


Collect: TypeAlias = "Callable[[Any], None]"
"""Moves the unknown fields of each :class:`ExtraFields` inside a plain value into its ``extra``."""


def extra_collector(kind: shapes.Type) -> Collect | None:
    """Make the function that collects the extra fields of a type; ``None`` if no Struct in it keeps them."""
    if isinstance(kind, shapes.StructType):
        return _struct_collector(kind)
    if isinstance(kind, (shapes.VarTupleType, shapes.ListType)):
        return _list_collector(kind)
    if isinstance(kind, shapes.UnionType):
        return next((found for member in kind.types if (found := extra_collector(member))), None)
    return None


def has_extra_fields(kind: shapes.StructType) -> bool:
    """Whether a Struct keeps unknown fields."""
    # The class of a generic Struct is an alias, not a class.
    return isinstance(kind.cls, type) and issubclass(kind.cls, ExtraFields)


def _list_collector(kind: shapes.VarTupleType | shapes.ListType) -> Collect | None:
    collect_item = extra_collector(kind.item_type)
    if collect_item is None:
        return None

    def collect(value: Any) -> None:
        if isinstance(value, list):
            for item in cast("Any", value):
                collect_item(item)

    return collect


def _struct_collector(kind: shapes.StructType) -> Collect | None:
    inner = [(field.encode_name, found) for field in kind.fields if (found := extra_collector(field.type))]
    keeps_extra = has_extra_fields(kind)
    known = {field.encode_name for field in kind.fields} - {"extra"}
    if not keeps_extra and not inner:
        return None

    def collect(value: Any) -> None:
        if not isinstance(value, dict):
            return
        fields = cast("dict[str, Any]", value)
        for name, collect_field in inner:
            if name in fields:
                collect_field(fields[name])
        if keeps_extra:
            fields["extra"] = {name: fields.pop(name) for name in [name for name in fields if name not in known]}

    return collect
