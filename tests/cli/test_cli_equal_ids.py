"""Equal IDs and a parameter that is wrong for all: one request, and no thousand failures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cli_helpers import IDS, is_summary, results_in, run_at

from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from zenovay_async.sandbox import Sandbox


async def test_equal_ids_are_requested_once_and_each_gets_the_result(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text("\n".join([IDS[0], IDS[1], IDS[0]]))
    done = await run_at(sandbox, IDS[0], IDS[2], "--ids-from", str(file), "--format", "ndjson")
    assert done.returncode == 0
    assert is_summary(done.stderr, 5)
    found = [json.loads(line)["website_id"] for line in done.stdout.splitlines()]
    assert sorted(found) == sorted([*IDS, IDS[0], IDS[0]])
    assert sandbox.count() == 3


async def test_an_invalid_id_that_occurs_twice_fails_twice(sandbox: Sandbox) -> None:
    done = await run_at(sandbox, "id", IDS[0], "id", "--format", "ndjson")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(", 2 failed")
    assert sandbox.count() == 1


async def test_a_parameter_that_is_wrong_for_every_website_ends_the_run_as_invalid_usage(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.status(400, "Unknown range", "VALIDATION_ERROR"))
    ids = [f"website-{number}" for number in range(100)]
    done = await run_at(sandbox, *ids, "--format", "ndjson")
    assert (done.returncode, results_in(done.stdout)) == (2, [])
    assert done.stderr.splitlines()[-1].startswith("zenovay-async: Unknown range")
    assert "stopped: " in done.stderr
    assert sandbox.count() < 30
