"""Where a shared budget is kept: in a file, for the processes of a machine, or in Redis, for those of all machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zenovay_async._limits.stores.machine import MachineStore
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.rate_limits import RedisClient, Store

if TYPE_CHECKING:
    from zenovay_async._limits.stores.redis import RedisStore

_REDIS = "the URL of a Redis (redis://, rediss:// or unix://)"
_SCHEMES = {"redis", "rediss", "unix", "valkey", "valkeys"}


def make_store(option: str | RedisClient | Store) -> Store:
    """Make the store that an option names; one that was passed is used as it is.

    Args:
        option: The option, checked by :func:`check_store`.
    """
    if isinstance(option, Store):
        return option
    if not isinstance(option, str):
        return _make_redis_of_client(option, "rate_limit_store")
    return MachineStore() if option == "machine" else _make_redis(option, "rate_limit_store")


def check_store(option: Any, source: str = "rate_limit_store") -> None:
    """Check the option of a store; opens nothing.

    Args:
        option: The option.
        source: What an error names: the argument or the environment variable.

    Raises:
        ConfigurationError: It is none, or its extra is not installed.
    """
    if option is None or option == "machine" or (isinstance(option, Store) and not isinstance(option, type)):
        return
    if isinstance(option, RedisClient) and not isinstance(option, type):
        _make_redis_of_client(option, source)
        return
    if not isinstance(option, str):
        expected = f"'machine', {_REDIS}, a client of redis.asyncio, a Store, or None for this process alone"
        raise ConfigurationError(f"{source}: expected {expected}, not {type(option).__name__}")
    _make_redis(option, source)


def _make_redis(url: str, source: str) -> RedisStore:
    # No variable holds more of the URL, so that no traceback can show its password.
    scheme = url[: max(0, url.find("://"))].lower()
    if scheme not in _SCHEMES:
        # A variable or an option of the command line is text alone.
        given = f"a URL of {scheme}://" if scheme.isalnum() else "another text" if url else "an empty text"
        raise ConfigurationError(f"{source}: expected 'machine' or {_REDIS}, not {given}")
    # Imported here, as redis is an extra.
    from zenovay_async._limits.stores.redis import RedisStore  # noqa: PLC0415 - redis is an extra

    store = None
    try:
        store = RedisStore(url)
    except ImportError as error:
        raise ConfigurationError(f"{source}: a Redis needs an extra: pip install 'zenovay-async[redis]'") from error
    except ValueError:
        # The error may show a part of the URL.
        pass
    if store is None:
        raise ConfigurationError(
            f"{source}: cannot read the URL; expected such as redis://user:password@host:6379/0 or "
            "unix:///run/redis.sock, special characters of the password percent-encoded"
        )
    return store


def _make_redis_of_client(client: RedisClient, source: str) -> RedisStore:
    from zenovay_async._limits.stores.redis import RedisStore  # noqa: PLC0415 - redis is an extra

    try:
        return RedisStore(client)
    except ValueError:
        raise ConfigurationError(
            f"{source}: cannot use this Redis client; expected one of redis.asyncio, made with decode_responses=False"
        ) from None
