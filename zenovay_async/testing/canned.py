"""Responses of aioresponses, which its newest release cannot make for a current aiohttp."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp

from zenovay_async.exceptions import ConfigurationError
from zenovay_async.testing.limits import forget_limits
from zenovay_async.testing.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Generator

    from aioresponses import aioresponses as Mock  # noqa: N812 - a class

_NEEDS_WRITER = "stream_writer" in inspect.signature(aiohttp.ClientResponse).parameters


class _Response(aiohttp.ClientResponse):
    """aioresponses 0.7.9 omits an argument that aiohttp 3.14 requires (its issue 289)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if _NEEDS_WRITER:
            kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **kwargs)


@contextmanager
def aioresponses(**options: Any) -> Generator[Mock]:
    """Mock the requests of aiohttp, and so those of clients.

    Use it as ``with aioresponses() as mocked:``. It is the class of aioresponses itself, made to work with the aiohttp
    that is installed. A request that nothing was mocked for meets a connection that is refused, and is retried: give
    the client ``max_attempts=1``. What this process knows of rate limits is forgotten before and after the block.

    Args:
        options: Those of the class, such as ``passthrough=[sandbox.url]``.

    Yields:
        The mock: ``mocked.get(url, payload={...})``.

    Raises:
        ConfigurationError: aioresponses is not installed.
    """
    try:
        from aioresponses import core  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError("Mocked responses need aioresponses: pip install aioresponses") from error
    patches = Patches()
    forget_limits()
    patches.set(core, "ClientResponse", _Response)
    try:
        with core.aioresponses(**options) as mocked:
            yield mocked
    finally:
        patches.undo()
        forget_limits()
