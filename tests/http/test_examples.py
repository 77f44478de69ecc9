"""The programs that the documentation shows run as they are."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from typing import TYPE_CHECKING

import pytest
from helpers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from zenovay_async.sandbox import Sandbox

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


async def run(sandbox: Sandbox, *command: str) -> str:
    """Run Python with the sandbox's address and key; returns what it printed."""
    settings = {"ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-X",
        "dev",
        *command,
        env={**os.environ, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert errors.decode() == ""
    assert process.returncode == 0
    return out.decode()


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.stem for example in EXAMPLES])
async def test_every_example_runs_without_a_warning(sandbox: Sandbox, tmp_path: Path, example: Path) -> None:
    arguments = {
        "limiter": sandbox.website_ids,
        "customers": [sandbox.api_key, sandbox.add_key("second", plan="pro")],
        "heatmaps": sandbox.website_ids,
        "report": [],
        "store": [str(tmp_path / "budget.db"), *sandbox.website_ids],
        "visitors": sandbox.website_ids[:1],
    }
    printed = await run(sandbox, str(example), *arguments[example.stem])
    assert len(printed.splitlines()) >= 2


async def test_the_first_program_of_the_readme_runs_without_a_warning(sandbox: Sandbox, tmp_path: Path) -> None:
    program = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    script = tmp_path / "readme.py"
    script.write_text(program)
    assert "/pricing" in await run(sandbox, str(script))
