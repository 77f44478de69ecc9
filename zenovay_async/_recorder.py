"""What a batch keeps in its journal, and takes from it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.journal import Journal, JournalEntry

ItemT = TypeVar("ItemT")


class Recorder(Generic[ItemT]):
    """Records what is done. A result that the journal keeps is done once it is fetched; another, once it is handled.

    A consumer has handled a result when it asks for the next one, or leaves the batch without an error. Were it done
    before, a process that is killed meanwhile would lose it: a later run would skip the item.

    Args:
        journal: The journal.
        key: Called with an item; returns the text by which the journal knows it.
    """

    def __init__(self, journal: Journal, key: Callable[[ItemT], str]) -> None:
        self._journal = journal
        self._key = key
        self.keeps_values = journal.keeps_values
        # Fetched, and not handled yet; and what each consumer has.
        self._pending: set[str] = set()
        self._handed_out: dict[asyncio.Task[Any] | None, str] = {}

    def key_of(self, item: ItemT) -> str:
        """The key of an item."""
        return self._key(item)

    def open(self) -> None:
        """Open the journal.

        Raises:
            ConfigurationError: It is of another run, or no journal, or in use.
        """
        self._journal.__enter__()

    def close(self) -> None:
        """Close the journal."""
        self._journal.__exit__(None, None, None)

    def find_done(self, key: str) -> JournalEntry | None:
        """The entry of an item that is done; ``None`` if it is to be fetched."""
        entry = self._journal.find(key)
        return entry if entry is not None and entry.state == "done" else None

    def is_pending(self, key: str) -> bool:
        """Whether an equal item was fetched in this run, and its result is not handled yet."""
        return key in self._pending

    def record(self, key: str, value: Any, error: Exception | None) -> None:
        """Record the result of an item that was fetched."""
        if error is not None:
            self._journal.record_failure(key, error)
        elif self.keeps_values:
            self._journal.record_success(key, value)
        else:
            self._pending.add(key)

    def hand_out(self, item: ItemT) -> None:
        """Note that the running task gets the result of an item."""
        if not self.keeps_values and (key := self._key(item)) in self._pending:
            self._handed_out[asyncio.current_task()] = key

    def record_handled(self) -> None:
        """Record that the running task has handled its last result."""
        key = self._handed_out.pop(asyncio.current_task(), None)
        if key is not None:
            self._pending.discard(key)
            self._journal.record_success(key, None)

    def record_all_handled(self) -> None:
        """Record that every task has handled its last result."""
        while self._handed_out:
            _, key = self._handed_out.popitem()
            self._journal.record_success(key, None)
