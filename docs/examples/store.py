"""A custom store: processes share the budget of a key through a database of SQLite.

Run it, also several times at once, with: python docs/examples/store.py FILE WEBSITE_ID...
"""

import asyncio
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing

from zenovay_async import Zenovay
from zenovay_async.rate_limits import StoreChange


class SQLiteStore:
    """Keeps values in a database of SQLite; another one that has transactions serves several machines."""

    def __init__(self, path: str) -> None:
        self._path = path

    def update_nowait(self, name: str, change: StoreChange) -> bool:
        del name, change
        return False  # each update reads a file, which may take a while

    async def update(self, name: str, change: StoreChange) -> None:
        while True:
            version, value = await asyncio.to_thread(self._read, name)
            # In the thread of the event loop, as it is part of the limiter there.
            write = change(value, time.time())
            if write is None or await asyncio.to_thread(self._write, name, version, write.value):
                return

    async def listen(self, name: str, on_ring: Callable[[], None]) -> str:
        del name, on_ring
        return ""  # nobody is woken early

    async def aclose(self) -> None:
        """Nothing is held."""

    def _read(self, name: str) -> tuple[int, bytes | None]:
        with closing(sqlite3.connect(self._path)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS budgets (name TEXT PRIMARY KEY, version INTEGER, value BLOB)")
            database.execute("INSERT OR IGNORE INTO budgets VALUES (?, 0, NULL)", (name,))
            version, value = database.execute("SELECT version, value FROM budgets WHERE name = ?", (name,)).fetchone()
            return version, value

    def _write(self, name: str, version: int, value: bytes) -> bool:
        """Write a value, unless another one was written since it was read."""
        statement = "UPDATE budgets SET version = version + 1, value = ? WHERE name = ? AND version = ?"
        with closing(sqlite3.connect(self._path)) as database, database:
            return database.execute(statement, (value, name, version)).rowcount == 1


async def main(path: str, website_ids: list[str]) -> None:
    async with Zenovay(rate_limit_store=SQLiteStore(path)) as zenovay:
        print(f"{len(website_ids)} websites take {zenovay.estimate(len(website_ids)).seconds:.1f} s")
        async with zenovay.batch(website_ids, zenovay.heatmaps.pages) as results:
            async for result in results:
                print(result.item, len(result.value.pages) if result.error is None else result.error)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
