"""How the API is reached over a session made here: through which proxy, and trusting whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zenovay_async._session.certificates import resolve_ssl
from zenovay_async._session.proxies import Proxy, resolve_proxy
from zenovay_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from ssl import SSLContext


class Network(NamedTuple):
    """A proxy and a context of TLS.

    Attributes:
        proxy: The proxy; ``None`` for none.
        tls: The context; ``None`` for aiohttp's default.
    """

    proxy: Proxy | None = None
    tls: SSLContext | None = None


def resolve_network(
    base_url: str, *, proxy: str | None, ssl: SSLContext | None, trust_env: bool, has_session: bool
) -> Network:
    """What to use, from the options of a client and the environment.

    Args:
        base_url: Base URL of the API.
        proxy: URL of a proxy; ``None`` for that of the environment.
        ssl: A context; ``None`` for the authorities of the environment.
        trust_env: Whether to obey the environment and the system in the choice of a proxy.
        has_session: Whether the session is the caller's, whose own settings hold.

    Raises:
        ConfigurationError: An option, or a variable of the environment, is invalid.
    """
    if has_session:
        if proxy is not None:
            raise ConfigurationError("proxy= beside session=: set it on the session, ClientSession(proxy=...)")
        if ssl is not None:
            raise ConfigurationError(
                "ssl= beside session=: set it on the session, ClientSession(connector=TCPConnector(ssl=...))"
            )
        return Network()
    tls = resolve_ssl(ssl) if ssl is not None or base_url.startswith("https:") or proxy is not None else None
    return Network(resolve_proxy(proxy, base_url, trust_env=trust_env), tls)
