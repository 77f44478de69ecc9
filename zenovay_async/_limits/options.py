"""The options of a client that concern limits."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from zenovay_async._limits.stores import check_store
from zenovay_async._protocol.auth import Secret
from zenovay_async._protocol.parameters import NotGiven, require_int
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.rate_limits import RateLimiter, RedisClient, Store

RateLimitOption: TypeAlias = Literal["auto"] | int | RateLimiter | None
"""How to pace: ``"auto"``, requests per window, a custom limiter, or ``None`` for no pacing."""

RateLimitStoreOption: TypeAlias = str | RedisClient | Store | None
"""Where the budget is kept.

``None`` for this process, ``"machine"``, the URL of a Redis, a client of it, or a store of one's own.
"""

BatchHeadroom: TypeAlias = Literal["auto"] | int
"""What a batch leaves to direct calls: ``"auto"``, or requests per window."""

STORE_VARIABLE = "ZENOVAY_RATE_LIMIT_STORE"
"""The environment variable of the store."""


class Limits(msgspec.Struct, frozen=True):
    """The options of a client that concern limits.

    Attributes:
        rate_limit: ``"auto"`` learns the limit from the responses; an int of requests per window is never exceeded;
            ``None`` does not pace; a custom limiter is used as it is.
        window: Seconds of the limit's window.
        quota_reserve: Requests of the monthly quota that batches leave to direct calls.
        store: Where the budget is kept; a URL is a ``Secret``, as it may contain a password.
        batch_headroom: What a batch leaves to direct calls in each window.
    """

    rate_limit: RateLimitOption = "auto"
    window: float = 60.0
    quota_reserve: int = 0
    store: RateLimitStoreOption = None
    batch_headroom: BatchHeadroom = "auto"

    def __post_init__(self) -> None:
        limit = self.rate_limit
        is_count = isinstance(limit, int) and not isinstance(limit, bool) and limit > 0
        is_limiter = isinstance(limit, RateLimiter) and not isinstance(limit, type)
        if not (limit is None or limit == "auto" or is_limiter or is_count):
            raise ConfigurationError(
                f"rate_limit={limit!r}: expected 'auto', an int >= 1 of requests per window, "
                "a RateLimiter, or None for no pacing"
            )
        is_number = isinstance(self.window, (int, float)) and not isinstance(self.window, bool)
        if not (is_number and 0 < self.window < math.inf):
            raise ConfigurationError(f"rate_limit_window={self.window!r}: expected seconds above 0")
        require_int("quota_reserve", self.quota_reserve, low=0)
        headroom = self.batch_headroom
        is_count = isinstance(headroom, int) and not isinstance(headroom, bool) and headroom >= 0
        if not (headroom == "auto" or is_count):
            raise ConfigurationError(
                f"batch_headroom={headroom!r}: expected 'auto', or an int >= 0 of requests per window"
            )

    @property
    def shared_store(self) -> str | RedisClient | Store | None:
        """Where to share the budget; ``None`` if it is not shared, as where calls are not paced here."""
        return self.store if _is_paced_here(self.rate_limit) else None


def resolve_store(
    given: RateLimitStoreOption | NotGiven, from_environment: str, rate_limit: RateLimitOption
) -> RateLimitStoreOption:
    """The store to use: the one given, else that of the environment variable ``ZENOVAY_RATE_LIMIT_STORE``.

    Args:
        given: The store that was passed.
        from_environment: The variable's value; ``""`` if it is not set.
        rate_limit: How to pace; a variable for all programs says nothing to one that has no use for a store.

    Raises:
        ConfigurationError: It is none, or ``rate_limit`` has no use for it.
    """
    if isinstance(given, NotGiven):
        # A secret that is mounted as a file often ends with a newline.
        store = Secret(from_environment.rstrip("\r\n")) or None
        if _is_paced_here(rate_limit):
            check_store(store, STORE_VARIABLE)
        return store
    check_store(given)
    if given is not None and not _is_paced_here(rate_limit):
        raise ConfigurationError(
            "rate_limit_store has no effect with rate_limit=None or a RateLimiter of your own: "
            "omit it, or pass 'auto' or an int as rate_limit"
        )
    return given


def _is_paced_here(rate_limit: RateLimitOption) -> bool:
    return rate_limit is not None and not isinstance(rate_limit, RateLimiter)
