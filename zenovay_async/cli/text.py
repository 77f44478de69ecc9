"""Text from outside, made safe for a terminal."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Replace control characters by U+FFFD, so that no data can move the cursor or start an escape sequence."""
    return _CONTROL.sub("\ufffd", text)
