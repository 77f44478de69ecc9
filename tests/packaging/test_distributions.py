"""Wheel and source distribution: what is in them, and that the wheel works by itself in an empty environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EPOCH = "1700000000"

PROBE = """
import importlib, pathlib, pkgutil, sys
import zenovay_async

assert pathlib.Path(zenovay_async.__file__).is_relative_to(sys.prefix), zenovay_async.__file__
for module in pkgutil.walk_packages(zenovay_async.__path__, "zenovay_async."):
    if module.name.rpartition(".")[2] != "__main__":
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name.split(".")[1], error.name.partition(".")[0])
"""

LIST_IDS = """
import asyncio
from zenovay_async import Zenovay

async def main():
    async with Zenovay() as zenovay:
        print(*(site.id for site in (await zenovay.websites.list()).websites))

asyncio.run(main())
"""


class Distributions:
    """What was built.

    Attributes:
        sdist: The source distribution.
        wheel: The wheel built from it.
        wheel_of_tree: The wheel built from the tree.
    """

    def __init__(self, source: Path, target: Path, epoch: str = EPOCH) -> None:
        # Without isolation: the build backend is a dependency of these tests, and is not downloaded for each build.
        build = [sys.executable, "-m", "build", "--no-isolation"]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
        run([*build, "--outdir", str(target), str(source)], env=environment)
        run([*build, "--wheel", "--outdir", str(target / "tree"), str(source)], env=environment)
        (self.sdist,) = target.glob("*.tar.gz")
        (self.wheel,) = target.glob("*.whl")
        (self.wheel_of_tree,) = (target / "tree").glob("*.whl")


def run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None, ok: int = 0) -> str:
    """Run a command; returns what it printed."""
    done = subprocess.run(  # noqa: S603 - our own commands
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == ok, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    return Distributions(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory, built: Distributions) -> Path:
    """A folder outside the tree, with an environment in which only the wheel and its dependencies are installed."""
    folder = tmp_path_factory.mktemp("empty")
    run([sys.executable, "-m", "venv", str(folder / "venv")])
    python_of(folder, "-m", "pip", "install", "--quiet", "--no-compile", str(built.wheel))
    return folder


@pytest.fixture(scope="session")
def settings(empty: Path) -> Iterator[dict[str, str]]:
    """The settings that the sandbox of the installed package prints for programs."""
    with subprocess.Popen(  # noqa: S603 - our own command
        [str(executable(empty, "python")), "-m", "zenovay_async.sandbox", "--port", "0", "--rate-limit", "10000"],
        cwd=empty,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as sandbox:
        try:
            assert sandbox.stdout is not None
            exports = [sandbox.stdout.readline().removeprefix("export ").strip() for _ in range(2)]
            yield dict(line.split("=", 1) for line in exports)
        finally:
            sandbox.terminate()


def executable(folder: Path, name: str) -> Path:
    return folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / name


def clean_environment() -> dict[str, str]:
    """The environment without what would lead programs to the tree, or to another API."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ZENOVAY_"))}


def python_of(folder: Path, *arguments: str, settings: dict[str, str] | None = None, ok: int = 0) -> str:
    command = [str(executable(folder, "python")), *arguments]
    return run(command, cwd=folder, env={**clean_environment(), **(settings or {})}, ok=ok)


def files_of_tree() -> dict[str, bytes]:
    """The files of the package, by their names in the wheel."""
    package = ROOT / "zenovay_async"
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    files.append(ROOT / "_zenovay_async_pytest.py")
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files}


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_package_the_plugin_and_nothing_else(built: Distributions) -> None:
    held = contents(built.wheel)
    described = {name: held.pop(name) for name in list(held) if ".dist-info/" in name}
    assert held == files_of_tree()
    assert "zenovay_async/py.typed" in held
    names = {name.partition(".dist-info/")[2] for name in described}
    assert names == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_the_wheel_of_the_source_distribution_is_that_of_the_tree(built: Distributions) -> None:
    assert contents(built.wheel) == contents(built.wheel_of_tree)


def test_the_source_distribution_holds_tests_and_documentation_and_nothing_made(built: Distributions) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers()}
    assert names >= {*files_of_tree(), "PKG-INFO", "Makefile", "LICENSE", "CHANGELOG.md", "tests/conftest.py"}
    assert {name.partition("/")[0] for name in names if "/" in name} == {"zenovay_async", "tests", "docs"}
    assert [name for name in names if re.search(r"__pycache__|\.py[co]$|/(site|dist|\.hypothesis)/", name)] == []


def test_the_wheel_requires_three_packages_unless_an_extra_is_asked_for(built: Distributions) -> None:
    (metadata,) = [content for name, content in contents(built.wheel).items() if name.endswith("/METADATA")]
    required: list[str] = message_from_bytes(metadata).get_all("Requires-Dist") or []
    always = [re.split(r"[<>=]", each)[0] for each in required if "extra ==" not in each]
    assert sorted(always) == ["aiohttp", "msgspec", "tenacity"]


def test_an_index_accepts_metadata_and_readme(built: Distributions) -> None:
    run([sys.executable, "-m", "twine", "check", "--strict", str(built.sdist), str(built.wheel)])


def test_a_build_elsewhere_and_later_is_byte_for_byte_the_same(built: Distributions, tmp_path: Path) -> None:
    source = tmp_path / "elsewhere"
    ignored = shutil.ignore_patterns(".git", ".tox", ".venv", ".*_cache", "site", "dist", "sbom", "__pycache__")
    # The copies get times of their own.
    shutil.copytree(ROOT, source, ignore=ignored, copy_function=shutil.copyfile)
    again = Distributions(source, tmp_path / "dist")
    for one, other in ((built.sdist, again.sdist), (built.wheel, again.wheel), (built.wheel_of_tree, again.wheel)):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_every_module_of_the_installed_wheel_imports_but_for_those_of_extras(empty: Path) -> None:
    missing = set(python_of(empty, "-W", "error", "-c", PROBE).splitlines())
    assert missing == {"cli cyclopts", "cli rich", "telemetry opentelemetry"}


def test_the_program_of_the_readme_runs_with_the_installed_wheel(empty: Path, settings: dict[str, str]) -> None:
    lines = python_of(empty, "-c", first_program_of_the_readme(), settings=settings).splitlines()
    assert len(lines) > 200
    assert re.fullmatch(r"\S+ \S+ \d+ \d{4}-.*", lines[0])


def test_the_installed_wheel_fetches_many_websites(empty: Path, settings: dict[str, str]) -> None:
    ids = python_of(empty, "-c", LIST_IDS, settings=settings).split()
    program = (ROOT / "docs" / "examples" / "heatmaps.py").read_text(encoding="utf-8")
    lines = python_of(empty, "-c", program, *ids, settings=settings).splitlines()
    assert len(ids) == 200
    assert {line.split()[0] for line in lines} >= set(ids)
    assert not [line for line in lines if "failed" in line]


def test_the_command_line_without_its_extra_says_what_to_install(empty: Path) -> None:
    said = run([str(executable(empty, "zenovay-async")), "usage"], cwd=empty, env=clean_environment(), ok=2)
    assert said == "zenovay-async: the command line needs an extra: pip install 'zenovay-async[cli]'\n"


def first_program_of_the_readme() -> str:
    program = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    return program[1]
