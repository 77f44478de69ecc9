"""The visitors: each opens the top pages of three websites, and an overview of all three, at once."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

import aiohttp
import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .processes import Worker

VISITORS = 30
# No page takes longer than its calls, all of which have less.
_PATIENCE = aiohttp.ClientTimeout(total=120)


class Load(msgspec.Struct, frozen=True):
    """One page load: its status, 0 for no response, and how many seconds it took."""

    status: int
    seconds: float


class Loads(msgspec.Struct, frozen=True):
    """All page loads of a part of a run."""

    all: list[Load]

    @property
    def served(self) -> list[float]:
        """Seconds of those with a page, in order of length."""
        return sorted(load.seconds for load in self.all if load.status == 200)

    def percentile(self, share: float) -> float | None:
        """Seconds within which so many of the pages were served; ``None`` where none was."""
        served = self.served
        return served[math.ceil(share * len(served)) - 1] if served else None


async def visit(workers: Sequence[Worker], website_ids: Sequence[str], seconds: float = 0.0) -> Loads:
    """Let all visitors come within so many seconds, at even times; 0 for all at once."""
    paths = [
        *(f"/top-pages/{website_id}" for website_id in website_ids),
        f"/overview?website_ids={','.join(website_ids)}",
    ]
    start_at = time.monotonic()

    async def load(session: aiohttp.ClientSession, url: str) -> Load:
        began = time.monotonic()
        try:
            async with session.get(url) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        return Load(status, time.monotonic() - began)

    async def come(session: aiohttp.ClientSession, number: int) -> list[Load]:
        await asyncio.sleep(start_at + number * seconds / VISITORS - time.monotonic())
        url = workers[number % len(workers)].url
        return await asyncio.gather(*(load(session, url + path) for path in paths))

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=_PATIENCE) as session:
        each = await asyncio.gather(*(come(session, number) for number in range(VISITORS)))
    return Loads([load for loads in each for load in loads])
