"""One response that is kept. Pure: its times are those of a clock that is an argument.

In this process all times are in seconds of ``time.monotonic``. A store has a clock of its own, so an entry is encoded
with its times shifted by the offset between the two.

Source: RFC 5861 (``stale-while-revalidate``, ``stale-if-error``) for what *fresh* and *stale* mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
"""Version of the encoding; what another version wrote is not read."""


class CachedResponse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is kept of a response.

    Attributes:
        version: Version of the encoding.
        stamp: Random bytes that tell this response from every other one.
        status: HTTP status: 200, or 404 where those are kept.
        headers: Headers, in order.
        body: The body as it came.
        began_at: When its request began; an invalidation after that makes it invalid.
        stored_at: When it came.
        fresh_until: Until when it is returned without a request.
        expires_at: Until when it is returned while another one is requested.
    """

    version: int
    stamp: bytes
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    began_at: float
    stored_at: float
    fresh_until: float
    expires_at: float

    def shifted(self, offset: float) -> CachedResponse:
        """The same response with its times in another clock, which is so many seconds ahead."""
        return msgspec.structs.replace(
            self,
            began_at=self.began_at + offset,
            stored_at=self.stored_at + offset,
            fresh_until=self.fresh_until + offset,
            expires_at=self.expires_at + offset,
        )


_NOT_KEPT = frozenset({"set-cookie", "set-cookie2"})


def kept_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The headers of a response that are kept: all but cookies, which are for who asked."""
    # aiohttp's names are of a type that cannot be encoded.
    return tuple([(str(name), value) for name, value in headers.items() if name.lower() not in _NOT_KEPT])


_decoder = msgspec.msgpack.Decoder(CachedResponse)


def encode(response: CachedResponse, offset: float) -> bytes:
    """Encode a response for a store whose clock is ``offset`` seconds ahead of this process's."""
    return msgspec.msgpack.encode(response.shifted(offset))


def decode(value: bytes, offset: float) -> CachedResponse | None:
    """Decode what a store has; ``None`` for anything that this version did not write."""
    try:
        response = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return response.shifted(-offset) if response.version == VERSION else None
