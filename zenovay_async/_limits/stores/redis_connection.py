"""A connection to Redis or Valkey, of whatever process and event loop uses it: scripts run, errors explained.

Each script returns the server's time first, from which its distance to the clock of this machine is learned.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import os
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zenovay_async._protocol.auth import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from zenovay_async.rate_limits import RedisClient

TIMEOUT = 0.5
"""Seconds for one try."""
OPEN_TIMEOUT = 1.5
"""Seconds for the first one, which connects: with TLS and a password it takes some seven round trips."""
TRIES = 2
"""Tries until the store counts as lost: one may be lost in a busy moment."""
# Seconds between looks at a connection that is idle.
_HEALTH_CHECK = 30.0
# Seconds that the fastest round trip tells the server's time best.
_CLOCK_AGE = 10.0
# Seconds by which the server's clock may differ from what was foreseen.
_JUMP = 1.0

_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
_CODE = re.compile(r"[A-Z]{3,}\b")

# What a forked process inherited: its sockets, and the event loop's selector, belong to the parent.
_inherited: list[object] = []
# The pools that are open, and their event loops: else the garbage collector, which finds a pool together with what
# closes it, would finalize both, and the connections would warn.
_open_pools: dict[Any, asyncio.AbstractEventLoop] = {}


class StoreError(OSError):
    """A Redis cannot be used; the message names neither its URL nor its password."""


class Script:
    """A script that runs on the server, and returns a list that begins with its ``TIME``: seconds, microseconds."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()


class RedisConnection:
    """What stores in Redis have in common.

    Args:
        source: The URL: ``redis://``, ``rediss://``, ``unix://``, ``valkey://`` or ``valkeys://``; or a client, such as
            that of a Sentinel or of a Cluster, which is never closed.

    Raises:
        ImportError: The package ``redis`` is not installed.
        ValueError: The URL or the client cannot be used.
    """

    def __init__(self, source: str | RedisClient) -> None:
        self._given = None if isinstance(source, str) else source
        self._url = Secret(source if isinstance(source, str) else "")
        if isinstance(source, str):
            _check_url(self._url)
        else:
            _check_client(source)
        # Typed in some versions of redis alone.
        self._redis: Any = None
        self._pool: AsyncGenerator[Any] | None = None
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None
        # Whether a response came over the connections that are open.
        self._is_open = False
        self._clock = ServerClock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<secret>)"

    async def aclose(self) -> None:
        """Close the connections; a later use opens them again."""
        self._check_owner()
        pool, self._pool, self._redis = self._pool, None, None
        if pool is not None:
            await pool.aclose()

    def _forget(self) -> object:
        """Forget what belongs to the process or event loop of before; returns what must not be garbage collected."""
        inherited = self._redis, self._pool
        self._redis = self._pool = None
        return inherited

    def _check_owner(self) -> None:
        owner = os.getpid(), asyncio.get_running_loop()
        if self._owner == owner:
            return
        inherited = self._forget()
        if self._owner is not None and self._owner[0] != owner[0]:
            _inherited.append(inherited)
        self._owner = owner

    async def _connect(self) -> Any:
        """The client of this process and event loop."""
        self._check_owner()
        if self._redis is None and self._given is not None:
            self._redis = self._given
        if self._redis is None:
            self._pool = _own_client(self._url)
            self._redis, self._is_open = await anext(self._pool), False
        return self._redis

    async def _send(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any] = (), *, tries: int = TRIES
    ) -> Any:
        """Run a script; returns the list that it returns, without the time.

        Args:
            script: The script.
            keys: The keys that it uses, all in one slot of a Cluster.
            arguments: Its arguments.
            tries: Timeouts until the store counts as lost. Another failure is tried twice in any case, as a connection
                may have been closed by the server since it was last used.

        Raises:
            StoreError: There is no response, or an error.
        """
        self._check_owner()
        reason = ""
        timeout, tries = (TIMEOUT, tries) if self._is_open else (OPEN_TIMEOUT, 1)
        for number in range(TRIES if self._is_open else 1):
            began = time.monotonic()
            try:
                async with asyncio.timeout(timeout):
                    seconds, micros, *found = await self._run(script, keys, arguments)
            except Exception as error:  # noqa: BLE001 - whatever a client raises, the store is lost
                reason = _explain(error, timeout)
                if isinstance(error, TimeoutError) and number + 1 >= tries:
                    break
            else:
                self._is_open = True
                self._clock.learn(int(seconds) + int(micros) / 1e6, began, time.monotonic())
                return found
        # Outside of the handler, so that the error refers to none of the client's, which may show the URL.
        raise StoreError(f"Redis: {reason}")

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        redis = await self._connect()
        try:
            return await redis.execute_command("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except Exception as error:
            # By its name, as a client of valkey has an error of its own.
            if type(error).__name__ != "NoScriptError":
                raise
        return await redis.execute_command("EVAL", script.text, len(keys), *keys, *arguments)


class ServerClock:
    """The server's time, by the clock of this machine."""

    def __init__(self) -> None:
        self.is_known = False
        self.round_trip = 0.0
        self._offset = 0.0
        self._learned_at = 0.0

    @property
    def offset(self) -> float:
        """Seconds by which it is ahead of ``time.monotonic``."""
        return self._offset

    def now(self) -> float:
        """The server's time in seconds."""
        return time.monotonic() + self._offset

    def learn(self, server: float, began: float, ended: float) -> None:
        """Learn from a response: the server's time, and when the request was sent and the response came.

        Raises:
            StoreError: The server's clock jumped, so that the times in a value mean nothing.
        """
        round_trip = ended - began
        # It is known to half a round trip, so the fastest says it best.
        offset = server - began - round_trip / 2
        jump = abs(offset - self._offset)
        has_jumped = self.is_known and jump > _JUMP + round_trip
        if has_jumped or not self.is_known or round_trip <= self.round_trip or ended - self._learned_at > _CLOCK_AGE:
            self.is_known, self._offset, self.round_trip, self._learned_at = True, offset, round_trip, ended
        if has_jumped:
            raise StoreError(f"Redis: the clock of the server jumped by {jump:.0f} s")


def make_key(slot: str, *parts: str) -> str:
    """The name of a key: keys of one slot are on one node of a Cluster, so that one script may use them."""
    return ":".join((f"zenovay-async:{{{slot}}}", *parts))


async def _own_client(url: Secret) -> AsyncGenerator[Any]:
    """Yield a client whose connections are closed with its event loop, or when this generator is garbage collected.

    An event loop closes asynchronous generators when they are garbage collected, and all others when it shuts down
    (``asyncio.loop.shutdown_asyncgens``, PEP 525). So a store that was not closed causes no warning.
    """
    from redis.asyncio import Redis  # noqa: PLC0415 - an extra

    for pool, loop in list(_open_pools.items()):
        if loop.is_closed():
            # Before it could close them.
            _open_pools.pop(pool, None)
    pool = _make_pool(url)
    _open_pools[pool] = asyncio.get_running_loop()
    try:
        yield Redis(connection_pool=pool)
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(TIMEOUT):
                await pool.disconnect()
        _open_pools.pop(pool, None)


def _read_url(url: Secret) -> tuple[dict[str, Any], tuple[str | None, Secret] | None]:
    """The options of a pool, and user and password apart, which its ``repr`` would show.

    Raises:
        ValueError: The URL cannot be used.
    """
    from redis.asyncio.connection import parse_url  # noqa: PLC0415 - an extra

    scheme, colon, rest = url.partition(":")
    scheme = _SCHEMES.get(scheme.lower(), scheme.lower())
    url = Secret(scheme + colon + rest)
    parts = urlsplit(url)
    # The port is read when it is asked for.
    if not (parts.path if scheme == "unix" else parts.hostname) or parts.port == 0:
        raise ValueError
    options: dict[str, Any] = dict(parse_url(url))
    user, password = options.pop("username", None), options.pop("password", None)
    if scheme == "rediss" and "ssl_cert_reqs" not in options:
        options.setdefault("ssl_check_hostname", True)
    return options, None if password is None else (user, Secret(password))


def _check_url(url: Secret) -> None:
    """Check a URL; opens nothing.

    Raises:
        ValueError: The URL cannot be used.
    """
    from redis import RedisError  # noqa: PLC0415 - an extra

    is_valid = True
    try:
        _make_pool(url).make_connection()
    except (TypeError, ValueError, RedisError):
        # Such as an option that no connection has.
        is_valid = False
    if not is_valid:
        # Outside of the handler, as the error shows a part of the URL.
        raise ValueError


def _check_client(client: RedisClient) -> None:
    """Check a client that was passed.

    Raises:
        ValueError: It is no asyncio client, or decodes responses, which are bytes here.
    """
    is_async = inspect.iscoroutinefunction(getattr(client, "execute_command", None))
    get_encoder = getattr(client, "get_encoder", None)
    if not is_async or (get_encoder is not None and get_encoder().decode_responses):
        raise ValueError


def _make_pool(url: Secret) -> Any:
    from redis.asyncio import ConnectionPool  # noqa: PLC0415 - an extra
    from redis.credentials import UsernamePasswordCredentialProvider  # noqa: PLC0415 - an extra

    options, login = _read_url(url)
    if login is not None:
        options["credential_provider"] = UsernamePasswordCredentialProvider(*login)
    # Timeouts are set here for all tries alike, responses are bytes, and a listener notices a connection that is dead.
    options |= {"socket_timeout": None, "socket_connect_timeout": None, "decode_responses": False, "protocol": 2}
    options.setdefault("health_check_interval", _HEALTH_CHECK)
    return ConnectionPool(**options)


def _explain(error: BaseException, timeout: float) -> str:
    """What went wrong, in words of our own: those of a client may show a part of the URL."""
    if isinstance(error, StoreError):
        return str(error).removeprefix("Redis: ")
    if isinstance(error, TimeoutError):
        return f"no response within {timeout:g} s"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "its host was not found"
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or type(cause).__name__}"
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    code = _CODE.match(str(error)) if type(error).__name__ == "ResponseError" else None
    return f"{type(error).__name__}{f' {code[0]}' if code else ''}"
