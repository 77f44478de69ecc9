"""A run that ends early, in whatever way and at whatever moment, goes on and loses nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from helpers import is_thorough
from kill_helpers import FORMATS, WAYS, WEBSITES, check_chain, make_sandbox

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", FORMATS)
async def test_a_run_that_is_ended_in_every_way_goes_on_to_the_same_file(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow: pip install 'zenovay-async[parquet]'")
    # One after the other; all ways for each format, or each way for one or two formats.
    count = len(WAYS) if is_thorough() else 2
    ways = [list(WAYS)[(FORMATS.index(kind) + 2 * number) % len(WAYS)] for number in range(count)]
    async with make_sandbox(WEBSITES if is_thorough() and kind == "ndjson" else 100) as sandbox:
        seed = random.randrange(2**32)
        # Shown if it fails.
        print(f"seed={seed}")  # noqa: T201 - by pytest
        await check_chain(sandbox, tmp_path, kind, ways, seed)
