"""What pyproject.toml, the changelog and the files for contributors say of the package agrees with what there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]


def test_the_lowest_versions_that_are_tested_are_those_that_pyproject_allows() -> None:
    extras = PROJECT["optional-dependencies"].values()
    allowed = sorted([*PROJECT["dependencies"], *(requirement for extra in extras for requirement in extra)])
    lines = (ROOT / "tests" / "packaging" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    assert [line.replace("==", ">=") for line in lines if not line.startswith("#")] == allowed


def test_no_dependency_has_an_upper_bound() -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in (each for group in groups for each in group):
        assert re.fullmatch(r"[a-z-]+>=[\d.]+", requirement), requirement


def test_the_runtime_dependencies_are_three() -> None:
    assert sorted(name.partition(">")[0] for name in PROJECT["dependencies"]) == ["aiohttp", "msgspec", "tenacity"]


def test_every_python_of_the_classifiers_has_an_environment_of_tox() -> None:
    label = "Programming Language :: Python :: 3."
    versions = [name.removeprefix(label) for name in PROJECT["classifiers"] if name.startswith(label)]
    assert PROJECT["requires-python"] == f">=3.{versions[0]}"
    environments = [name for name in PYPROJECT["tool"]["tox"]["env_list"] if name.startswith("3.")]
    assert environments == [f"3.{version}" for version in versions]


def test_no_url_of_the_project_is_made_up() -> None:
    """The repository has no known address yet; one that does not exist would mislead."""
    assert set(PROJECT["urls"].values()) == {"https://docs.zenovay.com"}
