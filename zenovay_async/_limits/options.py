"""The options of a client that concern limits."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from zenovay_async._protocol.parameters import require_int
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.rate_limits import RateLimiter

RateLimitOption: TypeAlias = Literal["auto"] | int | RateLimiter | None
"""How to pace: ``"auto"``, requests per window, a custom limiter, or ``None`` for no pacing."""


class Limits(msgspec.Struct, frozen=True):
    """The options of a client that concern limits.

    Attributes:
        rate_limit: ``"auto"`` learns the limit from the responses; an int of requests per window is never exceeded;
            ``None`` does not pace; a custom limiter is used as it is.
        window: Seconds of the limit's window.
        quota_reserve: Requests of the monthly quota that batches leave to direct calls.
    """

    rate_limit: RateLimitOption = "auto"
    window: float = 60.0
    quota_reserve: int = 0

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
