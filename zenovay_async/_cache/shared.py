"""SharedTier: the responses that several processes share, and which of them requests one that is missing.

A **lease** says that one process requests a response. The others wait for it, looking with growing pauses, each within
its own deadline. The first one that sees a lease end without a response acquires it, and the others wait on.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import msgspec

from zenovay_async._cache.entry import CachedResponse, decode, encode
from zenovay_async._cache.invalidation import Scope
from zenovay_async._cache.store_link import SHORTEST_SLEEP, StoreLink, StoreLost
from zenovay_async.exceptions import ClientClosedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from zenovay_async._cache.stats import Counters
    from zenovay_async._cache.store import CacheStore, Found
    from zenovay_async._protocol.call import Call
    from zenovay_async.events import Event

# Seconds between two looks while another process has the lease, and their share of the time waited so far.
_MIN_PAUSE, _MAX_PAUSE, _PAUSE_SHARE = 0.01, 0.5, 0.25
# Each pause is shortened at random, so that processes do not look at once.
_SHORTEST_SHARE = 0.75
# Seconds for which a direct call waits for the background request of another process.
_BACKGROUND_PATIENCE = 1.0
# Seconds to the deadline that a waiting call keeps for a request of its own; half of its time if it has less than two.
_RESERVE = 1.0


class Waiting(Protocol):
    """The calls of this process that wait for one response."""

    @property
    def background(self) -> bool:
        """Whether all of them belong to a batch or a refresh; a direct call may join them at any time."""
        ...

    def remaining(self) -> float:
        """Seconds to the latest of their deadlines, which may be ``inf``, and later once another call joins."""
        ...


class Lease:
    """That this process requests a response; or that it does so without a lease, beside others or without the store.

    At most one of its methods has an effect, and only the first time. They do not wait: the store learns of it soon.
    """

    __slots__ = ("__weakref__", "_is_settled", "_tier", "began_at", "is_held", "is_outdated", "loop", "name")

    def __init__(self, tier: SharedTier, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.loop = loop
        self.began_at = -math.inf
        self.is_held = False
        self.is_outdated = False
        self._tier = tier
        self._is_settled = False

    def keep_soon(self, entry: CachedResponse) -> None:
        """Keep the response for all processes."""
        if self._settle():
            self._tier.keep_soon(self, entry)

    def drop_soon(self) -> None:
        """Remove the response that is kept, as the server has no such one any more."""
        if self._settle():
            self._tier.drop_soon(self)

    def release_soon(self) -> None:
        """Keep nothing; another process may request it."""
        if self._settle() and self.is_held:
            self._tier.release_soon(self)

    def _settle(self) -> bool:
        is_first, self._is_settled = not self._is_settled, True
        return is_first


class SharedTier:
    """What stands between the cache of a process and a store.

    Args:
        store: The store.
        emit: Called with each event.
        counters: Counts the losses of the store.
        keep_invalidations: Seconds for which an invalidation is remembered: as long as any response is kept.
        clock: The time in seconds, in which the times of responses are.
        rng: Draws pauses.
    """

    def __init__(
        self,
        store: CacheStore,
        emit: Callable[[Event], None],
        counters: Counters,
        *,
        keep_invalidations: float,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads requests, keeps no secret
        self._link = StoreLink(store, emit, counters, keep_invalidations=keep_invalidations, clock=clock, rng=self._rng)
        # The leases of this process, from before they are acquired until the store knows how they ended.
        self._leases: WeakValueDictionary[str, Lease] = WeakValueDictionary()
        # The invalidations that were found last, as found and with their scopes, the latest first; and the offset.
        self._offset = 0.0
        self._found: Mapping[str, float] = {}
        self._invalidations: list[tuple[float, Scope]] = []

    @property
    def is_lost(self) -> bool:
        """Whether the store is lost, so that no other process sees what is kept."""
        return self._link.is_lost

    async def find(self, name: str, call: Call[Any]) -> CachedResponse | None:
        """Find a response that is neither too old nor invalidated; ``None`` if there is none, or the store is lost."""
        unrecorded = dict(self._link.unrecorded)
        found = await self._link.find(name)
        return None if found is None else self._read(name, found, call, unrecorded)

    def is_outdated(self, name: str, call: Call[Any]) -> bool:
        """Whether this process requests a response, and it was invalidated since, as far as found last.

        From then on no other call of this process waits for that one.
        """
        lease = self._leases.get(name)
        if lease is None or not self._is_invalidated(name, call, lease.began_at):
            return False
        lease.is_outdated = True
        return True

    async def acquire(
        self, name: str, call: Call[Any], waiting: Waiting, accept: Callable[[CachedResponse], bool]
    ) -> CachedResponse | Lease:
        """Acquire the lease of a response, or wait for the response while another process has it.

        Args:
            name: Name of the response.
            call: The call that it is of.
            waiting: Who waits for it.
            accept: Whether a response may be used.

        Returns:
            A response that came meanwhile, or the lease for a request.
        """
        lease = await self._try_lease(name, background=waiting.background)
        if lease is None:
            outcome = await self._wait(name, call, waiting, accept)
            if not isinstance(outcome, Lease):
                return outcome
            lease = outcome
        if not lease.is_held:
            return lease
        try:
            entry = await self.find(name, call)
            if entry is None or not accept(entry):
                return lease
        except BaseException:
            lease.release_soon()
            raise
        lease.release_soon()
        return entry

    async def try_acquire(self, name: str) -> Lease | None:
        """Acquire the lease of a response for a refresh; ``None`` if another process has it."""
        return await self._try_lease(name, background=True)

    def invalidate_soon(self, scope: Scope) -> Awaitable[None]:
        """Invalidate all responses within a scope whose request began before now.

        Returns:
            To be awaited by whoever needs to know that all processes see it; while the store is lost, they see it once
            it is back.

        Raises:
            ClientClosedError: No event loop is running.
        """
        # A future of its own: who is canceled while it waits does not cancel the task, nor the task who waits.
        recorded: asyncio.Future[None] = self._link.bind().create_future()

        def end(_: asyncio.Task[None]) -> None:
            if not recorded.done():
                recorded.set_result(None)

        self._link.record_soon(scope).add_done_callback(end)
        for lease in list(self._leases.values()):
            lease.is_outdated = True
        return recorded

    async def aclose(self) -> None:
        """Write what is pending, and close the store, within a second; a later use opens it again."""
        await self._link.aclose()

    def keep_soon(self, lease: Lease, entry: CachedResponse) -> None:
        """End a lease with a response."""
        self._end_soon(lease, lambda: self._put(lease, entry))

    def drop_soon(self, lease: Lease) -> None:
        """End a lease, and remove the response that is kept."""
        self._end_soon(lease, lambda: self._link.store.remove(lease.name))

    def release_soon(self, lease: Lease) -> None:
        """End a lease without a response."""
        self._end_soon(lease, lambda: self._link.store.release_lease(lease.name))

    async def _put(self, lease: Lease, entry: CachedResponse) -> None:
        store, seconds = self._link.store, entry.expires_at - self._clock()
        if seconds > 0:
            if self._link.offset is None:
                self._link.offset = (await store.find(lease.name)).offset
            await store.put(lease.name, encode(entry, self._link.offset), seconds)
        elif lease.is_held:
            await store.release_lease(lease.name)

    def _end_soon(self, lease: Lease, operation: Callable[[], Awaitable[None]]) -> None:
        holder = self._leases.get(lease.name)
        if lease.is_held and holder is not None and holder is not lease:
            # A newer call of this process has the lease now.
            return
        # Without an event loop the process, or its loop, is about to end; so does the lease.
        with suppress(ClientClosedError):
            if not self._link.is_lost:
                self._link.start(lambda: self._end(lease, operation))
                return
            self._forget(lease)
            if lease.is_held:
                self._link.unreleased.add(lease.name)
                self._link.flush_soon()

    async def _end(self, lease: Lease, operation: Callable[[], Awaitable[None]]) -> None:
        if lease.is_held:
            self._link.unreleased.add(lease.name)
        try:
            await self._link.use(operation)
        except StoreLost:
            self._link.flush_soon()
        else:
            self._link.unreleased.discard(lease.name)
        finally:
            self._forget(lease)

    def _forget(self, lease: Lease) -> None:
        if self._leases.get(lease.name) is lease:
            del self._leases[lease.name]

    async def _try_lease(self, name: str, *, background: bool, steal: bool = False) -> Lease | None:
        """Acquire a lease if nobody else has it; one that holds nothing if the store is lost."""
        loop = self._link.bind()
        lease = Lease(self, name, loop)
        lease.began_at = self._clock()
        if self._link.is_lost:
            return lease
        if not steal and self._holder(name, loop) is not None:
            return None
        self._leases[name] = lease
        # In a task, as one that is canceled may be acquired all the same.
        task = self._link.start(lambda: self._take(lease, background=background, steal=steal))
        try:
            await asyncio.wait([task])
        except BaseException:
            task.add_done_callback(lambda _: lease.release_soon())
            raise
        return lease if task.cancelled() or task.result() else None

    async def _take(self, lease: Lease, *, background: bool, steal: bool) -> bool:
        """Acquire a lease; returns whether nobody else has it, as far as known."""
        store, name = self._link.store, lease.name
        try:
            lease.is_held = await self._link.use(lambda: store.acquire_lease(name, background=background, steal=steal))
        except BaseException as error:
            # It may have it all the same.
            self._link.unreleased.add(name)
            if not isinstance(error, StoreLost):
                raise
            self._link.flush_soon()
            return True
        finally:
            if not lease.is_held:
                self._forget(lease)
        self._link.unreleased.discard(name)
        return lease.is_held

    def _holder(self, name: str, loop: asyncio.AbstractEventLoop) -> Lease | None:
        """The lease of another call of this process, for whose response it is worth waiting."""
        holder = self._leases.get(name)
        return None if holder is None or holder.is_outdated or holder.loop is not loop else holder

    async def _wait(
        self, name: str, call: Call[Any], waiting: Waiting, accept: Callable[[CachedResponse], bool]
    ) -> CachedResponse | Lease:
        """Wait for the response that another process requests, or until it is better not to."""
        loop = self._link.bind()
        began = loop.time()
        direct_since: float | None = None
        while True:
            unrecorded = dict(self._link.unrecorded)
            found = await self._link.find(name)
            if found is None:
                return Lease(self, name, loop)
            entry = self._read(name, found, call, unrecorded)
            if entry is not None and accept(entry):
                return entry
            now = loop.time()
            patience = _BACKGROUND_PATIENCE
            if waiting.background:
                direct_since = None
            else:
                direct_since = now if direct_since is None else direct_since
                patience = direct_since + _BACKGROUND_PATIENCE - now
            may_steal = found.lease == "background" and patience <= 0
            remaining, waited = waiting.remaining(), now - began
            spare = max(remaining - _RESERVE, (remaining - waited) / 2)
            is_requested = found.lease is not None or self._holder(name, loop) is not None
            if may_steal or not is_requested or spare <= 0:
                lease = await self._try_lease(name, background=waiting.background, steal=may_steal)
                if lease is not None or spare <= 0:
                    return lease or Lease(self, name, loop)
                # Another one was faster, of this process or of another one.
                direct_since = now
                continue
            pause = min(_PAUSE_SHARE * waited, _MAX_PAUSE) * self._rng.uniform(_SHORTEST_SHARE, 1.0)
            longest = min(spare, patience) if found.lease == "background" else spare
            await asyncio.sleep(max(min(max(pause, _MIN_PAUSE), longest), SHORTEST_SLEEP))

    def _read(
        self, name: str, found: Found, call: Call[Any], unrecorded: Mapping[Scope, float]
    ) -> CachedResponse | None:
        """Decode what was found; ``None`` for what is not valid."""
        if found.invalidations != self._found:
            self._parse(found.invalidations)
        self._offset = found.offset
        if found.value is None:
            return None
        entry, now = decode(found.value, found.offset), self._clock()
        if entry is None or entry.expires_at <= now:
            return None
        if self._is_invalidated(name, call, entry.began_at):
            return None
        for scope, when in unrecorded.items():
            if when >= entry.began_at and _covers(scope, name, call):
                return None
        # The clock of another machine is known to half a round trip. What comes from there is no newer than now.
        return entry if entry.stored_at <= now else msgspec.structs.replace(entry, stored_at=now)

    def _is_invalidated(self, name: str, call: Call[Any], began_at: float) -> bool:
        """Whether a response whose request began then was invalidated since, as far as the store knew last."""
        for when, scope in self._invalidations:
            # In the time of this process, rounded as the entry's is.
            if when - self._offset < began_at:
                return False
            if _covers(scope, name, call):
                return True
        return False

    def _parse(self, invalidations: Mapping[str, float]) -> None:
        scopes = {scope.name: scope for _, scope in self._invalidations}
        self._invalidations = sorted(
            ((when, scopes.get(name) or Scope.parse(name)) for name, when in invalidations.items()),
            key=lambda invalidation: -invalidation[0],
        )
        self._found = dict(invalidations)


def _covers(scope: Scope, name: str, call: Call[Any]) -> bool:
    """Whether an invalidation concerns a response: of that account, and within that scope."""
    is_of_account = scope.account is None or name.startswith(scope.account)
    return is_of_account and scope.covers(call.operation, call.path, call.query)
