"""Results in a SQLite database: a table for each operation, whose rows of a website are replaced as a whole.

Each result is one transaction, so that whatever ends the program, a website has the rows of one result. The file is
open only meanwhile, so other programs read and write it in between.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from zenovay_async import ConfigurationError
from zenovay_async._protocol.json_text import encode_json
from zenovay_async._protocol.text import replace_half_surrogates
from zenovay_async._tables.layout import KEY_NAME, WEBSITE_ID, column_types, layout_of, unique_names
from zenovay_async.cli.exit_codes import PASSING
from zenovay_async.cli.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from pathlib import Path

    from zenovay_async._tables.layout import ColumnType
    from zenovay_async.cli.view import View

# Seconds to wait for another program that writes to the file.
_MAX_WAIT = 5.0

_TYPES: dict[ColumnType | None, str] = {"integer": " INTEGER", "boolean": " INTEGER", "number": " REAL", None: ""}
_TEXT = " TEXT"
_INTEGERS = range(-(2**63), 2**63)


class SqliteFile(Writer):
    """The rows of each result in a table of the operation, instead of those that its website had there.

    A table that lacks a column gets it. A website that failed keeps the rows of an earlier run.

    Args:
        result_type: Type of the results; one without columns is kept as JSON, in a column ``data``.
        path: The database; created if there is none.
        name: Name of the operation.
        view: The columns; those that name the source of a row are always there, and first.
        per_website: Whether there is a result for each website, and not a single one, which replaces all rows.

    Raises:
        ConfigurationError: The file is no database that can be written, or has a table of this name that another
            program created.
    """

    streams = True

    def __init__(self, result_type: Any, path: Path, name: str, view: View, *, per_website: bool) -> None:
        self._layout = layout_of(result_type)
        # Without columns of the type, each result has its own.
        self._types: dict[str, ColumnType | None] = {"data": "json"}
        if self._layout is not None:
            self._types = {**column_types(result_type)}
        self._view = view
        self._found: set[str] = set()
        self._has_rows = False
        self._path = path
        self._name = name.replace(".", "_")
        self._per_website = per_website
        self._has_table = False
        # Tells this table from one of another program; SQLite keeps the text with which a table was created.
        self._mark = f"CREATE TABLE {_quoted(self._name)} (/* zenovay-async: {name} */ "
        self._check()

    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:
        types, rows = self._types, [{"data": result}]
        if self._layout is not None:
            found, rows = self._layout.rows_of(result)
            types = self._chosen(dict.fromkeys(found) | types)
            self._found.update(found)
            self._has_rows = self._has_rows or bool(rows)
        first = {} if key_name is None else {KEY_NAME: key_name}
        if self._per_website:
            first[WEBSITE_ID] = website_id
        columns = dict.fromkeys(first, _TEXT) | _declared(types, first)
        own = [_cell(value, None) for value in first.values()]
        cells = [[*own, *(_cell(row.get(name), kind) for name, kind in types.items())] for row in rows]
        condition, values = _same_source(first)
        table = _quoted(self._name)
        with self._transaction() as connection:
            self._ensure_table(connection, columns)
            connection.execute(f"DELETE FROM {table} WHERE {condition}", values)  # noqa: S608 - quoted names
            names, marks = ", ".join(map(_quoted, columns)), ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", cells)  # noqa: S608 - same
        self._has_table = True

    def close(self) -> None:
        if not self._has_table:
            first = {WEBSITE_ID: _TEXT} if self._per_website else {}
            with self._transaction() as connection:
                self._ensure_table(connection, first | _declared(self._chosen(self._types), first))
        if self._has_rows:
            _, error = self._view.fitted({KEY_NAME, WEBSITE_ID, *self._types, *self._found})
            if error is not None:
                raise error

    def _chosen(self, types: dict[str, ColumnType | None]) -> dict[str, ColumnType | None]:
        """The columns that are named, or else all, but for those of the source."""
        names = self._view.columns or types
        return {name: types.get(name) for name in names if name not in {KEY_NAME, WEBSITE_ID} or name in types}

    def _check(self) -> None:
        """Raise before a request is sent, rather than when its result cannot be kept."""
        try:
            if self._path.exists():
                if not self._path.is_file():
                    raise ConfigurationError(f"--output {self._path}: --format sqlite needs a file")
                with self._transaction() as connection:
                    self._find_table(connection)
            elif not os.access(self._path.absolute().parent, os.W_OK):
                raise ConfigurationError(f"--output {self._path}: its directory cannot be written")
        except OSError as error:
            if error.errno in PASSING:
                raise
            message = f"--output {self._path}: {error.strerror}" if error.strerror else str(error)
            raise ConfigurationError(message) from error

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        """Open the database; what is done in the block is done as a whole or not at all.

        Raises:
            OSError: It cannot be written; with ``errno`` where the disk is full or fails, or another program has it.
        """
        try:
            # A relative path may look like a URI or be ":memory:".
            connection = sqlite3.connect(self._path.absolute(), timeout=_MAX_WAIT, isolation_level=None)
            # To close it rolls back.
            with closing(connection):
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            number = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_IOERR: errno.EIO}.get(code)
            if number is not None:
                raise OSError(number, os.strerror(number)) from error
            if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise OSError(errno.EBUSY, f"locked by another program for {_MAX_WAIT:g} s") from error
            reason = "it is no SQLite database; choose another file" if code == sqlite3.SQLITE_NOTADB else error
            raise OSError(f"--output {self._path}: {reason}") from error

    def _ensure_table(self, connection: sqlite3.Connection, columns: Mapping[str, str]) -> None:
        """Create the table, or add the columns that it lacks.

        Args:
            connection: The database.
            columns: Names of the columns, and what declares their types.
        """
        if not self._find_table(connection):
            connection.execute(self._mark + ", ".join(_quoted(name) + kind for name, kind in columns.items()) + ")")
            if self._per_website:
                index = _quoted(f"{self._name}_{WEBSITE_ID}")
                connection.execute(f"CREATE INDEX IF NOT EXISTS {index} ON {_quoted(self._name)} ({WEBSITE_ID})")
        found = connection.execute(f"PRAGMA table_info({_quoted(self._name)})").fetchall()
        taken = {_as_compared(name) for _, name, *_ in found}
        for name, kind in columns.items():
            if _as_compared(name) not in taken:
                connection.execute(f"ALTER TABLE {_quoted(self._name)} ADD COLUMN {_quoted(name)}{kind}")

    def _find_table(self, connection: sqlite3.Connection) -> bool:
        query = "SELECT sql FROM sqlite_master WHERE name = ? COLLATE NOCASE"
        found = connection.execute(query, (self._name,)).fetchone()
        if found is None:
            return False
        if not str(found[0]).startswith(self._mark):
            raise ConfigurationError(
                f"--output {self._path}: has a table {self._name} that another program created; use another file"
            )
        return True


def _same_source(first: Mapping[str, str]) -> tuple[str, list[Any]]:
    """The condition of the rows that a result replaces, and its values."""
    # Rows of a run with one key have no name of it.
    conditions = {KEY_NAME: f"({KEY_NAME} = ? OR {KEY_NAME} IS NULL)", WEBSITE_ID: f"{WEBSITE_ID} = ?"}
    condition = " AND ".join(conditions[column] for column in first)
    return condition or "TRUE", [_cell(value, None) for value in first.values()]


def _declared(types: Mapping[str, ColumnType | None], first: Iterable[str]) -> dict[str, str]:
    """Names of columns that SQLite takes for different, and what declares their types."""
    names = [replace_half_surrogates(name).replace("\0", "\ufffd") for name in types]
    # SQLite compares names without case.
    compared = list(map(_as_compared, names))
    unique = unique_names(compared, map(_as_compared, first))
    return {
        name + found.removeprefix(lower): _TYPES.get(kind, _TEXT)
        for name, kind, lower, found in zip(names, types.values(), compared, unique, strict=True)
    }


def _as_compared(name: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)


def _quoted(name: str) -> str:
    text = name.replace('"', '""')
    return f'"{text}"'


def _cell(value: Any, kind: ColumnType | None) -> Any:
    """A value as SQLite keeps it: times in UTC, so that they compare as text; what is no number or text, as JSON."""
    if value is None:
        return None
    if kind == "json":
        return encode_json(value)
    if isinstance(value, (int, float)):
        return value if isinstance(value, float) or value in _INTEGERS else str(value)
    if isinstance(value, str):
        return _in_utc(value) if kind == "time" else replace_half_surrogates(value)
    return encode_json(value)


def _in_utc(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return replace_half_surrogates(text)
