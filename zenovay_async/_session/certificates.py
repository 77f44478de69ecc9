"""Whom a TLS connection trusts: the context given, else the authorities that the environment names."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path

from zenovay_async.exceptions import ConfigurationError

# OpenSSL's own variables, whose names do not depend on the machine in practice.
_FILE, _DIRECTORY = "SSL_CERT_FILE", "SSL_CERT_DIR"


def resolve_ssl(given: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """The context to use: the one given, else one of the environment; ``None`` for aiohttp's default.

    Args:
        given: A context; ``None`` for none.

    Raises:
        ConfigurationError: ``given`` is no context, or ``SSL_CERT_FILE`` has no certificates.
    """
    if given is not None:
        if not isinstance(given, ssl.SSLContext):
            raise ConfigurationError(
                f"ssl={given!r}: expected an ssl.SSLContext; "
                "to trust an authority of your own, make one with ssl.create_default_context(cafile=...)"
            )
        if given.protocol is ssl.PROTOCOL_TLS_SERVER:
            raise ConfigurationError("ssl=: this context is of a server; make one with ssl.create_default_context()")
        return given
    # aiohttp makes its default on import, and so misses what is set later.
    file, directory = os.environ.get(_FILE, ""), os.environ.get(_DIRECTORY, "")
    return _environment_context(file, directory, _version(file)) if file or directory else None


def _version(file: str) -> tuple[int, ...]:
    """What changes when a file does; OpenSSL itself looks into a directory at each handshake."""
    try:
        status = Path(file).stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=8)
def _environment_context(file: str, _directory: str, _version: tuple[int, ...]) -> ssl.SSLContext:
    # OpenSSL reads both variables, but does not say so if there is nothing to be read.
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if file:
        try:
            context.load_verify_locations(cafile=file)
        except OSError as error:
            reason = error.strerror if not isinstance(error, ssl.SSLError) else "no certificates in PEM format"
            raise ConfigurationError(f"{_FILE}={file!r}: {reason}") from None
    return context
