"""Lists that come in pages: awaited, one page; iterated over, every item, each page asked for when its turn comes.

Source: docs "GET /analytics/:websiteId/visitors" and "GET /replays/:websiteId/sessions" (``limit``, ``offset``,
``data.pagination.has_more``). Lists are newest first, so new items push the others back between two calls; those
that come again are left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import msgspec

from zenovay_async.core.call import Call, Caller, Timeout, query, segment, whole
from zenovay_async.core.decode import Decoder
from zenovay_async.core.errors import ZenovayError

if TYPE_CHECKING:
    from zenovay_async.resources.base import Pagination

MAX_PAGES = 1000
"""Pages that one iteration asks for at most: a tenth of the smallest month."""


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


class Listing(msgspec.Struct, Generic[PageT, ItemT], frozen=True):
    """An endpoint that lists in pages.

    Attributes:
        path: Its path, ``{}`` in place of the website's id.
        decoder: Turns a body into a page.
        items: The items of a page.
        largest: The most items that one page may have.
    """

    path: str
    decoder: Decoder[PageT]
    items: Callable[[PageT], Sequence[ItemT]]
    largest: int


class Paged(Coroutine[Any, Any, PageT], Generic[PageT, ItemT]):
    """A list that comes in pages.

    ``await`` it for one page, at ``limit`` and ``offset``; or iterate over it with ``async for``, for every item from
    ``offset`` on. Iterating asks for the largest pages if ``limit`` is left out, as each costs one request whatever
    its size, and asks for a page only when its first item is wanted. Each page has a deadline of its own.

    Raises:
        ConfigurationError: An argument is out of range; raised by the method that returns this.
        ZenovayError: As for any call; also when the list goes on after 1000 pages, see :meth:`take`.
    """

    def __init__(
        self,
        session: Caller,
        listing: Listing[PageT, ItemT],
        website_id: str,
        timeout: Timeout,
        *,
        limit: int | None,
        offset: int | None,
        **parameters: Any,
    ) -> None:
        self._session = session
        self._listing = listing
        self._path = listing.path.format(segment(website_id))
        self._timeout = timeout
        self._limit = whole("limit", limit, high=listing.largest)
        self._offset = whole("offset", offset, low=0)
        self._parameters = parameters
        self._most: int | None = None
        self._started: Coroutine[Any, Any, PageT] | None = None

    def take(self, n: int) -> Self:
        """The same list, ended after ``n`` items; without this, iterating ends after 1000 pages with an error.

        Raises:
            ConfigurationError: ``n`` is no whole number of 1 or more.
        """
        self._most = whole("n", n)
        return self

    def __await__(self) -> Generator[Any, Any, PageT]:
        """One page."""
        return self._page(self._limit, self._offset).__await__()

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
            self._started = self._page(self._limit, self._offset)
        return self._started

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        """Every item from ``offset`` on, each once."""
        left = self._most
        async for page in self.pages():
            for item in page:
                yield item
                if left is not None:
                    left -= 1
                    if left == 0:
                        return

    async def pages(self) -> AsyncIterator[Sequence[ItemT]]:
        """The items page by page, without those that the pages before had already."""
        listing = self._listing
        limit = self._limit or min(listing.largest, self._most or listing.largest)
        offset = self._offset or 0
        before: set[str] = set()
        last: set[str] = set()
        for _ in range(MAX_PAGES):
            page = await self._page(limit, offset)
            items = listing.items(page)
            new = [item for item in items if item.id not in before and item.id not in last]
            if new:
                yield new
            # A page of nothing new is a server that does not count on, whatever it says of there being more.
            if not new or not _goes_on(page.pagination, len(items), limit):
                return
            offset += len(items)
            before, last = last, {item.id for item in items}
        raise ZenovayError(
            f"{self._path} goes on after {MAX_PAGES} pages of {limit}; say with take(n) how many items are wanted, "
            "or start further back with offset"
        )

    async def _page(self, limit: int | None, offset: int | None) -> PageT:
        call = Call(
            "GET", self._path, self._listing.decoder, query(**self._parameters, limit=limit, offset=offset or None)
        )
        return await self._session.fetch(call, self._timeout)


def _goes_on(pagination: Pagination | None, items: int, limit: int) -> bool:
    # Where the object is not documented, a page that is not full is the last.
    return items >= limit if pagination is None else pagination.has_more
