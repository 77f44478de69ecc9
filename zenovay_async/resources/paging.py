"""Lists that come in pages: awaited, one page; iterated over, every item, each page asked for when its turn comes.

Source: docs "GET /analytics/:websiteId/visitors" and "GET /replays/:websiteId/sessions" (``limit``, ``offset``,
``data.pagination.has_more``). Lists are newest first, so new items push the others back between two calls; those
that come again are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import msgspec

from zenovay_async._protocol.call import Call, Caller, Timeout, optional_int, query, quote_segment, require_int
from zenovay_async._protocol.decoding import Decoder
from zenovay_async.exceptions import ZenovayError

if TYPE_CHECKING:
    from zenovay_async.resources.base import Pagination

MAX_PAGES = 1000
"""Pages that one iteration without ``take`` asks for at most: a tenth of the smallest month."""


class Item(Protocol):
    """What a list is made of."""

    @property
    def id(self) -> str:
        """Tells it from the others."""
        ...


class Page(Protocol):
    """What one call returns of a list."""

    @property
    def pagination(self) -> Pagination | None:
        """Where it stands, if the server says so."""
        ...


PageT = TypeVar("PageT", bound=Page)
ItemT = TypeVar("ItemT", bound=Item)


class PagedEndpoint(msgspec.Struct, Generic[PageT, ItemT], frozen=True):
    """An endpoint that lists in pages.

    Attributes:
        path: Its path, ``{}`` in place of the website's id.
        decoder: Turns a body into a page.
        items: The items of a page.
        max_limit: The most items that one page may have.
    """

    path: str
    decoder: Decoder[PageT]
    items: Callable[[PageT], Sequence[ItemT]]
    max_limit: int


class Paged(Coroutine[Any, Any, PageT], Generic[PageT, ItemT]):
    """A list that comes in pages.

    ``await`` it for one page, at ``limit`` and ``offset``; or iterate over it with ``async for``, for every item from
    ``offset`` on. Iterating asks for the max_limit pages if ``limit`` is left out, as each costs one request whatever
    its size, and asks for a page only when its first item is wanted. Each page has a deadline of its own.

    Raises:
        ConfigurationError: An argument is out of range; raised by the method that returns this.
        ZenovayError: As for any call; also when the list goes on after 1000 pages without :meth:`take`.
    """

    def __init__(
        self,
        session: Caller,
        listing: PagedEndpoint[PageT, ItemT],
        website_id: str,
        timeout: Timeout,
        *,
        limit: int | None,
        offset: int | None,
        **parameters: Any,
    ) -> None:
        self._session = session
        self._listing = listing
        self._path = listing.path.format(quote_segment(website_id))
        self._timeout = timeout
        self._limit = optional_int("limit", limit, high=listing.largest)
        self._offset = optional_int("offset", offset, low=0)
        self._parameters = parameters
        self._most: int | None = None
        self._started: Coroutine[Any, Any, PageT] | None = None

    def take(self, n: int) -> Self:
        """The same list, ended after ``n`` items; without this, iterating ends after 1000 pages with an error.

        It holds for :meth:`pages` too, whose last page is cut to what is left; and where it is awaited, the one page
        is asked for with ``n`` items at most.

        Args:
            n: Items, 1 or more.

        Raises:
            ConfigurationError: ``n`` is no whole number of 1 or more.
        """
        shorter = copy(self)
        shorter._most = require_int("n", n)  # noqa: SLF001 - of the same class
        return shorter

    def __await__(self) -> Generator[Any, Any, PageT]:
        """One page."""
        return self._one_page().__await__()

    def send(self, value: Any, /) -> Any:
        """Step through one page's call: what makes this a coroutine, so that a task can be made of it."""
        return self._coroutine().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error in one page's call; likewise."""
        return self._coroutine().throw(*error)

    def close(self) -> None:
        """End one page's call; likewise."""
        if self._started is not None:
            self._started.close()

    def _coroutine(self) -> Coroutine[Any, Any, PageT]:
        if self._started is None:
            self._started = self._one_page()
        return self._started

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        """Every item from ``offset`` on, each once."""
        async for page in self.pages():
            for item in page:
                yield item

    async def pages(self) -> AsyncIterator[Sequence[ItemT]]:
        """The items page by page, without those that the two pages before had already; no page is empty."""
        limit, left = self._largest_page(), self._most
        offset = self._offset or 0
        before: set[str] = set()
        last: set[str] = set()
        grew = False
        # take() is an end of its own.
        turns = range(MAX_PAGES) if left is None else itertools.count()
        for _ in turns:
            page = await self._page(limit, offset)
            items = self._listing.items(page)
            new = [item for item in items if item.id not in before and item.id not in last][:left]
            if new:
                yield new
            if left is not None:
                left -= len(new)
            # A list that grew by a page meanwhile shows that page again; twice in a row, it is a server that does not
            # count on, whatever it says of there being more.
            stuck = not items or (grew and not new)
            if left == 0 or stuck or not _has_more(page.pagination, len(items), limit):
                return
            grew = not new
            offset += len(items)
            before, last = last, {item.id for item in items}
        raise ZenovayError(
            f"{self._path} goes on after {MAX_PAGES} pages of {limit}; say with take(n) how many items are wanted, "
            "or start further back with offset"
        )

    def _largest_page(self) -> int:
        max_limit = self._listing.largest
        return min(self._limit or max_limit, self._most or max_limit)

    def _one_page(self) -> Coroutine[Any, Any, PageT]:
        return self._page(self._limit if self._most is None else self._largest_page(), self._offset)

    async def _page(self, limit: int | None, offset: int | None) -> PageT:
        call = Call(
            "GET", self._path, self._listing.decoder, query(**self._parameters, limit=limit, offset=offset or None)
        )
        return await self._session.fetch(call, self._timeout)


def _has_more(pagination: Pagination | None, items: int, limit: int) -> bool:
    # Where the object is not documented, a page that is not full is the last.
    return items >= limit if pagination is None else pagination.has_more
