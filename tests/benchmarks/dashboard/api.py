# ruff: noqa: T201 - its parent reads what it prints
"""The API: a sandbox in a process of its own; run as ``python -m tests.benchmarks.dashboard.api SETTINGS``.

It prints where it listens, and what it counted after each command on its standard input, with whose end it ends.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from zenovay_async.sandbox import Fault, Sandbox

from .settings import ApiSettings, ApiStarted, Command, Counted

WEBSITES = 3


async def main(settings: ApiSettings) -> None:
    """Serve until the input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    sandbox = Sandbox(
        websites=WEBSITES,
        api_key=settings.api_key,
        port=settings.port,
        rate_limit=settings.limit,
        # No window begins in the middle of a run, which would let more through.
        rate_limiter="sliding",
        latency=settings.fastest,
        jitter=settings.slowest - settings.fastest,
    )
    async with sandbox:
        port = int(sandbox.url.split(":")[2].partition("/")[0])
        show(ApiStarted(sandbox.url, port, list(sandbox.website_ids)))
        while line := await reader.readline():
            command = msgspec.json.decode(line, type=Command)
            if command == "fail":
                sandbox.fault(Fault.status(503))
            elif command == "recover":
                sandbox.clear_faults()
            show(Counted(sandbox.count(), sandbox.count(status=429)))


def show(result: msgspec.Struct) -> None:
    print(msgspec.json.encode(result).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=ApiSettings)))
