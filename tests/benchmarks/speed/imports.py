"""What an import costs, in new processes: CPU time of the import, without the interpreter's own start."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

BASE = "aiohttp, msgspec"
# The package imports what is used of it; this is for from zenovay_async import Zenovay.
OURS = "zenovay_async.client"
MODULES = [OURS, "httpx", "openai"]
_CODE = "import time; began = time.process_time(); import {}; print(1000 * (time.process_time() - began))"


class Import(msgspec.Struct, frozen=True):
    """One import: ms of CPU with its spread, and what it adds to the import of aiohttp and msgspec."""

    modules: str
    cpu: float
    lowest: float
    highest: float
    added: float


def measure(rounds: int = 9, modules: Sequence[str] = MODULES) -> tuple[list[Import], list[str]]:
    """Import each in rotation; returns the results and what was left out."""
    missing = [name for name in modules if not find_spec(name)]
    names = [BASE, *(name for name in modules if name not in missing)]
    with tempfile.TemporaryDirectory() as cache:
        # The first round writes the bytecode, for each of them to the same place whatever the environment says about
        # that, and does not count.
        rotations = [{name: _import(name, cache) for name in names} for _ in range(rounds + 1)][1:]
    results: list[Import] = []
    for name in names:
        costs = sorted(rotation[name] for rotation in rotations)
        added = statistics.median(rotation[name] - rotation[BASE] for rotation in rotations)
        results.append(Import(name, statistics.median(costs), costs[0], costs[-1], added))
    return results, [f"The import of {name} is left out: not installed" for name in missing]


def _import(modules: str, cache: str) -> float:
    command = [sys.executable, "-c", _CODE.format(modules)]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603 - as above
    return float(done.stdout)
