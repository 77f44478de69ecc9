"""The journal of a batch: a SQLite file that keeps what is done, so that a later run goes on from there.

A record is one commit: a process that is killed loses none. In WAL mode a commit is written but not yet synced to the
disk, which takes milliseconds; once a second one is, and those before it with it.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args, get_origin
from urllib.parse import quote
from weakref import WeakSet

import msgspec

from zenovay_async._protocol.text import one_line
from zenovay_async.exceptions import ConfigurationError, JournalError, ZenovayError

if TYPE_CHECKING:
    import sqlite3
    from types import TracebackType

# Of the header of a SQLite file: "zvjn", and the version of the tables.
_APPLICATION_ID = 0x7A766A6E
_VERSION = 1
_MODE = 0o600
_TABLES = (
    "CREATE TABLE items (key TEXT NOT NULL PRIMARY KEY, state TEXT NOT NULL, attempts INTEGER NOT NULL, "
    "time REAL NOT NULL, error TEXT, value BLOB)",
    # Few items fail, so that they are counted at once, and so are all of them by their keys.
    "CREATE INDEX failed_items ON items (key) WHERE state = 'failed'",
    "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)
_FIND = "SELECT state, attempts, value FROM items WHERE key = ?"
_RECORD = (
    "INSERT INTO items (key, state, attempts, time, error, value) VALUES (?, ?, 1, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
    "SET state = excluded.state, attempts = attempts + 1, time = excluded.time, error = excluded.error, "
    "value = excluded.value"
)
# Seconds between two commits that are synced to the disk.
_SYNC_INTERVAL = 1.0
_LONGEST_MESSAGE = 2000
_LONGEST_SHOWN = 200
_HALF_SURROGATE = re.compile(r"[\ud800-\udfff]")
# What msgspec raises for a value that it does not encode or decode.
_NOT_KEPT = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)


class JournalEntry(msgspec.Struct, frozen=True):
    """What a journal has of one item.

    Attributes:
        state: ``"done"``, or ``"failed"`` if the last attempt failed.
        value: The result, decoded as ``result_type``; ``None`` for a failure, and in a journal without ``result_type``.
        attempts: How often the item was fetched, over all runs.
    """

    state: Literal["done", "failed"]
    value: Any
    attempts: int


class Journal:
    """Keeps which items of a batch are done, and their results, in a file: for ``Zenovay.batch(..., journal=)``.

    The batch opens and closes it; open it with ``with`` to use its methods yourself, on one thread. While it is open,
    no other process and no other ``Journal`` can open the file.

    A record survives the end of the process, however it comes. A power failure loses at most the records that came
    within a second of one that is synced to the disk. A closed journal is one file; of one whose process was killed,
    the file beside it that ends with ``-wal`` is a part.

    Args:
        path: The file: a journal, an empty one, or one to make, which only its owner may read.
        result_type: The type of the results, which are kept as JSON and replayed in a later run; ``Any`` for plain
            values. ``None`` keeps none: items that are done are skipped.
        describes: What the results are of, such as ``"heatmaps.pages limit=100"``. A later run must say the same.
        restart: Forget what is in the file when it is first opened.

    Raises:
        ConfigurationError: An argument is invalid.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        result_type: Any = None,
        describes: str | None = None,
        restart: bool = False,
    ) -> None:
        self._db: sqlite3.Connection | None = None
        self._depth = 0
        self._done = self._failed = 0
        self._synced_at = 0.0
        self._is_of_parent = False
        given: Any = os.fspath(path) if isinstance(path, os.PathLike) else path
        if not isinstance(given, str):
            raise ConfigurationError(f"path={path!r}: expected a str or a path of str, not {type(path).__name__}")
        if describes is not None and not isinstance(describes, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not check types
            raise ConfigurationError(f"describes={describes!r}: expected a str")
        self._path = Path(given)
        self._shown = repr(given)
        self._describes = describes
        self._restart = restart
        self._type_name = None if result_type is None else _name_of(result_type)
        try:
            self._decoder: msgspec.json.Decoder[Any] | None = (
                None if result_type is None else msgspec.json.Decoder(result_type)
            )
        except (TypeError, NameError) as error:
            raise ConfigurationError(f"result_type={result_type!r}: expected a type of msgspec: {error}") from error

    def __repr__(self) -> str:
        state = "closed" if self._db is None else "open"
        return f"<Journal {self._shown}: {self._done} done, {self._failed} failed, {state}>"

    @property
    def path(self) -> Path:
        """The file, as it was given."""
        return self._path

    @property
    def done(self) -> int:
        """Items that are done; of a closed journal, when it was last open."""
        return self._done

    @property
    def failed(self) -> int:
        """Items whose last attempt failed; of a closed journal, when it was last open."""
        return self._failed

    def __enter__(self) -> Self:
        """Open the journal, unless an outer block has.

        Raises:
            ConfigurationError: The file cannot be opened, is in use, is no journal, is damaged, or is of results of
                another type or description. It is as it was.
        """
        if self._depth == 0:
            self._db = self._open()
            self._is_of_parent = False
            _OPEN.add(self)
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0 and self._db is not None:
            _OPEN.discard(self)
            db, self._db = self._db, None
            db.close()

    def find(self, key: str) -> JournalEntry | None:
        """Return what is recorded of an item; ``None`` if nothing is.

        Args:
            key: The key of the item: any text.

        Raises:
            ConfigurationError: The key is no str, or the result is not of ``result_type``.
            JournalError: The file cannot be read.
            RuntimeError: The journal is closed.
        """
        row = self._row_of(_stored(key))
        if row is None:
            return None
        state, attempts, kept = row
        if kept is None or self._decoder is None:
            return JournalEntry(state, None, attempts)
        try:
            value = self._decoder.decode(kept)
        except _NOT_KEPT as error:
            raise ConfigurationError(
                f"journal {self._shown}: the result of {_shown_key(key)} is no {self._type_name}: {one_line(str(error))}; "
                "pass restart=True to forget what is in it"
            ) from error
        return JournalEntry(state, value, attempts)

    def record_success(self, key: str, value: Any) -> None:
        """Record that an item is done, with its result if there is a ``result_type``.

        Half surrogates in it become U+FFFD, NaN and infinity ``null``.

        Args:
            key: The key of the item: any text.
            value: Its result.

        Raises:
            ConfigurationError: The key is no str, or the result is not of ``result_type``.
            JournalError: It is not recorded, as the disk is full, the file is damaged or cannot be written.
            RuntimeError: The journal is closed.
        """
        stored = _stored(key)
        self._record(key, stored, "done", None, None if self._decoder is None else self._encode(key, value))

    def record_failure(self, key: str, error: BaseException) -> None:
        """Record that an item failed: class and message of the error, its status, code and request ID.

        Args:
            key: The key of the item: any text.
            error: What was raised.

        Raises:
            ConfigurationError: The key is no str.
            JournalError: It is not recorded, as the disk is full, the file is damaged or cannot be written.
            RuntimeError: The journal is closed.
        """
        self._record(key, _stored(key), "failed", _describe(error), None)

    def _row_of(self, key: str | bytes) -> tuple[Literal["done", "failed"], int, bytes | None] | None:
        row: Any = self._execute(_FIND, (key,))
        return row

    def _record(
        self, key: str, stored: str | bytes, state: Literal["done", "failed"], error: str | None, value: bytes | None
    ) -> None:
        before = self._row_of(stored)
        now = monotonic()
        is_synced = now - self._synced_at >= _SYNC_INTERVAL
        if is_synced:
            self._execute("PRAGMA synchronous = FULL")
        try:
            self._execute(_RECORD, (stored, state, time(), error, value))
        except (OverflowError, _errors().DataError) as problem:
            raise ConfigurationError(
                f"journal {self._shown}: the result of {_shown_key(key)} is too large"
            ) from problem
        finally:
            if is_synced:
                self._execute("PRAGMA synchronous = NORMAL")
        if is_synced:
            self._synced_at = now
        if before is not None:
            self._count(before[0], -1)
        self._count(state, 1)

    def _count(self, state: str, change: int) -> None:
        if state == "done":
            self._done += change
        else:
            self._failed += change

    def _encode(self, key: str, value: Any) -> bytes:
        """A result as JSON that a later run can decode."""
        assert self._decoder is not None  # noqa: S101 - for type checkers
        try:
            try:
                kept = msgspec.json.encode(value)
            except UnicodeEncodeError:
                plain = json.dumps(msgspec.to_builtins(value, str_keys=True), ensure_ascii=False)
                kept = _HALF_SURROGATE.sub("\ufffd", plain).encode()
            self._decoder.decode(kept)
        except _NOT_KEPT as error:
            raise ConfigurationError(
                f"journal {self._shown}: the result of {_shown_key(key)} cannot be kept as {self._type_name}, "
                f"it is of type {type(value).__qualname__}: {one_line(str(error))}"
            ) from error
        return kept

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        """Run one statement; returns its first row."""
        db = self._db
        if db is None:
            raise RuntimeError(
                "The journal is open in the process that this one is a fork of; open another file here"
                if self._is_of_parent
                else "The journal is closed; use it in its block: with journal"
            )
        sqlite3 = _errors()
        try:
            return db.execute(statement, values).fetchone()
        except sqlite3.DataError:
            raise
        except sqlite3.ProgrammingError as error:
            raise RuntimeError(f"A journal is used on the thread that opened it: {error}") from error
        except sqlite3.Error as error:
            raise JournalError(f"journal {self._shown}: {_explain(error)}") from error

    def _open(self) -> sqlite3.Connection:
        try:
            sqlite3 = _errors()
        except ImportError as error:
            raise ConfigurationError(
                "A journal needs the module sqlite3, which this Python was built without; run the batch without a journal"
            ) from error
        try:
            # SQLite would follow links as well, and make the file with another mode.
            real = os.path.realpath(self._path)
            _make(real)
            is_new = os.stat(real).st_size == 0  # noqa: PTH116 - beside os.path.realpath
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ConfigurationError(f"journal {self._shown}: cannot be opened: {reason}") from error
        try:
            if not is_new:
                self._check_kind(real)
            db = sqlite3.connect(_uri(real, "mode=rw"), uri=True, isolation_level=None, timeout=0)
        except sqlite3.Error as error:
            raise ConfigurationError(f"journal {self._shown}: cannot be opened: {error}") from error
        try:
            self._begin(db)
        except BaseException as error:
            db.close()
            if not isinstance(error, sqlite3.Error):
                raise
            raise ConfigurationError(f"journal {self._shown}: {_explain(error)}") from error
        return db

    def _check_kind(self, real: str) -> None:
        """Look at the header alone, as SQLite changes files of other programs when it opens them."""
        sqlite3 = _errors()
        db = sqlite3.connect(_uri(real, "mode=ro&immutable=1"), uri=True)
        try:
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            application = version = None
        finally:
            db.close()
        if application != _APPLICATION_ID:
            raise ConfigurationError(f"journal {self._shown}: is a file of another kind; choose another path")
        if version > _VERSION:
            raise ConfigurationError(
                f"journal {self._shown}: was made by a later version of this package; use that one, or another path"
            )

    def _begin(self, db: sqlite3.Connection) -> None:
        """Lock the file, and read or make what is in it."""
        # Before the first access: no file of shared memory, and one lock until the end.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            for statement in _TABLES:
                db.execute(statement)
        elif self._restart:
            db.execute("DELETE FROM items")
            db.execute("DELETE FROM meta")
        else:
            self._compare(dict(db.execute("SELECT name, value FROM meta").fetchall()))
        if not tables or self._restart:
            found = {"describes": self._describes, "result_type": self._type_name}
            db.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [(name, _stored(text)) for name, text in found.items() if text is not None],
            )
        (self._failed,) = db.execute("SELECT count(*) FROM items WHERE state = 'failed'").fetchone()
        (total,) = db.execute("SELECT count(*) FROM items").fetchone()
        self._done = total - self._failed
        db.execute("COMMIT")
        # Where the file system allows it; another mode is as safe, and slower.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        # Only once: a journal may serve several batches.
        self._restart = False

    def _compare(self, kept: dict[str, Any]) -> None:
        for name, now in (("describes", self._describes), ("result_type", self._type_name)):
            before = _loaded(kept.get(name))
            if before != now:
                raise ConfigurationError(
                    f"journal {self._shown}: is of another run, with {name}={_shown_beside(before, now)}, not "
                    f"{_shown_beside(now, before)}; choose another path, or pass restart=True to forget what is in it"
                )


_OPEN: WeakSet[Journal] = WeakSet()
"""The journals that are open in this process."""


def _leave_to_parent() -> None:
    """Forget in a fork what the parent has open: to close it here would change the parent's file."""
    for journal in list(_OPEN):
        db = journal._db  # noqa: SLF001 - of this module
        if db is not None:
            import ctypes

            # Never freed, as that closes it.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))
        journal._db = None  # noqa: SLF001
        journal._is_of_parent = True  # noqa: SLF001
    _OPEN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _errors() -> Any:
    import sqlite3

    return sqlite3


def _uri(path: str, options: str) -> str:
    path = path.replace(os.sep, "/")
    return f"file:{quote(os.fsencode(path if path.startswith('/') else f'/{path}'))}?{options}"


def _make(path: str) -> None:
    """Make a file if there is none, and check that it is a plain one.

    Raises:
        OSError: It cannot be made, or is no plain file.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _MODE))
    except FileExistsError:
        mode = os.stat(path).st_mode  # noqa: PTH116 - beside os.open
        if not stat.S_ISREG(mode):
            raise OSError("is a folder" if stat.S_ISDIR(mode) else "is no plain file") from None


def _explain(error: sqlite3.Error) -> str:
    """What went wrong, and what to do."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "is in use by another process, or by another Journal of this one"
    if name.startswith("SQLITE_FULL"):
        return "the disk is full; make room, then go on with the same file: what was recorded stays"
    if name.startswith("SQLITE_READONLY"):
        return "cannot be written; check its permissions, and those of its folder"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")):
        return f"is damaged ({error}); remove it, or choose another path"
    return (
        f"cannot be read or written ({error}); check the disk, then go on with the same file: what was recorded stays"
    )


def _stored(key: Any) -> str | bytes:
    """A text as SQLite keeps it: one with half surrogates as bytes, so that it stays distinct."""
    if not isinstance(key, str):
        raise ConfigurationError(f"key={key!r}: expected a str, not {type(key).__name__}; pass key= to the batch")
    try:
        key.encode()
    except UnicodeEncodeError:
        return key.encode("utf-8", "surrogatepass")
    return key


def _loaded(stored: str | bytes | None) -> str | None:
    return stored.decode("utf-8", "surrogatepass") if isinstance(stored, bytes) else stored


def _shown_key(key: str) -> str:
    return repr(key if len(key) <= _LONGEST_SHOWN else f"{key[:_LONGEST_SHOWN]}[...]")


def _shown_beside(text: str | None, other: str | None) -> str:
    """A text, cut so that what differs from another is seen."""
    if text is None or len(text) <= _LONGEST_SHOWN:
        return repr(text)
    first = len(os.path.commonprefix([text, other or ""]))
    start = max(0, first - _LONGEST_SHOWN // 4)
    cut = text[start : start + _LONGEST_SHOWN]
    return repr(f"{'[...]' if start else ''}{cut}{'[...]' if start + len(cut) < len(text) else ''}")


def _describe(error: BaseException) -> str:
    """An error as JSON, without the API key."""
    of_api = error if isinstance(error, ZenovayError) else None
    try:
        text = str(error) if of_api is None else of_api.message
    except Exception:  # noqa: BLE001 - code of the caller's
        text = ""
    # The message of an error of this package is redacted; before it is cut, as nobody recognizes half a key.
    message = ZenovayError(text).message[:_LONGEST_MESSAGE]
    fields = {
        "error": type(error).__qualname__,
        "message": message,
        "status": None if of_api is None else of_api.status,
        "code": None if of_api is None else of_api.code,
        "request_id": None if of_api is None else of_api.request_id,
    }
    return _HALF_SURROGATE.sub("\ufffd", json.dumps(fields, ensure_ascii=False))


def _name_of(kind: Any) -> str:
    """The name of a type, without its module, so that code may move."""
    if kind is None or kind is type(None):
        return "None"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _name_of(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    name = getattr(origin or kind, "__qualname__", None) or getattr(kind, "__name__", None) or str(kind)
    if name in {"Union", "UnionType"}:
        return " | ".join(map(_name_of, arguments))
    if not arguments:
        return str(name)
    return f"{name}[{', '.join('...' if part is ... else _name_of(part) for part in arguments)}]"
