"""Coercion of values that have another type than documented.

Only a body that does not decode is coerced, value by value: a ``5.0`` or a ``"5"`` is an integer; an optional field
that is ``null``, or cannot be coerced, is omitted, and its value kept where an object keeps undocumented fields. A
required value that cannot be coerced is an error that names its path. Every difference from the schema is a
:class:`Drift`.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import msgspec
from msgspec import inspect as shapes

from zenovay_async._protocol.extra_fields import has_extra_fields
from zenovay_async._protocol.headers import parse_datetime

if TYPE_CHECKING:
    from collections.abc import Callable

_INDEX = re.compile(r"\[\d+\]")
_INTEGER = re.compile(r"[+-]?\d{1,18}(?:\.0{1,18})?", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_INT64_LIMIT = 2**63


class Drift(msgspec.Struct, frozen=True):
    """One difference between responses and their documented schema.

    Attributes:
        path: Where in the response, such as ``$.data.pages[].url``; the same for every item of a list.
        problem: What was found, and what is documented.
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class CoercionError(Exception):
    """A required value that is missing or cannot be coerced.

    Attributes:
        path: Where in the response, with the index in each list.
        problem: What was found, and what is documented.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class Misfit(NamedTuple):
    """A value of a documented field that cannot be coerced, to be kept in ``extra``.

    Attributes:
        fields: The object that it belongs to, coerced.
        name: Name of the field.
        value: The value as it came.
    """

    fields: dict[str, Any]
    name: str
    value: Any


class Coerced(NamedTuple):
    """A coerced value.

    Attributes:
        value: The value.
        drifts: Each difference from the type.
        misfits: Values that are not in it, and that its objects can keep.
    """

    value: Any
    drifts: tuple[Drift, ...]
    misfits: tuple[Misfit, ...]


def coerce(value: Any, kind: shapes.Type) -> Coerced:
    """Coerce a plain value to a type.

    Args:
        value: A decoded JSON value.
        kind: The type, as msgspec describes it.

    Raises:
        CoercionError: A required value is missing or cannot be coerced.
    """
    coercer = _Coercer()
    coerced = coercer.visit(value, kind, "$")
    return Coerced(coerced, tuple(coercer.drifts), tuple(coercer.misfits))


class _Coercer:
    def __init__(self) -> None:
        # A dictionary as an ordered set: a list of a thousand items differs in the same way a thousand times.
        self.drifts: dict[Drift, None] = {}
        self.misfits: list[Misfit] = []

    def visit(self, value: Any, kind: shapes.Type, path: str) -> Any:
        """Coerce a value; types that no response of this API has are left to msgspec."""
        if isinstance(kind, shapes.StructType):
            return self._visit_struct(value, kind, path)
        if isinstance(kind, (shapes.VarTupleType, shapes.ListType)):
            return self._visit_list(value, kind, path)
        if isinstance(kind, shapes.UnionType):
            return self._visit_union(value, kind, path)
        if isinstance(kind, shapes.DateTimeType) and kind.tz is not True:
            return value
        scalar = _SCALARS.get(type(kind))
        return value if scalar is None else self._visit_scalar(value, *scalar, path)

    def _report(self, path: str, problem: str) -> None:
        self.drifts[Drift(_INDEX.sub("[]", path), problem)] = None

    def _visit_struct(self, value: Any, kind: shapes.StructType, path: str) -> Any:
        if not isinstance(value, dict):
            raise CoercionError(path, f"{_describe(value)}, documented as an object")
        given = cast("dict[str, Any]", value)
        keeps_extra = has_extra_fields(kind)
        fields = {field.encode_name: field for field in kind.fields if not (keeps_extra and field.name == "extra")}
        coerced: dict[str, Any] = {}
        for name, item in given.items():
            field = fields.get(name)
            if field is not None:
                self._visit_field(item, field, f"{path}.{name}", coerced, keeps_extra=keeps_extra)
            elif keeps_extra:
                coerced[name] = item
            else:
                self._report(f"{path}.{name}", "unknown field")
        for name, field in fields.items():
            if field.required and name not in given:
                raise CoercionError(f"{path}.{name}", "required field is missing")
        return coerced

    def _visit_field(
        self, value: Any, field: shapes.Field, path: str, coerced: dict[str, Any], *, keeps_extra: bool
    ) -> None:
        try:
            coerced[field.encode_name] = self.visit(value, field.type, path)
        except CoercionError as error:
            if field.required:
                raise
            inside = "" if error.path == path else f" at {_INDEX.sub('[]', error.path)}"
            is_kept = keeps_extra and value is not None
            if is_kept:
                self.misfits.append(Misfit(coerced, field.encode_name, value))
            self._report(path, f"{error.problem}{inside}; {'kept in extra' if is_kept else 'omitted'}")

    def _visit_list(self, value: Any, kind: shapes.VarTupleType | shapes.ListType, path: str) -> Any:
        if not isinstance(value, list):
            raise CoercionError(path, f"{_describe(value)}, documented as a list")
        items = enumerate(cast("Any", value))
        return [self.visit(item, kind.item_type, f"{path}[{index}]") for index, item in items]

    def _visit_union(self, value: Any, kind: shapes.UnionType, path: str) -> Any:
        others = [member for member in kind.types if not isinstance(member, shapes.NoneType)]
        if (value is None and len(others) < len(kind.types)) or len(others) != 1:
            return value
        return self.visit(value, others[0], path)

    def _visit_scalar(self, value: Any, expected: str, convert: Callable[[Any], Any], path: str) -> Any:
        coerced = convert(value)
        if coerced is None:
            raise CoercionError(path, f"{_describe(value)}, documented as {expected}")
        if type(coerced) is not type(value) or coerced != value:
            self._report(path, f"{_describe(value)}, documented as {expected}")
        return coerced


def _to_int(value: Any) -> int | None:
    if type(value) is int:
        return value
    if type(value) is float:
        return int(value) if value.is_integer() and abs(value) < _INT64_LIMIT else None
    return int(value.partition(".")[0]) if isinstance(value, str) and _INTEGER.fullmatch(value) else None


def _to_float(value: Any) -> float | None:
    if type(value) in {int, float}:
        return cast("float", value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = float(value)
        return number if math.isfinite(number) else None
    return None


def _to_str(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if type(value) is float or (type(value) is int and abs(value) < _INT64_LIMIT) else None


def _to_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return bool(value) if type(value) is bool or (type(value) is int and value in {0, 1}) else None


def _to_datetime(value: Any) -> str | None:
    if _is_documented_time(value):
        return cast("str", value)
    found = parse_datetime(value)
    return None if found is None else found.isoformat()


def _is_documented_time(value: Any) -> bool:
    try:
        msgspec.convert(value, Annotated[datetime, msgspec.Meta(tz=True)])
    except msgspec.ValidationError:
        return False
    return isinstance(value, str)


def _to_date(value: Any) -> str | None:
    found = parse_datetime(value)
    return None if found is None else found.date().isoformat()


_SCALARS: dict[type[shapes.Type], tuple[str, Callable[[Any], Any]]] = {
    shapes.IntType: ("an integer", _to_int),
    shapes.FloatType: ("a number", _to_float),
    shapes.StrType: ("a string", _to_str),
    shapes.BoolType: ("a boolean", _to_bool),
    shapes.DateTimeType: ("a time with its zone", _to_datetime),
    shapes.DateType: ("a date", _to_date),
}

_DESCRIPTIONS: dict[type, str] = {
    str: "a string",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def _describe(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float) and not value.is_integer():
        return f"a fraction ({value})"
    return next((name for kind, name in _DESCRIPTIONS.items() if isinstance(value, kind)), "something else")
