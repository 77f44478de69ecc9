"""A journal keeps what is done: through kills, full disks and later runs; and harms no other file."""

from __future__ import annotations

import gc
import json
import math
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Union

import msgspec
import pytest
from endpoints import DOCUMENTED, Endpoint, named
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from zenovay_async import (
    ConfigurationError,
    HeatmapPage,
    HeatmapPages,
    Journal,
    JournalEntry,
    JournalError,
    NotFoundError,
    WebsiteList,
)
from zenovay_async._protocol.call import Endpoint as EndpointOf
from zenovay_async._protocol.decoding import Decoder
from zenovay_async._protocol.parsing import parse_response
from zenovay_async._protocol.response import RawResponse

if TYPE_CHECKING:
    from collections.abc import Callable

WORKER = ROOT / "tests" / "journal_worker.py"
KEY = "zv_0123456789abcdef"

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


class Row(msgspec.Struct, frozen=True):
    """A result of the caller's own."""

    name: str
    share: float = 0.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.journal"


def start(what: str, path: Path, *before: str) -> subprocess.Popen[str]:
    command = [*before, sys.executable, str(WORKER), what, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own program


def run(what: str, path: Path, *before: str) -> tuple[int, str]:
    worker = start(what, path, *before)
    output, _ = worker.communicate()
    return worker.returncode, output


def read_line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline()


def refusal(path: str | Path, **options: Any) -> str:
    """The message with which a journal is not opened."""
    with pytest.raises(ConfigurationError) as caught, Journal(path, **options):
        pass
    return caught.value.message


def names(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows(path: Path, what: str = "SELECT * FROM items") -> list[dict[str, Any]]:
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in db.execute(what)]
    finally:
        db.close()


def change(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


# What is recorded


def test_a_later_run_finds_what_an_earlier_one_recorded(path: Path) -> None:
    pages = HeatmapPages(pages=(HeatmapPage(url="/łódź", total_interactions=3),))
    with Journal(path, result_type=HeatmapPages) as journal:
        journal.record_success("a", pages)
        journal.record_failure("b", ValueError("no"))
        journal.record_failure("b", ValueError("no"))
    with Journal(path, result_type=HeatmapPages) as journal:
        assert journal.find("a") == JournalEntry("done", pages, 1)
        assert journal.find("b") == JournalEntry("failed", None, 2)
        assert journal.find("c") is None
        assert (journal.done, journal.failed) == (1, 1)
        journal.record_success("b", pages)
        assert journal.find("b") == JournalEntry("done", pages, 3)
        assert (journal.done, journal.failed) == (2, 0)


def test_without_a_result_type_no_result_is_kept(path: Path) -> None:
    with Journal(path) as journal:
        journal.record_success("a", object())
        assert journal.find("a") == JournalEntry("done", None, 1)
    assert rows(path)[0]["value"] is None


def example(endpoint: Endpoint) -> Any:
    """A result as a call returns it whose response is the documented one."""
    result: Any = endpoint.result
    described: EndpointOf[Any] = EndpointOf(endpoint.name, endpoint.path, Decoder(result))
    data = endpoint.body()["data"]
    data = data["website"] if endpoint.name == "websites.get" else data
    raw = RawResponse(200, {}, msgspec.json.encode({"success": True, "data": data}))
    return parse_response(described.call("x"), raw, 0.0).data


@pytest.mark.parametrize("endpoint", DOCUMENTED, ids=named)
def test_every_result_of_the_api_comes_back_equal(path: Path, endpoint: Endpoint) -> None:
    result = example(endpoint)
    with Journal(path, result_type=type(result)) as journal:
        journal.record_success("a", result)
        found = journal.find("a")
        assert found is not None
        assert found.value == result
        assert repr(found.value) == repr(result)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, None),
        ({"a": [1, 2.5, "x", None, True]}, {"a": [1, 2.5, "x", None, True]}),
        (10**30, 10**30),
        (math.nan, None),
        ([math.inf], [None]),
        ("cut \ud83d", "cut \ufffd"),
        ({"\ud83d": ("\udc00", "\0")}, {"\ufffd": ["\ufffd", "\0"]}),
        (Row("\ud83d"), {"name": "\ufffd", "share": 0.0}),
        ({"cut \ud83d": {math.nan}}, {"cut \ufffd": [None]}),
    ],
)
def test_any_keeps_plain_values_as_json_has_them(path: Path, value: Any, found: Any) -> None:
    with Journal(path, result_type=Any) as journal:
        journal.record_success("a", value)
        assert journal.find("a") == JournalEntry("done", found, 1)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (HeatmapPages, WebsiteList(websites=())),
        (Row, Row("a", math.nan)),
        (Any, object()),
        (Any, [10**5000]),
        (int, "1"),
    ],
)
def test_a_result_that_would_not_come_back_is_refused_at_once(path: Path, kind: Any, value: Any) -> None:
    with Journal(path, result_type=kind) as journal:
        with pytest.raises(ConfigurationError) as caught:
            journal.record_success("site-1", value)
        assert "'site-1'" in caught.value.message
        assert type(value).__name__ in caught.value.message
        assert journal.find("site-1") is None
        assert journal.done == 0


def test_a_result_too_large_for_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)

    use_connection(monkeypatch, Small)
    with Journal(path, result_type=Any) as journal:
        with pytest.raises(ConfigurationError, match=r"'a', of type str, cannot be kept as Any: .*too big"):
            journal.record_success("a", "x" * 20_000)
        journal.record_success("a", "x")


def use_connection(monkeypatch: pytest.MonkeyPatch, kind: type[sqlite3.Connection]) -> None:
    """Have journals open their files with connections of another class."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: connect(*given, factory=kind, **options))


KEYS = [
    "",
    "a",
    "A",
    "a ",
    "a\0",
    "a\0b",
    "\0",
    "1",
    "1.0",
    "é",
    "e\u0301",
    "\ud83d",
    "\udc00",
    "\ufffd",
    "'\"; --",
    "x" * 9999,
]


def test_any_text_is_a_key_of_its_own(path: Path) -> None:
    with Journal(path, result_type=str) as journal:
        for number, key in enumerate(KEYS):
            assert journal.find(key) is None
            journal.record_success(key, str(number))
    with Journal(path, result_type=str) as journal:
        assert [journal.find(key) for key in KEYS] == [JournalEntry("done", str(n), 1) for n in range(len(KEYS))]


@pytest.mark.parametrize("key", [1, b"a", None, ("a",)])
def test_a_key_that_is_no_text_is_refused(path: Path, key: Any) -> None:
    with Journal(path) as journal:
        for use in (
            journal.find,
            lambda key: journal.record_success(key, 1),
            lambda key: journal.record_failure(key, OSError()),
        ):
            with pytest.raises(ConfigurationError, match=f"expected a str, not {type(key).__name__}"):
                use(key)


def test_a_failure_is_recorded_with_what_is_known_and_without_the_api_key(path: Path) -> None:
    class BadlyMadeError(Exception):
        def __str__(self) -> str:
            raise ValueError

    errors = [
        NotFoundError(f"No website {KEY}", status=404, code="NOT_FOUND", request_id="r-1"),
        OSError(f"with {KEY} \ud83d {'x' * 5000}{KEY}"),
        BadlyMadeError(),
    ]
    with Journal(path) as journal:
        for number, error in enumerate(errors):
            journal.record_failure(str(number), error)
    assert KEY.encode() not in path.read_bytes()
    found = [json.loads(row["error"]) for row in rows(path)]
    assert found[0] == {
        "error": "NotFoundError",
        "message": "No website <secret>",
        "status": 404,
        "code": "NOT_FOUND",
        "request_id": "r-1",
    }
    assert found[1]["message"].startswith("with <secret> \ufffd xxx")
    assert len(found[1]["message"]) == 2000
    assert found[2] == {"error": "BadlyMadeError", "message": "", "status": None, "code": None, "request_id": None}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)
_ACTIONS = st.tuples(st.sampled_from(["done", "failed", "find", "reopen"]), st.sampled_from(KEYS[:12]), _VALUES)


@settings(max_examples=25)
@given(st.lists(_ACTIONS, max_size=30))
def test_whatever_is_recorded_a_journal_is_what_a_dictionary_is(actions: list[tuple[str, str, Any]]) -> None:
    model: dict[str, JournalEntry] = {}
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder, "j"), result_type=Any)
        journal.__enter__()
        for action, key, value in actions:
            before = model.get(key)
            attempts = 1 if before is None else before.attempts + 1
            if action == "done":
                journal.record_success(key, value)
                model[key] = JournalEntry("done", value, attempts)
            elif action == "failed":
                journal.record_failure(key, ValueError(key))
                model[key] = JournalEntry("failed", None, attempts)
            elif action == "reopen":
                journal.__exit__(None, None, None)
                journal.__enter__()
            assert journal.find(key) == model.get(key)
            assert journal.done == sum(entry.state == "done" for entry in model.values())
            assert journal.failed == len(model) - journal.done
        journal.__exit__(None, None, None)
        assert names(folder) == ["j"]


# Open and closed


def test_a_journal_is_closed_at_the_end_of_its_outer_block_and_opens_again(path: Path) -> None:
    journal = Journal(path)
    for number in range(2):
        with journal:
            with journal:
                journal.record_success(f"a{number}", None)
            journal.record_success(f"b{number}", None)
            assert refusal(path).startswith(f"journal {str(path)!r} is in use by another process")
        assert names(path.parent) == ["run.journal"]
        assert journal.done == 2 * number + 2
        assert repr(journal) == f"<Journal {str(path)!r}: {2 * number + 2} done, 0 failed, closed>"
    uses: list[Callable[[], object]] = [
        lambda: journal.find("a"),
        lambda: journal.record_success("a", 1),
        lambda: journal.record_failure("a", OSError()),
    ]
    for use in uses:
        with pytest.raises(RuntimeError, match="is closed; open it first"):
            use()


def test_a_second_journal_on_a_file_is_refused_by_any_name_of_it(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("links are not for all users of Windows")
    with Journal(link) as journal:
        journal.record_success("a", None)
        assert "is in use" in refusal(path)
        assert "is in use" in refusal(link)
        # The refusals took no lock from it.
        assert "is in use" in run("enter", path)[1]
        journal.record_success("b", None)
    assert names(tmp_path) == ["link", "run.journal"]
    with Journal(path) as journal:
        assert journal.done == 2


def test_restart_forgets_what_is_there_once(path: Path) -> None:
    with Journal(path, result_type=int, describes="old") as journal:
        journal.record_success("a", 1)
        journal.record_failure("b", OSError())
    journal = Journal(path, result_type=str, describes="new", restart=True)
    with journal:
        assert (journal.find("a"), journal.done, journal.failed) == (None, 0, 0)
        journal.record_success("a", "x")
    with journal:
        assert journal.find("a") == JournalEntry("done", "x", 1)
    with Journal(path, result_type=str, describes="new") as journal:
        assert journal.done == 1


def test_a_journal_belongs_to_the_thread_that_opened_it(path: Path) -> None:
    caught: list[Exception] = []

    actions: list[Callable[[], object]] = [
        lambda: journal.find("a"),
        lambda: journal.record_success("a", None),
        lambda: journal.__exit__(None, None, None),
    ]

    def use() -> None:
        for action in actions:
            try:
                action()
            except RuntimeError as error:
                caught.append(error)

    with Journal(path) as journal:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        journal.record_success("a", None)
    assert ["is open in another thread" in str(error) for error in caught] == [True] * 3
    assert journal.done == 1


@needs_posix
def test_a_fork_neither_uses_nor_closes_the_journal_of_its_parent(path: Path) -> None:
    code, output = run("fork", path)
    assert code == -signal.SIGKILL
    assert "is open in the process that this one is a fork of" in output
    with Journal(path, result_type=Any) as journal:
        assert [journal.find(key) is not None for key in ("before", "child", "after")] == [True, False, True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_block_leaves_it_without_harm(path: Path) -> None:
    with Journal(path) as journal:
        journal.record_success("a", None)
        child = os.fork()
        if not child:
            code = 1
            try:
                with pytest.raises(RuntimeError):
                    journal.find("a")
                journal.__exit__(None, None, None)
                gc.collect()
                code = 0 if "is in use" in refusal(path) else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        journal.record_success("b", None)
    with Journal(path) as journal:
        assert journal.done == 2


def test_importing_the_package_imports_no_sqlite3() -> None:
    code = "import sys, zenovay_async; zenovay_async.Journal('x'); print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own command
    assert done.stdout == "False\n"


def test_a_python_without_sqlite3_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    monkeypatch.delitem(sys.modules, "zenovay_async._batch.journal_file", raising=False)
    assert "needs the module sqlite3, without which this Python was built" in refusal(path)


# Files


@needs_posix
def test_a_new_journal_is_for_its_owner_alone(path: Path) -> None:
    umask = os.umask(0)
    try:
        with Journal(path) as journal:
            journal.record_success("a", None)
            assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
            assert len(names(path.parent)) == 2
    finally:
        os.umask(umask)


def test_an_empty_file_is_a_new_journal(path: Path) -> None:
    path.touch()
    with Journal(str(path)) as journal:
        journal.record_success("a", None)
    with Journal(path) as journal:
        assert journal.done == 1
        assert journal.path == path


def make_database(path: Path) -> None:
    change(path, "CREATE TABLE a (b)", "INSERT INTO a VALUES (1)")


def make_wal_database(path: Path) -> None:
    """As of a program that runs: a part of it is beside it."""
    code = f"import os, sqlite3; db = sqlite3.connect({str(path)!r}); db.execute('PRAGMA journal_mode = WAL'); "
    code += "db.execute('CREATE TABLE a (b)'); db.execute('INSERT INTO a VALUES (1)'); db.commit(); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own command
    assert path.with_name(f"{path.name}-wal").stat().st_size


def make_newer(path: Path) -> None:
    with Journal(path) as journal:
        journal.record_success("a", None)
    change(path, "PRAGMA user_version = 2")


def make_without_tables(path: Path) -> None:
    with Journal(path) as journal:
        journal.record_success("a", None)
    change(path, "DROP TABLE items")


def make_cut(path: Path) -> None:
    with Journal(path) as journal:
        for number in range(500):
            journal.record_success(str(number), None)
    with path.open("r+b") as file:
        file.truncate(5000)


OTHER_FILES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: path.write_text("a"), "is no journal"),
    (lambda path: path.write_bytes(b"website_id,url\n" * 1000), "is no journal"),
    (lambda path: path.write_bytes(b"SQLite format 3\0" + b"\0" * 2000), "is no journal"),
    (make_database, "is no journal"),
    (make_wal_database, "is no journal"),
    (make_newer, "was made by a later version"),
    (make_without_tables, "is damaged"),
    (make_cut, "is damaged"),
]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(("make", "message"), OTHER_FILES)
def test_a_file_that_is_no_journal_is_refused_and_stays_as_it_is(
    path: Path, make: Callable[[Path], Any], message: str, *, restart: bool
) -> None:
    make(path)
    before = files(path.parent)
    assert f"journal {str(path)!r} {message}" in refusal(path, restart=restart)
    assert files(path.parent) == before


def test_looking_at_a_database_of_this_process_takes_no_lock_from_it(path: Path) -> None:
    """Whoever closes a file loses all locks of the process on it."""
    make_database(path)
    db = sqlite3.connect(path)
    db.execute("BEGIN EXCLUSIVE")
    assert "is no journal" in refusal(path)
    code = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN EXCLUSIVE')"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert "database is locked" in other.stderr
    db.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "it is a folder"),
        ("missing/run.journal", "No such file or directory"),
        ("a\0b", "null"),
        ("x" * 300, "too long"),
    ],
)
def test_a_path_that_cannot_be_one_is_refused(tmp_path: Path, name: str, message: str) -> None:
    path = os.path.join(tmp_path, name)  # noqa: PTH118 - as users write it
    found = refusal(path)
    assert found.startswith(f"journal {path!r} cannot be opened: ")
    assert message in found


@needs_posix
def test_a_pipe_is_refused_without_waiting_for_a_writer(path: Path) -> None:
    os.mkfifo(path)
    assert "it is no plain file" in refusal(path)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users of POSIX")
@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_a_file_that_cannot_be_written_is_refused(read_only: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.journal")
        with Journal(path):
            pass
        path.chmod(0o444 if read_only == "file" else 0o666)
        Path(folder).chmod(0o777 if read_only == "file" else 0o555)
        user = os.geteuid()
        if not user:
            # The permissions of files do not concern root.
            os.seteuid(65534)
        try:
            found = refusal(path)
        finally:
            os.seteuid(user)
            Path(folder).chmod(0o755)
        assert found.startswith(f"journal {str(path)!r} cannot be ")
        assert "permissions" in found


@pytest.mark.parametrize(
    "options",
    [
        {"path": 5},
        {"path": b"x"},
        {"path": "x", "describes": 5},
        {"path": "x", "result_type": 5},
        {"path": "x", "result_type": "X"},
    ],
)
def test_an_argument_that_is_invalid_is_refused_before_the_file_is_made(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"expected a (str|type)"):
        Journal(**options)


def test_a_file_system_without_wal_keeps_another_mode(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Without(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            return super().execute(statement.replace("= WAL", "= DELETE"), *values)

    use_connection(monkeypatch, Without)
    with Journal(path, result_type=int) as journal:
        journal.record_success("a", 1)
        assert "is in use" in run("enter", path)[1]
    with Journal(path, result_type=int) as journal:
        assert journal.find("a") == JournalEntry("done", 1, 1)
    assert names(path.parent) == ["run.journal"]


# Another run than before


@pytest.mark.parametrize("describes", [None, "", "pages limit=10", "pages limit=10 ", "x" * 999, "\ud83d"])
def test_a_journal_goes_on_with_the_description_that_it_has_and_no_other(path: Path, describes: str | None) -> None:
    with Journal(path, describes=describes):
        pass
    with Journal(path, describes=describes):
        pass
    before = path.read_bytes()
    found = refusal(path, describes="pages limit=100")
    assert "describes='pages limit=100'" in found
    assert f"describes={describes!r}" in found or len(describes or "") > 200
    assert "restart=True" in found
    assert len(found) < 1000
    assert path.read_bytes() == before


def test_descriptions_that_differ_at_their_ends_are_shown_there(path: Path) -> None:
    with Journal(path, describes="x" * 5000 + "limit=10"):
        pass
    found = refusal(path, describes="x" * 5000 + "limit=20")
    assert "limit=10'" in found
    assert "limit=20'" in found
    assert len(found) < 600


TYPES: list[tuple[Any, str | None]] = [
    (None, None),
    (Any, "Any"),
    (HeatmapPages, "HeatmapPages"),
    (Row | None, "Row | None"),
    (Optional[Row], "Row | None"),  # noqa: UP045 - as older code has it
    (Union[Row, None], "Row | None"),  # noqa: UP007 - likewise
    (list[Row], "list[Row]"),
    (dict[str, tuple[int, ...]], "dict[str, tuple[int, ...]]"),
    (Literal["a", 1], "Literal['a', 1]"),
    (Annotated[int, msgspec.Meta(ge=0)], "int"),
]


@pytest.mark.parametrize(("kind", "name"), TYPES)
def test_the_type_of_results_is_kept_by_its_name(path: Path, kind: Any, name: str | None) -> None:
    with Journal(path, result_type=kind):
        pass
    assert rows(path, "SELECT value FROM meta WHERE name = 'result_type'") == [{"value": name}]
    with Journal(path, result_type=kind):
        pass
    found = refusal(path, result_type=WebsiteList)
    assert f"result_type={name!r}" in found
    assert "result_type='WebsiteList'" in found


def test_a_kept_result_that_the_type_no_longer_fits_is_named(path: Path) -> None:
    with Journal(path, result_type=Row) as journal:
        journal.record_success("site-1", Row("a"))
        journal.record_success("site-2", Row("b"))
    for value in (b'{"nom": 1}', b"{", b"\xff"):
        change(path, f"UPDATE items SET value = x'{value.hex()}' WHERE key = 'site-1'")  # noqa: S608 - digits
        with Journal(path, result_type=Row) as journal:
            with pytest.raises(ConfigurationError) as caught:
                journal.find("site-1")
            assert f"journal {str(path)!r}: the result of 'site-1' is no Row: " in caught.value.message
            assert "restart=True" in caught.value.message
            assert journal.find("site-2") == JournalEntry("done", Row("b"), 1)


# Kills, full disks, damage


@needs_posix
def test_what_was_recorded_survives_kills_at_random_moments(path: Path) -> None:
    chance, most = random.Random(), 0
    for _ in range(4):
        worker = start("record", path)
        lines = [read_line(worker) for _ in range(chance.randint(1, 300))]
        worker.kill()
        output, _ = worker.communicate()
        recorded = int([*lines, *output.split()][-1]) + 1
        most = max(most, recorded)
        with Journal(path, result_type=Any) as journal:
            # At most one is recorded and not yet said to be.
            assert journal.done in {most, most + 1}
            for number in range(most):
                found = journal.find(f"item {number}")
                assert found is not None
                assert found.value["number"] == number
            most = journal.done
        assert names(path.parent) == ["run.journal"]


def test_a_kill_while_the_file_grows_by_what_is_beside_it_loses_nothing(path: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    with Journal(path, result_type=Any) as journal:
        size = path.stat().st_size
        for number in range(100):
            journal.record_success(f"item {number}", "x" * 1000)
        assert path.stat().st_size == size
        beside = path.with_name(f"{path.name}-wal").read_bytes()
    # One page of what is to come, and the first, which says how many there are to be.
    killed.write_bytes(path.read_bytes()[: size + 4096])
    killed.with_name("killed-wal").write_bytes(beside)
    with Journal(killed, result_type=Any) as journal:
        assert journal.done == 100
        assert all(journal.find(f"item {number}") for number in range(100))


@needs_posix
def test_a_second_process_is_refused_until_the_first_is_killed(path: Path) -> None:
    holder = start("hold", path)
    assert read_line(holder) == "open\n"
    assert "is in use by another process" in refusal(path, result_type=Any)
    assert "is in use by another process" in refusal(path, result_type=Any, restart=True)
    assert f"journal {str(path)!r} is in use" in run("enter", path)[1]
    holder.kill()
    holder.communicate()
    with Journal(path, result_type=Any) as journal:
        assert journal.find("item") == JournalEntry("done", 1, 1)


@needs_posix
def test_a_file_that_cannot_grow_keeps_what_it_has_and_goes_on_once_it_can(path: Path) -> None:
    code, output = run("fill", path)
    assert code == 0
    assert f"journal {str(path)!r} cannot be" in output
    assert "what was recorded stays" in output
    assert output.endswith("whole\n")


@needs_posix
def test_a_full_disk_is_named_and_the_journal_goes_on_once_there_is_room(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec "$@"'
    own = ("unshare", "-rm", "sh", "-c", script, "sh")
    try:
        subprocess.run([*own, "true"], check=True, capture_output=True)  # noqa: S603 - our own command
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system of its own for a test: {error}")
    code, output = run("fill_disk", tmp_path / "run.journal", *own)
    assert code == 0
    assert "as the disk is full; make room and go on with it: what was recorded stays" in output
    assert output.endswith("whole\n")


def test_damage_that_shows_later_is_an_error_of_the_journal(path: Path) -> None:
    with Journal(path, result_type=Any) as journal:
        for number in range(300):
            journal.record_success(f"item {number}", "x" * 1000)
    whole = path.read_bytes()
    pages = [whole[start : start + 4096] for start in range(0, len(whole), 4096)]
    # Leaves of a table, of which only the first ones are read when it is opened.
    path.write_bytes(b"".join(b"\xff" * 4096 if page[0] == 13 and n > 20 else page for n, page in enumerate(pages)))
    caught: list[JournalError] = []
    with Journal(path, result_type=Any) as journal:
        for number in range(300):
            try:
                journal.find(f"item {number}")
            except JournalError as error:
                caught.append(error)
    assert caught
    assert all(isinstance(error.__cause__, sqlite3.DatabaseError) for error in caught)
    assert f"journal {str(path)!r} is damaged" in caught[0].message


@needs_posix
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_removed_while_it_is_in_use_is_an_error_within_a_second(
    path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Or all that comes would be recorded where no later run finds it."""
    clock = [100.0]
    monkeypatch.setattr("zenovay_async._batch.journal_file.monotonic", lambda: clock[0])
    with Journal(path) as journal:
        journal.record_success("a", None)
        if how == "removed":
            path.unlink()
        else:
            path.with_name("other").write_bytes(b"of another program")
            path.with_name("other").replace(path)
        clock[0] += 1.0
        with pytest.raises(JournalError, match="removed, renamed or replaced while it was in use"):
            journal.record_success("b", None)
        assert journal.done == 1
    assert path.exists() == (how == "replaced")
    if how == "replaced":
        assert path.read_bytes() == b"of another program"


def test_at_most_one_record_a_second_waits_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []

    class Traced(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.set_trace_callback(statements.append)

    clock = [100.0]
    use_connection(monkeypatch, Traced)
    monkeypatch.setattr("zenovay_async._batch.journal_file.monotonic", lambda: clock[0])
    synced: list[float] = []
    with Journal(path) as journal:
        for tenth in range(35):
            clock[0] = 100.0 + tenth / 10
            statements.clear()
            journal.record_success(f"item {tenth}", None)
            modes = [each for each in statements if "synchronous" in each]
            assert modes in ([], ["PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"])
            if modes:
                synced.append(clock[0])
                assert "INSERT" in statements[statements.index(modes[0]) + 1]
    assert synced == [100.0, 101.0, 102.0, 103.0]


@needs_posix
def test_memory_does_not_grow_with_the_number_of_items(path: Path) -> None:
    code, output = run("grow", path)
    assert code == 0
    # ru_maxrss is in bytes on macOS alone.
    assert int(output) < 4_000 * (1024 if sys.platform == "darwin" else 1)
