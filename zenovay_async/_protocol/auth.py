"""The API key, and the base URL that it may be sent to: both checked once, when a client is made.

Source: docs "Authentication" (either header, keys start with ``zv_``, HTTPS only).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Literal, NoReturn, TypeAlias, get_args
from urllib.parse import urlsplit

from zenovay_async._protocol.parameters import require_bool
from zenovay_async.exceptions import MAX_BODY_CHARS, ConfigurationError, ZenovayError

DEFAULT_BASE_URL = "https://api.zenovay.com/api/external/v1"
KEY_VARIABLE = "ZENOVAY_API_KEY"
_KEY_PREFIX = "zv_"
BASE_URL_VARIABLE = "ZENOVAY_BASE_URL"

AuthStyle: TypeAlias = Literal["x-api-key", "bearer"]
"""The header that carries the key: ``X-API-Key: KEY``, or ``Authorization: Bearer KEY``."""

# A name, or an IPv6 address, perhaps with a zone.
_HOST = re.compile(r"[a-z0-9_-][a-z0-9_.-]*|[0-9a-f:.]*:[0-9a-f:.]*(?:%[\w.-]+)?", re.ASCII | re.IGNORECASE)
_KEY = re.compile(r"zv_\w*", re.ASCII | re.IGNORECASE)
OR_ALLOW_HTTP = ", or allow_http=True on a trusted network"
_GET_A_KEY = "Create one in the Zenovay dashboard under Settings > API keys"


class Secret(str):
    """A string that does not show itself: its repr is a placeholder, and it cannot be pickled.

    It is a ``str`` because an HTTP library takes nothing else as a header. Tracebacks that print local variables, and
    the repr of a header mapping, use ``repr`` and so show the placeholder.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'<secret>'"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("cannot pickle an API key; create the client in each process, from ZENOVAY_API_KEY")


class Auth:
    """One API key and the header that carries it.

    Args:
        key: The key, checked by :func:`resolve_api_key`.
        style: ``"x-api-key"`` sends ``X-API-Key: KEY``, ``"bearer"`` sends ``Authorization: Bearer KEY``.
    """

    __slots__ = ("_key", "header", "style")

    def __init__(self, key: Secret, style: AuthStyle = "x-api-key") -> None:
        self._key = key
        self.style: AuthStyle = style
        if style not in get_args(AuthStyle):
            raise ConfigurationError(f"auth={style!r}: expected 'x-api-key' or 'bearer'")
        self.header: tuple[str, Secret] = (
            ("X-API-Key", key) if style == "x-api-key" else ("Authorization", Secret(f"Bearer {key}"))
        )

    def __repr__(self) -> str:
        return f"Auth({self.style!r}, <secret>)"

    @property
    def key(self) -> Secret:
        """The key itself, to make siblings of a client and to distinguish budgets; never for display."""
        return self._key

    def redact(self, error: ZenovayError) -> None:
        """Redact the key in an error, as a server may have echoed it."""
        if error.body is not None and len(error.body) == MAX_BODY_CHARS:
            error.body = self._without_cut_key(error.body)
        for name in ("message", "body", "code", "request_id", "path"):
            text = getattr(error, name, None)
            if text is not None:
                setattr(error, name, self.redact_text(text))
        error.args = (error.message,)

    def redact_text(self, text: str) -> str:
        """Redact the key in a text from the server, in any case, as error codes are in upper case."""
        return re.sub(re.escape(self._key), "<secret>", text, flags=re.IGNORECASE)

    def _without_cut_key(self, body: str) -> str:
        """A body that was cut off, without the part of the key that it may end with."""
        end, key = body[-len(self._key) :].lower(), self._key.lower()
        cut = next((size for size in range(len(key) - 1, len(_KEY_PREFIX), -1) if end.endswith(key[:size])), 0)
        return body[: len(body) - cut] + "<secret>" if cut else body


def resolve_api_key(given: Secret | None, from_environment: Secret | None = None) -> Secret:
    """The key to use: the one given, else that of the environment variable ``ZENOVAY_API_KEY``.

    Args:
        given: The key that was passed; ``None`` for none.
        from_environment: The variable's value; ``None`` if it is not set.

    Raises:
        ConfigurationError: No key was found, or it is not a Zenovay key.
    """
    source = "api_key" if given is not None else KEY_VARIABLE
    key = given if given is not None else from_environment or Secret("")
    if not key:
        missing = "is empty" if given is not None else "is not set"
        raise ConfigurationError(
            f'No API key: {source} {missing}; pass Zenovay("zv_...") or set {KEY_VARIABLE}. {_GET_A_KEY}'
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            f"{source} contains whitespace or a character that no API key has; copy the key again, without spaces"
        )
    if not key.startswith(_KEY_PREFIX):
        raise ConfigurationError(
            f"{source} is not a Zenovay API key: expected one that starts with {_KEY_PREFIX!r}. {_GET_A_KEY}"
        )
    return key


def _is_host(name: str | None) -> bool:
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
    url = given if given is not None else from_environment or DEFAULT_BASE_URL
    if not isinstance(url, str):
        raise ConfigurationError(f"base_url={url!r}: expected a str such as {DEFAULT_BASE_URL!r}")
    require_bool("allow_http", allow_http)
    # A key gets here where two variables are swapped, or in a query.
    shown = _KEY.sub("<secret>", repr(url))
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(
            f"base_url={shown}: invalid URL ({error}); expected a URL such as {DEFAULT_BASE_URL!r}"
        ) from None
    if "@" in parts.netloc:
        raise ConfigurationError("base_url contains a user name or password: remove it and pass the key as api_key=")
    is_plain = url.isprintable() and " " not in url
    if parts.scheme not in {"https", "http"} or not _is_host(host) or parts.query or parts.fragment or not is_plain:
        raise ConfigurationError(f"base_url={shown}: expected a URL such as {DEFAULT_BASE_URL!r}")
    if parts.scheme == "http" and not is_loopback(host or "") and not allow_http:
        raise ConfigurationError(f"base_url={shown} would send the API key unencrypted; use https{OR_ALLOW_HTTP}")
    return url.rstrip("/")
