"""The items of a batch, handed to many workers, each item once; equal items are recognized."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Hashable, Iterable, Mapping, ValuesView
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeGuard, TypeVar

from zenovay_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

ItemT = TypeVar("ItemT")

Key: TypeAlias = tuple[type, Hashable]
"""What equal items have in common."""


class End(Enum):
    """The end of the items."""

    END = "no more items"


def key_of(item: object) -> Key | None:
    """The key of an item; ``None`` if it cannot be compared with others. 1, 1.0 and True are not equal here."""
    kind: type = type(item)
    value: Any = item
    if isinstance(item, tuple):
        value = tuple(map(key_of, value))
        if None in value:
            return None
    try:
        hash(value)
    except Exception:  # noqa: BLE001 - code of the caller's, and no reason to fail
        return None
    return kind, value


class ItemSource(Generic[ItemT]):
    """Hands out the items of any iterable.

    In a collection, items that equal an earlier one are not handed out; :meth:`take_copies` returns them with the
    first. Of any other iterable, each item is handed out.

    Args:
        items: An iterable or asynchronous iterable.

    Attributes:
        waits: Whether the next item may have to be awaited, with :meth:`take`; else :meth:`take_now` is faster.
        has_copies: Whether a collection has equal items.
        is_lazy: Whether the items are not all known, so that equal ones are to be found by the workers.
        ended: Whether no further item is handed out.
        size: Number of items in a collection; ``None`` where that is not known.

    Raises:
        ConfigurationError: ``items`` is something else.
    """

    def __init__(self, items: Iterable[ItemT] | AsyncIterable[ItemT]) -> None:
        self.is_lazy = True
        self.ended = False
        self.size: int | None = None
        self._lock = asyncio.Lock()
        self._taking: set[asyncio.Task[Any] | None] = set()
        self._now: Iterator[ItemT] = iter(())
        self._later: AsyncIterator[ItemT] | None = None
        self._owned: AsyncIterator[ItemT] | None = None
        self._copies: dict[Key, list[ItemT]] = {}
        self._handed_out: dict[Key, int] = {}
        if isinstance(items, AsyncIterable):
            self._later = aiter(items)
            # Another iterator, such as a stream, may serve its owner afterwards.
            if self._later is not items or isinstance(items, AsyncGenerator):
                self._owned = self._later
        elif isinstance(items, Iterable):
            if is_collection(items):
                self.is_lazy = False
                self.size = len(items)
                self._copies = _find_copies(items)
            self._now = iter(items)
        else:
            raise ConfigurationError(f"items={items!r}: expected an iterable or an asynchronous iterable")
        self.waits = self._later is not None
        self.has_copies = bool(self._copies)

    def take_now(self) -> ItemT | End:
        """The next item of an iterable, or ``END``; an error of the source is raised once and ends it."""
        if self.ended:
            return End.END
        try:
            item = next(self._now, End.END)
            while self._handed_out and item is not End.END and self._was_handed_out(item):
                item = next(self._now, End.END)
        except asyncio.CancelledError as error:
            self.ended = True
            raise _source_canceled(error) from error
        except Exception:
            self.ended = True
            raise
        return item

    def take_copies(self, item: ItemT) -> list[ItemT]:
        """The items of a collection that equal the one that was just taken; they are not handed out any more."""
        key = key_of(item)
        copies = None if key is None else self._copies.pop(key, None)
        if key is None or copies is None:
            return []
        self._handed_out[key] = len(copies)
        return copies

    async def take(self) -> ItemT | End:
        """The next item of an asynchronous iterable; otherwise like :meth:`take_now`."""
        task = asyncio.current_task()
        self._taking.add(task)
        try:
            # An asynchronous generator raises if two workers await it at once.
            async with self._lock:
                if self.ended or self._later is None:
                    return End.END
                item = await anext(self._later)
                return End.END if self.ended else item
        except StopAsyncIteration:
            self.ended = True
            return End.END
        except asyncio.CancelledError as error:
            if is_canceled_from_outside():
                raise
            self.ended = True
            raise _source_canceled(error) from error
        except Exception:
            self.ended = True
            raise
        finally:
            self._taking.discard(task)

    def end(self) -> None:
        """Hand out no further item, and cancel the workers that wait for one."""
        self.ended = True
        for task in self._taking:
            if task is not None:
                task.cancel()

    async def close(self) -> None:
        """Close an asynchronous generator, or another iterator that was made here.

        Raises:
            Exception: What it raises.
        """
        aclose: Callable[[], Awaitable[None]] | None = getattr(self._owned, "aclose", None)
        if aclose is None:
            return
        try:
            await aclose()
        except asyncio.CancelledError as error:
            if is_canceled_from_outside():
                raise
            raise _source_canceled(error) from error

    def _was_handed_out(self, item: ItemT) -> bool:
        key = key_of(item)
        left = 0 if key is None else self._handed_out.get(key, 0)
        if key is None or not left:
            return False
        if left == 1:
            del self._handed_out[key]
        else:
            self._handed_out[key] = left - 1
        return True


def is_canceled_from_outside() -> bool:
    """Whether the running task was canceled, and not something that it awaits."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def is_collection(items: Iterable[ItemT]) -> TypeGuard[Collection[ItemT]]:
    """Whether all items are known, and looking at them takes none away."""
    # A progress bar around an iterator has a length, too.
    return isinstance(items, Collection) and (
        hasattr(items, "__getitem__") or isinstance(items, (AbstractSet, ValuesView))
    )


def _find_copies(items: Collection[ItemT]) -> dict[Key, list[ItemT]]:
    """The items of a collection that equal an earlier one, by their key, the last one first."""
    # Sets and mappings have no equal items, nor have ranges, which may have any length.
    if isinstance(items, (AbstractSet, Mapping, range)):
        return {}
    seen: set[Key] = set()
    found: dict[Key, list[ItemT]] = {}
    try:
        if _are_distinct(items):
            return {}
        for item in items:
            key = key_of(item)
            if key in seen:
                found.setdefault(key, []).append(item)
            elif key is not None:
                seen.add(key)
    except Exception:  # noqa: BLE001 - an error of the source, which is raised again when the batch reads it
        return {}
    for copies in found.values():
        copies.reverse()
    return found


def _are_distinct(items: Collection[object]) -> bool:
    """Whether no two of them are equal; False if they cannot all be compared, too."""
    try:
        return len(set(items)) == len(items)
    except TypeError:
        return False


def _source_canceled(error: asyncio.CancelledError) -> RuntimeError:
    return RuntimeError(f"The source of items was canceled from within: {error!r}")
