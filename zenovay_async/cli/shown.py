"""Text as standard error shows it: nothing that controls a terminal, and no API key."""

from __future__ import annotations

import os
import re

from zenovay_async._protocol.auth import KEY_VARIABLE
from zenovay_async._protocol.text import printable

_KEY = re.compile(r"zv_\w{4,}", re.ASCII)
_REDACTED = "<secret>"
# What is shorter may be a part of other words.
_LEAST = 8


def shown(text: str) -> str:
    """Make a text fit to show, as an argument, an ID or a message of a parser may be or contain a key."""
    return printable(redact_keys(text))


def redact_keys(text: str) -> str:
    """Redact the key of the environment, and what looks like another one."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    return _KEY.sub(_REDACTED, text.replace(key, _REDACTED) if len(key) >= _LEAST else text)
