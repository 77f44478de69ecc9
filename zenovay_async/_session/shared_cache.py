"""SharedCachingCaller: a CachingCaller whose cache has a store, which several processes share."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from zenovay_async._cache.entry import CachedResponse
from zenovay_async._cache.memory import Key, Record, account_name
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout
from zenovay_async._session.cache import MIN_TIMEOUT, CachingCaller
from zenovay_async._session.connection_pool import headers_view
from zenovay_async._session.kept_responses import MIN_PAUSE, NOT_FOUND
from zenovay_async.exceptions import APITimeoutError, ZenovayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from zenovay_async._cache.invalidation import Scope
    from zenovay_async._cache.memory import Account
    from zenovay_async._cache.options import CacheParts
    from zenovay_async._cache.shared import Lease, SharedTier
    from zenovay_async._cache.tiers import Members, Tiers
    from zenovay_async._limits.budget import Budget
    from zenovay_async._protocol.call import Call
    from zenovay_async._protocol.response import Response
    from zenovay_async._session.coalescing import Coalescer
    from zenovay_async._session.kept_responses import KeptResponses
    from zenovay_async._session.session import Session
    from zenovay_async._session.state import CallState
    from zenovay_async._session.transport import Transport
    from zenovay_async.events import ListenerRef

T = TypeVar("T")

# Share of a timeout. If the store took less of it, the timeout is as good as whole.
_NEGLIGIBLE = 0.05


class SharedCachingCaller(CachingCaller):
    """Returns responses that this process or another one keeps.

    Args:
        parts: Those of the cache.
        kept: Makes responses of what is kept, and keeps others.
        account: Whose they are.
        tiers: The store of the cache.
        listener: Gets the events of the store.
        max_age: As for a :class:`CachingCaller`, and so are the others.
        session: Likewise.
        coalescer: Likewise.
        transport: Likewise.
        budget: Likewise.
    """

    def __init__(
        self,
        parts: CacheParts,
        kept: KeptResponses,
        account: Account,
        *,
        tiers: Tiers,
        listener: ListenerRef | None,
        max_age: float | None,
        session: Session,
        coalescer: Coalescer,
        transport: Transport,
        budget: Budget,
    ) -> None:
        super().__init__(
            parts,
            kept,
            account,
            max_age=max_age,
            session=session,
            coalescer=coalescer,
            transport=transport,
            budget=budget,
        )
        self._tiers = tiers
        self._members: Members | None = None
        self._account_name = account_name(account)
        self._listener = listener

    async def send(self, call: Call[T], timeout: Timeout = NOT_GIVEN) -> Response[T]:
        """Return a response that is kept, or carry out a call; see :meth:`CachingCaller.send`."""
        if not self._may_use(call):
            return await super().send(call, timeout)
        state = self._session.begin(call, timeout)
        self._transport.check_open()
        key, tier = self._key_of(call), self._tier()
        name = self._name_of(key)
        whole = state.remaining()
        try:
            async with asyncio.timeout_at(state.deadline):
                entry = await tier.find(name, call)
        except TimeoutError:
            raise _deadline_error(state) from None
        # What the store does not have is gone for all.
        record = self._remember(key, entry) if entry is not None else self._memory.find(key) if tier.is_lost else None
        if record is not None:
            response = self._use(record, call, key)
            if response is not None:
                return response
        if tier.is_outdated(name, call):
            # Invalidated by another process.
            self._coalescer.forget_call(call)
        left = state.remaining()
        if whole - left > _NEGLIGIBLE * whole:
            timeout = max(MIN_TIMEOUT, left)
        return await self._request(call, timeout, key, state)

    def invalidate(self, scope: Scope) -> Awaitable[None]:
        """Invalidate the responses of this account within a scope; see :meth:`CachingCaller.invalidate`."""
        super().invalidate(scope)
        return self._tier().invalidate_soon(msgspec.structs.replace(scope, account=self._account_name))

    async def aclose(self) -> None:
        """Close the cache's store, if no other client uses it in this thread."""
        members, self._members = self._members, None
        if members is not None and members is self._tiers.here():
            await members.leave(self)

    async def _fetch(self, key: Key, state: CallState[Any], lease: Lease | None = None) -> Response[Any]:
        """Request a response, unless another process does; then wait for that one."""
        if lease is not None:
            return await super()._fetch(key, state, lease)
        since, call = self._clock(), state.call

        def accept(entry: CachedResponse) -> bool:
            now = self._clock()
            return entry.stored_at >= since or (now < entry.fresh_until and now - entry.stored_at < self._max_age)

        self._session.note_begun(state)
        found = await self._acquire(key, state, accept)
        if not isinstance(found, CachedResponse):
            return await super()._fetch(key, state, found)
        try:
            response = self._respond(key, call, found)
        except ZenovayError as error:
            error.last_waits = state.waits_until_now()
            raise
        return await super()._fetch(key, state) if response is None else state.complete(response)

    async def _acquire(
        self, key: Key, state: CallState[Any], accept: Callable[[CachedResponse], bool]
    ) -> CachedResponse | Lease:
        """Acquire the lease of a response, or wait for it, until the deadline, which others may put off meanwhile."""
        while True:
            with contextlib.suppress(TimeoutError), state.waiting("cache"):
                async with asyncio.timeout_at(state.deadline):
                    return await self._tier().acquire(self._name_of(key), state.call, state, accept)
            if state.remaining() <= 0:
                raise _deadline_error(state)

    async def _refresh(self, key: Key, state: CallState[Any]) -> Response[Any]:
        """Refresh a response, unless another process does."""
        name, call, tier = self._name_of(key), state.call, self._tier()
        lease = await tier.try_acquire(name)
        if lease is None:
            record = self._memory.find(key)
            if record is None or not state.background:
                # A call needs it that cannot do with the stale one.
                return await self._fetch(key, state)
            record.refresh_at = self._clock() + MIN_PAUSE
            response = self._kept.respond(record, call, self._clock() - record.entry.stored_at)
            return response or await self._fetch(key, state)
        try:
            # Another process may have refreshed it just before.
            entry = await tier.find(name, call)
        except BaseException:
            lease.release_soon()
            raise
        if entry is not None and self._clock() < entry.fresh_until:
            lease.release_soon()
            response = self._respond(key, call, entry)
            if response is not None:
                return response
        return await self._fetch_anew(key, state, lease)

    def _respond(self, key: Key, call: Call[Any], entry: CachedResponse) -> Response[Any] | None:
        """Make a response of one that another process kept; ``None`` if this client does not accept it.

        Raises:
            NotFoundError: It is a 404.
        """
        record = self._remember(key, entry)
        if record.entry.status == NOT_FOUND:
            raise self._kept.error_of(record, call)
        return self._kept.respond(record, call, self._clock() - record.entry.stored_at)

    def _remember(self, key: Key, entry: CachedResponse) -> Record:
        """The record in memory of what the store has, or of a later response, which the store will have soon."""
        record = self._memory.find(key)
        if record is not None:
            known = record.entry
            # One that began before may have been invalidated by another process since.
            is_later = known.stored_at > entry.stored_at and known.began_at >= entry.began_at
            if is_later or known.stamp == entry.stamp:
                return record
        record = Record(entry, headers_view(entry.headers))
        self._memory.keep(key, record)
        return record

    def _name_of(self, key: Key) -> str:
        """Name of a response in a store; it says neither the key nor what is asked."""
        _, _, path, query = key
        return self._account_name + hashlib.sha256(f"{path}?{query}".encode()).hexdigest()[:48]

    def _tier(self) -> SharedTier:
        """The store of the cache, in this thread."""
        members = self._tiers.here()
        if members is not self._members:
            members.join(self, self._listener)
            self._members = members
        return members.tier


def _deadline_error(state: CallState[Any]) -> ZenovayError:
    error = APITimeoutError("The deadline passed before the store of the cache responded")
    error.sent = False
    return state.final_error(error)
