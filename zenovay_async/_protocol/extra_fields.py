"""Undocumented fields of objects that are documented in part only, kept in ``extra``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec
from msgspec import inspect as shapes

if TYPE_CHECKING:
    from collections.abc import Callable


class ExtraFields(msgspec.Struct, frozen=True, kw_only=True):
    """Mixed into Structs whose fields are documented in part only.

    A subclass declares ``extra: dict[str, Any]`` as its last field: the fields without an attribute, by name, as plain
    values. This base does not declare it, as msgspec puts the keyword-only fields of a base first.
    """


Action: TypeAlias = "Callable[[Any], None]"
"""Changes each object inside a plain value whose Struct has :class:`ExtraFields`."""


def extra_collector(kind: shapes.Type) -> Action | None:
    """Make the function that moves the unknown fields of objects to ``extra``; ``None`` if no Struct keeps them."""
    return _action(kind, _collector)


def empty_extra_remover(kind: shapes.Type) -> Action | None:
    """Make the function that removes each ``extra`` that is empty; ``None`` if no Struct has one."""
    return _action(kind, lambda _: _remove_empty)


def has_extra_fields(kind: shapes.StructType) -> bool:
    """Whether a Struct keeps unknown fields."""
    # The class of a generic Struct is an alias, not a class.
    return isinstance(kind.cls, type) and issubclass(kind.cls, ExtraFields)


def _collector(known: set[str]) -> Action:
    def collect(fields: Any) -> None:
        if isinstance(fields, dict):
            given = cast("dict[str, Any]", fields)
            given["extra"] = {name: given.pop(name) for name in [name for name in given if name not in known]}

    return collect


def _remove_empty(fields: Any) -> None:
    if not fields["extra"]:
        del fields["extra"]


def _action(kind: shapes.Type, make: Callable[[set[str]], Action]) -> Action | None:
    """Make the action on a plain value of a type.

    Args:
        kind: The type.
        make: Makes the action on one object that has extra fields, given the names of the others.
    """
    if isinstance(kind, shapes.StructType):
        return _on_struct(kind, make)
    if isinstance(kind, (shapes.VarTupleType, shapes.ListType)):
        return _on_list(kind, make)
    if isinstance(kind, shapes.UnionType):
        return next((found for member in kind.types if (found := _action(member, make))), None)
    return None


def _on_list(kind: shapes.VarTupleType | shapes.ListType, make: Callable[[set[str]], Action]) -> Action | None:
    act_on_item = _action(kind.item_type, make)
    if act_on_item is None:
        return None

    def act(value: Any) -> None:
        if isinstance(value, (list, tuple)):
            for item in cast("Any", value):
                act_on_item(item)

    return act


def _on_struct(kind: shapes.StructType, make: Callable[[set[str]], Action]) -> Action | None:
    inner = [(field.encode_name, found) for field in kind.fields if (found := _action(field.type, make))]
    own = make({field.encode_name for field in kind.fields} - {"extra"}) if has_extra_fields(kind) else None
    if not inner:
        return own

    def act(value: Any) -> None:
        if not isinstance(value, dict):
            return
        fields = cast("dict[str, Any]", value)
        for name, act_on_field in inner:
            if name in fields:
                act_on_field(fields[name])
        if own is not None:
            own(fields)

    return act
