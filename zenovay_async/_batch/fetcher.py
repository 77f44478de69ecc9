"""One item of a batch: ``fetch`` is called for it, or an equal one in flight is waited for."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import msgspec

from zenovay_async._batch.results import Failure, Success
from zenovay_async._batch.source import is_canceled_from_outside, key_of
from zenovay_async._session.background import SCOPE, Background, BackgroundScope
from zenovay_async.exceptions import (
    BadRequestError,
    BatchStoppedError,
    ConfigurationError,
    is_fatal_itself,
    parts_and_causes,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from zenovay_async._batch.results import BatchResult
    from zenovay_async._batch.source import Key

ItemT = TypeVar("ItemT")
T = TypeVar("T")


class Fetcher(Generic[ItemT, T]):
    """Makes the result of an item; an error that every item would meet stops the batch.

    Args:
        fetch: Called with an item; returns the awaitable of its result.
        background: What the calls of the batch have in common.
        stop: Stops the batch with an error.
        has_succeeded: Whether an item was fetched without an error.
    """

    def __init__(
        self,
        fetch: Callable[[ItemT], Awaitable[T]],
        background: Background,
        stop: Callable[[BaseException], None],
        has_succeeded: Callable[[], bool],
    ) -> None:
        self._fetch = fetch
        self._background = background
        self._stop = stop
        self._has_succeeded = has_succeeded
        self._in_flight: dict[Key, asyncio.Future[BatchResult[ItemT, T] | None] | None] = {}

    async def fetch(self, item: ItemT) -> BatchResult[ItemT, T]:
        """Fetch an item.

        Raises:
            Exception: An error that every item would meet.
        """
        failure: Exception
        scope = BackgroundScope(self._background)
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
        try:
            return Failure(item, failure)
        finally:
            # As its traceback refers to this frame.
            del failure

    async def fetch_or_join(
        self, item: ItemT, key: Key | None, fetch: Callable[[ItemT], Awaitable[BatchResult[ItemT, T]]]
    ) -> BatchResult[ItemT, T] | None:
        """Fetch an item, or wait for an equal one in flight.

        Args:
            item: The item.
            key: What equal items have in common; ``None`` if it equals no other.
            fetch: Fetches it.

        Returns:
            The result; ``None`` if the equal one stopped the batch.
        """
        in_flight = self._in_flight
        if key is None:
            return await fetch(item)
        try:
            is_in_flight = key in in_flight
        except Exception:  # noqa: BLE001 - code of the caller's, and no reason to fail
            return await fetch(item)
        if is_in_flight:
            future = in_flight[key]
            if future is None:
                future = in_flight[key] = asyncio.get_running_loop().create_future()
            result = await asyncio.shield(future)
            return None if result is None else msgspec.structs.replace(result, item=item)
        in_flight[key] = result = None
        try:
            result = await fetch(item)
            return result
        finally:
            future = in_flight.pop(key)
            if future is not None:
                future.set_result(result)
            # The frames of its error lead to this one.
            del result

    def _stop_if_fatal(self, item: ItemT, error: BaseException) -> None:
        """Stop the batch and raise the error, if every item would meet it; from another that has it in or under it."""
        fatal = next((part for part in parts_and_causes(error) if self._is_fatal(item, part)), None)
        if fatal is None:
            return
        self._stop(fatal)
        try:
            if fatal is error:
                raise fatal
            # A copy, as the other refers to the error itself, which may have another cause.
            raise copy.copy(fatal) from error
        finally:
            # Or their tracebacks would refer to this frame, which refers to them.
            del fatal, error

    def _is_fatal(self, item: ItemT, error: BaseException) -> bool:
        background = self._background
        if is_fatal_itself(error) or (isinstance(error, BadRequestError) and error in background.repeated):
            return True
        if isinstance(error, BatchStoppedError) and background.has_stopped:
            return True
        if not isinstance(error, ConfigurationError) or self._has_succeeded():
            return False
        # No request was sent. A message that names the item is another one for each.
        key = key_of(item) or id(item)
        return background.rejections.reject(ConfigurationError, error.message, item=key, path=key)


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
