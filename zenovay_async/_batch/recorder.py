"""What a batch keeps in its journal, and takes from it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from zenovay_async._batch.results import Success
from zenovay_async.journal import check_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._batch.fetcher import Fetcher
    from zenovay_async._batch.results import BatchResult
    from zenovay_async.journal import Journal

ItemT = TypeVar("ItemT")
T = TypeVar("T")


class Recorder(Generic[ItemT, T]):
    """Records what is done. A result that the journal keeps is done once it is fetched; another, once it is handled.

    A consumer has handled a result when its task asks for the next one, ends without an error, or leaves the batch
    without one. Were it done before, a process that is killed meanwhile would lose it: a later run would skip the item.

    Args:
        journal: The journal.
        key: Called with an item; returns the text by which the journal knows it.
        fetcher: Fetches what is not done.
        fail: Called with the error if something cannot be recorded; what was fetched is handed out all the same.
    """

    def __init__(
        self,
        journal: Journal,
        key: Callable[[ItemT], str],
        fetcher: Fetcher[ItemT, T],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._journal = journal
        self._key = key
        self._fetcher = fetcher
        self._fail = fail
        # Fetched, and not handled yet; and which of these each consumer has.
        self._pending: set[str] = set()
        self._handed_out: dict[asyncio.Task[Any] | None, str] = {}

    def open(self) -> None:
        """Open the journal.

        Raises:
            ConfigurationError: It is of another run, or no journal, or in use.
        """
        self._journal.__enter__()

    def close(self, *, is_handled: bool) -> Exception | None:
        """Close the journal.

        Args:
            is_handled: Whether the running task has handled what it has.

        Returns:
            The error, if something cannot be recorded.
        """
        handed_out, self._handed_out = self._handed_out, {}
        own = asyncio.current_task()
        try:
            for task, key in handed_out.items():
                if is_handled and (task is own or _has_succeeded(task)):
                    self._journal.record_success(key, None)
        except Exception as error:  # noqa: BLE001 - raised at the end of the block
            return error
        finally:
            self._journal.__exit__(None, None, None)
        return None

    def key_of(self, item: ItemT) -> str:
        """The text by which the journal knows an item; called once, as ``fetch`` may change the item.

        Raises:
            ConfigurationError: It is no str.
        """
        return check_key(self._key(item))

    def is_skipped(self, key: str) -> bool:
        """Whether an item is done, and its result is not kept."""
        if self._journal.keeps_values:
            return False
        return key in self._pending or self._is_done(key)

    async def replay_or_fetch(self, item: ItemT, key: str) -> BatchResult[ItemT, T] | None:
        """The result of an item, of an earlier run or of this one; ``None`` if an equal one stopped the batch."""
        journal = self._journal
        if journal.keeps_values and (entry := journal.find(key)) is not None and entry.state == "done":
            return Success(item, cast("T", entry.value), replayed=True)
        # By the key of the journal, as two items of one key are one row.
        return await self._fetcher.fetch_or_join(item, (str, key), lambda item: self._fetch_and_record(item, key))

    def hand_out(self, key: str) -> None:
        """Note that the running task gets the result of an item."""
        if key in self._pending:
            self._handed_out[asyncio.current_task()] = key

    def record_handled(self) -> None:
        """Record that the running task has handled its last result, and what tasks had that have ended since."""
        handed_out, own = self._handed_out, asyncio.current_task()
        for task in [task for task in handed_out if task is own or _is_done(task)]:
            key = handed_out.pop(task)
            self._pending.discard(key)
            if task is own or _has_succeeded(task):
                self._record(key, Success(None, None))

    async def _fetch_and_record(self, item: ItemT, key: str) -> BatchResult[ItemT, T]:
        result = await self._fetcher.fetch(item)
        if result.error is None and not self._journal.keeps_values:
            self._pending.add(key)
        else:
            self._record(key, result)
        try:
            return result
        finally:
            # The frames of its error lead to this one.
            del result

    def _record(self, key: str, result: BatchResult[Any, Any]) -> None:
        try:
            if result.error is None:
                self._journal.record_success(key, result.value)
            else:
                self._journal.record_failure(key, result.error)
        except Exception as error:  # noqa: BLE001 - raised once what was fetched is handed out
            self._fail(error)

    def _is_done(self, key: str) -> bool:
        entry = self._journal.find(key)
        return entry is not None and entry.state == "done"


def _is_done(task: asyncio.Task[Any] | None) -> bool:
    return task is not None and task.done()


def _has_succeeded(task: asyncio.Task[Any] | None) -> bool:
    """Whether a consumer ended without an error, such as one that gets and handles a single result."""
    return task is not None and task.done() and not task.cancelled() and task.exception() is None
