"""The options of a cache."""

from __future__ import annotations


class Cache:
    """Keeps responses, so that a question that was asked a moment ago costs no request.

    Args:
        ttl: Seconds for which a response is fresh.
        stale: Seconds after that for which it is stale.
        max_entries: Responses kept at most.
        negative_ttl: Seconds for which a 404 is kept.
        jitter: Share of ``ttl`` by which it is shortened at random.
        store: Where responses are kept.
    """

    def __init__(
        self,
        ttl: float = 60.0,
        stale: float = 600.0,
        *,
        max_entries: int = 1024,
        negative_ttl: float = 0.0,
        jitter: float = 0.1,
        store: object = None,
    ) -> None:
        self.ttl = ttl
        self.stale = stale
        self.max_entries = max_entries
        self.negative_ttl = negative_ttl
        self.jitter = jitter
        self.store = store
