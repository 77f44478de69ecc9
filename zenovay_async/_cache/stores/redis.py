"""RedisCacheStore: responses in Redis or Valkey, for the processes of any number of machines.

Each method is one script, and so one round trip, on the keys of one slot of a Cluster. The clock is the server's: each
response has its time, from which its distance to the clock of this machine is learned. A lease is a key that expires
soon, with the token of the process that has it, which renews all of its leases by one timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import weakref
from typing import TYPE_CHECKING, Any

from zenovay_async._cache.invalidation import Scope
from zenovay_async._cache.store import Found
from zenovay_async._cache.stores.invalidations import MAX_SCOPES
from zenovay_async._limits.stores.redis_connection import TRIES, RedisConnection, Script, make_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zenovay_async.rate_limits import RedisClient

# KEYS: value, lease, invalidations.
_FIND = Script(b"""
local now = redis.call('TIME')
return {now[1], now[2], redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]), redis.call('HGETALL', KEYS[3])}
""")
# KEYS: lease. ARGV: token, kind, milliseconds, the kind that is taken from whoever has it.
_ACQUIRE = Script(b"""
local now = redis.call('TIME')
local old = redis.call('GET', KEYS[1])
local is_mine = old and string.sub(old, 1, #ARGV[1]) == ARGV[1]
if old and not is_mine and string.sub(old, #ARGV[1] + 1) ~= ARGV[4] then return {now[1], now[2], 0} end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return {now[1], now[2], 1}
""")
# KEYS: leases. ARGV: token, milliseconds. Returns for each whether it is still there.
_RENEW = Script(b"""
local now = redis.call('TIME')
local found = {now[1], now[2]}
for i, key in ipairs(KEYS) do
    local old = redis.call('GET', key)
    local is_mine = old and string.sub(old, 1, #ARGV[1]) == ARGV[1]
    found[i + 2] = is_mine and redis.call('PEXPIRE', key, ARGV[2]) or 0
end
return found
""")
# KEYS: value, lease. ARGV: token; to keep a value, milliseconds and the value; to forget it, 0.
_SETTLE = Script(b"""
local now = redis.call('TIME')
if ARGV[2] == '0' then redis.call('DEL', KEYS[1])
elseif ARGV[2] then redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2]) end
local old = redis.call('GET', KEYS[2])
if old and string.sub(old, 1, #ARGV[1]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return {now[1], now[2]}
""")
# KEYS: invalidations. ARGV: scope, seconds, scopes at most, the scope of all. A field has two times: when it was
# invalidated, and until when that is known. If there are too many, those of the account that has most of them are
# merged; a scope ends with its account, and so does the one of all, with none.
_INVALIDATE = Script(b"""
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
local function account(scope) return string.match(scope, ',([^,]*)%]$') or 'null' end
local most = account(ARGV[1])
local last, count, counts = at + ARGV[2], 1, {[most] = 1}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
    local known = tonumber(string.match(fields[i + 1], ' (.*)')) or 0
    if known <= at then redis.call('HDEL', KEYS[1], fields[i])
    else
        last = math.max(last, known)
        if fields[i] ~= ARGV[1] then
            local of = account(fields[i])
            count, counts[of] = count + 1, (counts[of] or 0) + 1
            if counts[of] > counts[most] then most = of end
        end
    end
end
local function record(scope, known)
    redis.call('HSET', KEYS[1], scope, string.format('%d.%06d %.6f', now[1], now[2], known))
end
if count <= tonumber(ARGV[3]) then record(ARGV[1], at + ARGV[2])
elseif counts[most] == 1 then
    redis.call('DEL', KEYS[1])
    record(ARGV[4], last)
else
    for i = 1, #fields, 2 do
        if account(fields[i]) == most then redis.call('HDEL', KEYS[1], fields[i]) end
    end
    record('[null,null,' .. most .. ']', last)
    if account(ARGV[1]) ~= most then record(ARGV[1], at + ARGV[2]) end
end
redis.call('PEXPIRE', KEYS[1], math.ceil((last - at) * 1000))
return {now[1], now[2]}
""")

# Seconds until a lease ends that is not renewed, and between renewals.
_LEASE = 5.0
_RENEWAL = 1.5
# Requests to the server at a time: more would be no faster, and each has a connection of its own.
_CONNECTIONS = 10
_KINDS = {True: b"background", False: b"direct"}
_SLOT = "cache"


class RedisCacheStore(RedisConnection):
    """Keeps each response in a key of Redis; its clock is that of the server.

    Args:
        source: The URL: ``redis://``, ``rediss://``, ``unix://``, ``valkey://`` or ``valkeys://``; or a client, such as
            that of a Sentinel or of a Cluster, which is never closed.

    Raises:
        ImportError: The package ``redis`` is not installed.
        ValueError: The URL or the client cannot be used.
    """

    def __init__(self, source: str | RedisClient) -> None:
        super().__init__(source)
        self._token = b""
        self._leases: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._connections = asyncio.Semaphore(_CONNECTIONS)

    async def find(self, name: str) -> Found:
        """Look up a name.

        Raises:
            StoreError: There is no response, or an error.
        """
        keys = make_key(_SLOT, name), _lease_key(name), make_key(_SLOT, "invalidations")
        if not self._clock.is_known:
            # It connects, which takes a while, so that the next one tells the time better.
            await self._send(_FIND, keys, tries=1)
        value, lease, fields = await self._send(_FIND, keys, tries=1)
        return Found(
            value=value,
            invalidations=_read_invalidations(fields),
            lease=None if lease is None else "background" if lease.endswith(_KINDS[True]) else "direct",
            offset=self._clock.offset,
        )

    async def acquire_lease(self, name: str, *, background: bool, steal: bool = False) -> bool:
        """Say that this process requests the response; returns whether nobody else does.

        Raises:
            StoreError: There is no response, or an error.
        """
        self._check_owner()
        arguments = self._token, _KINDS[background], int(_LEASE * 1000), _KINDS[True] if steal else b""
        (is_acquired,) = await self._send(_ACQUIRE, [_lease_key(name)], arguments, tries=1)
        if is_acquired:
            self._leases.add(name)
            self._set_timer()
        return bool(is_acquired)

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        """Keep a value for so many seconds, and release the lease.

        Raises:
            StoreError: There is no response, or an error.
        """
        await self._settle(name, max(1, int(seconds * 1000)), value)

    async def release_lease(self, name: str) -> None:
        """Release the lease, if this process has it.

        Raises:
            StoreError: There is no response, or an error.
        """
        self._check_owner()
        if name in self._leases:
            await self._settle(name)

    async def remove(self, name: str) -> None:
        """Forget a value, and release the lease.

        Raises:
            StoreError: There is no response, or an error.
        """
        await self._settle(name, 0)

    async def invalidate(self, scope: str, seconds: float) -> None:
        """Record that a scope is invalidated now; the record may be forgotten after so many seconds.

        Raises:
            StoreError: There is no response, or an error.
        """
        await self._send(
            _INVALIDATE, [make_key(_SLOT, "invalidations")], [scope, repr(seconds), MAX_SCOPES, Scope().name]
        )

    async def aclose(self) -> None:
        """Release the leases, and close the connections; a later use opens them again."""
        self._check_owner()
        for name in list(self._leases):
            with contextlib.suppress(OSError):
                await self._settle(name)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            await asyncio.wait([renewing])
        await super().aclose()

    def renew_leases(self) -> None:
        """Renew the leases that this process still has; called by a timer while it has any."""
        self._timer = None
        if self._leases:
            self._renewing = asyncio.get_running_loop().create_task(self._renew(), name="zenovay-async: leases")

    def _forget(self) -> object:
        inherited = super()._forget(), self._renewing
        self._token = secrets.token_hex(8).encode()
        self._leases = set()
        self._timer = self._renewing = None
        self._connections = asyncio.Semaphore(_CONNECTIONS)
        return inherited

    def _set_timer(self) -> None:
        if self._leases and self._timer is None and self._renewing is None:
            # A store that nobody has any more renews no lease.
            reference: weakref.ref[RedisCacheStore] = weakref.ref(self)
            self._timer = asyncio.get_running_loop().call_later(_RENEWAL, _renew, reference)

    async def _renew(self) -> None:
        names = list(self._leases)
        try:
            arguments = self._token, int(_LEASE * 1000)
            found = await self._send(_RENEW, [_lease_key(name) for name in names], arguments)
        except OSError:
            # They end, or the next renewal is in time.
            pass
        else:
            self._leases.difference_update(name for name, is_mine in zip(names, found, strict=True) if not is_mine)
        finally:
            self._renewing = None
        self._set_timer()

    async def _settle(self, name: str, *keep: Any) -> None:
        """Keep or forget a value, or neither, and release the lease."""
        self._check_owner()
        self._leases.discard(name)
        await self._send(_SETTLE, [make_key(_SLOT, name), _lease_key(name)], [self._token, *keep])

    async def _send(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any] = (), *, tries: int = TRIES
    ) -> Any:
        self._check_owner()
        # Outside of the timeout, and of the time from which the server's clock is learned.
        async with self._connections:
            return await super()._send(script, keys, arguments, tries=tries)


def _read_invalidations(fields: Sequence[bytes]) -> dict[str, float]:
    """When each scope was invalidated."""
    try:
        return {
            scope.decode(): float(times.partition(b" ")[0])
            for scope, times in zip(fields[::2], fields[1::2], strict=True)
        }
    except ValueError:
        # Another version's.
        return {}


def _lease_key(name: str) -> str:
    return make_key(_SLOT, name, "lease")


def _renew(reference: weakref.ref[RedisCacheStore]) -> None:
    store = reference()
    if store is not None:
        store.renew_leases()
