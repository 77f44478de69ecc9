"""Where a shared budget is kept: in a file, for the processes of a machine, or in Redis, for those of all machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from zenovay_async._limits.stores.machine import MachineStore
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.rate_limits import RedisClient, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async._limits.stores.redis import RedisStore

T = TypeVar("T")

_REDIS = "the URL of a Redis (redis://, rediss:// or unix://)"
_SCHEMES = {"redis", "rediss", "unix", "valkey", "valkeys"}
_OPTION = "rate_limit_store"


def make_store(option: str | RedisClient | Store) -> Store:
    """Make the store that an option names; one that was passed is used as it is.

    Args:
        option: The option, checked by :func:`check_store`.
    """
    if isinstance(option, Store):
        return option
    return MachineStore() if option == "machine" else make_in_redis(option, _OPTION, _make_redis_store)


def check_store(option: Any, source: str = _OPTION) -> None:
    """Check the option of a store; opens nothing.

    Args:
        option: The option.
        source: What an error names: the argument or the environment variable.

    Raises:
        ConfigurationError: It is none, or its extra is not installed.
    """
    if option is None or option == "machine" or (isinstance(option, Store) and not isinstance(option, type)):
        return
    make_in_redis(option, source, _make_redis_store, others="a Store, or None for this process alone")


def make_in_redis(
    option: Any, source: str, make: Callable[[str | RedisClient], T], others: str = "or None for this process alone"
) -> T:
    """Make a store in Redis; opens nothing.

    Args:
        option: The URL of a Redis, or a client.
        source: What an error names: the argument or the environment variable.
        make: Makes it; raises ``ImportError`` without the package ``redis``, ``ValueError`` for what cannot be used.
        others: What the option may be besides.

    Raises:
        ConfigurationError: It is something else, or the extra is not installed.
    """
    if isinstance(option, RedisClient) and not isinstance(option, type):
        try:
            return make(option)
        except ValueError:
            raise ConfigurationError(
                f"{source}: cannot use this Redis client; expected one of redis.asyncio, made with "
                "decode_responses=False"
            ) from None
    if not isinstance(option, str):
        expected = f"'machine', {_REDIS}, a client of redis.asyncio, {others}"
        raise ConfigurationError(f"{source}: expected {expected}, not {type(option).__name__}")
    # No variable holds more of the URL, so that no traceback can show its password.
    scheme = option[: max(0, option.find("://"))].lower()
    if scheme not in _SCHEMES:
        # A variable or an option of the command line is text alone.
        given = f"a URL of {scheme}://" if scheme.isalnum() else "another text" if option else "an empty text"
        raise ConfigurationError(f"{source}: expected 'machine' or {_REDIS}, not {given}")
    store = None
    try:
        store = make(option)
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


def _make_redis_store(source: str | RedisClient) -> RedisStore:
    # Imported here, as redis is an extra.
    from zenovay_async._limits.stores.redis import RedisStore  # noqa: PLC0415 - redis is an extra

    return RedisStore(source)
