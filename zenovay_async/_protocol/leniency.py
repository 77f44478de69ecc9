"""Where an answer strays from the documented shape: what it still means, and what to tell of it.

The fast path knows nothing of this. An answer that does not decode is looked at again here, value by value: a ``5.0``
is a whole number, a ``"5"`` is one too, a ``null`` in an optional field is that field left out, and so is a value there
that cannot be read at all. What is required and cannot be read is an error that names its place. Every such finding is
a :class:`Drift`, so that none goes unnoticed.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import msgspec
from msgspec import inspect as shapes

from zenovay_async._protocol.headers import parse_datetime

if TYPE_CHECKING:
    from collections.abc import Callable

_PLACE = re.compile(r"\[\d+\]")
_WHOLE = re.compile(r"[+-]?\d{1,18}(?:\.0{1,18})?", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_LARGEST = 2**63


class Drift(msgspec.Struct, frozen=True):
    """One way in which answers stray from their documented shape.

    Attributes:
        path: Where, such as ``$.data.pages[].url``; the same for every item of a list.
        problem: What is there in place of what.
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """Base of Structs whose fields are documented in part only.

    Attributes:
        extra: The fields that have no attribute here, by name, as plain values.
    """

    extra: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


Collect: TypeAlias = "Callable[[Any], None]"
"""Moves the unknown fields of each :class:`ExtraFields` inside a plain value into its ``extra``."""


def extra_collector(kind: shapes.Type) -> Collect | None:
    """What gathers the unknown fields of a type; ``None`` where nothing in it is open."""
    if isinstance(kind, shapes.StructType):
        return _struct_collector(kind)
    if isinstance(kind, (shapes.VarTupleType, shapes.ListType)):
        return _list_collector(kind)
    if isinstance(kind, shapes.UnionType):
        return next((found for member in kind.types if (found := extra_collector(member))), None)
    return None


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
    is_open = _is_open(kind)
    known = {field.encode_name for field in kind.fields} - {"extra"}
    if not is_open and not inner:
        return None

    def collect(value: Any) -> None:
        if not isinstance(value, dict):
            return
        fields = cast("dict[str, Any]", value)
        for name, collect_field in inner:
            if name in fields:
                collect_field(fields[name])
        if is_open:
            fields["extra"] = {name: fields.pop(name) for name in [name for name in fields if name not in known]}

    return collect


def _is_open(kind: shapes.StructType) -> bool:
    # The class of a generic Struct is an alias, not a class.
    return isinstance(kind.cls, type) and issubclass(kind.cls, ExtraFields)


class CoercionError(Exception):  # noqa: N818 - turned into an error of the tree by the module that decodes
    """A required value that means nothing where it stands.

    Attributes:
        path: Where, with the place in each list.
        problem: What is there in place of what.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


def coerce(value: Any, kind: shapes.Type) -> tuple[Any, tuple[Drift, ...]]:
    """A plain value brought into the shape of a type, and each way in which it was not.

    Args:
        value: What JSON held, as plain values.
        kind: The type, as msgspec describes it.

    Raises:
        CoercionError: A required value is missing or cannot be read.
    """
    mender = _Coercer()
    mended = mender.visit(value, kind, "$")
    return mended, tuple(mender.drifts)


class _Coercer:
    def __init__(self) -> None:
        # A dictionary as an ordered set: a list of a thousand items strays in the same way a thousand times.
        self.drifts: dict[Drift, None] = {}

    def visit(self, value: Any, kind: shapes.Type, path: str) -> Any:
        """The value as the type wants it; types that no answer of this API is made of are left to msgspec."""
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

    def _tell(self, path: str, problem: str) -> None:
        self.drifts[Drift(_PLACE.sub("[]", path), problem)] = None

    def _visit_struct(self, value: Any, kind: shapes.StructType, path: str) -> Any:
        if not isinstance(value, dict):
            raise CoercionError(path, f"{_found(value)} where an object is documented")
        given = cast("dict[str, Any]", value)
        is_open = _is_open(kind)
        fields = {field.encode_name: field for field in kind.fields if not (is_open and field.name == "extra")}
        mended: dict[str, Any] = {}
        for name, item in given.items():
            field = fields.get(name)
            if field is not None:
                self._visit_field(item, field, f"{path}.{name}", mended)
            elif is_open:
                mended[name] = item
            else:
                self._tell(f"{path}.{name}", "a field that this version does not know")
        for name, field in fields.items():
            if field.required and name not in given:
                raise CoercionError(f"{path}.{name}", "missing, but required")
        return mended

    def _visit_field(self, value: Any, field: shapes.Field, path: str, mended: dict[str, Any]) -> None:
        try:
            mended[field.encode_name] = self.visit(value, field.type, path)
        except CoercionError as error:
            if field.required:
                raise
            inside = "" if error.path == path else f" at {_PLACE.sub('[]', error.path)}"
            self._tell(path, f"{error.problem}{inside}; left out")

    def _visit_list(self, value: Any, kind: shapes.VarTupleType | shapes.ListType, path: str) -> Any:
        if not isinstance(value, list):
            raise CoercionError(path, f"{_found(value)} where a list is documented")
        items = enumerate(cast("Any", value))
        return [self.visit(item, kind.item_type, f"{path}[{place}]") for place, item in items]

    def _visit_union(self, value: Any, kind: shapes.UnionType, path: str) -> Any:
        others = [member for member in kind.types if not isinstance(member, shapes.NoneType)]
        if (value is None and len(others) < len(kind.types)) or len(others) != 1:
            return value
        return self.visit(value, others[0], path)

    def _visit_scalar(self, value: Any, wanted: str, read: Callable[[Any], Any], path: str) -> Any:
        meant = read(value)
        if meant is None:
            raise CoercionError(path, f"{_found(value)} where {wanted} is documented")
        if type(meant) is not type(value) or meant != value:
            self._tell(path, f"{_found(value)} where {wanted} is documented")
        return meant


def _whole(value: Any) -> int | None:
    if type(value) is int:
        return value
    if type(value) is float:
        return int(value) if value.is_integer() and abs(value) < _LARGEST else None
    return int(value.partition(".")[0]) if isinstance(value, str) and _WHOLE.fullmatch(value) else None


def _number(value: Any) -> float | None:
    if type(value) in {int, float}:
        return cast("float", value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = float(value)
        return number if math.isfinite(number) else None
    return None


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if type(value) is float or (type(value) is int and abs(value) < _LARGEST) else None


def _flag(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return bool(value) if type(value) is bool or (type(value) is int and value in {0, 1}) else None


def _moment(value: Any) -> str | None:
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


def _day(value: Any) -> str | None:
    found = parse_datetime(value)
    return None if found is None else found.date().isoformat()


_SCALARS: dict[type[shapes.Type], tuple[str, Callable[[Any], Any]]] = {
    shapes.IntType: ("a whole number", _whole),
    shapes.FloatType: ("a number", _number),
    shapes.StrType: ("text", _text),
    shapes.BoolType: ("true or false", _flag),
    shapes.DateTimeType: ("a time with its zone", _moment),
    shapes.DateType: ("a date", _day),
}


_FOUND: dict[type, str] = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}


def _found(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float) and not value.is_integer():
        return f"a fraction ({value})"
    return next((name for kind, name in _FOUND.items() if isinstance(value, kind)), "something else")
