"""Other processes that use the same key without sharing a budget: how many are known, and the warning about them."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zenovay_async._limits.key_share import KeyShare
    from zenovay_async._limits.options import Limits

WORKERS_VARIABLE = "WEB_CONCURRENCY"
"""The environment variable in which web servers and platforms say how many worker processes there are."""

SEVERAL_PROCESSES = (
    "Several processes use this key (%s) and each paces itself, so some requests are rate limited; "
    "pass rate_limit_store='machine' to share one budget on this machine"
)
"""Log message, with how they were noticed."""

# A forked process and its parent, or two that were started in the same way.
_TWO = 2
# What is longer is no number of processes.
_DIGITS = 4

_logger = logging.getLogger("zenovay_async.sharing")


class Neighbors:
    """What is known of the other processes, for the whole of this one."""

    def __init__(self) -> None:
        self._is_forked = False
        self._warned: set[object] = set()

    def restart(self, *, is_used: bool) -> None:
        """Begin anew in a forked process.

        Args:
            is_used: Whether a client of the parent has made calls.
        """
        self._is_forked = self._is_forked or is_used
        self._warned = set()

    def count(self, limits: Limits) -> int:
        """How many processes use the key of a client, this one included, as far as anything but responses says.

        With a store they share one budget, and an int is the share of this process already.
        """
        if not _is_alone(limits):
            return 1
        return _workers() or (_TWO if self._is_forked or _is_worker() else 1)

    def watch(self, account: object, limits: Limits) -> Watch | None:
        """What warns of other processes; ``None`` where they are provided for, or were reported before."""
        if not _is_alone(limits) or account in self._warned:
            return None
        workers = _workers()
        sign = f"{WORKERS_VARIABLE}={workers}" if workers else "a fork" if self._is_forked else None
        return Watch(self, account, sign)

    def warn(self, account: object, sign: str) -> None:
        """Log that several processes use a key, once."""
        if account not in self._warned:
            self._warned.add(account)
            _logger.warning(SEVERAL_PROCESSES, sign)


class Watch:
    """Warns once that other processes use a key.

    Args:
        neighbors: What warns.
        account: The key and its base URL.
        sign: What says so from the start; ``None`` if only responses may show it.

    Attributes:
        is_due: Whether something says so from the start.
    """

    def __init__(self, neighbors: Neighbors, account: object, sign: str | None) -> None:
        self._neighbors, self._account, self._sign = neighbors, account, sign
        self.is_due = sign is not None

    def is_over(self, share: KeyShare) -> bool:
        """Warn if responses show others, or something else said so; returns whether that is done."""
        sign = self._sign
        if sign is None:
            if not share.is_divided:
                return False
            sign = "X-RateLimit-Remaining falls faster than this one explains"
        self._neighbors.warn(self._account, sign)
        return True


def _is_alone(limits: Limits) -> bool:
    """Whether a client paces as if it had the key to itself."""
    return limits.store is None and limits.rate_limit == "auto"


def _workers() -> int:
    """The worker processes that the environment states, if more than one; else 0."""
    stated = os.environ.get(WORKERS_VARIABLE, "").strip()
    count = int(stated) if stated.isascii() and stated.isdigit() and len(stated) <= _DIGITS else 0
    return count if count > 1 else 0


def _is_worker() -> bool:
    """Whether multiprocessing, or Celery's fork of it, started this process, which may be one of several.

    What gunicorn sets, ``SERVER_SOFTWARE``, is the same for a single worker; its workers know ``WEB_CONCURRENCY``.
    """
    process, billiard = (sys.modules.get(f"{package}.process") for package in ("multiprocessing", "billiard"))
    if process is not None and process.parent_process() is not None:
        return True
    return billiard is not None and billiard.current_process().name != "MainProcess"


NEIGHBORS = Neighbors()
"""The other processes, as this one knows them."""
