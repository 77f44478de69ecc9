"""The journal of a batch: what is done, kept in a file, so that a later run goes on from there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args, get_origin

import msgspec

from zenovay_async._protocol.json_text import encode_json
from zenovay_async._protocol.text import one_line
from zenovay_async.exceptions import ConfigurationError, ZenovayError

if TYPE_CHECKING:
    from types import TracebackType

    from zenovay_async._batch.journal_file import JournalFile

_LONGEST_KEY = 200
_LONGEST_MESSAGE = 2000
# What msgspec raises for a value that it does not encode or decode; a ValueError also for text that is not Unicode.
_UNFIT = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)


class JournalEntry(msgspec.Struct, frozen=True):
    """What a journal has of one item.

    Attributes:
        state: ``"done"``, or ``"failed"`` if the last attempt failed.
        value: The result, as a ``result_type``; ``None`` for a failure, and in a journal without ``result_type``.
        attempts: How often the item was fetched, over all runs.
    """

    state: Literal["done", "failed"]
    value: Any
    attempts: int


class Journal:
    """Keeps in a file which items of a batch are done, and their results: for ``zenovay.batch(..., journal=)``.

    The batch opens and closes it. Open it with ``with`` to read it yourself, or to keep it open for several batches, on
    one thread. While it is open, no other process and no other ``Journal`` can open the file; do not move or remove it.

    The file is one of SQLite, made for its owner alone. A record survives the end of the process, whatever ends it; the
    file beside it that ends with ``-wal``, as a kill leaves it, is a part of it. Once a second a record is also written
    through to the disk, with those before it: a power failure loses at most those of the second that follows.

    Args:
        path: The file: a journal, an empty file, or none, which makes one.
        result_type: The type of the results, which are kept as JSON and replayed in a later run; ``Any`` for plain
            values. ``None`` keeps none, and a later run skips the items that are done.
        describes: What the results are, such as ``"heatmaps.pages limit=100"``. A later run has to give the same text.
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
        given: Any = os.fspath(path) if isinstance(path, os.PathLike) else path
        if not isinstance(given, str):
            raise ConfigurationError(f"path={path!r}: expected a str or a path, not {type(path).__name__}")
        text: Any = describes
        if text is not None and not isinstance(text, str):
            raise ConfigurationError(f"describes={text!r}: expected a str, not {type(text).__name__}")
        self._path = Path(given)
        self._name = f"journal {given!r}"
        self._type_name = None if result_type is None else _name_of(result_type)
        self._meta = {"describes": describes, "result_type": self._type_name}
        self._decoder: msgspec.json.Decoder[Any] | None = None
        if result_type is not None:
            try:
                self._decoder = msgspec.json.Decoder(result_type)
            except (TypeError, NameError) as error:
                raise ConfigurationError(f"result_type={result_type!r}: expected a type; {error}") from error
        self._restart = restart
        self._depth = 0
        self._file: JournalFile | None = None
        self._done = self._failed = 0

    def __repr__(self) -> str:
        state = "closed" if self._file is None else "open"
        return f"<Journal {str(self._path)!r}: {self.done} done, {self.failed} failed, {state}>"

    @property
    def path(self) -> Path:
        """The file, as it was given."""
        return self._path

    @property
    def keeps_values(self) -> bool:
        """Whether it keeps results, as with a ``result_type``, for a later run to replay."""
        return self._type_name is not None

    @property
    def done(self) -> int:
        """Items that are done; of a closed journal, when it was last open."""
        return self._done if self._file is None else self._file.done

    @property
    def failed(self) -> int:
        """Items whose last attempt failed; of a closed journal, when it was last open."""
        return self._failed if self._file is None else self._file.failed

    def __enter__(self) -> Self:
        """Open the journal, unless it is open already.

        Raises:
            ConfigurationError: The file cannot be opened, is in use, is no journal, is damaged, or is of a run with
                another ``describes`` or ``result_type``. It is as it was.
            JournalError: The disk is full, or fails.
        """
        if self._file is None:
            self._file = self._open()
            # An open journal that is opened again forgets nothing, nor does one that serves a second batch.
            self._restart = False
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._depth == 1 and self._file is not None:
            self._file.close()
            self._done, self._failed, self._file = self._file.done, self._file.failed, None
        self._depth -= 1

    def find(self, key: str) -> JournalEntry | None:
        """Return what is recorded of an item; ``None`` if nothing is.

        Args:
            key: The key of the item: any text.

        Raises:
            ConfigurationError: The key is no str, or its result is not of ``result_type``.
            JournalError: The file cannot be read.
            RuntimeError: The journal is closed, or open in another thread or process.
        """
        row = self._opened().read(check_key(key))
        if row is None:
            return None
        state, attempts, kept = row
        if kept is None or self._decoder is None:
            return JournalEntry(state, None, attempts)
        try:
            return JournalEntry(state, self._decoder.decode(kept), attempts)
        except _UNFIT as error:
            raise ConfigurationError(
                f"{self._name}: the result of {_shown(key)} is no {self._type_name}: {one_line(str(error))}; "
                "pass restart=True to forget what is in the file"
            ) from error

    def record_success(self, key: str, value: Any) -> None:
        """Record that an item is done, with its result if the journal has a ``result_type``.

        As JSON has none of them, half surrogates become U+FFFD, and NaN and infinity ``null``.

        Args:
            key: The key of the item: any text.
            value: Its result.

        Raises:
            ConfigurationError: The key is no str, or the result cannot be kept as a ``result_type``.
            JournalError: It is not recorded: the disk is full, or the file is damaged.
            RuntimeError: The journal is closed, or open in another thread or process.
        """
        file, key = self._opened(), check_key(key)
        try:
            kept = None if self._decoder is None else _encode(value, self._decoder)
            file.write(key, "done", value=kept)
        except _UNFIT as error:
            # An error of the file is a ValueError as well.
            if isinstance(error, ZenovayError):
                raise
            raise ConfigurationError(
                f"{self._name}: the result of {_shown(key)}, of type {type(value).__qualname__}, cannot be kept as "
                f"{self._type_name}: {one_line(str(error))}"
            ) from error

    def record_failure(self, key: str, error: BaseException) -> None:
        """Record that an item failed: class and message of the error, its status, code and request ID.

        Args:
            key: The key of the item: any text.
            error: What ``fetch`` raised.

        Raises:
            ConfigurationError: The key is no str.
            JournalError: It is not recorded: the disk is full, or the file is damaged.
            RuntimeError: The journal is closed, or open in another thread or process.
        """
        self._opened().write(check_key(key), "failed", error=_describe(error))

    def _opened(self) -> JournalFile:
        if self._file is None:
            raise RuntimeError(f"{self._name} is closed; open it first: with journal")
        return self._file

    def _open(self) -> JournalFile:
        try:
            from zenovay_async._batch.journal_file import JournalFile  # noqa: PLC0415 - sqlite3 is not for all programs
        except ImportError as error:
            raise ConfigurationError(
                f"{self._name} needs the module sqlite3, without which this Python was built; use another Python"
            ) from error
        return JournalFile(self._path, self._meta, restart=self._restart, name=self._name)


def check_key(key: Any) -> str:
    """Check that the key of an item is a text.

    Raises:
        ConfigurationError: It is no str.
    """
    if not isinstance(key, str):
        raise ConfigurationError(f"key={key!r}: expected a str, not {type(key).__name__}; pass key= to the batch")
    return key


def _shown(key: str) -> str:
    return repr(key if len(key) <= _LONGEST_KEY else f"{key[:_LONGEST_KEY]}[...]")


def _encode(value: Any, decoder: msgspec.json.Decoder[Any]) -> bytes:
    """A value as JSON that decodes again, now rather than in the run that needs it."""
    kept = encode_json(value).encode()
    decoder.decode(kept)
    return kept


def _describe(error: BaseException) -> str:
    """An error as JSON, without an API key."""
    known = error if isinstance(error, ZenovayError) else None
    try:
        text = str(error) if known is None else known.message
    except Exception:  # noqa: BLE001 - code of the caller's
        text = ""
    described = {
        "error": type(error).__name__,
        # Redacted as errors of this package are, and before it is cut, as nobody recognizes half a key.
        "message": ZenovayError(text).message[:_LONGEST_MESSAGE],
        "status": None if known is None else known.status,
        "code": None if known is None else known.code,
        "request_id": None if known is None else known.request_id,
    }
    return encode_json(described)


def _name_of(kind: Any) -> str:
    """The name of a type, with those of its parameters and without modules, as code may move."""
    if kind is None or kind is type(None):
        return "None"
    if kind is ...:
        return "..."
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _name_of(parts[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    name = str(getattr(origin or kind, "__qualname__", None) or getattr(kind, "__name__", kind))
    if name in {"Union", "UnionType"}:
        return " | ".join(map(_name_of, parts))
    return f"{name}[{', '.join(map(_name_of, parts))}]" if parts else name
