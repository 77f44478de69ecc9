"""When scopes were invalidated, as a file keeps it. Pure: the time is an argument."""

from __future__ import annotations

import msgspec

from zenovay_async._cache.invalidation import Scope

MAX_SCOPES = 256
"""Scopes of which a store knows when they were invalidated; with more, all responses are."""
# Bytes of their names.
_MAX_BYTES = 1 << 16

_decoder = msgspec.msgpack.Decoder(dict[str, tuple[float, float]])


def add_invalidation(encoded: bytes | None, scope: str, now: float, seconds: float) -> bytes:
    """Add that a scope is invalidated now, which may be forgotten after so many seconds."""
    records = {name: record for name, record in _decode(encoded).items() if record[1] > now}
    records[scope] = now, now + seconds
    if len(records) > MAX_SCOPES or sum(map(len, records)) > _MAX_BYTES:
        records = {Scope().name: (now, max(until for _, until in records.values()))}
    return msgspec.msgpack.encode(records)


def read_invalidations(encoded: bytes | None) -> dict[str, float]:
    """When each scope was invalidated."""
    return {name: at for name, (at, _) in _decode(encoded).items()}


def _decode(encoded: bytes | None) -> dict[str, tuple[float, float]]:
    try:
        return {} if encoded is None else _decoder.decode(encoded)
    except msgspec.DecodeError:
        # Another version's.
        return {}
