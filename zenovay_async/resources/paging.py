"""Lists that come in pages: ``await`` for one page, ``async for`` for every item.

Source: docs "GET /analytics/:websiteId/visitors" and "GET /replays/:websiteId/sessions" (``limit``, ``offset``,
``data.pagination.has_more``). Lists are newest first, so new items move the others to later pages between two calls;
items that occur twice are skipped.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from zenovay_async._protocol.call import Call, Caller, Endpoint
from zenovay_async._protocol.parameters import Timeout, encode_query, join_query, optional_int
from zenovay_async._tables.display import html_note
from zenovay_async.exceptions import ConfigurationError, ZenovayError

if TYPE_CHECKING:
    from zenovay_async.resources.base import Pagination

MAX_PAGES = 1000
"""Pages that an iteration without ``take`` requests at most: a tenth of the smallest monthly quota."""


class Item(Protocol):
    """An item of a list."""

    @property
    def id(self) -> str:
        """Identifies it within the list."""
        ...


class Page(Protocol):
    """The result of one call to a list."""

    @property
    def pagination(self) -> Pagination | None:
        """Position of the page, if the server states it."""
        ...


PageT = TypeVar("PageT", bound=Page)
ItemT = TypeVar("ItemT", bound=Item)


class PagedEndpoint(Endpoint[PageT], Generic[PageT, ItemT], frozen=True, kw_only=True, eq=False):
    """An endpoint that lists in pages.

    Attributes:
        items: Returns the items of a page.
        join: Makes one page of items.
        max_limit: Items of one page at most.
    """

    items: Callable[[PageT], Sequence[ItemT]]
    join: Callable[[Sequence[ItemT]], PageT]
    max_limit: int


class Paged(Coroutine[Any, Any, PageT], Generic[PageT, ItemT]):
    """A list that comes in pages.

    ``await`` it for one page, at ``limit`` and ``offset``; iterate over it with ``async for``, for every item from
    ``offset`` on; or ``await`` its :meth:`table`, which has all of them. Iterating requests the largest pages if
    ``limit`` is omitted, as each costs one request whatever its size, and requests a page only when its first item is
    wanted. Each page has a deadline of its own.

    Raises:
        ConfigurationError: An argument is invalid; raised by the method that returns this.
        ZenovayError: As for any call; also when the list continues after 1000 pages without :meth:`take`.
    """

    _is_unused = False

    def __init__(
        self,
        caller: Caller,
        endpoint: PagedEndpoint[PageT, ItemT],
        website_id: str,
        timeout: Timeout,
        extra_query: Mapping[str, Any] | None,
        *,
        limit: int | None,
        offset: int | None,
        **query: Any,
    ) -> None:
        self._caller = caller
        self._endpoint = endpoint
        # The position is that of each page, and an argument all the same.
        self._call = endpoint.call(website_id, extra_query=extra_query, limit=None, offset=None, **query)
        self._timeout = timeout
        self._limit = optional_int("limit", limit, high=endpoint.max_limit)
        self._offset = optional_int("offset", offset, low=0)
        self._wanted: int | None = None
        self._started: Coroutine[Any, Any, PageT] | None = None
        self._is_unused = True

    def __del__(self) -> None:
        # As Python does of a coroutine; without a word, a forgotten await would look like a list without items.
        if self._is_unused:
            message = f"{self._endpoint.operation} was neither awaited nor iterated over; no request was sent"
            warnings.warn(message, RuntimeWarning, stacklevel=1, source=self)

    def __repr__(self) -> str:
        # Who sees this knows that no request was sent, so there is no warning of it afterwards, as in a notebook.
        self._is_unused = False
        return f"<{self._describe()}>"

    def _repr_html_(self) -> str:
        self._is_unused = False
        return html_note(self._describe())

    def _describe(self) -> str:
        return (
            f"{self._endpoint.operation}: a list in pages; await it for one page, use async for to get every item, "
            "or await its .table(), with .take(n) before for the first n"
        )

    def take(self, n: int) -> Self:
        """Make the same list, limited to its first ``n`` items.

        :meth:`pages` has the same items; its last page may be cut. Awaited, the one page has ``n`` items at most.

        Args:
            n: Items, 1 or more.

        Returns:
            The limited list, which does not end with an error after 1000 pages.

        Raises:
            ConfigurationError: ``n`` is not an int >= 1.
        """
        self._is_unused = False
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise ConfigurationError(f"take({n!r}): expected an int >= 1")
        shorter = copy(self)
        shorter._wanted, shorter._is_unused = n, True  # noqa: SLF001 - of the same class
        return shorter

    def __await__(self) -> Generator[Any, Any, PageT]:
        """One page."""
        self._is_unused = False
        return self._one_page().__await__()

    def send(self, value: Any, /) -> Any:
        """Advance the call of one page; part of the coroutine interface, with which a task can run the list."""
        return self._coroutine().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error in the call of one page; part of the coroutine interface."""
        return self._coroutine().throw(*error)

    def close(self) -> None:
        """End the call of one page; part of the coroutine interface."""
        self._is_unused = False
        if self._started is not None:
            self._started.close()

    def _coroutine(self) -> Coroutine[Any, Any, PageT]:
        if self._started is None:
            self._is_unused = False
            self._started = self._one_page()
        return self._started

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        """Every item from ``offset`` on, each once."""
        async for page in self.pages():
            for item in page:
                yield item

    async def pages(self) -> AsyncIterator[Sequence[ItemT]]:
        """The items page by page, without those of the two pages before; no page is empty."""
        self._is_unused = False
        limit, left = self._largest_page(), self._wanted
        offset = self._offset or 0
        before: set[str] = set()
        last: set[str] = set()
        grew = False
        # take(n) bounds the iteration itself.
        rounds = range(MAX_PAGES) if left is None else itertools.count()
        for _ in rounds:
            page = await self._page(limit, offset)
            items = self._endpoint.items(page)
            new = [item for item in items if item.id not in before and item.id not in last][:left]
            if new:
                yield new
            if left is not None:
                left -= len(new)
            # A page without a new item: the list grew by a page meanwhile. The second such page in a row: the server
            # ignores the offset, even if it states that there is more.
            stuck = not items or (grew and not new)
            if left == 0 or stuck or not _has_more(page.pagination, len(items), limit):
                return
            grew = not new
            offset += len(items)
            before, last = last, {item.id for item in items}
        raise ZenovayError(
            f"{self._call.path}: more than {MAX_PAGES} pages of {limit}; "
            "limit the number of items with take(n), or start later with offset="
        )

    async def table(self) -> PageT:
        """Request every item from ``offset`` on, or those of :meth:`take`, each once.

        Returns:
            All items, as one page without a ``pagination``: a ``Table``.

        Raises:
            ZenovayError: As for iterating; use :meth:`pages` to keep the items until then.
        """
        return self._endpoint.join([item async for item in self])

    def _largest_page(self) -> int:
        max_limit = self._endpoint.max_limit
        return min(self._limit or max_limit, self._wanted or max_limit)

    def _one_page(self) -> Coroutine[Any, Any, PageT]:
        return self._page(self._limit if self._wanted is None else self._largest_page(), self._offset)

    async def _page(self, limit: int | None, offset: int | None) -> PageT:
        position = encode_query({"limit": limit, "offset": offset or None})
        query = join_query(self._call.query, position)
        return (await self._caller.send(Call(self._endpoint, self._call.path, query), self._timeout)).data


def _has_more(pagination: Pagination | None, items: int, limit: int) -> bool:
    # Some lists have no documented pagination object; their last page is the first that is not full.
    return items >= limit if pagination is None else pagination.has_more
