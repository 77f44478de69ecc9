"""The API key: checked once, when a client is made, and redacted from all that is shown.

Source: docs "Authentication" (either header, keys start with ``zv_``). The docs page "Usage limits" writes keys with
``ZV_`` as well, the prefix of public tracking codes, and other pages mention tokens of other kinds; so no prefix is
required.
"""

from __future__ import annotations

import re
from html import escape, unescape
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeAlias, get_args
from urllib.parse import unquote

from zenovay_async.exceptions import MAX_BODY_CHARS, ConfigurationError, ZenovayError

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY_VARIABLE = "ZENOVAY_API_KEY"
_KEY_PREFIX, _TRACKING_PREFIX = "zv_", "ZV_"

AuthStyle: TypeAlias = Literal["x-api-key", "bearer"]
"""The header that carries the key: ``X-API-Key: KEY``, or ``Authorization: Bearer KEY``."""

# What stands for a key in documentation and templates, after a prefix.
_PLACEHOLDER = re.compile(
    r"""
    [x.*_-]{3,} | .*[_-]x{3,} | .*(\.{3}|\*{3}).*
    | [<{\[(%$].*
    | .*your.*(key|token|secret|here).* | (my|the|an?)[_-]?(zenovay[_-]?)?api[_-]?(key|token).*
    | (zenovay[_-]?)?api[_-]?(key|token)([_-]?here)? | (insert|enter|paste|put|add)[_-].*(key|token|here).*
    | (replace|change)[_-]?(me|with|this).* | placeholder | example([_-].*)?
    | redacted | todo | tbd | none | null | nil | undefined
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NOT_IN_KEYS = frozenset(" \"'`")
# A key copied with its name, as from a file of variables or from a header.
_NAMED = re.compile(r"[\w-]*key[=:].*", re.IGNORECASE)
# Characters of the key in a row that are a part of it rather than chance.
_PART = 8
# What JSON and URLs may spell in another way.
_SPELLED = re.compile(r"[^\w.~-]", re.ASCII)
_LETTERS = re.compile(r"[^\W_]+", re.ASCII)
_ESCAPED = re.compile(r"\\(?:u00([0-9a-f]{2})|([^\w\s]))", re.ASCII | re.IGNORECASE)
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

    __slots__ = ("_has_one_spelling", "_key", "_parts", "_pieces", "header", "style")

    def __init__(self, key: Secret, style: AuthStyle = "x-api-key") -> None:
        self._key = key
        self._parts: frozenset[int] = frozenset()
        self._pieces: frozenset[int] = frozenset()
        self._has_one_spelling = _SPELLED.search(key) is None
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

    def is_echoed(self, body: bytes, headers: Iterable[str]) -> bool:
        """Whether the key occurs in a response, also as JSON, URLs and HTML spell it.

        Args:
            body: The body.
            headers: Values of the headers.
        """
        key, values = self._key, "\n".join(headers)
        # What is spelled alike in all of them; without it there is nothing to look for.
        part = key if self._has_one_spelling else max(_LETTERS.findall(key), key=len, default="")
        if part.encode() not in body and part not in values:
            return False
        if self._has_one_spelling:
            return True
        text = f"{body.decode('latin-1')}\n{values}"
        # One may be inside of another, as a URL in JSON.
        readings = [text, unquote(text), text := _unescape(text), text := unescape(text), unquote(text)]
        return any(key in reading for reading in readings)

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
        size = min(_PART, len(self._key))
        # Wherever a part stands in a text, it has one of the pieces that begin every so many characters.
        step = (size + 1) // 2
        piece = size - step + 1
        parts, pieces = self._parts, self._pieces
        if not parts:
            # Their hashes, as an attribute may be shown.
            spellings = _spellings(self._key)
            parts, pieces = self._parts, self._pieces = _hashes(spellings, size), _hashes(spellings, piece)
        lower = text.translate(_ASCII_LOWER)
        for at in range(0, len(lower) - piece + 1, step):
            if hash(lower[at : at + piece]) in pieces:
                break
        else:
            return text
        redacted: list[str] = []
        done = end = 0
        for at in range(len(text) - size + 1):
            if hash(lower[at : at + size]) in parts:
                if at > end or not end:
                    redacted += (text[done:at], _REDACTED)
                done = end = at + size
        return "".join((*redacted, text[done:])) if redacted else text

    def redact_call(self, text: str) -> str:
        """Redact the key in the text of a call; a part of it is an argument like others, and stays."""
        return text if self._has_one_spelling and self._key not in text else self.redact_text(text)

    def _redact_body(self, body: str) -> str:
        """The start of a body, redacted before it is cut, as nobody recognizes half a key."""
        # A longer start, as keys get shorter when they are redacted; its own end may be half a key.
        longest = MAX_BODY_CHARS + 8 * len(self._key)
        redacted = self.redact_text(body[:longest])
        if len(body) > longest:
            redacted = redacted[: -max(map(len, _spellings(self._key)))]
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
    if not key.isascii() or not key.isprintable() or _NOT_IN_KEYS & set(key) or _NAMED.match(key):
        raise ConfigurationError(
            f"{source} is more than an API key, or has a character that none has, such as a space; copy the key alone"
        )
    bare = key[len(_KEY_PREFIX) :] if key.lower().startswith(_KEY_PREFIX) else key
    if not bare or key == KEY_VARIABLE or _PLACEHOLDER.fullmatch(bare):
        raise ConfigurationError(f"{source} is a placeholder, not an API key. {_GET_A_KEY}")
    return key


def _hashes(texts: Iterable[str], size: int) -> frozenset[int]:
    """The hashes of all parts of a size."""
    return frozenset(hash(text[at : at + size]) for text in texts for at in range(len(text) - size + 1))


def _spellings(key: str) -> set[str]:
    """The key in lower case, as it is and as JSON, URLs and HTML spell what is no letter or digit in it."""
    lower = key.translate(_ASCII_LOWER)
    escaped = lower.replace("\\", "\\\\")
    spelled = {
        "".join(form.format(ord(one)) if _SPELLED.match(one) else one for one in lower)
        for form in ("\\u{:04x}", "%{:02x}", "&#{};", "&#x{:x};")
    }
    return {lower, escaped, escaped.replace("/", "\\/"), lower.replace("/", "\\/"), escape(lower), *spelled}


def _unescape(text: str) -> str:
    """A text without the escapes of JSON."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)


def doubt_about_key(key: Secret) -> str:
    """Why a key looks like another thing; ``""`` if it does not. It may be right all the same."""
    if key.startswith(_KEY_PREFIX):
        return ""
    if key.startswith(_TRACKING_PREFIX):
        return f"The API key looks like a tracking code ({_TRACKING_PREFIX}...), which is public; keys start with zv_"
    return f"The API key does not start with {_KEY_PREFIX}, as API keys of Zenovay do"
