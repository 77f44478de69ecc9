"""The share of the traffic that may be retries."""

from __future__ import annotations


class RetryBudget:
    """Bounds retries to a share of the traffic: each spends a token, each success earns a part of one back.

    The scheme is gRPC's (proposal A6, "retry throttling"). With the figures below, a client of a server that always
    fails sends 20 retries, and from then on each call once; otherwise retries are at most a fifth of the calls that
    succeed.

    Attributes:
        tokens: Retries that may still be made.
    """

    CAPACITY = 20.0
    EARNED = 0.2

    def __init__(self) -> None:
        self.tokens = self.CAPACITY

    def earn(self) -> None:
        """Add a part of a token, for a call that succeeded."""
        if self.tokens < self.CAPACITY:
            self.tokens = min(self.CAPACITY, self.tokens + self.EARNED)

    def spend(self) -> bool:
        """Spend a token for one retry; returns whether there was one."""
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
