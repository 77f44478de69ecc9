"""RedisStore: values in Redis or Valkey, for the processes of any number of machines.

A key holds a stamp, 8 random bytes drawn for each write, and the value. A script on the server writes a value if the
stamp is still the one that the writer saw, and returns the newer value if not. The first try uses the value seen last,
so a write takes one round trip, and two after another process wrote. The clock is the server's: each response has its
time, from which its distance to the clock of this machine is learned.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import secrets
import time
from typing import TYPE_CHECKING, Any

from zenovay_async._limits.stores.redis_connection import OPEN_TIMEOUT, TIMEOUT, RedisConnection, Script, make_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.rate_limits import RedisClient, StoreChange, StoreWrite

# ARGV: the stamp seen, the new stamp and value ("" to read), milliseconds until the key expires, whom to ring. A server
# that forbids these channels does not ring.
_UPDATE = Script(b"""
local now = redis.call('TIME')
local old = redis.call('GET', KEYS[1]) or ''
if ARGV[2] == '' or ARGV[1] ~= string.sub(old, 1, 8) then return {now[1], now[2], 0, old} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
for i = 4, #ARGV do redis.pcall('PUBLISH', ARGV[i], '') end
return {now[1], now[2], 1, ''}
""")
# A day: what is known of a key that nobody uses, such as that its monthly quota is exhausted.
_TTL_MS = 86_400_000
_STAMP = 8
# Whoever lost a race for a write tries again at once, or it would lose against those that did not. For so many seconds
# it begins each further update a little later, in round trips, so that others who are in a race can win it.
_CONTENDED = 1.0
_YIELD = (0.5, 2.0)
# Seconds between looks of a listener that hears nothing, and until it connects again: first, at most.
_LISTEN = 30.0
_RECONNECT = (0.5, 10.0)


class RedisStore(RedisConnection):
    """Keeps each value in a key of Redis; its clock is that of the server.

    Args:
        source: The URL: ``redis://``, ``rediss://``, ``unix://``, ``valkey://`` or ``valkeys://``; or a client, such as
            that of a Sentinel or of a Cluster, which is never closed.

    Raises:
        ImportError: The package ``redis`` is not installed.
        ValueError: The URL or the client cannot be used.
    """

    def __init__(self, source: str | RedisClient) -> None:
        super().__init__(source)
        self._listening: asyncio.Task[None] | None = None
        self._pubsub: Any = None
        self._listeners: dict[str, Callable[[], None]] = {}
        self._seen: dict[str, tuple[bytes, bytes | None]] = {}
        self._yields_until = -math.inf

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
        if not hasattr(await self._connect(), "pubsub"):
            return ""
        channel = make_key(name, secrets.token_hex(8))
        self._listeners[channel] = on_ring
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name="zenovay-async: rings")
        elif self._pubsub is not None:
            # If that fails, so does the listener, which then subscribes to all.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(TIMEOUT):
                    await self._pubsub.subscribe(channel)
        return channel

    async def aclose(self) -> None:
        """Close the connections; a later update opens them again."""
        self._check_owner()
        listening, self._listening = self._listening, None
        self._listeners.clear()
        if listening is not None:
            listening.cancel()
            await asyncio.wait([listening])
        await super().aclose()

    def _forget(self) -> object:
        inherited = super()._forget(), self._pubsub, self._listening
        self._listening = self._pubsub = None
        self._listeners = {}
        return inherited

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
        is_written, found = await self._send(_UPDATE, [make_key(name)], [seen[0], new, _TTL_MS, *ring])
        if is_written or (write is not None and found[:_STAMP] == stamp):
            # Of two tries, the first may have been written.
            self._seen[name] = stamp, new[_STAMP:]
            return True
        self._seen[name] = found[:_STAMP], found[_STAMP:] or None
        return write is None and found[:_STAMP] == seen[0]

    async def _listen(self) -> None:
        redis, pause = await self._connect(), _RECONNECT[0]
        while True:
            with contextlib.suppress(Exception):
                async with redis.pubsub() as pubsub:
                    async with asyncio.timeout(OPEN_TIMEOUT):
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

    def _call_listener(self, channel: str) -> None:
        listener = self._listeners.get(channel)
        if listener is not None:
            listener()
