"""Where responses are kept for several processes: in files, for those of a machine, or in Redis, for all machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zenovay_async._cache.stores.machine import MachineCacheStore
from zenovay_async._limits.stores import make_in_redis

if TYPE_CHECKING:
    from zenovay_async._cache.store import CacheStore
    from zenovay_async._cache.stores.redis import RedisCacheStore
    from zenovay_async.rate_limits import RedisClient


def make_cache_store(option: str | RedisClient, *, max_entries: int, max_bytes: int) -> CacheStore:
    """Make the store that an option names; opens nothing.

    Args:
        option: The option, checked by :func:`check_cache_store`.
        max_entries: Responses kept at most; a Redis has bounds of its own.
        max_bytes: Bytes of them.
    """
    if option == "machine":
        return MachineCacheStore(max_entries=max_entries, max_bytes=max_bytes)
    return make_in_redis(option, "store", _make_redis_store)


def check_cache_store(option: Any, source: str = "store") -> None:
    """Check the option of a cache's store; opens nothing.

    Args:
        option: The option.
        source: What an error names.

    Raises:
        ConfigurationError: It is none, or its extra is not installed.
    """
    if option is not None and option != "machine":
        make_in_redis(option, source, _make_redis_store)


def _make_redis_store(source: str | RedisClient) -> RedisCacheStore:
    # Imported here, as redis is an extra.
    from zenovay_async._cache.stores.redis import RedisCacheStore  # noqa: PLC0415 - redis is an extra

    return RedisCacheStore(source)
