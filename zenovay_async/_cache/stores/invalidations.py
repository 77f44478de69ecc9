"""When scopes were invalidated, as a file keeps it. Pure: the time is an argument."""

from __future__ import annotations

from collections import Counter

import msgspec

from zenovay_async._cache.invalidation import Scope

MAX_SCOPES = 256
"""Scopes of which a store knows when they were invalidated; with more, all responses of an account are."""
# Bytes of their names.
_MAX_BYTES = 1 << 16

_decoder = msgspec.msgpack.Decoder(dict[str, tuple[float, float]])


def add_invalidation(encoded: bytes | None, scope: str, now: float, seconds: float) -> bytes:
    """Add that a scope is invalidated now, which may be forgotten after so many seconds."""
    records = {name: record for name, record in _decode(encoded).items() if record[1] > now}
    records[scope] = now, now + seconds
    if len(records) > MAX_SCOPES or sum(map(len, records)) > _MAX_BYTES:
        records = _merge(records, now)
    return msgspec.msgpack.encode(records)


def read_invalidations(encoded: bytes | None) -> dict[str, float]:
    """When each scope was invalidated."""
    return {name: at for name, (at, _) in _decode(encoded).items()}


def _merge(records: dict[str, tuple[float, float]], now: float) -> dict[str, tuple[float, float]]:
    """Merge the scopes of the account that has most of them, or all if that does not suffice."""
    accounts = {name: Scope.parse(name).account for name in records}
    (most, _), *_ = Counter(accounts.values()).most_common(1)
    until = max(until for _, until in records.values())
    merged = {name: record for name, record in records.items() if accounts[name] != most}
    merged[Scope(account=most).name] = now, until
    if len(merged) > MAX_SCOPES or sum(map(len, merged)) > _MAX_BYTES:
        return {Scope().name: (now, until)}
    return merged


def _decode(encoded: bytes | None) -> dict[str, tuple[float, float]]:
    try:
        return {} if encoded is None else _decoder.decode(encoded)
    except msgspec.DecodeError:
        # Another version's.
        return {}
