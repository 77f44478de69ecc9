"""Text as standard error shows it: nothing that controls a terminal, and no API key."""

from __future__ import annotations

import contextlib
import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from zenovay_async import ConfigurationError, QuotaExceededError
from zenovay_async._protocol.auth import KEY_VARIABLE
from zenovay_async._protocol.text import printable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

_KEY = re.compile(r"zv_\w{4,}", re.ASCII)
_REDACTED = "<secret>"
LEAST_KEY = 8
"""Characters of a key at least; what is shorter may be a part of other words."""

# Arguments of the library that are options here: at the start of a message, or, those of a batch, in it.
_ARGUMENT = re.compile(r"^(?!website_id)(?:([a-z][a-z_]*)=|([a-z]+(?:_[a-z]+)+)(?=[ :]))")
_BOUND = re.compile(r"\b(max_failures|max_requests|quota_reserve)=([\d.]+)")

# Further keys of the run, the longest first, as one may be a part of another.
_keys: list[str] = []


@contextlib.contextmanager
def redacted(keys: Iterable[str]) -> Generator[None]:
    """Redact further keys until the end, besides that of the environment."""
    before = list(_keys)
    _keys[:] = sorted({*before, *keys}, key=len, reverse=True)
    try:
        yield
    finally:
        _keys[:] = before


def shown(text: str) -> str:
    """Make a text fit to show, as an argument, an ID or a message of a parser may be or contain a key."""
    return printable(redact_keys(text))


# What only a program can do, and what it does on the command line.
_ADVICE = {
    "restart=True": "--restart",
    "allow_http=True": "--allow-http",
    "pass the key as api_key=": f"set {KEY_VARIABLE}",
    "pass session= with its ProxyConnector, or set a proxy that is http or https": "expected one that is http or https",
    ", or None for no limit": "",
    ", or None to omit it": "",
    "api_key is ": "the API key is ",
    "expected an int ": "expected a whole number ",
    "expected a non-blank str": "expected text that is not blank",
}


def _as_options(error: Exception) -> str:
    """The message of an error, in which arguments of the library are the options of the command line."""
    text = str(error)
    for words, option in _ADVICE.items():
        text = text.replace(words, option)
    if isinstance(error, ConfigurationError):
        text = _ARGUMENT.sub(_as_argument, text)
    return _BOUND.sub(_as_option, text)


def _as_argument(argument: re.Match[str]) -> str:
    name = (argument[1] or argument[2]).replace("_", "-")
    return f"--{name} " if argument[1] else f"--{name}"


def describe_error(error: Exception) -> str:
    """The message of an error that ends a run, on one line, in the words of the command line and without an API key."""
    text = _as_options(error)
    if isinstance(error, QuotaExceededError) and error.status is not None and error.retry_after is not None:
        resets_at = datetime.now(UTC) + timedelta(seconds=error.retry_after)
        text = f"{text}; the quota resets at {resets_at:%Y-%m-%d %H:%M} UTC"
    # Otherwise as it is: spaces may belong to the name of a file.
    return redact_keys(" ".join(text.splitlines()))


def _as_option(bound: re.Match[str]) -> str:
    name, value = bound[1].replace("_", "-"), bound[2]
    return f"--{name} {float(value) * 100:.4g}%" if "." in value else f"--{name} {value}"


def redact_keys(text: str) -> str:
    """Redact the keys of the run, and what looks like another one."""
    for key in (*_keys, os.environ.get(KEY_VARIABLE, "").strip()):
        if len(key) >= LEAST_KEY:
            text = text.replace(key, _REDACTED)
    return _KEY.sub(_REDACTED, text)
