"""What the clients of one key share, in one thread of one process.

All clients that are used in a thread with the same key and base URL share one monthly quota; those that have the same
``rate_limit`` and window too share one limiter and one retry budget, as the API counts them as one.

Clients with another ``rate_limit`` or window have another limiter: a limiter has one limit. So a client with ``"auto"``
and one with a figure may together send more than the plan allows, until a 429 slows both. Give each a share of the
plan, or both the same limit.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, WeakValueDictionary

import msgspec

from zenovay_async._limits.neighbors import NEIGHBORS
from zenovay_async._limits.outage_gate import OutageGate
from zenovay_async._limits.quota import QuotaGuard
from zenovay_async._limits.retry_budget import RetryBudget
from zenovay_async._limits.round_trip import RoundTrip
from zenovay_async._limits.sharing.exchange import Exchange
from zenovay_async._limits.sharing.limiter import SharedLimiter
from zenovay_async._limits.sharing.state import VERSION
from zenovay_async._limits.stores import make_store
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.events import emit_to_all
from zenovay_async.rate_limits import RateLimiter, Store

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from zenovay_async._limits.options import Limits
    from zenovay_async._protocol.auth import Auth
    from zenovay_async.events import Event, ListenerRef

_logger = logging.getLogger("zenovay_async.limits")


class Entry(msgspec.Struct, frozen=True):
    """What distinguishes a key and its limits from others.

    Attributes:
        account: A digest of the key, so that nothing holds the key itself, and the base URL.
        limiter: The limit, or the identity of a custom limiter; the window; the store, or the identity of a custom one.
    """

    account: tuple[bytes, str]
    limiter: tuple[object, float, object]

    @property
    def name(self) -> str:
        """Name of the shared state in a store; it says neither the key nor the base URL."""
        key, base_url = self.account
        limit, window, _ = self.limiter
        # Of the version too, so that another one that reads the state differently has its own.
        digest = hashlib.sha256(key + f"{base_url} {limit} {window}".encode()).hexdigest()
        return f"{VERSION}-{digest[:32]}"


def entry_of(auth: Auth, base_url: str, limits: Limits) -> Entry:
    """The entry of a client.

    Args:
        auth: The key.
        base_url: Base URL of the API.
        limits: The client's options.
    """
    limit = limits.rate_limit
    custom = id(limit) if isinstance(limit, RateLimiter) else limit
    store = limits.shared_store
    # An int and a float of the same window are one, in the name too.
    window = float(limits.window)
    place = store if store is None or isinstance(store, str) else id(store)
    return Entry((hashlib.sha256(auth.key.encode()).digest(), base_url), (custom, window, place))


class Account:
    """The monthly quota of one key, for all its clients, whatever their ``rate_limit``."""

    def __init__(self, key: tuple[bytes, str]) -> None:
        self.key = key
        self.listeners: WeakSet[ListenerRef] = WeakSet()
        self.quota = QuotaGuard(on_event=lambda event: emit_to_all(self.listeners, event))


class Shared:
    """Limiter, quota and retries of one key, for all its clients with the same ``rate_limit``."""

    def __init__(self, limits: Limits, account: Account, name: str) -> None:
        self.account = account
        self.listeners: WeakSet[ListenerRef] = WeakSet()
        self.own_limiter = self._make_limiter(limits, name)
        given = limits.rate_limit
        self.limiter: RateLimiter | None = given if isinstance(given, RateLimiter) else self.own_limiter
        self.quota = account.quota
        self.retries = RetryBudget()
        self.outage_gate = OutageGate(self._emit)
        # Whether other processes share it too. Each call reads it.
        self.is_shared = False
        if isinstance(self.own_limiter, SharedLimiter):
            self.is_shared = True
            self.own_limiter.exchange = Exchange(
                self.quota,
                self.outage_gate,
                self.retries,
                self.own_limiter.request_update,
                self.fail_all_waiters,
            )
        self.window = limits.window
        self.has_warned = False
        self.round_trip = RoundTrip()
        # Calls that others may join, by what makes two calls equal; kept here, as they are those of a key in a thread.
        self.flights: dict[Hashable, Any] = {}
        # Whether a request was settled since the registry looked last, and when it was used according to that.
        self.is_used = True
        self.used_at = monotonic()

    def listen(self, listeners: Iterable[ListenerRef]) -> None:
        """Emit events to listeners until they are garbage collected."""
        for heard in (self.listeners, self.account.listeners):
            heard.update(listeners)

    def unlisten(self, listeners: Iterable[ListenerRef]) -> None:
        """Emit no further events to listeners."""
        for heard in (self.listeners, self.account.listeners):
            heard.difference_update(listeners)

    def on_quota_exhausted(self, retry_after: float | None) -> None:
        """Record that the server reported the quota exhausted, and fail the callers that wait for a permit."""
        self.quota.mark_exhausted(retry_after)
        self.fail_all_waiters()

    def fail_all_waiters(self) -> None:
        """Fail the callers of the key that wait for a permit, whatever their ``rate_limit``: the quota is exhausted."""
        in_use = REGISTRY.in_use()
        for mine in [shared for shared in in_use if shared.account is self.account]:
            # A custom limiter may serve other keys as well; then the callers of this key wait on until Budget.acquire
            # rejects them.
            if len([shared for shared in in_use if shared.limiter is mine.limiter]) == 1:
                mine.fail_waiters()

    def fail_waiters(self) -> None:
        """Fail the callers that wait for a permit, as the quota is exhausted."""
        if self.limiter is None:
            return
        try:
            self.limiter.fail_waiters(self.quota.exhausted_error)
        except Exception:
            _logger.exception("The rate limiter failed to fail its waiters")

    def _emit(self, event: Event) -> None:
        emit_to_all(self.listeners, event)

    def _make_limiter(self, limits: Limits, name: str) -> WindowLimiter | SharedLimiter | None:
        wanted, store = limits.rate_limit, limits.shared_store
        if wanted is None or isinstance(wanted, RateLimiter):
            return None
        limit = None if wanted == "auto" else wanted
        if store is not None:
            return SharedLimiter(
                make_store(store),
                name,
                limit=limit,
                window=limits.window,
                owns_store=not isinstance(store, Store),
                on_event=self._emit,
            )
        return WindowLimiter(
            limit=limit,
            window=limits.window,
            on_event=self._emit,
            processes=NEIGHBORS.count(limits),
            watch=NEIGHBORS.watch(self.account.key, limits),
        )


# So many keys are kept at least, and besides all that were used within the last two windows: an older request counts
# for nothing.
_KEPT = 256
_WINDOWS_KEPT = 2
# Keys that are looked at for each new one.
_LOOKS = 8


# What a key has left outlives its clients: a program that makes a client for each request that it serves would learn
# the limit anew each time, and spend it anew.
class Registry:
    """What the keys share, by key, limits and thread."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all, without a look at it, as another thread of a forked process's parent may have been using it."""
        self._lock = threading.Lock()
        self.shared: WeakValueDictionary[tuple[int, Entry], Shared] = WeakValueDictionary()
        self._accounts: WeakValueDictionary[tuple[int, tuple[bytes, str]], Account] = WeakValueDictionary()
        self._kept: OrderedDict[tuple[int, Entry], Shared] = OrderedDict()

    def forget(self) -> None:
        """Forget all; who has found something of it may go on with that."""
        with self._lock:
            self.shared.clear()
            self._accounts.clear()
            self._kept.clear()

    def find(self, entry: Entry, limits: Limits) -> Shared:
        """What the clients of this thread share: an event loop belongs to a thread, and so does a limiter."""
        thread = threading.get_ident()
        key, account_key = (thread, entry), (thread, entry.account)
        with self._lock:
            shared = self.shared.get(key)
            if shared is None:
                account = self._accounts.get(account_key)
                if account is None:
                    account = self._accounts[account_key] = Account(entry.account)
                shared = self.shared[key] = Shared(limits, account, entry.name)
            shared.is_used = True
            self._kept[key] = shared
            self._kept.move_to_end(key)
            self._drop_unused()
        return shared

    def in_use(self) -> list[Shared]:
        """What is in use, of all keys and threads."""
        # valuerefs() makes a list, as other threads may add to the registry meanwhile.
        return [shared for reference in self.shared.valuerefs() if (shared := reference()) is not None]

    def _drop_unused(self) -> None:
        now = monotonic()
        for _ in range(_LOOKS):
            if len(self._kept) <= _KEPT:
                return
            key, shared = next(iter(self._kept.items()))
            if shared.is_used:
                shared.is_used, shared.used_at = False, now
                self._kept.move_to_end(key)
            elif now - shared.used_at < _WINDOWS_KEPT * shared.window:
                return
            else:
                del self._kept[key]


REGISTRY = Registry()
"""The registry of this process."""
