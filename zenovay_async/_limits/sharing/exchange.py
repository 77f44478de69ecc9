"""What a shared budget exchanges besides permits, with each update of its store: outage, monthly quota, retries.

Each of the three keeps what it saw last. What differs from that in this process is **news**, which
:meth:`Exchange.write` brings into the state; what differs in the state is adopted by :meth:`Exchange.read`. Only a read
ends news, so that an update that is lost, or made anew on a newer state, loses nothing and counts nothing twice.

Where only one of two states can be right (the server is away or it is not, the quota is exhausted or it is not), each
change has a number, and the greater one is newer. So a store that was emptied, or is older, gets what this process
knows.

Times of the state are of the store's clock, but for dates that the server stated. Values that make no sense, as another
version may write them, are ignored or bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zenovay_async._limits.sharing.outage_news import OutageNews
from zenovay_async._limits.sharing.quota_news import QuotaNews

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._limits.outage_gate import OutageGate
    from zenovay_async._limits.quota import QuotaGuard
    from zenovay_async._limits.retry_budget import RetryBudget
    from zenovay_async._limits.sharing.state import SharedState


class Exchange:
    """Brings the news of this process into the shared state, and those of others out of it.

    Args:
        quota: The monthly quota of the key.
        outage_gate: Whether the server is away.
        retries: The retries of the key.
        request_update: Called when something happened that others must know soon; it must not update at once.
        on_exhausted: Called when another process reported the quota exhausted, to fail the callers that wait.

    Attributes:
        has_news: Whether the last write brought anything in but counts, which the next one brings as well.
        others_in_flight: Requests that other processes have in flight; kept by the limiter.
    """

    def __init__(
        self,
        quota: QuotaGuard,
        outage_gate: OutageGate,
        retries: RetryBudget,
        request_update: Callable[[], None],
        on_exhausted: Callable[[], None],
    ) -> None:
        self._quota = quota
        self._request_update = request_update
        self._on_exhausted = on_exhausted
        self._quota_news = QuotaNews(quota)
        self._outage_news = OutageNews(outage_gate)
        self._retry_news = _RetryNews(retries)
        self.has_news = False
        self.others_in_flight = 0
        quota.watchers.add(self)
        outage_gate.on_change = request_update

    def write(self, state: SharedState, me: str, now: float) -> bool:
        """Bring own news into the state; called in each update, perhaps again with a newer state.

        Args:
            state: The state, to be changed in place.
            me: Name of this member.
            now: Time of the store's clock.

        Returns:
            Whether all others have to look at once.
        """
        self._retry_news.write(state)
        rings = self._outage_news.write(state, me, now)
        rings = self._quota_news.write(state.quota, now) or rings
        self.has_news = self._retry_news.is_any or self._outage_news.is_any or self._quota_news.is_any
        return rings

    def read(self, state: SharedState, me: str, now: float) -> None:
        """Adopt what others wrote, once the update that called :meth:`write` is done: own news are delivered."""
        self._retry_news.read(state)
        self._outage_news.read(state, me, now)
        adopted = self._quota_news.read(state.quota, now)
        if adopted is not None and self._quota.adopt(adopted, watcher=self):
            self._on_exhausted()

    def on_quota_change(self) -> None:
        """Deliver soon that the quota became exhausted, or is not any more, or that a probe began."""
        self._request_update()


class _RetryNews:
    """The tokens spent and earned since the last exchange."""

    def __init__(self, retries: RetryBudget) -> None:
        self._retries = retries
        self._seen = self._written = retries.CAPACITY

    @property
    def is_any(self) -> bool:
        return self._written != self._seen

    def write(self, state: SharedState) -> None:
        tokens = self._written = self._retries.tokens
        shared = state.retries
        state.retries = tokens if shared is None else self._bounded(shared + tokens - self._seen)

    def read(self, state: SharedState) -> None:
        if state.retries is None:
            return
        # What happened since the write is news of the next one.
        since = self._retries.tokens - self._written
        self._seen = self._written = self._bounded(state.retries)
        self._retries.tokens = self._bounded(self._seen + since)

    def _bounded(self, tokens: float) -> float:
        # The greater of a number and nan is the number if it comes first.
        return max(0.0, min(self._retries.CAPACITY, tokens))
