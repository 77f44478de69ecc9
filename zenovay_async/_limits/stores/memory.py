"""A store in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.rate_limits import Change


class MemoryStore:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._values: dict[str, bytes] = {}

    def update_nowait(self, name: str, change: Change) -> bool:
        write = change(self._values.get(name), self._clock())
        if write is not None:
            self._values[name] = write.value
        return True

    async def update(self, name: str, change: Change) -> None:
        self.update_nowait(name, change)

    async def listen(self, name: str, on_ring: Callable[[], None]) -> str:
        return ""

    async def aclose(self) -> None:
        pass
