"""Many calls: bounded concurrency, results as they complete, O(concurrency) memory.

A fixed set of workers draws items from one source, so that neither tasks nor results pile up: no item is taken before
a worker is free and its last result has a slot. Ten million items take the memory of ten.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter, deque
from datetime import UTC, datetime
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import msgspec

from zenovay_async._batch.fetcher import Fetcher
from zenovay_async._batch.recorder import Recorder
from zenovay_async._batch.report import BatchReport
from zenovay_async._batch.results import BatchResult, Failure, Success
from zenovay_async._batch.source import End, ItemSource, key_of
from zenovay_async._batch.table import BatchTable, in_order, layout_for
from zenovay_async._limits.event_loop import running_loop
from zenovay_async._limits.patience import MAX_OUTAGE
from zenovay_async._protocol.parameters import require_int, require_str
from zenovay_async._session.background import SCOPE, Background, BackgroundScope, current_scope
from zenovay_async._session.slots import Slots
from zenovay_async._session.tally import Tally
from zenovay_async._tables.layout import WEBSITE_ID
from zenovay_async.events import is_listener
from zenovay_async.exceptions import BatchStoppedError, ClientClosedError, ConfigurationError, QuotaExceededError
from zenovay_async.journal import Journal

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
    from types import TracebackType

    from zenovay_async.rate_limits import Quota

__all__ = ["Batch", "BatchResult", "BatchTable", "Failure", "Success"]

ItemT = TypeVar("ItemT")
T = TypeVar("T")


# Its item would be missing from the results, and nothing would say so.
_WORKER_CANCELED = (
    "A task of the batch was canceled by something else, and its item has no result: fetch canceled its own task, or "
    "the source of items holds a timeout or a task group across a yield"
)
# Of a source without a length, so many items are done before a share of them may be too many failures.
_FEWEST_DONE = 20
# Seconds between two reports of the progress.
_PROGRESS = 1.0
# Items of a journal that are skipped before others on the event loop go on.
_SKIPPED_AT_ONCE = 100

_logger = logging.getLogger("zenovay_async")


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
        journal: Keeps what is done, so that a later run goes on from there; ``None`` keeps nothing.
        key: Called with an item; returns the text by which the journal knows it.
        max_failures: Failed items after which the next one stops the batch: a number, or a share of all items.
        max_requests: Requests, in those that the quota is charged for, that the calls of the batch may send.
        on_progress: Called with the report once a second, and at the end.
        watch_client: Makes a future that is done when the client is closed, which stops the batch.
        quota: Returns the monthly quota, for the report.

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
        journal: Journal | None = None,
        key: Callable[[ItemT], str] = str,
        max_failures: float | None = None,
        max_requests: int | None = None,
        on_progress: Callable[[BatchReport], None] | None = None,
        watch_client: Callable[[], asyncio.Future[None]] | None = None,
        quota: Callable[[], Quota] | None = None,
    ) -> None:
        # repr needs these, and a traceback with variables calls it even on a batch that rejected an argument.
        self.succeeded = 0
        self.failed = 0
        self._workers: set[asyncio.Task[None]] = set()
        require_int("concurrency", concurrency)
        _check_bounds(max_outage, max_failures, max_requests)
        _check_journal(journal, key)
        if on_progress is not None and not is_listener(on_progress):
            raise ConfigurationError(f"on_progress={on_progress!r}: expected a plain function of one report, or None")
        if isinstance(items, (str, bytes)):
            raise ConfigurationError(
                f"items={items!r}: expected an iterable of items; pass [{items!r}] for a single one"
            )
        if not callable(fetch):
            raise ConfigurationError(f"fetch={fetch!r}: expected a function of one item")
        self._source = ItemSource(items)
        self._items = items
        self._collected: list[BatchResult[ItemT, T]] = []
        self._concurrency = concurrency
        around = current_scope()
        outer = None if around is None else around.background
        tally = Tally(None if outer is None else outer.tally)
        self._scope = BackgroundScope(Background(max_outage, max_requests, tally, outer=outer))
        self._fetch = fetch
        self._journal = journal
        self._key = key
        self._recorder: Recorder[ItemT, T] | None = None
        self._max_failures = max_failures
        self._on_progress = on_progress
        self._quota = quota
        self._started = datetime.now(UTC)
        self._ended: datetime | None = None
        self._has_table = False
        self._failed_by_class: Counter[str] = Counter()
        self._replayed = 0
        self._skipped = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        # Each result with the items that it is for besides its own, the last one first, and its key in the journal.
        self._results: deque[tuple[BatchResult[ItemT, T], list[ItemT] | None, str]] = deque()
        self._result_slots = Slots(2 * concurrency)
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
        self._loop = loop = running_loop()
        # The workers alone refer to it, as it refers to this batch.
        fetcher = Fetcher(self._fetch, self._scope.background, self._stop, lambda: self.succeeded > self._replayed)
        if self._journal is not None:
            recorder = Recorder(self._journal, self._key, fetcher, self._fail)
            recorder.open()
            self._recorder = recorder
        self._entered = True
        self._started = datetime.now(UTC)
        if self._on_progress is not None:
            self._timer = loop.call_later(_PROGRESS, self._report_progress)
        if self._watch_client is not None:
            self._client_closed = self._watch_client()
            self._client_closed.add_done_callback(self._stop_with_client)
        # More workers than items would be made in vain, and take a minute where there is no bound to speak of.
        size = self._source.size
        for _ in range(self._concurrency if size is None else min(self._concurrency, size)):
            worker = loop.create_task(self._work(fetcher))
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
        unrecorded: Exception | None = None
        try:
            canceled = await _wait_for(set(self._workers))
        finally:
            if self._recorder is not None:
                unrecorded = self._recorder.close(is_handled=error is None)
                # It refers to this batch.
                self._recorder = None
        self._scope.ended = True
        self._results.clear()
        self._ended = datetime.now(UTC)
        if self._timer is not None:
            self._timer.cancel()
            self._report_progress()
        # In a task of its own, which no cancellation of this one reaches.
        closing = asyncio.create_task(self._source.close())
        canceled = await _wait_for({closing}) or canceled
        failure = unrecorded or closing.exception() or canceled
        try:
            if canceled is not None and not isinstance(error, asyncio.CancelledError):
                raise canceled
            if canceled is None and failure is not None:
                raise failure
        finally:
            # Or their tracebacks would refer to this frame, which refers to them.
            del canceled, failure, unrecorded, error

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
        if self._recorder is not None:
            self._recorder.record_handled()
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
                try:
                    raise failure or StopAsyncIteration
                finally:
                    # Or its traceback would refer to this frame, which refers to it.
                    del failure
            self._changed.clear()
            await self._changed.wait()
        result, copies, key = results[0]
        if copies:
            results[0] = msgspec.structs.replace(result, item=copies.pop()), copies, key
            return result
        results.popleft()
        self._result_slots.release()
        if self._recorder is not None:
            self._recorder.hand_out(key)
        return result

    async def table(self, item: str = WEBSITE_ID) -> BatchTable[ItemT]:
        """Collect the rows of all results that are still to come as one table, with a column for their item.

        The rows are in the order of the items, if these are a collection, such as a list, else in that of completion.
        If this raises the error that ended the batch, or is canceled, call it again for the rows until then.

        Args:
            item: Name of the column for the item.

        Returns:
            The table of the successes; its ``failures`` are the items that failed.

        Raises:
            ConfigurationError: A result is no list, or the journal keeps no results.
            RuntimeError: The block of the batch has ended, and with it the results.
            ZenovayError: As for iterating.
            Exception: Every item failed; it is the error of the first one.
        """
        require_str("item", item)
        if self._journal is not None and not self._journal.keeps_values:
            raise ConfigurationError(
                "table(): the journal keeps no results, so that those of earlier runs would be missing; "
                "open it with Journal(path, result_type=...)"
            )
        if self._ended is not None and not self._has_table:
            raise RuntimeError("The batch has ended: call table() inside its block, async with zenovay.batch(...)")
        self._has_table = True
        async for result in self:
            self._collected.append(result)
            if result.error is None:
                layout_for(result.value)
        table = BatchTable(item, in_order(self._collected, self._items))
        if table.failures and len(table.failures) == len(self._collected):
            raise table.failures[0].error
        return table

    @property
    def report(self) -> BatchReport:
        """What was done so far, what it took, and what is left of the quota."""
        tally = self._scope.background.tally
        return BatchReport(
            started=self._started,
            ended=self._ended,
            done=self.succeeded + self.failed,
            succeeded=self.succeeded,
            failed=dict(self._failed_by_class),
            replayed=self._replayed,
            skipped=self._skipped,
            requests=tally.requests,
            retries=tally.retries,
            rate_limited=tally.rate_limited,
            waited=0.0 if self._loop is None else round(tally.waited(self._loop.time()), 3),
            p50=tally.quantile(0.5),
            p95=tally.quantile(0.95),
            quota_remaining=None if self._quota is None else self._quota().remaining,
        )

    async def _work(self, fetcher: Fetcher[ItemT, T]) -> None:
        slots, source, results, recorder = self._result_slots, self._source, self._results, self._recorder
        waits, has_copies, fetch = source.waits, source.has_copies, self._choose_fetch(fetcher)
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
            done = 1 if copies is None else 1 + len(copies)
            key = "" if recorder is None else recorder.key_of(item)
            if recorder is not None and recorder.is_skipped(key):
                slots.release()
                await self._count_skipped(done)
                continue
            result = await (fetch(item) if recorder is None else recorder.replay_or_fetch(item, key))
            if result is None:
                return
            if result.error is not None:
                self._count_failure(result.error, done)
            else:
                self.succeeded += done
                if result.replayed:
                    self._replayed += done
            results.append((result, copies, key))
            # Frames to which an error's traceback refers lead to this one.
            result = None
            # A consumer waits only while there are no results.
            if len(results) == 1:
                self._changed.set()

    def _choose_fetch(
        self, fetcher: Fetcher[ItemT, T]
    ) -> Callable[[ItemT], Coroutine[Any, Any, BatchResult[ItemT, T] | None]]:
        """What makes the result of an item; ``None`` if an equal one stopped the batch."""
        if self._source.is_lazy:
            return lambda item: fetcher.fetch_or_join(item, key_of(item), fetcher.fetch)
        return fetcher.fetch

    async def _count_skipped(self, done: int) -> None:
        self._skipped += done
        if self._skipped % _SKIPPED_AT_ONCE < done:
            await asyncio.sleep(0)

    def _count_failure(self, error: Exception, done: int) -> None:
        self.failed += done
        self._failed_by_class[type(error).__name__] += done
        bound = self._max_failures
        if bound is None or self._stopped:
            return
        if isinstance(bound, float):
            size = self._source.size
            bound *= max(self.succeeded + self.failed, _FEWEST_DONE) if size is None else size
        if self.failed > bound:
            given = f"max_failures={self._max_failures!r}"
            what = f"{self.failed:,} failure{'' if self.failed == 1 else 's'}"
            stopped = BatchStoppedError(f"Stopped after {what} ({given}); the last one: {_text(error)}")
            stopped.__cause__ = error
            self._fail(stopped)

    def _fail(self, error: BaseException) -> None:
        """Take no further item, and raise an error once the results are handed out; calls in flight go on."""
        self._failure = self._failure or error
        self._end_items()

    def _report_progress(self) -> None:
        if self._on_progress is None:
            return
        listener: Callable[[BatchReport], object] = self._on_progress
        try:
            returned = listener(self.report)
        except Exception:
            _logger.exception("on_progress failed")
        else:
            if iscoroutine(returned):
                returned.close()
                _logger.error("on_progress returned a coroutine, which nothing awaits; expected a plain function")
        # From its end on, as one that blocks would be due again at once.
        if self._ended is None and self._loop is not None:
            self._timer = self._loop.call_later(_PROGRESS, self._report_progress)

    def _stop(self, error: BaseException) -> None:
        """Take no further item; called before another worker can get the next permit."""
        self._end_items()
        # Where no request was sent, as with quota_reserve, calls in flight may succeed, and are paid for.
        is_bound = isinstance(error, BatchStoppedError) or (isinstance(error, QuotaExceededError) and not error.status)
        if not is_bound:
            self._cancel_workers()

    def _stop_with_client(self, _: asyncio.Future[None]) -> None:
        # Calls in flight fail by themselves, but no call says so to a worker that waits for an item.
        if self._workers and not self._stopped:
            self._fail(ClientClosedError("The client was closed during the batch"))

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
        self._fail(error)
        # After a failure of the source, calls in flight go on; after a BaseException, such as Ctrl-C, they do not.
        if not isinstance(error, Exception):
            self._cancel_workers()

    def _cancel_workers(self) -> None:
        own = asyncio.current_task()
        for worker in self._workers:
            if worker is not own:
                worker.cancel()


def _check_journal(journal: object, key: object) -> None:
    if journal is not None and not isinstance(journal, Journal):
        advice = f"; pass Journal({os.fspath(journal)!r})" if isinstance(journal, (str, os.PathLike)) else ""
        raise ConfigurationError(f"journal={journal!r}: expected a Journal, or None{advice}")
    if not callable(key):
        raise ConfigurationError(f"key={key!r}: expected a function of one item")
    if journal is None and key is not str:
        raise ConfigurationError(f"key={key!r}: it is what a journal knows an item by; pass journal=, too")


def _check_bounds(max_outage: float | None, max_failures: float | None, max_requests: int | None) -> None:
    is_number = isinstance(max_outage, (int, float)) and not isinstance(max_outage, bool)
    if max_outage is not None and not (is_number and max_outage >= 0):
        raise ConfigurationError(f"max_outage={max_outage!r}: expected seconds, 0 or more, or None for no limit")
    is_count = isinstance(max_failures, int) and not isinstance(max_failures, bool) and max_failures >= 0
    is_share = isinstance(max_failures, float) and 0 < max_failures < 1
    if max_failures is not None and not (is_count or is_share):
        raise ConfigurationError(
            f"max_failures={max_failures!r}: expected a number of items, 0 or more, a share of them, such as 0.05, or "
            "None for no bound"
        )
    if max_requests is not None:
        require_int("max_requests", max_requests)


def _text(error: Exception) -> str:
    """The message of an error, or its class where it has none."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - code of the caller's
        text = ""
    return text or type(error).__name__


async def _wait_for(tasks: set[asyncio.Task[None]]) -> asyncio.CancelledError | None:
    """Wait until tasks are done, whatever comes; returns the last cancellation that came."""
    canceled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            canceled = error
    return canceled
