"""Many calls: bounded concurrency, results as they complete, O(concurrency) memory.

A fixed set of workers draws items from one source, so that neither tasks nor results pile up: no item is taken before
a worker is free and its last result has a slot. Ten million items take the memory of ten.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncIterable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Generic, Self, TypeAlias, TypeVar

import msgspec

from zenovay_async._limits.patience import MAX_OUTAGE
from zenovay_async._protocol.parameters import require_int
from zenovay_async._session.slots import Slots
from zenovay_async._session.state import BACKGROUND, Background
from zenovay_async.exceptions import ConfigurationError, QuotaExceededError, is_fatal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import TracebackType

ItemT = TypeVar("ItemT")
T = TypeVar("T")


class Success(msgspec.Struct, Generic[ItemT, T], frozen=True):
    """An item whose call succeeded.

    Attributes:
        item: The item, as it came from the source.
        value: What ``fetch`` returned for it.
        error: Always ``None``; distinguishes it from a :class:`Failure`.
    """

    item: ItemT
    value: T
    error: None = None


class Failure(msgspec.Struct, Generic[ItemT], frozen=True):
    """An item whose call failed; the others are not affected.

    Attributes:
        item: The item, as it came from the source.
        error: What ``fetch`` raised for it: a ``ZenovayError``, or whatever else the caller's function raised.
        value: Always ``None``.
    """

    item: ItemT
    error: Exception
    value: None = None


BatchResult: TypeAlias = Success[ItemT, T] | Failure[ItemT]
"""The outcome for one item: ``error`` is ``None`` where ``value`` is the result."""


class Batch(Generic[ItemT, T]):
    """Calls ``fetch`` for each item; made by ``Zenovay.batch``, used once, in ``async with`` and ``async for``.

    Args:
        items: Any iterable or asynchronous iterable, also an endless one; advanced only as workers become free. An
            asynchronous generator is closed at the end of the block.
        fetch: Called with one item; returns the awaitable of its result.
        concurrency: Calls in flight at once, 1 or more.
        max_outage: Seconds that calls wait for a server that is away; ``None`` for no bound.

    Attributes:
        succeeded: Items done without an error so far.
        failed: Items done with an error so far.
    """

    def __init__(
        self,
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        fetch: Callable[[ItemT], Awaitable[T]],
        *,
        concurrency: int,
        max_outage: float | None = MAX_OUTAGE,
    ) -> None:
        # repr needs these, and a traceback with variables calls it even on a batch that rejected an argument.
        self.succeeded = 0
        self.failed = 0
        self._workers: set[asyncio.Task[None]] = set()
        require_int("concurrency", concurrency)
        is_number = isinstance(max_outage, (int, float)) and not isinstance(max_outage, bool)
        if max_outage is not None and not (is_number and max_outage >= 0):
            raise ConfigurationError(f"max_outage={max_outage!r}: expected seconds, 0 or more, or None for no limit")
        if isinstance(items, (str, bytes)):
            raise ConfigurationError(
                f"items={items!r}: expected an iterable of items; pass [{items!r}] for a single one"
            )
        if not callable(fetch):
            raise ConfigurationError(f"fetch={fetch!r}: expected a function of one item")
        self._source = _Source(items)
        self._fetch = fetch
        self._concurrency = concurrency
        self._background = Background(max_outage)
        self._results: deque[BatchResult[ItemT, T]] = deque()
        self._result_slots = Slots(2 * concurrency)
        self._changed = asyncio.Event()
        self._entered = False
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Batch: {self.succeeded} succeeded, {self.failed} failed, {len(self._workers)} workers>"

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("A batch is used once; create another with zenovay.batch(...)")
        self._entered = True
        for _ in range(self._concurrency):
            context = contextvars.copy_context()
            context.run(BACKGROUND.set, self._background)
            worker = asyncio.create_task(self._work(), context=context)
            self._workers.add(worker)
            worker.add_done_callback(self._retire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cancel_workers()
        if self._workers:
            await asyncio.wait(self._workers)
        self._results.clear()
        await self._source.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchResult[ItemT, T]:
        """The next result, in the order of completion.

        Results that were complete before the batch stopped come first.

        Raises:
            ZenovayError: An error that holds for every item: an invalid key, no paid plan, an exhausted quota, a server
                that is away for longer than ``max_outage``.
            Exception: What the source of items raised.
        """
        while not self._results:
            if not self._entered:
                raise RuntimeError("Enter the batch first: async with zenovay.batch(...) as results")
            if not self._workers:
                failure, self._failure = self._failure, None
                raise failure or StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        self._result_slots.release()
        return self._results.popleft()

    async def _work(self) -> None:
        slots, source, fetch, results = self._result_slots, self._source, self._fetch, self._results
        while True:
            # The slot first: a result never waits for one, and so is never lost when the batch stops.
            if not slots.acquire_nowait():
                await slots.acquire()
            item = await source.take() if source.waits else source.take_now()
            if item is _End.END:
                return
            try:
                value = await fetch(item)
            except asyncio.CancelledError as error:
                if _canceled_from_outside():
                    raise
                # Something inside fetch was canceled, not this batch: a failure of that item.
                failure = RuntimeError("fetch was canceled from within")
                failure.__cause__ = error
                self.failed += 1
                results.append(Failure(item, failure))
            except Exception as error:
                if is_fatal(error):
                    self._stop(error)
                    raise
                self.failed += 1
                results.append(Failure(item, error))
            else:
                self.succeeded += 1
                results.append(Success(item, value))
            # A consumer waits only while there are no results.
            if len(results) == 1:
                self._changed.set()

    def _stop(self, error: Exception) -> None:
        """Take no further item; called before another worker can get the next permit."""
        self._source.end()
        # Where no request was sent, as with quota_reserve, calls in flight may succeed, and are paid for.
        if not isinstance(error, QuotaExceededError) or error.status is not None:
            self._cancel_workers()

    def _retire(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        self._changed.set()
        error = None if worker.cancelled() else worker.exception()
        if error is None:
            return
        self._failure = self._failure or error
        # After a failure of the source, calls in flight go on; after a BaseException, such as Ctrl-C, they do not.
        if not isinstance(error, Exception):
            self._cancel_workers()

    def _cancel_workers(self) -> None:
        own = asyncio.current_task()
        for worker in self._workers:
            if worker is not own:
                worker.cancel()


class _End(Enum):
    END = "no more items"


class _Source(Generic[ItemT]):
    """Hands the items of any iterable to many workers, each item once.

    Attributes:
        waits: Whether the next item may have to be awaited, with :meth:`take`; else :meth:`take_now` is faster.
    """

    def __init__(self, items: Iterable[ItemT] | AsyncIterable[ItemT]) -> None:
        self._ended = False
        self._lock = asyncio.Lock()
        self._now: Iterator[ItemT] = iter(())
        self._later: AsyncIterator[ItemT] | None = None
        if isinstance(items, AsyncIterable):
            self._later = aiter(items)
        elif isinstance(items, Iterable):
            self._now = iter(items)
        else:
            raise ConfigurationError(f"items={items!r}: expected an iterable or an asynchronous iterable")
        self.waits = self._later is not None

    def take_now(self) -> ItemT | _End:
        """The next item of an iterable, or ``END``; an error of the source is raised once and ends it."""
        if self._ended:
            return _End.END
        try:
            return next(self._now, _End.END)
        except asyncio.CancelledError as error:
            self._ended = True
            raise _source_canceled(error) from error
        except Exception:
            self._ended = True
            raise

    async def take(self) -> ItemT | _End:
        """The next item of any source; otherwise like :meth:`take_now`."""
        # An asynchronous generator raises if two workers await it at once.
        async with self._lock:
            if self._ended or self._later is None:
                return self.take_now()
            try:
                return await anext(self._later)
            except StopAsyncIteration:
                self._ended = True
                return _End.END
            except asyncio.CancelledError as error:
                if _canceled_from_outside():
                    raise
                self._ended = True
                raise _source_canceled(error) from error
            except Exception:
                self._ended = True
                raise

    def end(self) -> None:
        """Yield no further item."""
        self._ended = True

    async def close(self) -> None:
        """Close an asynchronous generator now rather than when it is garbage collected."""
        self._ended = True
        aclose: Callable[[], Awaitable[None]] | None = getattr(self._later, "aclose", None)
        if aclose is not None:
            await aclose()


def _source_canceled(error: asyncio.CancelledError) -> RuntimeError:
    return RuntimeError(f"The source of items was canceled from within: {error!r}")


def _canceled_from_outside() -> bool:
    """Whether the running task was canceled, and not something that it awaits."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
