"""The API key and where it may be sent: both are checked once, when a client is made.

Source: docs "Authentication" (either header, keys start with ``zv_``, HTTPS only).
"""

from __future__ import annotations

import os
import re
from typing import Literal, NoReturn, get_args
from urllib.parse import urlsplit

from zenovay_async.exceptions import ConfigurationError, ZenovayError

DEFAULT_BASE_URL = "https://api.zenovay.com/api/external/v1"
KEY_VARIABLE = "ZENOVAY_API_KEY"
BASE_URL_VARIABLE = "ZENOVAY_BASE_URL"

AuthStyle = Literal["x-api-key", "bearer"]

# A name, or an address of IPv6, perhaps with a zone.
_HOST = re.compile(r"[a-z0-9_-][a-z0-9_.-]*|[0-9a-f:.]*:[0-9a-f:.]*(?:%[\w.-]+)?", re.ASCII | re.IGNORECASE)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_GET_A_KEY = "Create one in the Zenovay dashboard under Settings > API keys"


class Secret(str):
    """A string that does not show itself: its repr is a placeholder, and it refuses to be pickled.

    It stays a ``str`` because that is what an HTTP library takes as a header. Tracebacks that print local
    variables, and the repr of a header mapping, go through ``repr`` and so find nothing.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'<secret>'"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("an API key is not pickled: make the client in each process, from ZENOVAY_API_KEY")


class Auth:
    """One API key and the header that carries it.

    Args:
        key: The key, already checked by :func:`resolve_api_key`.
        style: ``"x-api-key"`` sends ``X-API-Key: KEY``, ``"bearer"`` sends ``Authorization: Bearer KEY``.
    """

    __slots__ = ("_key", "header", "style")

    def __init__(self, key: Secret, style: AuthStyle = "x-api-key") -> None:
        self._key = key
        self.style: AuthStyle = style
        if style not in get_args(AuthStyle):
            raise ConfigurationError(f"auth={style!r} is not a way to authenticate: 'x-api-key' or 'bearer'")
        self.header: tuple[str, Secret] = (
            ("X-API-Key", key) if style == "x-api-key" else ("Authorization", Secret(f"Bearer {key}"))
        )

    def __repr__(self) -> str:
        return f"Auth({self.style!r}, <secret>)"

    @property
    def key(self) -> Secret:
        """The key itself, for telling budgets apart; never for display."""
        return self._key

    def redact(self, error: ZenovayError) -> None:
        """Take the key out of an error, should a server have echoed it."""
        for name in ("message", "body", "code", "request_id", "path"):
            text = getattr(error, name, None)
            if text is not None:
                setattr(error, name, self.redact_text(text))
        error.args = (error.message,)

    def redact_text(self, text: str) -> str:
        """A text of the server's with the key taken out, also where it came in capitals, as codes do."""
        return re.sub(re.escape(self._key), "<secret>", text, flags=re.IGNORECASE)


def resolve_api_key(given: Secret | None) -> Secret:
    """The key to use: the one given, else that of the environment variable ``ZENOVAY_API_KEY``.

    Raises:
        ConfigurationError: There is none, or it cannot be a Zenovay key.
    """
    source = "api_key" if given is not None else f"the environment variable {KEY_VARIABLE}"
    key = given if given is not None else Secret(os.environ.get(KEY_VARIABLE, ""))
    if not key:
        missing = "is empty" if given is not None else "is not set"
        raise ConfigurationError(
            f'No API key: {source} {missing}. Pass Zenovay("zv_...") or set {KEY_VARIABLE}. {_GET_A_KEY}.'
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            f"{source} holds a line break, a space or another character that no API key has. "
            "Copy the key again, without what stands around it."
        )
    if not key.startswith("zv_"):
        raise ConfigurationError(f"{source} is not a Zenovay API key: those start with 'zv_'. {_GET_A_KEY}.")
    return key


def _is_host(name: str | None) -> bool:
    try:
        # A label has 1 to 63 characters (RFC 1035 section 2.3.4), those beyond ASCII encoded; this refuses others.
        return name is not None and _HOST.fullmatch(name.encode("idna").decode()) is not None
    except UnicodeError:
        return False


def resolve_base_url(given: str | None, *, allow_http: bool = False) -> str:
    """The base URL to use: the one given, else ``ZENOVAY_BASE_URL``, else the public API; no slash at its end.

    Args:
        given: An absolute ``https`` URL, or ``http`` to this machine (a sandbox).
        allow_http: Accept ``http`` to any host, over which the key travels in the clear.

    Raises:
        ConfigurationError: It is not such a URL.
    """
    url = given if given is not None else os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL
    if not isinstance(url, str):
        raise ConfigurationError(f"base_url={url!r} is not a base URL; expected text such as {DEFAULT_BASE_URL!r}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"base_url={url!r} is not a URL: {error}") from None
    if "@" in parts.netloc:
        raise ConfigurationError("base_url holds a user name or password; the API takes a key only")
    plain = url.isprintable() and " " not in url
    if parts.scheme not in {"https", "http"} or not _is_host(host) or parts.query or parts.fragment or not plain:
        raise ConfigurationError(f"base_url={url!r} is not a base URL; expected such as {DEFAULT_BASE_URL!r}")
    if parts.scheme == "http" and host not in _LOOPBACK and not allow_http:
        raise ConfigurationError(
            f"base_url={url!r} would send the API key unencrypted. Use https, "
            "or pass allow_http=True if the way to that host is safe."
        )
    return url.rstrip("/")
