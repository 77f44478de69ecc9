"""JournalFile: the SQLite file of a journal, one row for each item.

One connection has the file locked from the start to the end. A record is one commit, which a process that is killed
does not lose. In WAL mode it does not wait for the disk, which takes milliseconds; one a second does.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import quote
from weakref import WeakSet

from zenovay_async.exceptions import ConfigurationError, JournalError

if TYPE_CHECKING:
    from collections.abc import Mapping

State: TypeAlias = Literal["done", "failed"]

# In the header of the file: "zvjn", and the version of its tables.
_APPLICATION_ID = 0x7A766A6E
_VERSION = 1
_MODE = 0o600

_ITEMS = """
    CREATE TABLE items (
        key TEXT NOT NULL PRIMARY KEY,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        time REAL NOT NULL,
        error TEXT,
        value BLOB
    )
"""
# So that failures are counted without reading results.
_FAILED = "CREATE INDEX failed ON items (key) WHERE state = 'failed'"
_META = "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT)"
_HEADER = (f"PRAGMA application_id = {_APPLICATION_ID}", f"PRAGMA user_version = {_VERSION}")
_READ = "SELECT state, attempts, value FROM items WHERE key = ?"
_WRITE = """
    INSERT INTO items (key, state, attempts, time, error, value) VALUES (?, ?, 1, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET
        state = excluded.state,
        attempts = attempts + 1,
        time = excluded.time,
        error = excluded.error,
        value = excluded.value
"""

# Seconds between two commits that wait for the disk.
_SYNC_INTERVAL = 1.0
_LONGEST_SHOWN = 200
_ADVICE = "choose another path, or pass restart=True to forget what is in it"


class JournalFile:
    """An open file, which no other process and no other connection can open.

    Args:
        path: The file; made if there is none.
        meta: What the file must say of its results, by name; written into a new file.
        restart: Forget what is in it.
        name: How errors name it.

    Attributes:
        done: Items that are done.
        failed: Items whose last attempt failed.

    Raises:
        ConfigurationError: It cannot be opened, is in use, is no journal, or says something else. It is as it was.
        JournalError: The disk is full, or fails.
    """

    def __init__(
        self, path: str | os.PathLike[str], meta: Mapping[str, str | None], *, restart: bool, name: str
    ) -> None:
        self._name = name
        self._meta = meta
        self._synced_at = float("-inf")
        self.done = self.failed = 0
        self._db: sqlite3.Connection | None = None
        try:
            # SQLite follows links as well, but makes a file that others can read.
            self._real = real = os.path.realpath(path)
            is_empty = _make(real)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise ConfigurationError(f"{name} cannot be opened: {reason}") from error
        try:
            if not is_empty:
                self._check_header(real)
            self._db = sqlite3.connect(real, isolation_level=None, timeout=0)
            self._start(self._db, restart=restart)
            self._identity = _identity_of(real)
        except BaseException as error:
            self.close()
            if not isinstance(error, sqlite3.Error):
                raise
            # A disk without room, or that fails, is nothing that the caller chose.
            is_disk = _error_name(error).startswith(("SQLITE_FULL", "SQLITE_IOERR"))
            raise (JournalError if is_disk else ConfigurationError)(f"{name} {_explain(error)}") from error
        _OPEN.add(self)

    def read(self, key: str) -> tuple[State, int, bytes | None] | None:
        """State, attempts and value of an item; ``None`` if there is none.

        Raises:
            JournalError: The file cannot be read.
            RuntimeError: It is open in another thread, or in the parent of this process.
        """
        return self._read(_stored(key))

    def write(self, key: str, state: State, *, error: str | None = None, value: bytes | None = None) -> None:
        """Write the state of an item, durably.

        Raises:
            OverflowError: The value is larger than SQLite keeps.
            JournalError: The file cannot be written, and is as it was; or, seen within a second, it was removed.
            RuntimeError: It is open in another thread, or in the parent of this process.
        """
        stored, now = _stored(key), monotonic()
        before = self._read(stored)
        waits = now - self._synced_at >= _SYNC_INTERVAL
        if waits:
            self._check_identity()
            self._execute("PRAGMA synchronous = FULL")
        try:
            self._execute(_WRITE, (stored, state, time(), error, value))
        finally:
            if waits:
                self._execute("PRAGMA synchronous = NORMAL")
        if waits:
            self._synced_at = now
        if before is not None:
            self._count(before[0], -1)
        self._count(state, 1)

    def close(self) -> None:
        """Close it, so that it is one file and can be opened again.

        Raises:
            RuntimeError: It is open in another thread.
        """
        if self._db is not None:
            try:
                self._db.close()
            except sqlite3.ProgrammingError as error:
                raise RuntimeError(f"{self._name} is open in another thread: {error}") from error
        _OPEN.discard(self)

    def leave_to_parent(self) -> None:
        """Forget a connection of the parent of this process: to close it here would change the file of the parent."""
        import ctypes  # noqa: PLC0415 - few programs fork while a journal is open

        # It is never freed, as that would close it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
        self._db = None

    def _read(self, stored: str | bytes) -> tuple[State, int, bytes | None] | None:
        row: tuple[State, int, bytes | None] | None = self._execute(_READ, (stored,))
        return row

    def _count(self, state: State, change: int) -> None:
        if state == "done":
            self.done += change
        else:
            self.failed += change

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        """Run one statement; returns its first row, or ``None``."""
        if self._db is None:
            raise RuntimeError(f"{self._name} is open in the process that this one is a fork of; use another file here")
        try:
            return self._db.execute(statement, values).fetchone()
        except sqlite3.DataError as error:
            raise OverflowError(str(error)) from error
        except sqlite3.ProgrammingError as error:
            raise RuntimeError(f"{self._name} is open in another thread: {error}") from error
        except sqlite3.Error as error:
            raise JournalError(f"{self._name} {_explain(error)}") from error

    def _check_identity(self) -> None:
        """Check that later runs will find what is written now."""
        if _identity_of(self._real) != self._identity:
            raise JournalError(
                f"{self._name} was removed, renamed or replaced while it was in use, so that nothing can be recorded"
            )

    def _check_header(self, path: str) -> None:
        """Check that a file is a journal, without the changes that SQLite makes to files of others."""
        # Read by SQLite: to close any other handle of a file would release the locks that this process has on it.
        # A path of Windows has no slash at its start, but that of a URI has.
        name = path.replace(os.sep, "/")
        name = quote(os.fsencode(name if name.startswith("/") else f"/{name}"))
        db = sqlite3.connect(f"file://{name}?mode=ro&immutable=1", uri=True)
        try:
            # Else the header of a file that a killed process did not write to its end would be refused.
            db.execute("PRAGMA writable_schema = ON")
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            if _error_name(error) != "SQLITE_NOTADB":
                raise
            application = version = 0
        finally:
            db.close()
        if application != _APPLICATION_ID:
            raise ConfigurationError(f"{self._name} is no journal but a file of another kind; choose another path")
        if version > _VERSION:
            raise ConfigurationError(
                f"{self._name} was made by a later version of this package; use that version, or choose another path"
            )

    def _start(self, db: sqlite3.Connection, *, restart: bool) -> None:
        """Lock the file, and make its tables or check what they say."""
        # Before the first access, so that there is no file of shared memory.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        is_new = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if is_new:
            for statement in (_ITEMS, _FAILED, _META, *_HEADER):
                db.execute(statement)
        elif restart:
            db.execute("DELETE FROM items")
            db.execute("DELETE FROM meta")
        else:
            self._compare(dict(db.execute("SELECT name, value FROM meta")))
        if is_new or restart:
            db.executemany(
                "INSERT INTO meta VALUES (?, ?)", [(name, _stored(text)) for name, text in self._meta.items()]
            )
        (self.failed,) = db.execute("SELECT count(*) FROM items WHERE state = 'failed'").fetchone()
        (total,) = db.execute("SELECT count(*) FROM items").fetchone()
        self.done = total - self.failed
        db.execute("COMMIT")
        # A file system on which this is not possible keeps another mode, as durable and slower.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")

    def _compare(self, kept: Mapping[str, str | bytes | None]) -> None:
        for name, now in self._meta.items():
            stored = kept.get(name)
            before = stored.decode("utf-8", "surrogatepass") if isinstance(stored, bytes) else stored
            if before != now:
                raise ConfigurationError(
                    f"{self._name} is of a run with {name}={_shown_beside(before, now)}, and this one has "
                    f"{name}={_shown_beside(now, before)}; {_ADVICE}"
                )


_OPEN: WeakSet[JournalFile] = WeakSet()


def _leave_all_to_parent() -> None:
    for file in list(_OPEN):
        file.leave_to_parent()
    _OPEN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_parent)


def _make(path: str) -> bool:
    """Make a file if there is none; returns whether it is empty.

    Raises:
        OSError: It cannot be made or written, or is no plain file.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _MODE))
    except FileExistsError:
        found = os.stat(path)  # noqa: PTH116 - as SQLite gets it
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is a folder" if stat.S_ISDIR(found.st_mode) else "it is no plain file") from None
        # SQLite would open it all the same, and fail at the lock.
        if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError("it cannot be written; check its permissions") from None
        return found.st_size == 0
    return True


def _identity_of(path: str) -> tuple[int, int] | None:
    """What a file keeps when it is written; ``None`` if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - as SQLite gets it
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _stored(text: str | None) -> Any:
    """A text as SQLite keeps it: one with half surrogates as bytes, so that no two become equal."""
    try:
        if text is not None:
            text.encode()
    except UnicodeEncodeError:
        return str.encode(text or "", "utf-8", "surrogatepass")
    return text


def _error_name(error: sqlite3.Error) -> str:
    """SQLite's name of an error; ``""`` for one of the module itself."""
    return getattr(error, "sqlite_errorname", "")


def _explain(error: sqlite3.Error) -> str:
    """What went wrong, and what to do."""
    name = _error_name(error)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return (
            "is in use by another process, or by another Journal of this one; wait for its end, or choose another path"
        )
    if name.startswith("SQLITE_FULL"):
        return "cannot be written, as the disk is full; make room and go on with it: what was recorded stays"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"cannot be written: {error}; check the permissions of the file and of its folder"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")):
        return f"is damaged: {error}; choose another path, or remove the file to begin anew"
    return f"cannot be read or written: {error}; check the disk and go on with it: what was recorded stays"


def _shown_beside(text: str | None, other: str | None) -> str:
    """A text, cut so that it shows where it differs from another."""
    if text is None or len(text) <= _LONGEST_SHOWN:
        return repr(text)
    same = 0
    for mine, theirs in zip(text, other or "", strict=False):
        if mine != theirs:
            break
        same += 1
    start = max(0, same - _LONGEST_SHOWN // 4)
    end = start + _LONGEST_SHOWN
    return repr(f"{'[...]' if start else ''}{text[start:end]}{'[...]' if end < len(text) else ''}")
