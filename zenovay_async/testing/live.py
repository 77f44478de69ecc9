"""No test reaches the real API by mistake."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp

from zenovay_async._protocol.base_url import is_loopback
from zenovay_async._session.connection_pool import ConnectionPool
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.testing.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Generator

# The hosts that a request of a client was kept from; None outside of such a request.
_kept_from: ContextVar[list[str] | None] = ContextVar("kept_from", default=None)


class _LiveError(Exception):
    """Ends a request before a connection is made."""


@contextmanager
def block_live() -> Generator[None]:
    """Let no client of this process send a request to another machine.

    Use it as ``with block_live():``. Such a call raises a ``ConfigurationError`` before a connection is made. Mocks
    that replace aiohttp's requests, such as ``aioresponses``, go on. The pytest setting ``zenovay_block_live = true``
    does so for all tests.
    """
    connect, send = aiohttp.BaseConnector.connect, ConnectionPool.send

    async def connect_here(connector: aiohttp.BaseConnector, request: Any, *args: Any, **kwargs: Any) -> Any:
        hosts, host = _kept_from.get(), request.url.host or ""
        if hosts is not None and not is_loopback(host):
            hosts.append(host)
            raise _LiveError
        return await connect(connector, request, *args, **kwargs)

    async def send_here(pool: ConnectionPool, *args: Any, **kwargs: Any) -> Any:
        hosts: list[str] = []
        token = _kept_from.set(hosts)
        try:
            return await send(pool, *args, **kwargs)
        except Exception:
            if not hosts:
                raise
        finally:
            _kept_from.reset(token)
        raise ConfigurationError(
            f"Live requests are blocked in tests, and a client would send one to {hosts[0]}; make it where "
            "the fixture zenovay_sandbox is in use, or ZENOVAY_BASE_URL is the url of a sandbox"
        )

    patches = Patches()
    patches.set(aiohttp.BaseConnector, "connect", connect_here)
    patches.set(ConnectionPool, "send", send_here)
    try:
        yield
    finally:
        patches.undo()
