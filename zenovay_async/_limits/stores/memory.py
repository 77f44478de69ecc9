"""MemoryStore: values in this process, for a limiter whose store is lost."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.rate_limits import StoreChange


class MemoryStore:
    """Keeps values in memory, for those that have this object.

    Args:
        clock: The time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._values: dict[str, bytes] = {}
        self._listeners: dict[str, Callable[[], None]] = {}
        self._numbers = itertools.count(1)

    def update_nowait(self, name: str, change: StoreChange) -> bool:
        """Change a value; returns ``True``."""
        write = change(self._values.get(name), self._clock())
        if write is None:
            return True
        self._values[name] = write.value
        for address in write.ring:
            listener = self._listeners.get(address)
            if listener is not None:
                asyncio.get_running_loop().call_soon(listener)
        return True

    async def update(self, name: str, change: StoreChange) -> None:
        """Change a value."""
        self.update_nowait(name, change)

    async def listen(self, name: str, on_ring: Callable[[], None]) -> str:
        """Call a function whenever another one rings; returns the address at which it does."""
        address = f"{name}.{next(self._numbers)}"
        self._listeners[address] = on_ring
        return address

    async def aclose(self) -> None:
        """End all listening; the values stay."""
        self._listeners.clear()
