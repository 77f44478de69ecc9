"""The keys of ``--keys-from``: API keys and their names, from a file; no part of a key is ever shown."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from typing import TYPE_CHECKING, NamedTuple

from zenovay_async import ConfigurationError
from zenovay_async._protocol.auth import Secret, resolve_api_key
from zenovay_async.cli.ids import encoding_of
from zenovay_async.cli.shown import LEAST_KEY, redact_keys, redacted

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

# A key may have a # in it.
_COMMENT = re.compile(r"(?:^|\s)#.*")


class NamedKey(NamedTuple):
    """A line of the file.

    Attributes:
        name: The name that its results carry.
        key: The key.
        line: Number of the line.
    """

    name: str
    key: Secret
    line: int


@contextlib.contextmanager
def open_keys(path: Path | None) -> Generator[list[NamedKey]]:
    """Read the keys of a file, ``-`` for standard input; until the end, nothing that is shown contains them.

    Raises:
        ConfigurationError: It cannot be read, or one of its lines is invalid; the error has the number of the line.
    """
    keys = [] if path is None else _read_keys(path)
    with redacted(key.key for key in keys):
        yield keys


def _read_keys(path: Path) -> list[NamedKey]:
    given = f"--keys-from {path}"
    keys = [_parse(line, number, given) for number, line in enumerate(_lines(path, given), 1) if line]
    if not keys:
        raise ConfigurationError(f"{given}: no keys; expected a line of NAME,KEY for each")
    for what in ("name", "key"):
        first: dict[str, int] = {}
        for key in keys:
            line = first.setdefault(getattr(key, what), key.line)
            if line != key.line:
                raise ConfigurationError(
                    f"{given}, line {key.line}: it has the {what} of line {line}; expected each once"
                )
    return keys


def _lines(path: Path, given: str) -> list[Secret]:
    """The lines without comments and spaces at their ends."""
    try:
        if str(path) != "-":
            content = path.read_bytes()
        elif sys.stdin is None:
            raise ConfigurationError(f"{given}: this process has no standard input")
        else:
            content = sys.stdin.buffer.read()
    except OSError as error:
        raise ConfigurationError(f"{given}: {error.strerror}") from error
    text = content.decode(encoding_of(content, given), "replace")
    return [Secret(_COMMENT.sub("", line).strip()) for line in re.split(r"\r\n|\r|\n", text)]


def _parse(line: Secret, number: int, given: str) -> NamedKey:
    """A line as a key; no error shows any of it, as a key may be anywhere in it."""
    name, comma, key = (Secret(part.strip()) for part in line.partition(","))
    where = f"{given}, line {number}"
    if not comma:
        raise ConfigurationError(f"{where}: no comma; expected NAME,KEY")
    if not name or not key:
        raise ConfigurationError(f"{where}: no {'key' if name else 'name'}; expected NAME,KEY")
    if redact_keys(name) != name:
        raise ConfigurationError(f"{where}: the name looks like a key; expected NAME,KEY")
    if len(key) < LEAST_KEY:
        raise ConfigurationError(f"{where}: fewer than {LEAST_KEY} characters, which is no API key; expected NAME,KEY")
    try:
        checked = resolve_api_key(key)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.message.replace('api_key', 'the key', 1)}") from error
    return NamedKey(str(name), checked, number)


def doubt_about_file(path: Path) -> str:
    """What is to be said of a file that other users of the machine may read; ``""`` if nothing is."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    # Windows has no such modes.
    is_open = os.name == "posix" and stat.S_ISREG(mode) and mode & stat.S_IROTH
    return f"--keys-from {path}: every user of this machine may read it; chmod 600 protects it" if is_open else ""
