"""Whose store of shared responses it is: one for each thread, for all clients of a cache there."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

from zenovay_async._cache.shared import SharedTier
from zenovay_async.events import emit_to_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._cache.stats import Counters
    from zenovay_async._cache.store import CacheStore
    from zenovay_async.events import Event, ListenerRef


class Members:
    """The clients that use a store in one thread.

    Args:
        make_tier: Makes the tier in front of the store, given what emits its events.

    Attributes:
        tier: The tier.
    """

    def __init__(self, make_tier: Callable[[Callable[[Event], None]], SharedTier]) -> None:
        self._users: WeakSet[object] = WeakSet()
        self._listeners: WeakSet[ListenerRef] = WeakSet()
        self.tier = make_tier(self._emit)

    def join(self, user: object, listener: ListenerRef | None) -> None:
        """Use the tier; events of the store are emitted to the listener until it is garbage collected."""
        self._users.add(user)
        if listener is not None:
            self._listeners.add(listener)

    async def leave(self, user: object) -> None:
        """Close the tier after the last of its users; a later use opens it again."""
        self._users.discard(user)
        if not self._users:
            await self.tier.aclose()

    def _emit(self, event: Event) -> None:
        emit_to_all(self._listeners, event)


# What a forked process inherited: connections that are the parent's, which are not to be closed.
_inherited: list[threading.local] = []


class Tiers:
    """The store of a cache, once for each thread, as an event loop and its connections belong to a thread.

    Args:
        make_store: Makes the store.
        counters: Counts its failures.
        keep_invalidations: Seconds for which the store remembers an invalidation.
        clock: Seconds of this process.
    """

    def __init__(
        self,
        make_store: Callable[[], CacheStore],
        counters: Counters,
        *,
        keep_invalidations: float,
        clock: Callable[[], float],
    ) -> None:
        def make_tier(emit: Callable[[Event], None]) -> SharedTier:
            return SharedTier(make_store(), emit, counters, keep_invalidations=keep_invalidations, clock=clock)

        self._make_tier = make_tier
        self._local = threading.local()
        _tiers.add(self)

    def here(self) -> Members:
        """The clients that use the store in this thread."""
        members: Members | None = getattr(self._local, "members", None)
        if members is None:
            members = self._local.members = Members(self._make_tier)
        return members

    def restart(self) -> None:
        """Share nothing with the parent of a forked process."""
        _inherited.append(self._local)
        self._local = threading.local()


_tiers: WeakSet[Tiers] = WeakSet()


def _restart() -> None:
    for tiers in list(_tiers):
        tiers.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart)
