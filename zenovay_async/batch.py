"""Many calls: bounded concurrency, results as they complete, O(concurrency) memory.

A fixed set of workers draws items from one source, so that neither tasks nor results pile up: no item is taken before
a worker is free and its last result has a slot. Ten million items take the memory of ten.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from typing import TYPE_CHECKING, Generic, Self, TypeAlias, TypeVar, cast

import msgspec

from zenovay_async._item_source import End, ItemSource, is_canceled_from_outside, key_of
from zenovay_async._limits.event_loop import running_loop
from zenovay_async._limits.patience import MAX_OUTAGE
from zenovay_async._protocol.parameters import require_int
from zenovay_async._session.background import SCOPE, Background, BackgroundScope
from zenovay_async._session.slots import Slots
from zenovay_async.exceptions import (
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    QuotaExceededError,
    is_fatal_itself,
    parts_and_causes,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
    from types import TracebackType

    from zenovay_async._item_source import Key

ItemT = TypeVar("ItemT")
T = TypeVar("T")


# Its item would be missing from the results, and nothing would say so.
_WORKER_CANCELED = (
    "A task of the batch was canceled by something else, and its item has no result: fetch canceled its own task, or "
    "the source of items holds a timeout or a task group across a yield"
)


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

    Equal items of a collection, such as a list, are fetched once, and each has its result. An item of any other
    iterable that equals one in flight shares its result. 1, 1.0 and True are not equal here, and an item that cannot be
    hashed equals no other.

    The end of the block ends the items and cancels the calls in flight. Like ``asyncio.TaskGroup``, it waits for them,
    however often it is canceled itself.

    Args:
        items: Any iterable or asynchronous iterable, also an endless one; advanced only as workers become free. An
            asynchronous generator, or an iterator that was made for the batch, is closed at the end of the block; a
            stream or another asynchronous iterator is the caller's and stays open.
        fetch: Called with one item; returns the awaitable of its result. Calls are background calls while it runs,
            also those of tasks that it starts.
        concurrency: Calls in flight at once, 1 or more.
        max_outage: Seconds that calls wait for a server that is away; ``None`` for no bound.
        watch_client: Makes a future that is done when the client is closed, which stops the batch.

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
        watch_client: Callable[[], asyncio.Future[None]] | None = None,
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
        self._source = ItemSource(items)
        self._fetch = fetch
        self._concurrency = concurrency
        self._scope = BackgroundScope(Background(max_outage))
        # Each result with the items that it is for besides its own, the last one first.
        self._results: deque[tuple[BatchResult[ItemT, T], list[ItemT] | None]] = deque()
        self._result_slots = Slots(2 * concurrency)
        self._in_flight: dict[Key, asyncio.Future[BatchResult[ItemT, T] | None] | None] = {}
        self._changed = asyncio.Event()
        self._watch_client = watch_client
        self._client_closed: asyncio.Future[None] | None = None
        self._entered = False
        self._stopped = False
        self._has_lost_item = False
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Batch: {self.succeeded} succeeded, {self.failed} failed, {len(self._workers)} workers>"

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("A batch is used once; create another with zenovay.batch(...)")
        loop = running_loop()
        self._entered = True
        if self._watch_client is not None:
            self._client_closed = self._watch_client()
            self._client_closed.add_done_callback(self._stop_with_client)
        # More workers than items would be made in vain, and take a minute where there is no bound to speak of.
        size = self._source.size
        for _ in range(self._concurrency if size is None else min(self._concurrency, size)):
            worker = loop.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._retire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client_closed is not None:
            # Or it would refer to this batch, which refers to it.
            self._client_closed.remove_done_callback(self._stop_with_client)
        self._end_items()
        self._cancel_workers()
        canceled = await _wait_for(set(self._workers))
        self._scope.ended = True
        self._results.clear()
        # In a task of its own, which no cancellation of this one reaches.
        closing = asyncio.create_task(self._source.close())
        canceled = await _wait_for({closing}) or canceled
        failure = closing.exception() or canceled
        try:
            if canceled is not None and not isinstance(error, asyncio.CancelledError):
                raise canceled
            if canceled is None and failure is not None:
                raise failure
        finally:
            # Or their tracebacks would refer to this frame, which refers to them.
            del canceled, failure, error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchResult[ItemT, T]:
        """The next result, in the order of completion.

        Results that were complete before the batch stopped come first.

        Raises:
            ZenovayError: An error that holds for every item: an invalid key, no paid plan, an exhausted quota, a server
                that is away for longer than ``max_outage``, a parameter that is invalid for every website. If ``fetch``
                raised it in an ``ExceptionGroup``, or another error from it, that is its cause.
            RuntimeError: Something else than the batch canceled the task of a call, as ``fetch`` itself may.
            Exception: What the source of items raised.
        """
        results = self._results
        while not results:
            if not self._entered:
                raise RuntimeError("Enter the batch first: async with zenovay.batch(...) as results")
            if not self._workers:
                failure, self._failure = self._failure, None
                # What the source raised meanwhile says more.
                if self._has_lost_item and failure is None:
                    failure = RuntimeError(_WORKER_CANCELED)
                self._has_lost_item = False
                raise failure or StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        result, copies = results[0]
        if copies:
            results[0] = msgspec.structs.replace(result, item=copies.pop()), copies
            return result
        results.popleft()
        self._result_slots.release()
        return result

    async def _work(self) -> None:
        slots, source, results = self._result_slots, self._source, self._results
        waits, has_copies, is_lazy = source.waits, source.has_copies, source.is_lazy
        while not source.ended:
            # The slot first: a result never waits for one, and so is never lost when the batch stops.
            if not slots.acquire_nowait():
                await slots.acquire()
            if waits:
                SCOPE.set(self._scope)
                item = await source.take()
            else:
                item = source.take_now()
            if item is End.END:
                return
            copies = source.take_copies(item) if has_copies else None
            result = await (self._fetch_or_join(item) if is_lazy else self._fetch_one(item))
            if result is None:
                return
            done = 1 if copies is None else 1 + len(copies)
            if result.error is None:
                self.succeeded += done
            else:
                self.failed += done
            results.append((result, copies))
            # A consumer waits only while there are no results.
            if len(results) == 1:
                self._changed.set()

    async def _fetch_or_join(self, item: ItemT) -> BatchResult[ItemT, T] | None:
        """Fetch an item, or wait for an equal one in flight; ``None`` if that one stopped the batch."""
        key, in_flight = key_of(item), self._in_flight
        if key is None:
            return await self._fetch_one(item)
        try:
            is_in_flight = key in in_flight
        except Exception:  # noqa: BLE001 - code of the caller's, and no reason to fail
            return await self._fetch_one(item)
        if is_in_flight:
            future = in_flight[key]
            if future is None:
                future = in_flight[key] = asyncio.get_running_loop().create_future()
            result = await asyncio.shield(future)
            return None if result is None else msgspec.structs.replace(result, item=item)
        in_flight[key] = result = None
        try:
            result = await self._fetch_one(item)
        finally:
            future = in_flight.pop(key)
            if future is not None:
                future.set_result(result)
        return result

    async def _fetch_one(self, item: ItemT) -> BatchResult[ItemT, T]:
        failure: Exception
        scope = BackgroundScope(self._scope.background)
        SCOPE.set(scope)
        try:
            return Success(item, await self._fetch(item))
        except Exception as error:  # noqa: BLE001 - whatever the caller's function raised is the failure of its item
            self._stop_if_fatal(item, error)
            failure = error
        except (asyncio.CancelledError, BaseExceptionGroup) as error:
            if is_canceled_from_outside() or not _is_harmless(error):
                raise
            self._stop_if_fatal(item, error)
            # Something inside fetch was canceled, not this batch: a failure of that item.
            failure = RuntimeError("fetch was canceled from within")
            failure.__cause__ = error
        finally:
            scope.ended = True
        return Failure(item, failure)

    def _stop_if_fatal(self, item: ItemT, error: BaseException) -> None:
        """Stop the batch and raise the error, if every item would meet it; from another that has it in or under it."""
        fatal = next((part for part in parts_and_causes(error) if self._is_fatal(item, part)), None)
        if fatal is None:
            return
        self._stop(fatal)
        if fatal is error:
            raise fatal
        # A copy, as the other refers to the error itself, which may have another cause.
        raise copy.copy(fatal) from error

    def _is_fatal(self, item: ItemT, error: BaseException) -> bool:
        background = self._scope.background
        if is_fatal_itself(error) or (isinstance(error, BadRequestError) and error in background.repeated):
            return True
        if not isinstance(error, ConfigurationError) or self.succeeded:
            return False
        # No request was sent. A message that names the item is another one for each.
        key = key_of(item) or id(item)
        return background.rejections.reject(ConfigurationError, error.message, item=key, path=key)

    def _stop(self, error: BaseException) -> None:
        """Take no further item; called before another worker can get the next permit."""
        self._end_items()
        # Where no request was sent, as with quota_reserve, calls in flight may succeed, and are paid for.
        if not isinstance(error, QuotaExceededError) or error.status is not None:
            self._cancel_workers()

    def _stop_with_client(self, _: asyncio.Future[None]) -> None:
        # Calls in flight fail by themselves, but no call says so to a worker that waits for an item.
        if self._workers and not self._stopped:
            self._failure = self._failure or ClientClosedError("The client was closed during the batch")
            self._end_items()

    def _end_items(self) -> None:
        self._stopped = True
        self._source.end()

    def _retire(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        self._changed.set()
        if worker.cancelled():
            if not self._stopped:
                self._has_lost_item = True
                self._end_items()
            return
        error = worker.exception()
        if error is None:
            return
        self._failure = self._failure or error
        self._end_items()
        # After a failure of the source, calls in flight go on; after a BaseException, such as Ctrl-C, they do not.
        if not isinstance(error, Exception):
            self._cancel_workers()

    def _cancel_workers(self) -> None:
        own = asyncio.current_task()
        for worker in self._workers:
            if worker is not own:
                worker.cancel()


async def _wait_for(tasks: set[asyncio.Task[None]]) -> asyncio.CancelledError | None:
    """Wait until tasks are done, whatever comes; returns the last cancellation that came."""
    canceled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            canceled = error
    return canceled


def _parts(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, also of groups in it; of any other error, itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _parts(part)
    else:
        yield error


def _is_harmless(error: BaseException) -> bool:
    """Whether there is nothing in it but errors and cancellations, neither Ctrl-C nor an exit."""
    return all(isinstance(part, (Exception, asyncio.CancelledError)) for part in _parts(error))
