# ruff: noqa: T201 - it prints its result
"""How many steps of the interpreter one call takes, by whose code they are: the same on a fast machine and a slow one.

A step is one instruction of Python's byte code. What C code does is not in it, so it stands beside the measured CPU
time, and does not replace it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from .cached import EVERY

if TYPE_CHECKING:
    from types import FrameType

_WARM_UP, _CALLS = 50, 200
_OWNERS = ("zenovay_async", "aiohttp", "opentelemetry")


def _owner(frame: FrameType) -> str:
    parts = PurePath(frame.f_code.co_filename).parts
    return next((name for name in _OWNERS if name in parts), "other")


async def count(contender: str, url: str) -> dict[str, int]:
    """Steps of the median call, by whose code they are: this package's, that of what it uses, and all others'.

    Not of the average one, as a few calls have more to do: on a slow machine, more of them look for new fields.
    """
    calls: list[dict[str, int]] = []
    steps: Counter[str] = Counter()
    owners: dict[object, str] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode":
            owner = owners.get(frame.f_code)
            if owner is None:
                owner = owners[frame.f_code] = _owner(frame)
            steps[owner] += 1
        return trace

    async with EVERY[contender].open(url) as fetch:
        for number in range(_WARM_UP):
            await fetch(f"site-{number}", 20)

        async def many() -> None:
            for number in range(_CALLS):
                await fetch(f"site-{number}", 20)
                calls.append(dict(steps))
                steps.clear()

        # A task of its own, as a trace function holds for frames that begin under it. Python 3.12 looks only here
        # whether any frame wants to hear of single steps.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(trace)
        try:
            await asyncio.create_task(many())
        finally:
            sys.settrace(None)
    return sorted(calls, key=lambda call: sum(call.values()))[_CALLS // 2]


def main() -> None:
    """Count, and print the result as JSON."""
    options = argparse.ArgumentParser()
    options.add_argument("contender", choices=EVERY)
    options.add_argument("url")
    given = options.parse_args()
    print(msgspec.json.encode(asyncio.run(count(given.contender, given.url))).decode())


if __name__ == "__main__":
    main()
