"""A run that ends early, in whatever way and at whatever moment, goes on and loses nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from kill_helpers import WAYS, Site, Worker, content, make_sandbox

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ["ndjson", "json", "csv", "table"]


@pytest.mark.parametrize("kind", FORMATS)
async def test_x(kind: str, tmp_path: Path) -> None:
    import time

    (tmp_path / "whole").mkdir()
    (tmp_path / "resumed").mkdir()
    with Worker() as worker:
        async with make_sandbox() as sandbox:
            t = time.monotonic()
            whole = Site(sandbox, worker, tmp_path / "whole", kind)
            ended = await whole.run()
            print(ended, time.monotonic() - t, sandbox.count())
            assert ended.code == 0
            for seed in range(10):
                rng = random.Random(seed)
                resumed = Site(sandbox, worker, tmp_path / "resumed", kind, name=f"results{seed}")
                before = sandbox.count()
                n = 0
                for way in rng.sample(list(WAYS), len(WAYS)):
                    if n and not resumed.partial.exists():
                        break
                    had = len(resumed.kept())
                    ended = await resumed.interrupt(way, rng, *(["--resume"] if n else []))
                    n += 1
                    print(seed, way, had, len(resumed.kept()), ended, sandbox.count() - before, time.monotonic() - t)
                for _ in range(3):
                    ended = await resumed.run("--resume")
                    print(seed, ended, sandbox.count() - before, time.monotonic() - t)
                    if ended.code == 0:
                        break
                print(
                    n,
                    content(whole.file, kind) == content(resumed.file, kind),
                    sandbox.count() - before <= 500 + 8 * n,
                    sorted(p.name for p in (tmp_path / "resumed").iterdir()),
                )
