"""Values as JSON text, for programs and for terminals."""

from __future__ import annotations

import json
import re
from typing import IO, Any

import msgspec

from zenovay_async._protocol.text import escape_json

_HALF_SURROGATE = re.compile(r"[\ud800-\udfff]")


def encode_json(value: Any) -> str:
    """Plain values as JSON on one line; half surrogates, which no encoding has, become U+FFFD."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return replace_half_surrogates(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def replace_half_surrogates(text: str) -> str:
    """Text as every encoding takes it: half surrogates become U+FFFD."""
    return _HALF_SURROGATE.sub("\ufffd", text)


def encode_json_for(file: IO[str], value: Any) -> str:
    """The same for a file; for a terminal, with escapes for what would control it or what its encoding lacks."""
    return encode_json_escaped(file, value) if file.isatty() else encode_json(value)


def encode_json_escaped(file: IO[str], value: Any) -> str:
    """The same as for a terminal, whatever the file is."""
    encoding: str = getattr(file, "encoding", None) or "utf-8"
    is_unicode = encoding.lower().startswith("utf")
    return escape_json(encode_json(value) if is_unicode else json.dumps(value, separators=(",", ":")))
