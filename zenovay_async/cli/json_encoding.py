"""Values as JSON on one line, for programs and for terminals."""

from __future__ import annotations

import json
from typing import IO, Any

from zenovay_async._protocol.json_text import encode_json
from zenovay_async._protocol.text import escape_json


def encode_json_for(file: IO[str], value: Any) -> str:
    """Values as JSON for a file; for a terminal, with escapes for what would control it or what its encoding lacks."""
    return encode_json_escaped(file, value) if file.isatty() else encode_json(value)


def encode_json_escaped(file: IO[str], value: Any) -> str:
    """The same as for a terminal, whatever the file is."""
    encoding: str = getattr(file, "encoding", None) or "utf-8"
    is_unicode = encoding.lower().startswith("utf")
    return escape_json(encode_json(value) if is_unicode else json.dumps(value, separators=(",", ":")))
