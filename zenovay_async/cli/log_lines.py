"""The lines of a run on standard error: text for people, or JSON for programs."""

from __future__ import annotations

import copy
import sys
from datetime import datetime
from typing import Any, Literal, TypeAlias

from rich.console import Console

from zenovay_async import ZenovayError
from zenovay_async._tables.layout import KEY_NAME
from zenovay_async.cli.json_encoding import encode_json_escaped
from zenovay_async.cli.shown import describe_error, redact_keys, shown

LogFormat: TypeAlias = Literal["text", "json"]
Level: TypeAlias = Literal["info", "warning", "error"]


class LogLines:
    """Writes lines to standard error, without an API key and without what controls a terminal.

    Args:
        kind: Whether a line is a text, or a JSON object with the time, the level and the message.

    Attributes:
        is_json: Whether lines are JSON.
        on_terminal: Whether a person reads the lines as they come.
        console: Where text goes, and a progress bar below it.
        key_name: Name of the key that the lines are about, of a run with several.
    """

    def __init__(self, kind: LogFormat = "text") -> None:
        self.is_json = kind == "json"
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
        # Asked before a bar is drawn: meanwhile sys.stderr of rich before 14 says that it is no terminal.
        # With FORCE_COLOR set, rich takes a pipe for one.
        self.on_terminal = sys.stderr.isatty() and not self.is_json
        self.key_name: str | None = None

    def of_key(self, name: str) -> LogLines:
        """Make what writes the lines of one key of several, which begin with its name."""
        own = copy.copy(self)
        own.key_name = name
        return own

    def write(self, message: str, level: Level = "info", /, **fields: Any) -> None:
        """Write a message.

        Args:
            message: The message; as text, each of its lines is one.
            level: How much it matters.
            **fields: What it is about, for JSON alone; without those that are ``None``.
        """
        if self.key_name is not None:
            message, fields = f"{self.key_name}: {message}", {KEY_NAME: self.key_name, **fields}
        if not self.is_json:
            for line in message.splitlines():
                self.console.print(shown(line))
            return
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        known = {
            name: redact_keys(value) if isinstance(value, str) else value
            for name, value in fields.items()
            if value is not None
        }
        document = {"at": now, "level": level, "message": redact_keys(message), **known}
        sys.stderr.write(f"{encode_json_escaped(sys.stderr, document)}\n")

    def write_error(self, error: Exception, /, **fields: Any) -> None:
        """Write the error that ends a run, or one key of several, on one line."""
        known = error if isinstance(error, ZenovayError) else ZenovayError("")
        facts = {"status": known.status, "code": known.code, "request_id": known.request_id}
        message = describe_error(error)
        if not self.is_json and self.key_name is None:
            message = f"zenovay-async: {message}"
        self.write(message, "error", error=type(error).__name__, **facts, **fields)
