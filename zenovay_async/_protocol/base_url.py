"""The base URL, to which the API key may be sent: checked once, when a client is made.

Source: docs "Authentication" (HTTPS only).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from zenovay_async._protocol.parameters import require_bool
from zenovay_async.exceptions import ConfigurationError

DEFAULT_BASE_URL = "https://api.zenovay.com/api/external/v1"
BASE_URL_VARIABLE = "ZENOVAY_BASE_URL"
OR_ALLOW_HTTP = ", or allow_http=True on a trusted network"

# A name, or an IPv6 address, perhaps with a zone.
_HOST = re.compile(r"[a-z0-9_-][a-z0-9_.-]*|[0-9a-f:.]*:[0-9a-f:.]*(?:%[\w.-]+)?", re.ASCII | re.IGNORECASE)


def is_host(name: str | None) -> bool:
    """Whether a text may be the name or the address of a host."""
    try:
        # Encoding rejects a label that has not 1 to 63 characters (RFC 1035 section 2.3.4).
        return name is not None and _HOST.fullmatch(name.encode("idna").decode()) is not None
    except UnicodeError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: an address of the loopback, or ``localhost`` and names under it (RFC 6761)."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if address.version == 6 else None  # noqa: PLR2004 - the version of IP
    return (mapped or address).is_loopback


def resolve_base_url(given: str | None, from_environment: str | None, *, allow_http: bool = False) -> str:
    """The base URL to use: the one given, else ``ZENOVAY_BASE_URL``, else the public API; without a final slash.

    Args:
        given: An absolute ``https`` URL, or ``http`` to this machine (a sandbox); ``None`` for none.
        from_environment: The variable's value; ``None`` if it is not set.
        allow_http: Accept ``http`` to any host, over which the key travels unencrypted.

    Raises:
        ConfigurationError: The URL is invalid, contains credentials, or would send the key unencrypted.
    """
    url = given if given is not None else (from_environment or "").rstrip("\r\n") or DEFAULT_BASE_URL
    if not isinstance(url, str):
        raise ConfigurationError(f"base_url={url!r}: expected a str such as {DEFAULT_BASE_URL!r}")
    require_bool("allow_http", allow_http)
    # A setting that is mounted as a file often ends with a newline.
    url = url.rstrip("\r\n")
    source = "base_url" if given is not None else BASE_URL_VARIABLE
    shown = f"{source}={url!r}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(
            f"{shown}: invalid URL ({error}); expected a URL such as {DEFAULT_BASE_URL!r}"
        ) from None
    if "@" in parts.netloc:
        raise ConfigurationError(f"{source} contains a user name or password: remove it and pass the key as api_key=")
    is_plain = url.isprintable() and " " not in url
    if parts.scheme not in {"https", "http"} or not is_host(host) or parts.query or parts.fragment or not is_plain:
        raise ConfigurationError(f"{shown}: expected a URL such as {DEFAULT_BASE_URL!r}")
    if parts.scheme == "http" and not is_loopback(host or "") and not allow_http:
        raise ConfigurationError(f"{shown} would send the API key unencrypted; use https{OR_ALLOW_HTTP}")
    return url.rstrip("/")
