"""The store of one machine: a file for each value, changed by real processes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import store_worker
from helpers import until
from store_worker import encode, increment, number, read

from zenovay_async._limits.stores import private_file, private_folder
from zenovay_async._limits.stores.machine import MachineStore
from zenovay_async.rate_limits import StoreWrite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NAME = "key"
WORKER = Path(store_worker.__file__)
DAY = 86_400


def start(where: Path | str, what: str, name: str = NAME) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, WORKER, str(where), name, what], stdout=subprocess.PIPE)  # noqa: S603 - our own program


async def finish(*workers: subprocess.Popen[bytes]) -> None:
    """Wait for workers to end well."""
    for worker in workers:
        await asyncio.to_thread(worker.communicate)
        assert worker.returncode == 0


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short path, as that of a socket has at most 104 characters."""
    with tempfile.TemporaryDirectory(prefix="z") as folder:
        yield Path(folder)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[MachineStore]:
    store = MachineStore(tmp_path)
    yield store
    await store.aclose()


def folder_in(root: Path) -> Path:
    return root / f"zenovay-async-{os.geteuid()}"


async def test_processes_that_change_one_value_overwrite_none_of_each_other(
    store: MachineStore, tmp_path: Path
) -> None:
    await finish(*[start(tmp_path, "count") for _ in range(4)])
    assert number(await read(store, NAME)) == 4 * store_worker.TIMES


@pytest.mark.parametrize("what", ["fork", "fork_locked", "killed", "full"])
async def test_a_value_stays_whole(what: str, tmp_path: Path) -> None:
    """Across a fork, a fork while it is locked, processes killed at any moment, a disk that gets full."""
    await finish(start(tmp_path, what))


async def test_a_lock_that_another_process_keeps_is_a_timeout_and_stops_no_other_task(
    store: MachineStore, tmp_path: Path
) -> None:
    assert store.update_nowait(NAME, increment)
    # As one that is stopped keeps it; a lock belongs to what was opened, not to the process.
    holder = os.open(folder_in(tmp_path) / "key.state", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        assert not store.update_nowait(NAME, increment)
        update = asyncio.create_task(store.update(NAME, increment))
        turns = 0
        while not update.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 100
        with pytest.raises(TimeoutError, match="locked for"):
            await update
        update = asyncio.create_task(store.update(NAME, increment))
        await asyncio.sleep(0.01)
    finally:
        os.close(holder)
    await update
    assert number(await read(store, NAME)) == 2


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"{}", os.urandom(8000), private_file.FORMAT])
async def test_a_file_that_is_something_else_is_no_value(content: bytes, store: MachineStore, tmp_path: Path) -> None:
    await store.update(NAME, increment)
    (folder_in(tmp_path) / "key.state").write_bytes(content)
    assert await read(store, NAME) is None
    await store.update(NAME, increment)
    assert number(await read(store, NAME)) == 1


async def test_a_value_that_was_changed_from_outside_is_no_value(store: MachineStore, tmp_path: Path) -> None:
    await store.update(NAME, increment)
    path = folder_in(tmp_path) / "key.state"
    content = path.read_bytes()
    for at in (3, 9, 17, 21, 25, 29, 5000):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert await read(store, NAME) is None
    path.write_bytes(content)
    assert number(await read(store, NAME)) == 1


@pytest.mark.parametrize("is_named", ["named", ""])
async def test_a_value_of_another_boot_is_no_value(
    is_named: str, store: MachineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the system does not name a boot."""
    if not is_named:
        monkeypatch.setattr(private_file, "_BOOT", None)
    await store.update(NAME, increment)
    assert number(await read(store, NAME)) == 1
    if is_named:
        monkeypatch.setattr(private_file, "_BOOT", b"anotherb")
    else:
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert await read(store, NAME) is None


async def test_all_see_the_clock_of_the_machine(store: MachineStore) -> None:
    seen: list[float] = []
    before = time.monotonic()
    await store.update(NAME, lambda _, now: seen.append(now))
    assert before <= seen[0] <= time.monotonic()


async def test_what_others_may_enter_is_refused_by_its_path(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.mkdir(0o755)
    folder.chmod(0o755)
    with pytest.raises(PermissionError, match=f"{folder} belongs to another user"):
        MachineStore(tmp_path).update_nowait(NAME, increment)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match=str(folder)):
        MachineStore(tmp_path).update_nowait(NAME, increment)


@pytest.mark.parametrize("mask", [0o177, 0o277, 0o777])
async def test_a_process_that_has_an_odd_umask_shares_with_the_others(mask: int, tmp_path: Path) -> None:
    """What it makes may be used by its user, and by nobody else, whatever the umask."""
    store = MachineStore(tmp_path)
    before = os.umask(mask)
    try:
        await store.update(NAME, increment)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder_in(tmp_path).stat().st_mode) == 0o700
    assert stat.S_IMODE((folder_in(tmp_path) / f"{NAME}.state").stat().st_mode) == 0o600
    await store.aclose()


async def test_a_file_that_others_may_read_is_refused_by_its_path(store: MachineStore, tmp_path: Path) -> None:
    await store.update(NAME, increment)
    await store.aclose()
    path = folder_in(tmp_path) / "key.state"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(PermissionError, match=str(path)):
        await store.update(NAME, increment)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=str(path)):
        await store.update(NAME, increment)


async def test_what_belongs_to_another_user_is_refused_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_in(tmp_path).mkdir(0o700)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(PermissionError, match=f"{tmp_path}.* belongs to another user"):
        MachineStore(tmp_path).update_nowait(NAME, increment)


async def test_a_file_that_was_deleted_is_made_anew_by_all(store: MachineStore, tmp_path: Path) -> None:
    other = MachineStore(tmp_path)
    await other.update(NAME, increment)
    await store.update(NAME, increment)
    (folder_in(tmp_path) / "key.state").unlink()
    await store.update(NAME, increment)
    await other.update(NAME, increment)
    assert number(await read(store, NAME)) == 2
    await other.aclose()


async def test_a_folder_that_was_deleted_is_made_anew(store: MachineStore, tmp_path: Path) -> None:
    await store.update(NAME, increment)
    (folder_in(tmp_path) / "key.state").unlink()
    folder_in(tmp_path).rmdir()
    await store.update(NAME, increment)
    assert number(await read(store, NAME)) == 1


async def test_a_value_that_is_too_long_is_an_error(store: MachineStore) -> None:
    await store.update(NAME, increment)
    with pytest.raises(OSError, match="large"):
        await store.update(NAME, lambda _value, _now: StoreWrite(b"x" * (1 << 19)))
    assert number(await read(store, NAME)) == 1


async def test_a_change_that_fails_releases_the_lock(store: MachineStore, tmp_path: Path) -> None:
    def fail(_value: bytes | None, _now: float) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.update(NAME, fail)
    other = MachineStore(tmp_path)
    assert other.update_nowait(NAME, increment)
    await other.aclose()


async def test_a_ring_wakes_the_process_that_it_is_for(store: MachineStore, tmp_path: Path) -> None:
    rung = asyncio.Event()
    address = await store.listen(NAME, rung.set)
    await store.update(NAME, lambda _value, _now: StoreWrite(address.encode()))
    await finish(start(tmp_path, "ring"))
    async with asyncio.timeout(10):
        await rung.wait()


async def test_the_socket_of_a_process_that_was_killed_is_removed_at_its_first_ring(
    store: MachineStore, tmp_path: Path
) -> None:
    worker = start(tmp_path, "listen")
    assert worker.stdout is not None
    await asyncio.to_thread(worker.stdout.readline)
    worker.kill()
    await asyncio.to_thread(worker.communicate)
    address = (await read(store, NAME) or b"").decode()
    assert (folder_in(tmp_path) / address).exists()
    for _ in range(2):
        await store.update(NAME, lambda _value, _now: StoreWrite(b"", (address,)))
        assert not (folder_in(tmp_path) / address).exists()


async def test_no_address_in_a_value_reaches_another_file(store: MachineStore, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    await store.update(
        NAME, lambda _value, _now: StoreWrite(b"", ("../precious", str(tmp_path / "precious"), "key.state"))
    )
    assert (tmp_path / "precious").exists()
    assert await read(store, NAME) == b""


async def test_where_the_path_is_too_long_for_a_socket_there_are_no_rings(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 120)
    root.mkdir()
    store = MachineStore(root)
    assert await store.listen(NAME, lambda: None) == ""
    await store.update(NAME, increment)
    await store.aclose()


async def test_a_store_that_is_closed_leaves_no_socket_and_opens_again(store: MachineStore, tmp_path: Path) -> None:
    first = await store.listen(NAME, lambda: None)
    second = await store.listen(NAME, lambda: None)
    assert first != second
    assert [path.name for path in folder_in(tmp_path).iterdir()] == [second]
    await store.aclose()
    assert list(folder_in(tmp_path).iterdir()) == []
    await store.update(NAME, increment)
    assert number(await read(store, NAME)) == 1


def test_a_store_that_nobody_closes_ends_with_its_event_loop(tmp_path: Path) -> None:
    stores = [MachineStore(tmp_path)]

    async def use() -> str:
        await stores[0].update(NAME, increment)
        return await stores[0].listen(NAME, lambda: None)

    assert asyncio.run(use()) != asyncio.run(use())
    stores.clear()
    assert [path.name for path in folder_in(tmp_path).iterdir()] == ["key.state"]


async def test_files_that_nobody_used_for_a_day_are_removed(store: MachineStore, tmp_path: Path) -> None:
    names = ("used", "unused", "locked")
    for name in names:
        await store.update(name, increment)
    folder = folder_in(tmp_path)
    worker = start(tmp_path, "listen")
    assert worker.stdout is not None
    await asyncio.to_thread(worker.stdout.readline)
    dead = (await read(store, NAME) or b"").decode()
    worker.kill()
    await asyncio.to_thread(worker.communicate)
    alive = await store.listen("used", lambda: None)
    (folder / "notes.txt").touch()
    before = time.time() - 2 * DAY
    for path in folder.iterdir():
        if path.name != "used.state":
            os.utime(path, (before, before))
    holder = os.open(folder / "locked.state", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    other = MachineStore(tmp_path)
    assert number(await read(other, "used")) == 1
    os.close(holder)
    assert {path.name for path in folder.iterdir()} == {"used.state", "locked.state", alive, "notes.txt"}
    assert dead
    # Whoever had it open makes it anew.
    await store.update("unused", increment)
    assert await read(other, "unused") == encode(1)
    await other.aclose()


MEMORY = "/dev/shm"  # noqa: S108 - nothing is written there


@pytest.mark.parametrize("given", [MEMORY, "runtime", ""])
def test_the_folder_is_in_memory_where_there_is_one(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable = {MEMORY: {MEMORY, str(tmp_path)}, "runtime": {str(tmp_path)}, "": set[str]()}[given]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(Path, "is_dir", lambda _path: True)
    monkeypatch.setattr(os, "access", lambda path, _mode: path in usable)
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/temporary")
    expected = {MEMORY: Path(MEMORY), "runtime": tmp_path, "": Path("/temporary")}[given]
    assert private_folder.find_root() == expected


async def test_a_busy_ring_is_rung_all_the_same(store: MachineStore) -> None:
    """A queue that is full wakes its process anyway."""
    rings = 0

    def count() -> None:
        nonlocal rings
        rings += 1

    address = await store.listen(NAME, count)
    for _ in range(2000):
        store.update_nowait(NAME, lambda _value, _now: StoreWrite(b"", (address,)))
    await until(lambda: rings > 0)
    assert rings < 2000
