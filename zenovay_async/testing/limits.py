"""What a process knows of rate limits, forgotten between tests."""

from __future__ import annotations

from zenovay_async._limits import budget, registry


def forget_limits() -> None:
    """Forget what this process knows of all keys: rate limits, monthly quotas, outages.

    It outlives the clients of a key. So of two tests with one key and base URL, the second would wait for what the
    first one spent. Clients that go on learn it anew with their next call; calls in flight are not disturbed.
    """
    known = registry.REGISTRY
    with known._lock:  # noqa: SLF001 - there is no other reason than tests to forget
        known.shared.clear()
        known._accounts.clear()  # noqa: SLF001
        known._kept.clear()  # noqa: SLF001
    for each in list(budget._budgets):  # noqa: SLF001
        # As in a new thread, it looks up what is shared there.
        each._thread = None  # noqa: SLF001
