"""A store that counts its reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.rate_limits import Store, StoreChange, StoreWrite


class CountingStore:
    """Counts how often another store calls changes: once for each read and write, so also for each write that is lost.

    Attributes:
        operations: Reads and writes.
        worst_update: Reads and writes of one update, at most.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.operations = self.worst_update = 0

    def update_nowait(self, name: str, change: StoreChange) -> bool:
        return self._store.update_nowait(name, _Counted(self, change))

    async def update(self, name: str, change: StoreChange) -> None:
        await self._store.update(name, _Counted(self, change))

    async def listen(self, name: str, on_ring: Callable[[], None]) -> str:
        return await self._store.listen(name, on_ring)

    async def aclose(self) -> None:
        await self._store.aclose()


class _Counted:
    def __init__(self, store: CountingStore, change: StoreChange) -> None:
        self._store, self._change, self._calls = store, change, 0

    def __call__(self, value: bytes | None, now: float) -> StoreWrite | None:
        self._calls += 1
        self._store.operations += 1
        self._store.worst_update = max(self._store.worst_update, self._calls)
        return self._change(value, now)
