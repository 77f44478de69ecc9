"""The import rules of ``docs/architecture.md``: which part of the package may know which.

Imports are read from the source, those for types and those inside functions included.
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from helpers import ROOT

import zenovay_async

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGE = Path(zenovay_async.__file__).parent

_PROTOCOL = {"exceptions", "events", "history", "rate_limits", "_protocol"}
_TABLES = {"_tables", "tables"}
_CALLS = _PROTOCOL | _TABLES | {"_limits", "_cache", "_session", "resources"}
_PUBLIC = _CALLS | {"batch", "client", "journal", "telemetry", ""}
MAY_IMPORT: dict[str, set[str]] = {
    "history": set(),
    "exceptions": {"history"},
    "rate_limits": {"exceptions"},
    "events": {"exceptions", "history"},
    "_protocol": {"exceptions", "events", "history", "rate_limits"},
    "_limits": _PROTOCOL,
    "_cache": _PROTOCOL | {"_limits"},
    "_session": _PROTOCOL | {"_limits", "_cache"},
    "_tables": _PROTOCOL,
    "tables": _PROTOCOL | _TABLES,
    "resources": _PROTOCOL | _TABLES,
    "_batch": _CALLS | {"journal"},
    "journal": _PROTOCOL | {"_batch"},
    "batch": _CALLS | {"_batch", "journal"},
    "_methods": _PROTOCOL | {"resources", "_batch"},
    "client": _CALLS | {"batch", "journal", "_batch", "_methods"},
    "telemetry": {"exceptions", "events", "history"},
    "": _CALLS | {"batch", "client", "journal", "_batch"},
    "testing": _PUBLIC | {"sandbox"},
    "cli": _PUBLIC | {"sandbox"},
    "__main__": {"cli"},
    "sandbox": set(),
}
"""The other parts that each part may import; ``""`` is the package itself, and anyone may import ``_version``."""
MODULE_MAY_IMPORT: dict[str, set[str]] = {"sandbox.own_responses": {"resources", "_protocol"}}
"""What a single module may import beside. Data that users give to the sandbox are checked against the result types of
the client; what the sandbox generates is not, so that an error of one is not hidden by the other."""

_PACER = (
    *("_limits.pacing", "_limits.request_log", "_limits.credit", "_limits.gate", "_limits.learned_limits"),
    "_limits.key_share",
    "_limits.headroom",
)
PURE = (
    *("_protocol", *_PACER, "_limits.outage", "_limits.outcome", "_limits.patience", "_limits.round_trip"),
    *("_limits.settlement", "_limits.sharing.state", "_limits.sharing.fairness", "_limits.sharing.plan"),
    *("_cache.entry", "_cache.invalidation", "_cache.stats", "_cache.store"),
    "_cache.stores.invalidations",
    "_tables",
)
IMPURE = {
    *("aiohttp", "asyncio", "contextvars", "http", "io", "logging", "multidict", "multiprocessing", "os", "pathlib"),
    *("random", "secrets", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile", "tenacity"),
    *("threading", "time", "uuid", "yarl", "zoneinfo"),
}
CLOCKS = {"now", "utcnow", "today"}

_WIRE = (
    *("_session.transport", "_session.connection_pool", "_session.connections", "_session.connection_errors"),
    "_session.aiohttp_tuning",
)
_AIOHTTP = (*_WIRE, "sandbox", "testing.canned", "testing.live")
OWNERS: dict[str, tuple[str, ...]] = {
    "tenacity": ("_session.retry",),
    "aiohttp": _AIOHTTP,
    "multidict": _AIOHTTP,
    "redis": ("_limits.stores.redis_connection",),
    "opentelemetry": ("telemetry",),
}
"""The modules that alone may import a package at run time."""
TYPES_ONLY = {"aiohttp": ("client",), "multidict": ()}
"""The modules that may import a package for types, beside its owners."""
REQUIRED = {"aiohttp", "msgspec", "multidict", "tenacity", "yarl"}
"""The dependencies, and what aiohttp is made of."""
WITH_EXTRAS = ("cli", "telemetry", "testing")


class Import(NamedTuple):
    """One import, modules named without the package: ``_limits.pacing``."""

    importer: str
    imported: str
    where: str
    ours: bool
    for_types: bool = False
    in_function: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.importer or 'the package'} imports {self.imported or 'the package'}"


class Source(NamedTuple):
    """A module as it was read."""

    name: str
    file: str
    tree: ast.Module
    is_package: bool


@cache
def read(package: Path) -> list[Source]:
    """The modules of a package."""
    sources: list[Source] = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        file = path.relative_to(package.parent).as_posix()
        sources.append(Source(name, file, ast.parse(path.read_text(encoding="utf-8")), is_package))
    return sources


@cache
def imports_of(package: Path) -> list[Import]:
    """Every import in a package."""
    sources = read(package)
    modules = {source.name for source in sources}
    return [found for source in sources for found in _imports(source, package.name, modules)]


def _imports(source: Source, package: str, modules: set[str]) -> Iterator[Import]:
    for statement, for_types, in_function in _statements(source.tree):
        found: dict[Import, None] = {}
        for full in _targets(statement, source, package):
            ours = full == package or full.startswith(f"{package}.")
            name = full.removeprefix(package).removeprefix(".") if ours else full
            if ours and name not in modules:  # a name in a module, rather than a module
                name = name.rpartition(".")[0]
            found[Import(source.name, name, f"{source.file}:{statement.lineno}", ours, for_types, in_function)] = None
        yield from found


def _statements(
    node: ast.AST, *, for_types: bool = False, in_function: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom | ast.Call, bool, bool]]:
    if isinstance(node, (ast.Import, ast.ImportFrom)) or (isinstance(node, ast.Call) and _called(node)):
        yield node, for_types, in_function
    if isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING":
        for inner in node.body:
            yield from _statements(inner, for_types=True, in_function=in_function)
        for inner in node.orelse:
            yield from _statements(inner, for_types=for_types, in_function=in_function)
        return
    in_function = in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    for child in ast.iter_child_nodes(node):
        yield from _statements(child, for_types=for_types, in_function=in_function)


def _called(node: ast.Call) -> str | None:
    """The module that ``import_module("...")`` names."""
    if ast.unparse(node.func).rpartition(".")[2] not in {"import_module", "__import__"} or not node.args:
        return None
    name = node.args[0]
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None


def _targets(node: ast.Import | ast.ImportFrom | ast.Call, source: Source, package: str) -> Iterator[str]:
    if isinstance(node, ast.Call):
        yield _called(node) or ""
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
        base = node.module or ""
        if node.level:
            here = [package, *source.name.split(".")] if source.name else [package]
            up = here[: len(here) - node.level + source.is_package]
            base = ".".join([*up, base] if base else up)
        if part_of(base) == package:
            yield from (f"{base}.{alias.name}" for alias in node.names)
        else:
            yield base


def part_of(module: str) -> str:
    """The part that a module belongs to: the folder or file below the package."""
    return module.partition(".")[0]


def within(module: str, places: Iterable[str]) -> bool:
    """Whether a module is one of these, or in one of them."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


def forbidden(imports: Iterable[Import]) -> list[str]:
    """Imports that a part may not have of another."""
    broken: list[str] = []
    for found in imports:
        here, there = part_of(found.importer), part_of(found.imported)
        allowed = {here, "_version"} | MAY_IMPORT.get(here, set()) | MODULE_MAY_IMPORT.get(found.importer, set())
        if here not in MAY_IMPORT and here != "_version":
            broken.append(f"{found.where}: {here} is a new part; say in MAY_IMPORT what it may import")
        elif found.ours and there not in allowed:
            broken.append(f"{found}, which {here or 'the package'} may not")
    return broken


def cycle(imports: Iterable[Import]) -> str | None:
    """One cycle of imports between modules, types included."""
    edges = {(found.importer, found.imported): found for found in imports if found.ours}
    graph: dict[str, set[str]] = {}
    for importer, imported in edges:
        graph.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # graphlib lists each module before the one that imports it.
        path: list[str] = error.args[1][::-1]
        return "\n".join(str(edges[step]) for step in pairwise(path))
    return None


def impure(imports: Iterable[Import]) -> list[str]:
    """Imports of clocks, sockets and the like in modules that are pure."""
    return [
        f"{found}, but {found.importer} is pure"
        for found in imports
        if within(found.importer, PURE) and not found.ours and part_of(found.imported) in IMPURE
    ]


def clocks(package: Path) -> list[str]:
    """Calls in pure modules that read the clock by way of ``datetime``."""
    return [
        f"{source.file}:{node.lineno}: {ast.unparse(node)} reads the clock, but {source.name} is pure"
        for source in read(package)
        if within(source.name, PURE)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in CLOCKS
        and ast.unparse(node.value).rpartition(".")[2] in {"date", "datetime"}
    ]


def misplaced(imports: Iterable[Import]) -> list[str]:
    """Imports of packages outside the modules that own them, and of packages that are not dependencies."""
    broken: list[str] = []
    for found in imports:
        name = part_of(found.imported)
        if found.ours or name in sys.stdlib_module_names:
            continue
        owners = OWNERS.get(name)
        if owners and not within(found.importer, owners):
            if not (found.for_types and within(found.importer, TYPES_ONLY.get(name, ()))):
                broken.append(f"{found}, which is for {', '.join(owners)}")
        elif (
            name not in REQUIRED
            and not found.for_types
            and not found.in_function
            and not within(found.importer, WITH_EXTRAS)
        ):
            broken.append(f"{found}, which is an extra; import it inside a function")
    return broken


def test_parts_import_only_the_parts_below() -> None:
    broken = forbidden(imports_of(PACKAGE))
    assert not broken, "\n".join(broken)


def test_modules_have_no_import_cycle() -> None:
    """Not even for types."""
    found = cycle(imports_of(PACKAGE))
    assert found is None, f"a cycle of imports:\n{found}"


def test_pure_modules_know_no_clock_no_loop_no_socket() -> None:
    broken = impure(imports_of(PACKAGE)) + clocks(PACKAGE)
    assert not broken, "\n".join(broken)


def test_modules_that_say_so_are_pure() -> None:
    """What a pure module imports at run time of this package is pure as well, or a public module of values."""
    sources = read(PACKAGE)
    said = [source.name for source in sources if re.search(r"\bPure[.;:]", ast.get_docstring(source.tree) or "")]
    assert said
    assert [name for name in said if not within(name, PURE)] == []
    values = {"exceptions", "history", "rate_limits"}
    taken = (found for found in imports_of(PACKAGE) if found.ours and within(found.importer, PURE))
    assert not [str(found) for found in taken if not within(found.imported, {*PURE, *values}) and not found.for_types]


def test_the_architecture_page_draws_every_module() -> None:
    """Of the resources, one stands for all."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"[\w]+\.py", page.split("```")[1]))
    modules = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    assert drawn <= {path.name for path in modules}
    named = {path for path in modules if path.parent.name != "resources" and path.name != "__init__.py"}
    assert {path.as_posix() for path in named if path.name not in drawn} == set()


def test_packages_are_imported_where_they_belong() -> None:
    """tenacity by one module, aiohttp by a few and the sandbox, extras only where they are asked for."""
    broken = misplaced(imports_of(PACKAGE))
    assert not broken, "\n".join(broken)


def private_names(text: str) -> list[str]:
    """What users' code takes from private modules of the package."""
    taken = r"(?:from|import|:::)\s+(zenovay_async(?:\.\w+)*\._\w+|zenovay_async(?:\.\w+)*\s+import\s[^\n]*\b_[a-z]\w*)"
    return re.findall(taken, text)


def test_documentation_takes_nothing_from_private_modules() -> None:
    documents = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.py"), ROOT / "README.md"]
    broken = {path.name: found for path in documents if (found := private_names(path.read_text(encoding="utf-8")))}
    assert broken == {}


@pytest.mark.parametrize(
    "text",
    [
        "from zenovay_async._session.session import Session",
        "import zenovay_async._limits",
        "from zenovay_async import Zenovay, _session",
        "::: zenovay_async._protocol.response",
    ],
)
def test_a_private_module_in_documentation_is_named(text: str) -> None:
    assert len(private_names(f"# Usage\n{text}\n")) == 1
    assert private_names(text.replace("._", ".").replace(" _", " ")) == []


GOOD = {
    "__init__.py": "from house.client import Client",
    "client.py": "import typing\nimport house._session.session\nif typing.TYPE_CHECKING:\n    import aiohttp",
    "_session/__init__.py": "",
    "_session/session.py": "from house._limits import pacing\nfrom house import _version, exceptions",
    "_session/retry.py": "import tenacity",
    "_limits/__init__.py": "",
    "_limits/pacing.py": "import math\nfrom ..exceptions import Error",
    "_protocol/__init__.py": "",
    "_protocol/headers.py": "from datetime import datetime\nfrom ..exceptions import Error",
    "resources/__init__.py": "from .pages import Pages",
    "resources/pages.py": "from house._protocol.headers import parse",
    "cli.py": "from house import Client\nimport cyclopts",
    "tables.py": "def frame():\n    import polars",
    "exceptions.py": "import asyncio",
    "_version.py": "",
}


def house(folder: Path, **changed: str) -> Path:
    """A small package that keeps the rules, but for what is added to it."""
    package = folder / "house"
    for name, text in GOOD.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, text in changed.items():
        path = package / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


def problems(package: Path) -> list[str]:
    imports = imports_of(package)
    found = cycle(imports)
    return [*forbidden(imports), *impure(imports), *clocks(package), *misplaced(imports), *([found] if found else [])]


def test_a_package_that_keeps_the_rules_passes(tmp_path: Path) -> None:
    assert problems(house(tmp_path)) == []


@pytest.mark.parametrize(
    ("module", "text", "message"),
    [
        (
            "resources__pages",
            "import math\nfrom house._session.session import Session",
            "house/resources/pages.py:2: resources.pages imports _session.session, which resources may not",
        ),
        (
            "_limits__pacing",
            "def f():\n    from .._session import retry",
            "house/_limits/pacing.py:2: _limits.pacing imports _session.retry, which _limits may not",
        ),
        (
            "_protocol__headers",
            "import typing\nif typing.TYPE_CHECKING:\n    from house.client import Client",
            "house/_protocol/headers.py:3: _protocol.headers imports client, which _protocol may not",
        ),
        (
            "sandbox",
            "from importlib import import_module\nimport_module('house.exceptions')",
            "house/sandbox.py:2: sandbox imports exceptions, which sandbox may not",
        ),
        (
            "sandbox__own_responses",
            "from house._protocol import headers\nfrom house.resources import pages\nimport house.client",
            "house/sandbox/own_responses.py:3: sandbox.own_responses imports client, which sandbox may not",
        ),
        (
            "sandbox__server",
            "from house.resources import pages",
            "house/sandbox/server.py:1: sandbox.server imports resources.pages, which sandbox may not",
        ),
        (
            "telemetry",
            "import house.resources.pages",
            "house/telemetry.py:1: telemetry imports resources.pages, which telemetry may not",
        ),
        (
            "news",
            "import math",
            "house/news.py:1: news is a new part; say in MAY_IMPORT what it may import",
        ),
        (
            "_limits__outcome",
            "import math, time",
            "house/_limits/outcome.py:1: _limits.outcome imports time, but _limits.outcome is pure",
        ),
        (
            "_protocol__headers",
            "from asyncio.locks import Lock",
            "house/_protocol/headers.py:1: _protocol.headers imports asyncio.locks, but _protocol.headers is pure",
        ),
        (
            "_protocol__headers",
            "from datetime import UTC, datetime\n\nNOW = datetime.now(UTC)",
            "house/_protocol/headers.py:3: datetime.now reads the clock, but _protocol.headers is pure",
        ),
        (
            "_session__session",
            "import tenacity",
            "house/_session/session.py:1: _session.session imports tenacity, which is for _session.retry",
        ),
        (
            "cli",
            "import aiohttp",
            f"house/cli.py:1: cli imports aiohttp, which is for {', '.join(_AIOHTTP)}",
        ),
        (
            "tables",
            "import polars",
            "house/tables.py:1: tables imports polars, which is an extra; import it inside a function",
        ),
        (
            "exceptions",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.exceptions",
            "house/exceptions.py:3: exceptions imports exceptions",
        ),
    ],
)
def test_an_import_that_breaks_a_rule_is_named(tmp_path: Path, module: str, text: str, message: str) -> None:
    assert problems(house(tmp_path, **{module: text})) == [message]


def test_a_cycle_is_named_import_by_import(tmp_path: Path) -> None:
    package = house(
        tmp_path,
        _protocol__call="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .response import Response",
        _protocol__response="from house._protocol import headers\nfrom house._protocol.call import Call",
    )
    (found,) = problems(package)
    assert sorted(found.splitlines()) == [
        "house/_protocol/call.py:3: _protocol.call imports _protocol.response",
        "house/_protocol/response.py:2: _protocol.response imports _protocol.call",
    ]
