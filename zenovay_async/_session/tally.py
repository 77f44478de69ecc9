"""What the calls of a batch have sent so far, how long their responses took, and how long they waited.

The seconds of responses are counted in a histogram: each of its buckets is five percent wider than the one before, so
that a quantile is right within three percent, however many responses there were.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zenovay_async.rate_limits import OutcomeKind

# Seconds: the bounds of the histogram; what is beyond counts as its first or last bucket.
_SHORTEST = 1e-6
_LONGEST = 1e5
_GROWTH = 1.05
_PER_DOUBLING = 1 / math.log2(_GROWTH)
_log2 = math.log2


class Tally:
    """Counts for one batch.

    Args:
        outer: Those of the batch in whose ``fetch`` it runs, which count the same as well; ``None`` if in none.

    Attributes:
        requests: Requests sent, those without a response included.
        retries: Those of them that a call sent after its first one.
        rate_limited: Those of them that were rate limited.
        charged: Requests that were charged to the monthly quota, or may be: those of attempts to come are reserved.
    """

    __slots__ = (
        *("_buckets", "_outer", "_waited", "_waiting", "_waits_since"),
        *("charged", "rate_limited", "requests", "retries"),
    )

    def __init__(self, outer: Tally | None = None) -> None:
        self._outer = outer
        self.requests = 0
        self.retries = 0
        self.rate_limited = 0
        self.charged = 0
        self._buckets: dict[int, int] = {}
        self._waiting = 0
        self._waits_since = 0.0
        self._waited = 0.0

    def charge(self, requests: int) -> None:
        """Record requests that are charged, or may be; a negative number of those that were not sent after all."""
        self.charged += requests
        if self._outer is not None:
            self._outer.charge(requests)

    def record_request(self, kind: OutcomeKind, *, is_retry: bool) -> None:
        """Record a request that was sent.

        Args:
            kind: How it ended.
            is_retry: Whether its call had sent another one before.
        """
        self.requests += 1
        if is_retry:
            self.retries += 1
        if kind == "rate_limited":
            self.rate_limited += 1
        if self._outer is not None:
            self._outer.record_request(kind, is_retry=is_retry)

    def record_response(self, seconds: float) -> None:
        """Record how many seconds a request took until its whole response."""
        if self._outer is not None:
            self._outer.record_response(seconds)
        if not _SHORTEST <= seconds <= _LONGEST:
            seconds = min(max(seconds, _SHORTEST), _LONGEST)
        bucket, buckets = int(_log2(seconds / _SHORTEST) * _PER_DOUBLING), self._buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1

    def begin_wait(self, now: float) -> None:
        """Record that a call begins to wait for a permit, at a time of the event loop."""
        if not self._waiting:
            self._waits_since = now
        self._waiting += 1
        if self._outer is not None:
            self._outer.begin_wait(now)

    def end_wait(self, now: float) -> None:
        """Record that a call does not wait any more, at a time of the event loop."""
        self._waiting -= 1
        if not self._waiting:
            self._waited += now - self._waits_since
        if self._outer is not None:
            self._outer.end_wait(now)

    def waited(self, now: float) -> float:
        """Seconds, until a time of the event loop, in which at least one call waited for a permit."""
        return self._waited + (now - self._waits_since if self._waiting else 0.0)

    def quantile(self, share: float) -> float | None:
        """The seconds within which this share of the responses came, within three percent; ``None`` if none came."""
        rank = math.ceil(share * sum(self._buckets.values()))
        for bucket, number in sorted(self._buckets.items()):
            rank -= number
            if rank <= 0:
                # More digits would say more than is known.
                return float(f"{_SHORTEST * _GROWTH ** (bucket + 0.5):.3g}")
        return None
