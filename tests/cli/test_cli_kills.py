"""A run that ends early, in whatever way and at whatever moment, goes on and loses nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from helpers import is_thorough
from kill_helpers import FORMATS, WAYS, Worker, check_chain, make_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as running:
        yield running


@pytest.mark.parametrize("kind", FORMATS)
async def test_a_run_that_is_ended_in_every_way_goes_on_to_the_same_file(
    kind: str, tmp_path: Path, worker: Worker
) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow: pip install 'zenovay-async[parquet]'")
    # One after the other: all ways, or each for one or two formats. A database waits for the disk after each result.
    count = len(WAYS) if is_thorough() else 1 if kind == "sqlite" else 2
    ways = [list(WAYS)[(2 * FORMATS.index(kind) + number) % len(WAYS)] for number in range(count)]
    async with make_sandbox() as sandbox:
        for _ in range(2 if is_thorough() and kind != "sqlite" else 1):
            seed = random.randrange(2**32)
            # Shown if it fails: python -m tests.benchmarks.nightly --seed SEED tries the same moments again.
            print(f"seed={seed}")  # noqa: T201 - pytest shows it where the test fails
            await check_chain(sandbox, worker, tmp_path, kind, ways, seed)
