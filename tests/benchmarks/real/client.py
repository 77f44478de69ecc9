# ruff: noqa: T201 - its parent reads what it prints
"""A client in a process of its own, which may block its event loop, and trusts the certificates of its parent."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp

from zenovay_async import Zenovay, ZenovayError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


async def waves(
    *,
    key: str,
    port: int,
    scheme: str,
    waves: int,
    calls: int,
    gap: float,
    post: bool,
    delay: float,
    blocked: bool,
) -> dict[str, Any]:
    """Make calls in waves, each with a path of its own."""
    if delay:
        port = await relay(port, delay)
    errors, slowest = Counter[str](), 0.0
    async with Zenovay(key, base_url=f"{scheme}://localhost:{port}/api/external/v1", rate_limit=None) as zenovay:

        async def call(website: str) -> None:
            nonlocal slowest
            began = time.monotonic()
            try:
                await (zenovay.query(website, "How many?") if post else zenovay.heatmaps.pages(website))
            except ZenovayError as error:
                # Without the call, which is another one each time.
                errors[str(error).partition(" (")[0]] += 1
            slowest = max(slowest, time.monotonic() - began)

        for wave in range(waves):
            await asyncio.gather(*(call(f"{wave}-{number}") for number in range(calls)))
            if blocked:
                time.sleep(gap)  # noqa: ASYNC251 - a program that computes
            else:
                await asyncio.sleep(gap + random.uniform(-0.05, 0.05))
    return {"ok": waves * calls - errors.total(), "slowest_ms": 1000 * slowest, "errors": errors}


async def call(*, url: str, proxy: str | None = None) -> dict[str, Any]:
    """Make one call; return its outcome in words."""
    session = aiohttp.ClientSession(proxy=proxy) if proxy else None
    began = time.monotonic()
    async with Zenovay("zv_odd", base_url=url, session=session, timeout=10.0) as zenovay:
        try:
            outcome = f"{len((await zenovay.heatmaps.pages('site')).pages)} page"
        except ZenovayError as error:
            outcome = f"{type(error).__name__}, {error.attempts} attempts, {time.monotonic() - began:.1f} s: {error}"
    if session is not None:
        await session.close()
    return {"outcome": outcome}


async def relay(to: int, delay: float) -> int:
    """Relay to a port with a delay, as a long line has; return the port that it listens on."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop, data = asyncio.get_running_loop(), b"-"
        while data:
            try:
                data = await source.read(65536)
            except ConnectionError:
                data = b""
            loop.call_later(delay, deliver, target, data)

    def deliver(target: asyncio.StreamWriter, data: bytes) -> None:
        if data and not target.is_closing():
            target.write(data)
        else:
            target.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port


RUNS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {"waves": waves, "call": call}

if __name__ == "__main__":
    print(json.dumps(asyncio.run(RUNS[sys.argv[1]](**json.loads(sys.argv[2])))))
