"""CacheStore: where responses are kept for several processes, and who of them requests a missing one."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a store has under a name.

    Attributes:
        value: The encoded response; ``None`` if there is none.
        invalidations: When each scope was last invalidated, by :attr:`Scope.name`, in seconds of the store's clock.
        lease: Who requests it now: ``"direct"`` for a call, ``"background"`` for a batch or a refresh; ``None`` for
            nobody.
        offset: Seconds by which the store's clock is ahead of ``time.monotonic`` of this process.
    """

    value: bytes | None = None
    invalidations: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    lease: str | None = None
    offset: float = 0.0


class CacheStore(Protocol):
    """A store of responses, by name. Its methods raise an ``OSError`` where the store cannot be used.

    One object serves one thread at a time; it opens what it needs on the running loop, after a fork too.
    """

    async def find(self, name: str) -> Found:
        """Look up a name."""
        ...

    async def acquire_lease(self, name: str, *, background: bool, steal: bool = False) -> bool:
        """Say that this process requests the response; returns whether nobody else does.

        A lease ends with :meth:`put`, :meth:`release_lease`, or by itself soon after its process ended or froze.

        Args:
            name: Name of the response.
            background: Whether the request belongs to a batch or a refresh.
            steal: Take it also from another process that has it for a background request.
        """
        ...

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        """Keep a value for so many seconds, and release the lease."""
        ...

    async def release_lease(self, name: str) -> None:
        """Release the lease, if this process has it."""
        ...

    async def remove(self, name: str) -> None:
        """Forget a value, and release the lease."""
        ...

    async def invalidate(self, scope: str, seconds: float) -> None:
        """Record that a scope is invalidated now; the record may be forgotten after so many seconds."""
        ...

    async def aclose(self) -> None:
        """Close what is open; a later use opens it again."""
        ...
