"""What a process knows of rate limits, forgotten between tests."""

from __future__ import annotations

from zenovay_async._limits import budget


def forget_limits() -> None:
    """Forget what this process knows of all keys: rate limits, monthly quotas, outages.

    It outlives the clients of a key. So of two tests with one key and base URL, the second would wait for what the
    first one spent. Clients that go on learn it anew with their next call; calls in flight are not disturbed.
    """
    budget.forget_limits()
