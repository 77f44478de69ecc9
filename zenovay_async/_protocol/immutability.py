"""Whether values of a type can be shared, as nobody can change them."""

from __future__ import annotations

from typing import Any, get_origin

from msgspec import inspect as shapes

_SCALARS = (
    *(shapes.NoneType, shapes.BoolType, shapes.IntType, shapes.FloatType, shapes.StrType, shapes.BytesType),
    *(shapes.DateTimeType, shapes.DateType, shapes.TimeType, shapes.TimeDeltaType, shapes.UUIDType),
    *(shapes.DecimalType, shapes.EnumType, shapes.LiteralType),
)


def is_immutable(shape: shapes.Type) -> bool:
    """Whether all values of a type are immutable, all the way down.

    That is the case for frozen Structs, tuples, frozensets and scalars, but not for ``Any``.
    """
    if isinstance(shape, _SCALARS):
        return True
    if isinstance(shape, shapes.StructType):
        # The class of a generic Struct is an alias, not a class.
        cls: Any = get_origin(shape.cls) or shape.cls
        return cls.__struct_config__.frozen and all(is_immutable(field.type) for field in shape.fields)
    if isinstance(shape, shapes.UnionType):
        return all(map(is_immutable, shape.types))
    if isinstance(shape, shapes.TupleType):
        return all(map(is_immutable, shape.item_types))
    return isinstance(shape, (shapes.VarTupleType, shapes.FrozenSetType)) and is_immutable(shape.item_type)
