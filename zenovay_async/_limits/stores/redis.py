"""RedisStore: values in Redis or Valkey, for the processes of any number of machines.

A key holds a stamp, 8 random bytes drawn for each write, and the value. A script on the server writes a value if the
stamp is still the one that the writer saw, and returns the newer value if not. The first try uses the value seen last,
so a write takes one round trip, and two after another process wrote. The clock is the server's: each response has its
time, from which its distance to the clock of this machine is learned.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import math
import os
import random
import re
import secrets
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zenovay_async._protocol.auth import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.rate_limits import RedisClient, StoreChange, StoreWrite

# ARGV: the stamp seen, the new stamp and value ("" to read), milliseconds until the key expires, whom to ring. A server
# that forbids these channels does not ring.
_SCRIPT = b"""
local now = redis.call('TIME')
local old = redis.call('GET', KEYS[1]) or ''
if ARGV[2] == '' or ARGV[1] ~= string.sub(old, 1, 8) then return {now[1], now[2], 0, old} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
for i = 4, #ARGV do redis.pcall('PUBLISH', ARGV[i], '') end
return {now[1], now[2], 1, ''}
"""
_SHA = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()

# A day: what is known of a key that nobody uses, such as that its monthly quota is exhausted.
_TTL_MS = 86_400_000
_STAMP = 8
# Seconds for one try, and tries until the store counts as lost: one may be lost in a busy moment.
_TIMEOUT = 0.5
_TRIES = 2
# Seconds for the first one, which connects: with TLS and a password it takes some seven round trips.
_OPEN_TIMEOUT = 1.5
# Seconds that the fastest round trip tells the server's time best.
_CLOCK_AGE = 10.0
# Seconds by which the server's clock may differ from what was foreseen.
_JUMP = 1.0
# Whoever lost a race for a write tries again at once, or it would lose against those that did not. For so many seconds
# it begins each further update a little later, in round trips, so that others who are in a race can win it.
_CONTENDED = 1.0
_YIELD = (0.5, 2.0)
# Seconds between looks of a listener that hears nothing, and until it connects again: first, at most.
_LISTEN = 30.0
_RECONNECT = (0.5, 10.0)

_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
_CODE = re.compile(r"[A-Z]{3,}\b")

# Pools that a forked process inherited: their sockets, and the event loop's selector, belong to the parent.
_inherited: list[object] = []


class StoreError(OSError):
    """The Redis of a shared budget cannot be used; the message names neither its URL nor its password."""


class RedisStore:
    """Keeps each value in a key of Redis; its clock is that of the server.

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
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._pubsub: Any = None
        self._listeners: dict[str, Callable[[], None]] = {}
        self._seen: dict[str, tuple[bytes, bytes | None]] = {}
        self._yields_until = -math.inf
        # Whether a response came over the connections that are open.
        self._is_open = False
        self._clock = _ServerClock()

    def __repr__(self) -> str:
        return "RedisStore(<secret>)"

    def update_nowait(self, name: str, change: StoreChange) -> bool:  # noqa: ARG002 - the protocol's
        """Return ``False``, as each update needs a round trip."""
        return False

    async def update(self, name: str, change: StoreChange) -> None:
        """Change a value: once the server has confirmed that it is the current one, the last call counts.

        Raises:
            StoreError: There is no response, or an error.
        """
        is_current = not self._clock.is_known or name not in self._seen
        if not self._clock.is_known:
            # It connects, which takes a while, so that the next one tells the time better.
            await self._exchange(name)
        if is_current:
            await self._exchange(name)
        if time.monotonic() < self._yields_until:
            await asyncio.sleep(self._clock.round_trip * random.uniform(*_YIELD))  # noqa: S311 - spreads several processes
        while True:
            write = change(self._seen[name][1], self._clock.now())
            if (write is None and is_current) or await self._exchange(name, write):
                return
            is_current = True
            if write is not None:
                self._yields_until = time.monotonic() + _CONTENDED

    async def listen(self, name: str, on_ring: Callable[[], None]) -> str:
        """Call a function whenever another process rings; returns the channel, ``""`` if the client has none.

        It listens in the background, and connects again by itself.
        """
        if not hasattr(self._connect(), "pubsub"):
            return ""
        channel = f"{_key(name)}:{secrets.token_hex(8)}"
        self._listeners[channel] = on_ring
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name="zenovay-async: rings")
        elif self._pubsub is not None:
            # If that fails, so does the listener, which then subscribes to all.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_TIMEOUT):
                    await self._pubsub.subscribe(channel)
        return channel

    async def aclose(self) -> None:
        """Close the connections; a later update opens them again."""
        self._connect()
        listening, self._listening = self._listening, None
        self._listeners.clear()
        if listening is not None:
            listening.cancel()
            await asyncio.wait([listening])
        redis, self._redis = self._redis, None
        if redis is not None:
            await self._disconnect(redis)

    def _connect(self) -> Any:
        """The client of this process and event loop."""
        owner = os.getpid(), asyncio.get_running_loop()
        if self._owner != owner:
            if self._owner is not None and self._owner[0] != owner[0]:
                _inherited.append((self._redis, self._pubsub, self._listening))
            self._redis = self._listening = self._pubsub = None
            self._listeners = {}
            self._owner = owner
        if self._redis is None and self._given is not None:
            self._redis = self._given
        if self._redis is None:
            from redis.asyncio import Redis  # noqa: PLC0415 - an extra

            self._redis, self._is_open = Redis(connection_pool=_make_pool(self._url)), False
        return self._redis

    async def _exchange(self, name: str, write: StoreWrite | None = None) -> bool:
        """Write a value, or read it; what another process wrote is the value seen from then on.

        Returns:
            Whether the value seen was the current one; if so, the new one is written.

        Raises:
            StoreError: There is no response, or an error.
        """
        seen = self._seen.get(name, (b"", None))
        stamp = os.urandom(_STAMP)
        new = b"" if write is None else stamp + write.value
        ring = () if write is None else write.ring
        found = await self._send(name, [seen[0], new, _TTL_MS, *ring])
        if found is None or (write is not None and found[:_STAMP] == stamp):
            # Of two tries, the first may have been written.
            self._seen[name] = stamp, new[_STAMP:]
            return True
        self._seen[name] = found[:_STAMP], found[_STAMP:] or None
        return write is None and found[:_STAMP] == seen[0]

    async def _send(self, name: str, arguments: list[Any]) -> bytes | None:
        """Run the script; returns what was found, or ``None`` if the value was written."""
        reason = ""
        timeout, tries = (_TIMEOUT, _TRIES) if self._is_open else (_OPEN_TIMEOUT, 1)
        for _ in range(tries):
            began = time.monotonic()
            try:
                async with asyncio.timeout(timeout):
                    seconds, micros, is_written, found = await self._run(name, arguments)
            except Exception as error:  # noqa: BLE001 - whatever a client raises, the store is lost
                reason = _explain(error, timeout)
            else:
                self._is_open = True
                self._clock.learn(int(seconds) + int(micros) / 1e6, began, time.monotonic())
                return None if is_written else found
        # Outside of the handler, so that the error refers to none of the client's, which may show the URL.
        raise StoreError(f"Redis: {reason}")

    async def _run(self, name: str, arguments: list[Any]) -> Any:
        redis = self._connect()
        try:
            return await redis.execute_command("EVALSHA", _SHA, 1, _key(name), *arguments)
        except Exception as error:
            # By its name, as a client of valkey has an error of its own.
            if type(error).__name__ != "NoScriptError":
                raise
        return await redis.execute_command("EVAL", _SCRIPT, 1, _key(name), *arguments)

    async def _listen(self) -> None:
        redis, pause = self._connect(), _RECONNECT[0]
        try:
            while True:
                with contextlib.suppress(Exception):
                    async with redis.pubsub() as pubsub:
                        async with asyncio.timeout(_OPEN_TIMEOUT):
                            # It connects; that of a Cluster knows where only by its first channel.
                            channels = list(self._listeners)
                            await pubsub.subscribe(*channels)
                            self._pubsub = pubsub
                            if len(self._listeners) > len(channels):
                                await pubsub.subscribe(*self._listeners)
                        while True:
                            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=_LISTEN)
                            pause = _RECONNECT[0]
                            if message is not None and message["type"] == "message":
                                self._call_listener(message["channel"].decode())
                self._pubsub = None
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads several processes
                pause = min(2 * pause, _RECONNECT[1])
        finally:
            # Also at the end of the event loop, where nobody closed the store.
            await self._disconnect(redis)

    async def _disconnect(self, redis: Any) -> None:
        if self._given is not None:
            return
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_TIMEOUT):
                await redis.connection_pool.disconnect()

    def _call_listener(self, channel: str) -> None:
        listener = self._listeners.get(channel)
        if listener is not None:
            listener()


class _ServerClock:
    """The server's time, by the clock of this machine."""

    def __init__(self) -> None:
        self.is_known = False
        self.round_trip = 0.0
        self._offset = 0.0
        self._learned_at = 0.0

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


def _key(name: str) -> str:
    # Braces keep the keys and scripts of one name on one node of a cluster.
    return f"zenovay-async:{{{name}}}"


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
    options.setdefault("health_check_interval", _LISTEN)
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
