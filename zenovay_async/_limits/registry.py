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
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

import msgspec

from zenovay_async._limits.neighbors import NEIGHBORS
from zenovay_async._limits.outage_gate import OutageGate
from zenovay_async._limits.quota import QuotaGuard
from zenovay_async._limits.retry_budget import RetryBudget
from zenovay_async._limits.round_trip import RoundTrip
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.events import emit_to_all
from zenovay_async.rate_limits import RateLimiter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zenovay_async._limits.options import Limits
    from zenovay_async._protocol.auth import Auth
    from zenovay_async.events import Event, Listener

_logger = logging.getLogger("zenovay_async")


class Entry(msgspec.Struct, frozen=True):
    """What distinguishes a key and its limits from others.

    Attributes:
        account: A digest of the key, so that nothing holds the key itself, and the base URL.
        limiter: The limit, or the identity of a custom limiter, and the window.
    """

    account: tuple[bytes, str]
    limiter: tuple[object, float]


def entry_of(auth: Auth, base_url: str, limits: Limits) -> Entry:
    """The entry of a client.

    Args:
        auth: The key.
        base_url: Base URL of the API.
        limits: The client's options.
    """
    limit = limits.rate_limit
    custom = id(limit) if isinstance(limit, RateLimiter) else limit
    return Entry((hashlib.sha256(auth.key.encode()).digest(), base_url), (custom, limits.window))


class Account:
    """The monthly quota of one key, for all its clients, whatever their ``rate_limit``."""

    def __init__(self, key: tuple[bytes, str]) -> None:
        self.key = key
        self.listeners: WeakSet[Listener] = WeakSet()
        self.quota = QuotaGuard(on_event=lambda event: emit_to_all(self.listeners, event))


class Shared:
    """Limiter, quota and retries of one key, for all its clients with the same ``rate_limit``."""

    def __init__(self, limits: Limits, account: Account) -> None:
        self.account = account
        self.listeners: WeakSet[Listener] = WeakSet()
        self.own_limiter = self._make_limiter(limits)
        given = limits.rate_limit
        self.limiter: RateLimiter | None = given if isinstance(given, RateLimiter) else self.own_limiter
        self.quota = account.quota
        self.retries = RetryBudget()
        self.outage_gate = OutageGate(self._emit)
        self.window = limits.window
        self.has_warned = False
        self.round_trip = RoundTrip()
        # Whether a request was settled since the registry looked last, and when it was used according to that.
        self.is_used = True
        self.used_at = monotonic()

    def listen(self, listeners: Iterable[Listener]) -> None:
        """Emit events to listeners until they are garbage collected."""
        for heard in (self.listeners, self.account.listeners):
            heard.update(listeners)

    def unlisten(self, listeners: Iterable[Listener]) -> None:
        """Emit no further events to listeners."""
        for heard in (self.listeners, self.account.listeners):
            heard.difference_update(listeners)

    def on_quota_exhausted(self, retry_after: float | None) -> None:
        """Fail the callers that wait for a permit: the server reported the quota exhausted."""
        self.quota.mark_exhausted(retry_after)
        # valuerefs() makes a list, as other threads may add to the registry meanwhile.
        in_use = [shared for reference in REGISTRY.shared.valuerefs() if (shared := reference()) is not None]
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

    def _make_limiter(self, limits: Limits) -> WindowLimiter | None:
        wanted = limits.rate_limit
        if wanted is None or isinstance(wanted, RateLimiter):
            return None
        limit = None if wanted == "auto" else wanted
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
                shared = self.shared[key] = Shared(limits, account)
            shared.is_used = True
            self._kept[key] = shared
            self._kept.move_to_end(key)
            self._drop_unused()
        return shared

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
