"""The API key, and the base URL that it may be sent to: both checked once, when a client is made.

Source: docs "Authentication" (either header, keys start with ``zv_``, HTTPS only). The docs page "Usage limits" writes
keys with ``ZV_`` as well, the prefix of public tracking codes, and other pages mention tokens of other kinds; so no
prefix is required.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any, Literal, NoReturn, Self, TypeAlias, get_args
from urllib.parse import urlsplit

from zenovay_async._protocol.parameters import require_bool
from zenovay_async.exceptions import MAX_BODY_CHARS, ConfigurationError, ZenovayError

DEFAULT_BASE_URL = "https://api.zenovay.com/api/external/v1"
KEY_VARIABLE = "ZENOVAY_API_KEY"
_KEY_PREFIX, _TRACKING_PREFIX = "zv_", "ZV_"
BASE_URL_VARIABLE = "ZENOVAY_BASE_URL"

AuthStyle: TypeAlias = Literal["x-api-key", "bearer"]
"""The header that carries the key: ``X-API-Key: KEY``, or ``Authorization: Bearer KEY``."""

# A name, or an IPv6 address, perhaps with a zone.
_HOST = re.compile(r"[a-z0-9_-][a-z0-9_.-]*|[0-9a-f:.]*:[0-9a-f:.]*(?:%[\w.-]+)?", re.ASCII | re.IGNORECASE)
OR_ALLOW_HTTP = ", or allow_http=True on a trusted network"
# What stands for a key in documentation and templates, after a prefix.
_PLACEHOLDER = re.compile(
    r"""
    [x.*_-]{3,}
    | [<{\[(%$].*
    | .*your.*(key|token|secret|here).* | (my|the|an?)[_-]?(zenovay[_-]?)?api[_-]?(key|token).*
    | (zenovay[_-]?)?api[_-]?(key|token)([_-]?here)? | (insert|enter|paste|put|add)[_-].*(key|token|here).*
    | (replace|change)[_-]?(me|with|this).* | placeholder | example | todo | none | null | nil | undefined
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NOT_IN_KEYS = frozenset(" \"'`")
# Characters of the key in a row that are a part of it rather than chance.
_PART = 8
_REDACTED = "<secret>"
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_GET_A_KEY = "Create one in the Zenovay dashboard under Settings > API keys"


class Secret(str):
    """A string that does not show itself: its repr is a placeholder, and it cannot be pickled.

    It is a ``str`` because an HTTP library takes nothing else as a header. Tracebacks that print local variables, and
    the repr of a header mapping, use ``repr`` and so show the placeholder.
    """

    __slots__ = ()

    @classmethod
    def of(cls, key: Any) -> Self:
        """A key that was passed, as a secret.

        Raises:
            ConfigurationError: It is no str.
        """
        if isinstance(key, str):
            return cls(key)
        # Such as pydantic's SecretStr, whose str() is stars.
        advice = "; pass the result of its get_secret_value()" if hasattr(key, "get_secret_value") else ""
        raise ConfigurationError(f"api_key: expected a str, not {type(key).__name__}{advice}")

    def __repr__(self) -> str:
        return f"'{_REDACTED}'"

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

    __slots__ = ("_key", "_parts", "header", "style")

    def __init__(self, key: Secret, style: AuthStyle = "x-api-key") -> None:
        self._key = key
        self._parts: frozenset[str] = frozenset()
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
        """Redact the key in an error, as a server may have echoed it or a part of it, and cut the body only then.

        A cause that shows the key is dropped.
        """
        if error.body is not None:
            error.body = self._redact_body(error.body)
        for name in ("message", "call", "code", "request_id", "path"):
            text = getattr(error, name, None)
            if text:
                setattr(error, name, self.redact_text(text))
        error.args = (error.message,)
        if self._is_in_causes(error):
            error.__cause__ = error.__context__ = None

    def redact_text(self, text: str) -> str:
        """Redact the key in a text from the server, and each part of it of 8 characters or more.

        Case does not matter, as error codes are in upper case.
        """
        key = self._key.translate(_ASCII_LOWER)
        size = min(_PART, len(key))
        parts = self._parts
        if not parts:
            parts = self._parts = frozenset(key[at : at + size] for at in range(len(key) - size + 1))
        lower = text.translate(_ASCII_LOWER)
        redacted: list[str] = []
        done = end = 0
        for at in range(len(text) - size + 1):
            if lower[at : at + size] in parts:
                if at > end or not end:
                    redacted += (text[done:at], _REDACTED)
                done = end = at + size
        return "".join((*redacted, text[done:])) if redacted else text

    def _redact_body(self, body: str) -> str:
        """The start of a body, redacted before it is cut, as nobody recognizes half a key."""
        # A longer start, as keys get shorter when they are redacted; its own end may be half a key.
        longest = MAX_BODY_CHARS + 8 * len(self._key)
        redacted = self.redact_text(body[:longest])
        if len(body) > longest:
            redacted = redacted[: -len(self._key)]
        return redacted[:MAX_BODY_CHARS]

    def _is_in_causes(self, error: BaseException) -> bool:
        seen: set[int] = set()
        cause = error.__cause__ or error.__context__
        while cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            shown = f"{cause} {cause!r}"
            if self.redact_text(shown) != shown:
                return True
            cause = cause.__cause__ or cause.__context__
        return False


def resolve_api_key(given: Secret | None, from_environment: Secret | None = None) -> Secret:
    """The key to use: the one given, else that of the environment variable ``ZENOVAY_API_KEY``.

    Args:
        given: The key that was passed; ``None`` for none.
        from_environment: The variable's value; ``None`` if it is not set.

    Raises:
        ConfigurationError: No key was found, or it cannot be one.
    """
    source = "api_key" if given is not None else KEY_VARIABLE
    # A secret that is mounted as a file often ends with a newline.
    key = Secret((given if given is not None else from_environment or "").rstrip("\r\n"))
    if not key:
        missing = "is empty" if given is not None else "is not set"
        raise ConfigurationError(
            f'No API key: {source} {missing}; pass Zenovay("zv_...") or set {KEY_VARIABLE}. {_GET_A_KEY}'
        )
    if not key.isascii() or not key.isprintable() or _NOT_IN_KEYS & set(key):
        raise ConfigurationError(
            f"{source} contains whitespace, a quote or a character that no API key has; copy the key again, alone"
        )
    bare = key[len(_KEY_PREFIX) :] if key.lower().startswith(_KEY_PREFIX) else key
    if not bare or key == KEY_VARIABLE or _PLACEHOLDER.fullmatch(bare):
        raise ConfigurationError(f"{source} is a placeholder, not an API key. {_GET_A_KEY}")
    return key


def doubt_about_key(key: Secret) -> str:
    """Why a key looks like another thing; ``""`` if it does not. It may be right all the same."""
    if key.startswith(_KEY_PREFIX):
        return ""
    if key.startswith(_TRACKING_PREFIX):
        return f"The API key looks like a tracking code ({_TRACKING_PREFIX}...), which is public; keys start with zv_"
    return f"The API key does not start with {_KEY_PREFIX}, as API keys of Zenovay do"


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
    shown = repr(url)
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
