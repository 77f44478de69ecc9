"""Through which proxy the API is reached: the one given, else that of the environment or the system.

The rules are those of curl, requests and httpx, in so far as they agree; ``docs/networks.md`` states them.
"""

from __future__ import annotations

import re
from base64 import b64encode
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, getproxies_environment, proxy_bypass

from yarl import URL

from zenovay_async._protocol.auth import Secret
from zenovay_async._protocol.base_url import is_host, is_loopback
from zenovay_async._protocol.parameters import require_bool
from zenovay_async.exceptions import ConfigurationError

_PORTS = {"http": 80, "https": 443}
_EXAMPLE = "expected a URL such as 'http://proxy.example:3128'"


class Proxy(NamedTuple):
    """A proxy.

    Attributes:
        url: Scheme, host and port.
        authorization: ``Proxy-Authorization``; ``None`` for no credentials.
    """

    url: URL
    authorization: Secret | None


def resolve_proxy(given: str | None, base_url: str, *, trust_env: bool) -> Proxy | None:
    """The proxy to use: the one given, else that of the environment or the system; ``None`` for none.

    Args:
        given: URL of a proxy, which may contain a user and a password; ``None`` for none.
        base_url: Base URL of the API. Plain HTTP to this machine, as to a sandbox, uses no proxy of the environment.
        trust_env: Whether to obey the environment and the system.

    Raises:
        ConfigurationError: The proxy is no URL of an HTTP proxy.
    """
    require_bool("trust_env", trust_env)
    if given is not None:
        if not isinstance(given, str):
            raise ConfigurationError(f"proxy=<{type(given).__name__}>: {_EXAMPLE}, or None")
        return _checked("proxy=<secret>", Secret(given))
    found = _of_environment(base_url) if trust_env else None
    return None if found is None else _checked(*found)


def _of_environment(base_url: str) -> tuple[str, Secret] | None:
    """Where a proxy for the API is named, and its URL; ``None`` for none."""
    url = urlsplit(base_url)
    host = url.hostname or ""
    if url.scheme == "http" and is_loopback(host):
        return None
    environment = getproxies_environment()
    proxies = environment or getproxies()
    name = next((name for name in (url.scheme, "all") if proxies.get(name, "").strip()), None)
    if name is None:
        return None
    if environment:
        exempt = is_exempt(url.scheme, host, url.port or _PORTS[url.scheme], environment.get("no", ""))
    else:
        # The system's own list.
        exempt = bool(proxy_bypass(host))
    source = f"{name.upper()}_PROXY of the environment" if environment else "the system's proxy"
    return None if exempt else (source, Secret(proxies[name]))


def is_exempt(scheme: str, host: str, port: int, no_proxy: str) -> bool:
    """Whether ``NO_PROXY`` exempts a host; names are compared as they are, and never looked up.

    Args:
        scheme: ``"http"`` or ``"https"``.
        host: The host, without brackets.
        port: The port.
        no_proxy: Entries that are separated by commas or spaces: ``*``; a host or domain, which includes those under
            it; an IP address or network. Each may have a scheme and a port.
    """
    name = host.lower().removesuffix(".")
    address = _address(name)
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        of_scheme, separator, rest = entry.rpartition("://")
        if separator and of_scheme not in {scheme, "all"}:
            continue
        pattern, of_port = _split_port(rest.rstrip("/"))
        if of_port not in {"", str(port)}:
            continue
        if pattern == "*" or _matches(pattern, name, address):
            return True
    return False


def _matches(pattern: str, name: str, address: IPv4Address | IPv6Address | None) -> bool:
    if address is not None:
        try:
            return address in ip_network(pattern, strict=False)
        except ValueError:
            return False
    domain = pattern.removeprefix("*").removeprefix(".").removesuffix(".")
    return bool(domain) and (name == domain or name.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, str]:
    """The host and the port of an entry; IPv6 addresses may be in brackets, and have to be where there is a port."""
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        return (host + port, "") if port.startswith("/") else (host, port.removeprefix(":"))
    host, _, port = entry.partition(":")
    return (entry, "") if ":" in port else (host, port)


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(name)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _checked(source: str, url: Secret) -> Proxy:
    # Raised from here, so that no frame of the traceback has the plain URL.
    proxy = _parse(url)
    if isinstance(proxy, str):
        raise ConfigurationError(f"{source}: {proxy}")
    return proxy


def _parse(text: Secret) -> Proxy | str:
    """The proxy, or why it is none, in words that do not show the password."""
    url = text.strip()
    try:
        parsed = URL(url if "://" in url else f"http://{url}")
        origin = parsed.origin()
    except ValueError:
        return f"not a URL; {_EXAMPLE}, with special characters of a password percent-encoded"
    if parsed.scheme.startswith("socks"):
        return (
            f"a proxy of the scheme {parsed.scheme!r} needs the package aiohttp-socks: pass session= with its "
            "ProxyConnector, or set a proxy that is http or https"
        )
    if parsed.scheme not in _PORTS:
        return f"a proxy of the scheme {parsed.scheme!r} is not supported; {_EXAMPLE}"
    if not is_host(parsed.host):
        return f"not a host; {_EXAMPLE}"
    if parsed.user is None and parsed.password is None:
        return Proxy(origin, None)
    credentials = f"{parsed.user or ''}:{parsed.password or ''}".encode()
    return Proxy(origin, Secret(f"Basic {b64encode(credentials).decode()}"))
