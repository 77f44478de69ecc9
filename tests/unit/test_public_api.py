"""The public names and their signatures, compared with the text file beside this one.

A change of either shows in a review as a line of ``public_api.txt``; ``make snapshot`` writes that file.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, get_overloads

import msgspec
import pytest

import zenovay_async
from zenovay_async import ClientCache, Zenovay
from zenovay_async.resources.base import Resource
from zenovay_async.resources.paging import Paged

if TYPE_CHECKING:
    from collections.abc import Iterator

SNAPSHOT = Path(__file__).with_suffix("").with_name("public_api.txt")
REFERENCE = Path(__file__).parent.parent.parent / "docs" / "reference"
PACKAGE = "zenovay_async"
PACKAGES = (PACKAGE, f"{PACKAGE}.sandbox")
"""Packages that have no names but public ones."""
MODULES = (*PACKAGES, f"{PACKAGE}.tables", f"{PACKAGE}.telemetry", f"{PACKAGE}.testing")
"""The modules whose ``__all__`` is public."""

PROTOCOLS = {
    *("__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__", "__call__", "__enter__", "__exit__"),
    *("__arrow_c_stream__", "__iter__", "__len__"),
}
"""Methods that are called without being named."""

_EMPTY = inspect.Parameter.empty
_Kind = inspect.Parameter

SAME_AS_STANDARD = {"AwareDatetime"}
"""Aliases that are types of the standard library to everybody but msgspec."""


class Item(NamedTuple):
    """A line of the snapshot.

    Attributes:
        text: The line.
        annotations: The annotations in it, as they stand in the source.
        module: The module that they stand in.
    """

    text: str
    annotations: tuple[str, ...] = ()
    module: str = PACKAGE


def public_names() -> dict[str, Any]:
    """Every public name with its module, and what it stands for."""
    names: dict[str, Any] = {}
    for module in MODULES:
        exported = import_module(module)
        for name in exported.__all__:
            names[f"{module}.{name}"] = getattr(exported, name)
    return names


def is_public(name: str) -> bool:
    """Whether a member of a class is public."""
    return not name.startswith("_") or name in PROTOCOLS


@cache
def definitions(module: str) -> dict[str, tuple[str, str]]:
    """The names that a module defines or imports: where each is from, and what it is called there."""
    source = inspect.getsource(import_module(module))
    found: dict[str, tuple[str, str]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            found[node.name] = (module, node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, (module, node.target.id))
        elif isinstance(node, ast.Assign):
            found |= {target.id: (module, target.id) for target in node.targets if isinstance(target, ast.Name)}
    return found


@cache
def value_of(name: str) -> tuple[str, str] | None:
    """The source of what is assigned to a name at the top of a module, and that module: how an alias is written."""
    module, _, name = name.rpartition(".")
    for node in ast.parse(inspect.getsource(import_module(module))).body:
        targets: list[ast.expr] = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and name in map(ast.unparse, targets):
            return (ast.unparse(node.value) if node.value else "", module)
    origin = definitions(module).get(name)
    return value_of(".".join(origin)) if origin and origin[0] != module and origin[0].startswith(PACKAGE) else None


def items() -> Iterator[Item]:
    """The lines of the snapshot."""
    for full, value in public_names().items():
        name = full.removeprefix(f"{PACKAGE}.")
        if isinstance(value, type):
            yield from _class(name, value)
        elif inspect.isfunction(value):
            yield from _function(name, value)
        else:
            source, module = value_of(full) or ("", PACKAGE)
            yield Item(f"{name} = {source}" if name != "__version__" else name, (source,), module)


def _class(name: str, cls: type) -> Iterator[Item]:
    traits = [base.__name__ for base in _bases(cls)]
    if issubclass(cls, msgspec.Struct) and cls.__struct_config__.frozen:
        traits.append("frozen")
    yield Item(f"class {name}({', '.join(traits)})")
    if issubclass(cls, enum.Enum):
        yield from (Item(f"{name}.{member.name} = {member.value!r}") for member in cls)
        return
    if issubclass(cls, msgspec.Struct):
        yield from _fields(name, cls)
    elif _has_constructor(cls):
        yield from _function(f"{name}.__init__", inspect.getattr_static(cls, "__init__"))
    yield from _members(name, cls)


def _members(name: str, cls: type) -> Iterator[Item]:
    shown: set[str] = set()
    for klass in _own_and_private(cls):
        annotations = {} if issubclass(cls, msgspec.Struct) else _annotations(klass)
        for member in filter(is_public, [*vars(klass), *annotations]):
            if member in shown:
                continue
            shown.add(member)
            value = vars(klass).get(member)
            # The client's resources, and its cache, are descriptors that know the class.
            annotation = annotations.get(member) or getattr(getattr(value, "_class", None), "__name__", None)
            if annotation:
                yield Item(f"{name}.{member}: {annotation}", (annotation,), klass.__module__)
            else:
                yield from _member(f"{name}.{member}", value)


def _bases(cls: type) -> Iterator[type]:
    """The bases that users know; of one that they do not, its own."""
    for base in cls.__bases__:
        if base.__module__.startswith(PACKAGE) and base not in public_names().values():
            yield from _bases(base)
        elif base is not object:
            yield base


def _own_and_private(cls: type) -> Iterator[type]:
    """A class, and the bases that no other line of the snapshot shows."""
    public = public_names().values()
    for klass in cls.__mro__:
        if klass is cls or (klass.__module__.startswith(PACKAGE) and klass not in public):
            yield klass


def _has_constructor(cls: type) -> bool:
    """Whether users may make one, and its constructor is not that of a public base."""
    made_by_client = issubclass(cls, (ClientCache, Paged, Resource)) and cls is not Zenovay
    is_protocol = getattr(cls, "_is_protocol", False)
    own = any("__init__" in vars(klass) for klass in _own_and_private(cls))
    return own and not made_by_client and not is_protocol


def _annotations(cls: type) -> dict[str, str]:
    return {name: str(annotation) for name, annotation in inspect.get_annotations(cls).items()}


def _fields(name: str, cls: type[msgspec.Struct]) -> Iterator[Item]:
    written = {
        field: (annotation, klass.__module__)
        for klass in reversed(cls.__mro__)
        for field, annotation in _annotations(klass).items()
    }
    parameters = list(inspect.signature(cls).parameters.values())
    defaults = {field.name: field for field in msgspec.structs.fields(cls)}
    for position, parameter in enumerate(parameters):
        annotation, module = written[parameter.name]
        field = defaults[parameter.name]
        default = "" if field.required else f" = {_default(field)}"
        keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        how = "keyword" if keyword else f"position {position}"
        yield Item(f"{name}.{parameter.name}: {annotation}{default} ({how})", (annotation,), module)


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        return repr(field.default)
    return f"{getattr(field.default_factory, '__name__', 'factory')}()"


def _member(name: str, value: Any) -> Iterator[Item]:
    if isinstance(value, (classmethod, staticmethod)):
        for item in _function(name, value.__func__):
            yield item._replace(text=f"{type(value).__name__} {item.text}")
    elif isinstance(value, (property, cached_property)):
        getter = value.fget if isinstance(value, property) else value.func
        returned = str(inspect.get_annotations(getter).get("return", "?")) if getter else "?"
        yield Item(f"property {name}: {returned}", (returned,), getattr(getter, "__module__", PACKAGE))
    elif inspect.isfunction(value):
        yield from _function(name, value)


def _function(name: str, function: Any) -> Iterator[Item]:
    """A line for a function, or for each of its overloads."""
    for each in get_overloads(function) or [function]:
        signature = inspect.signature(each)
        annotations = [parameter.annotation for parameter in signature.parameters.values()]
        known = tuple(str(found) for found in [*annotations, signature.return_annotation] if found is not _EMPTY)
        kind = "async " if inspect.iscoroutinefunction(each) else ""
        yield Item(f"{kind}{name}{_text_of(signature)}", known, each.__module__)


def _text_of(signature: inspect.Signature) -> str:
    """A signature with annotations as they stand in the source; ``str()`` quotes them in some versions of Python."""
    parts: list[str] = []
    kind: inspect._ParameterKind = _Kind.POSITIONAL_ONLY
    for parameter in signature.parameters.values():
        if kind is _Kind.POSITIONAL_ONLY and parameter.kind is not kind and parts:
            parts.append("/")
        if parameter.kind is _Kind.KEYWORD_ONLY and kind not in {_Kind.KEYWORD_ONLY, _Kind.VAR_POSITIONAL}:
            parts.append("*")
        kind = parameter.kind
        star = "*" if kind is _Kind.VAR_POSITIONAL else "**" if kind is _Kind.VAR_KEYWORD else ""
        annotation = "" if parameter.annotation is _EMPTY else f": {parameter.annotation}"
        default = "" if parameter.default is _EMPTY else f" = {parameter.default!r}"
        parts.append(f"{star}{parameter.name}{annotation}{default}")
    if kind is _Kind.POSITIONAL_ONLY and parts:
        parts.append("/")
    returned = "" if signature.return_annotation is _EMPTY else f" -> {signature.return_annotation}"
    return f"({', '.join(parts)}){returned}"


def snapshot() -> str:
    """The text of the snapshot: one line for each item, those of one name together."""
    lines = sorted({item.text for item in items()}, key=lambda line: (_subject(line), line))
    return "".join(f"{line}\n" for line in lines)


def _subject(line: str) -> str:
    return re.split(r"[(:= ]", re.sub(r"^(class|async|property|classmethod|staticmethod) ", "", line), maxsplit=1)[0]


def unexported() -> list[str]:
    """Names of this package that occur in public signatures and are not public."""
    public = {name.rpartition(".")[2] for name in public_names()}
    missing: dict[str, str] = {}
    for item in items():
        for name in _names_in(item.annotations):
            module, real = definitions(item.module).get(name, ("", ""))
            if module.split(".")[0] != PACKAGE or real in public | SAME_AS_STANDARD:
                continue
            if not isinstance(getattr(import_module(module), real, None), (TypeVar, ParamSpec)):
                missing.setdefault(f"{module}.{real}", item.text)
    return [f"{name} is not exported, but {text}" for name, text in sorted(missing.items())]


def _names_in(annotations: tuple[str, ...]) -> set[str]:
    trees = [ast.parse(annotation, mode="eval") for annotation in annotations if annotation]
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_public_signatures_are_those_of_the_snapshot() -> None:
    expected = SNAPSHOT.read_text(encoding="utf-8").splitlines()
    actual = snapshot().splitlines()
    gone, new = sorted(set(expected) - set(actual)), sorted(set(actual) - set(expected))
    changes = [*(f"- {line}" for line in gone), *(f"+ {line}" for line in new)]
    assert expected == actual, "\n".join(
        ["The public API is not that of public_api.txt; if this is meant, run: make snapshot", *changes]
    )


def test_every_public_name_is_imported_from_where_type_checkers_see_it() -> None:
    known = {name: origin[0] for name, origin in definitions(PACKAGE).items() if origin[0].startswith(f"{PACKAGE}.")}
    modules = {name: f"{PACKAGE}.{module}" for name, module in zenovay_async._MODULE_OF.items()}
    assert modules == {name: module for name, module in known.items() if name != "__version__"}
    assert set(zenovay_async.__all__) == {*modules, "__version__"}


def test_the_package_lists_the_names_that_are_not_imported_yet() -> None:
    assert {*zenovay_async.__all__, "exceptions", "events", "rate_limits"} <= set(dir(zenovay_async))
    assert getattr(zenovay_async, "events") is import_module(f"{PACKAGE}.events")  # noqa: B009 - as pyright knows none
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(zenovay_async, "nothing")  # noqa: B009 - as type checkers know that there is none


@pytest.mark.parametrize("module", PACKAGES)
def test_the_names_of_a_package_are_those_in_all(module: str) -> None:
    exported = import_module(module)
    # The names of the package itself are imported when they are used, which vars() does not do.
    names = {name for name in dir(exported) if not name.startswith("_")}
    names = {name for name in names if not inspect.ismodule(getattr(exported, name))}
    assert names == {name for name in exported.__all__ if not name.startswith("_")}
    assert len(exported.__all__) == len(set(exported.__all__))


def test_every_public_class_function_and_method_is_documented() -> None:
    """A type alias cannot have a docstring; the reference takes the text below it from the source."""
    for name, value in public_names().items():
        if isinstance(value, type) or inspect.isfunction(value):
            assert value.__doc__, name
        for member, item in vars(value).items() if isinstance(value, type) else ():
            if not member.startswith("_") and isinstance(item, (FunctionType, property, staticmethod, classmethod)):
                assert item.__doc__, f"{name}.{member}"


def test_types_in_public_signatures_are_public() -> None:
    missing = unexported()
    assert not missing, "\n".join(missing)


def test_reference_names_every_public_name() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md"))
    whole_modules = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    missing = [
        full
        for full, value in public_names().items()
        if not re.search(rf"\b{full.rpartition('.')[2]}\b", text)
        and full.rpartition(".")[0] not in whole_modules - {PACKAGE}
        and getattr(value, "__module__", None) not in whole_modules
    ]
    assert not missing, f"docs/reference/ does not mention {', '.join(missing)}"


def test_every_name_that_the_documentation_imports_is_in_the_snapshot() -> None:
    """Those of a module beside the listed ones, such as ``zenovay_async.events``, are names of the package as well."""
    root = REFERENCE.parent.parent
    pages = [root / "README.md", *(root / "docs").rglob("*.md"), *(root / "docs" / "examples").rglob("*.py")]
    pattern = re.compile(rf"^ *from ({PACKAGE}[.\w]*) import (?:\(([^)]*)\)|(.*))", re.MULTILINE)
    unknown: list[str] = []
    for page in pages:
        for module, many, few in pattern.findall(page.read_text(encoding="utf-8")):
            public = import_module(module if module in MODULES else PACKAGE).__all__
            names = [name.split(" as ")[0].strip() for name in re.sub("#.*", "", many or few).split(",")]
            unknown += [f"{page.name}: {module}.{name}" for name in names if name and name not in public]
    assert not unknown, "\n".join(unknown)


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(), encoding="utf-8")
    sys.stdout.write(f"wrote {SNAPSHOT}\n")
