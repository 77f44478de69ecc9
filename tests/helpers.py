"""Helpers of several test files: the root of the repository, a client with a key of its own, virtual time."""

from __future__ import annotations

import asyncio
import gc
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import settings
from looptime import LoopTimeEventLoop

from zenovay_async import Batch, Zenovay
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp import web
    from aioresponses import aioresponses

ROOT = Path(__file__).parent.parent
URL = f"{DEFAULT_BASE_URL}/heatmaps/x/pages"
"""The address of a call of ``heatmaps.pages("x")``."""

_numbers = itertools.count()
_Parameters = TypeVar("_Parameters")


def unique_key() -> str:
    """A key that no other test has, as clients of one key share its limits."""
    return f"zv_test_{next(_numbers)}"


def make_client(**options: Any) -> Zenovay:
    """A client with a key of its own; not paced unless ``rate_limit`` is given."""
    options.setdefault("rate_limit", None)
    return Zenovay(unique_key(), **options)


def batch(items: Any, fetch: Any, concurrency: int = 4, **options: Any) -> Batch[Any, Any]:
    """A batch of a client that sends nothing."""
    return Zenovay("zv_test").batch(items, fetch, concurrency=concurrency, **options)


async def double(item: int) -> int:
    """Fetch an item, in place of a call."""
    await asyncio.sleep(0)
    return item * 2


def is_thorough() -> bool:
    """Whether tests take their time: with ``--hypothesis-profile=thorough``."""
    return settings.get_current_profile_name() == "thorough"


def examples(count: int) -> int:
    """How many examples a hypothesis test has: all if it is thorough, else a tenth."""
    return count if is_thorough() else max(1, count // 10)


def sample(parameters: Iterable[_Parameters]) -> list[_Parameters]:
    """The parameters that a test has: all if it is thorough, else every seventh."""
    return list(parameters)[:: 1 if is_thorough() else 7]


class Held:
    """A fault that holds requests until they are released.

    Attributes:
        arrived: Requests that came.
        released: To be set.
    """

    def __init__(self) -> None:
        self.arrived = 0
        self.released = asyncio.Event()
        self.fault = Fault("held", self._respond)

    async def _respond(self, _: web.Request) -> None:
        self.arrived += 1
        await self.released.wait()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until other tasks, or a server, have made a condition true, however slow the machine."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - none of the tasks sets an event
            await asyncio.sleep(0.001)


def now() -> float:
    """The time of the event loop."""
    return asyncio.get_running_loop().time()


def python_blocks(page: str) -> dict[str, list[str]]:
    """The Python blocks of a page in ``docs/``, by the heading that they stand under."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    parts = re.split(r"^##+ (.+)$", text, flags=re.MULTILINE)
    return {
        title: found
        for title, section in zip(parts[1::2], parts[2::2], strict=True)
        if (found := re.findall(r"```python\n(.+?)```", section, re.DOTALL))
    }


def objects_of(*types: type) -> list[Any]:
    """The objects of these types that the garbage collector knows, of all tests of this process."""
    # isinstance() would ask an object for its class, on which lazy ones of other packages do what they put off.
    return [found for found in gc.get_objects() if issubclass(type(found), types)]


def hold_up(seconds: float) -> None:
    """Let virtual time pass as if a callback kept the loop busy: all timers due by then fire in one iteration."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LoopTimeEventLoop)
    loop.setup_looptime(start=loop.time() + seconds)


def requests_sent(canned: aioresponses) -> int:
    """The requests that reached the canned responses."""
    return sum(len(calls) for calls in canned.requests.values())
