"""The store of a cache on one machine: its files, who may read them, and how many there are."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import random
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import until

from zenovay_async._cache.stores import lease_file, response_file
from zenovay_async._cache.stores.machine import MachineCacheStore
from zenovay_async._limits.stores import private_file
from zenovay_async._limits.stores.machine import MachineStore
from zenovay_async.rate_limits import StoreWrite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from zenovay_async._cache.stores.tally import Tally

NAME = "0123456789abcdef" * 4
VALUE = bytes(range(256)) * 16
HOUR = 3600


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[MachineCacheStore]:
    store = MachineCacheStore(tmp_path)
    yield store
    await store.aclose()


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[MachineCacheStore]:
    """That of another process."""
    other = MachineCacheStore(tmp_path)
    yield other
    await other.aclose()


def folder_in(root: Path) -> Path:
    return root / f"zenovay-async-{os.geteuid()}" / "cache"


def response_in(root: Path, name: str = NAME) -> Path:
    return folder_in(root) / f"{name}.response-1"


def lease_in(root: Path, name: str = NAME) -> Path:
    return folder_in(root) / f"{name}.lease"


def responses_in(root: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in folder_in(root).glob("*.response-1")}


async def tally_of(store: MachineCacheStore) -> Tally:
    return await store._read_tally()


async def fill(store: MachineCacheStore) -> None:
    """Use all that the store has."""
    await store.put(NAME, VALUE, 60)
    await store.invalidate("scope", 60)
    assert await store.acquire_lease(NAME, background=False)


@pytest.mark.parametrize("mask", [0o022, 0o177, 0o277, 0o777])
async def test_only_their_user_may_read_the_files_whatever_the_umask(mask: int, tmp_path: Path) -> None:
    store = MachineCacheStore(tmp_path)
    before = os.umask(mask)
    try:
        await fill(store)
    finally:
        os.umask(before)
    folder = folder_in(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys((f"{NAME}.lease", f"{NAME}.response-1", "invalidations", "tally"), 0o600)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (folder, folder.parent)] == [0o700, 0o700]
    await store.aclose()


async def test_the_folder_is_that_of_the_budget_and_neither_removes_files_of_the_other(tmp_path: Path) -> None:
    budget, store = MachineStore(tmp_path), MachineCacheStore(tmp_path)
    await budget.update("key", lambda _value, _now: StoreWrite(b"state"))
    await fill(store)
    for path in (*folder_in(tmp_path).iterdir(), *folder_in(tmp_path).parent.iterdir()):
        os.utime(path, (time.time() + HOUR, time.time() + HOUR))
    await budget.aclose()
    await budget.update("key", lambda value, _now: StoreWrite(value or b"lost"))
    assert (await store.find(NAME)).value == VALUE
    await store.aclose()
    await budget.aclose()


async def test_others_may_enter_no_folder_of_it(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    for each in (folder.parent, folder):
        each.mkdir(0o700)
        each.chmod(0o755)
        with pytest.raises(PermissionError, match=f"{each} belongs to another user, is open to others"):
            await MachineCacheStore(tmp_path).find(NAME)
        each.rmdir()
        (tmp_path / "elsewhere").mkdir(0o700)
        each.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(PermissionError, match=f"{each} belongs to another user"):
            await MachineCacheStore(tmp_path).find(NAME)
        each.unlink()
        (tmp_path / "elsewhere").rmdir()
        each.mkdir(0o700)


@pytest.mark.parametrize("file", [f"{NAME}.response-1", f"{NAME}.lease", "invalidations"])
@pytest.mark.parametrize("what", ["mode", "symlink", "pipe", "folder"])
async def test_a_file_that_others_may_have_written_is_refused_by_its_path(
    file: str, what: str, store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path
) -> None:
    await fill(store)
    path = folder_in(tmp_path) / file
    if what == "mode":
        path.chmod(0o644)
    else:
        path.rename(tmp_path / "elsewhere")
    if what == "symlink":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(path, 0o600)
    elif what == "folder":
        path.mkdir(0o700)
    with pytest.raises((PermissionError, IsADirectoryError), match=str(path)):
        await other.find(NAME)


async def test_what_belongs_to_another_user_is_refused(
    store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store)
    await other.find(NAME)
    user, path = os.geteuid() + 1, str(lease_in(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(PermissionError, match=path):
        await other.find(NAME)
    with pytest.raises(PermissionError, match=f"{tmp_path}.* belongs to another user"):
        await MachineCacheStore(tmp_path).find(NAME)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"{}", VALUE, response_file._FORMAT])
async def test_a_file_that_is_something_else_is_a_miss_and_is_removed(
    content: bytes, store: MachineCacheStore, tmp_path: Path
) -> None:
    await store.put(NAME, VALUE, 60)
    response_in(tmp_path).write_bytes(content)
    assert (await store.find(NAME)).value is None
    assert responses_in(tmp_path) == set()
    assert (await tally_of(store)).entries == 0
    await store.put(NAME, VALUE, 60)
    assert (await store.find(NAME)).value == VALUE


async def test_a_file_that_was_changed_from_outside_is_a_miss(store: MachineCacheStore, tmp_path: Path) -> None:
    await store.put(NAME, VALUE, 60)
    path = response_in(tmp_path)
    content = path.read_bytes()
    for changed in (
        *(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in (0, 5, 13, 21, 29, 1000)),
        *(content[:-1], content + b"x", content[:20]),
    ):
        path.touch(0o600)
        path.write_bytes(changed)
        assert (await store.find(NAME)).value is None
    path.touch(0o600)
    path.write_bytes(content)
    assert (await store.find(NAME)).value == VALUE


async def test_a_response_of_another_boot_is_a_miss(store: MachineCacheStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the clock counts from there; so is an invalidation."""
    await store.put(NAME, VALUE, 60)
    await store.invalidate("scope", 60)
    monkeypatch.setattr(private_file, "_BOOT", b"anotherb")
    found = await store.find(NAME)
    assert (found.value, found.invalidations) == (None, {})


async def test_a_version_to_come_keeps_its_files(store: MachineCacheStore, tmp_path: Path) -> None:
    """Two versions that share a folder, as while a program is updated, do not remove what the other wrote."""
    await store.put(NAME, VALUE, 60)
    later = folder_in(tmp_path) / f"{NAME}.response-2"
    response_in(tmp_path).rename(later)
    assert (await store.find(NAME)).value is None
    assert later.exists()


async def test_an_expired_response_is_removed_by_who_finds_it_unless_it_was_replaced(
    store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first one of all looks at the folder as well.
    await store.put(NAME, VALUE, 60)
    await store.put(NAME, VALUE, 0.0)
    real = response_file.read
    read: list[Any] = []

    def read_then_wait(path: str) -> Any:
        """Another process replaces it between the look and the removal."""
        found = real(path)
        read.append(found)
        if len(read) == 1:
            Path(path).unlink()
            fresh = response_file.write_temporary(folder_in(tmp_path), b"fresh", 60)
            Path(fresh).replace(path)
        return found

    monkeypatch.setattr(response_file, "read", read_then_wait)
    assert (await other.find(NAME)).value is None
    assert (await other.find(NAME)).value == b"fresh"
    await store.put(NAME, VALUE, 0.0)
    assert (await other.find(NAME)).value is None
    assert responses_in(tmp_path) == set()


async def test_a_lookup_needs_no_lock(store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path) -> None:
    """A process that is frozen while it has one stops nobody who reads; whoever writes gets a timeout."""
    await fill(store)
    await store.put(NAME + "0", VALUE, 0.0)
    holders = [os.open(folder_in(tmp_path) / name, os.O_RDWR) for name in ("tally", "invalidations")]
    for holder in holders:
        fcntl.flock(holder, fcntl.LOCK_EX)
    found = await other.find(NAME)
    assert (found.value, list(found.invalidations), found.lease) == (VALUE, ["scope"], "direct")
    assert (await other.find(NAME + "0")).value is None
    assert NAME + "0" in responses_in(tmp_path)
    for attempt in (
        lambda: other.put(NAME, b"other", 60),
        lambda: other.acquire_lease(NAME, background=False),
        lambda: other.remove(NAME),
        lambda: other.invalidate("scope", 60),
    ):
        with pytest.raises(TimeoutError, match=r"another process has had a file in .* locked for"):
            await attempt()
    for holder in holders:
        os.close(holder)
    assert not list(folder_in(tmp_path).glob("*.tmp"))
    await other.put(NAME, b"other", 60)
    assert (await store.find(NAME)).value == b"other"


@pytest.mark.parametrize("how", ["put", "release_lease", "remove", "canceled"])
async def test_a_lease_ends_even_if_the_folder_cannot_be_changed(
    how: str, store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path
) -> None:
    """Nobody waits for a response that cannot be kept."""
    await fill(store)
    holder = os.open(folder_in(tmp_path) / "tally", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    task = asyncio.create_task(
        {"release_lease": store.release_lease, "remove": store.remove}[how](NAME)
        if how in {"release_lease", "remove"}
        else store.put(NAME, b"other", 60)
    )
    await asyncio.sleep(0)
    if how == "canceled":
        task.cancel()
    with pytest.raises(asyncio.CancelledError if how == "canceled" else TimeoutError):
        await task
    os.close(holder)
    found = await other.find(NAME)
    assert (found.value, found.lease) == (VALUE, None)
    assert not list(folder_in(tmp_path).glob("*.tmp"))
    assert await other.acquire_lease(NAME, background=False)


METHODS: dict[str, Callable[[MachineCacheStore], Awaitable[object]]] = {
    "find": lambda store: store.find(NAME),
    "put": lambda store: store.put(NAME, VALUE, 60),
    "acquire": lambda store: store.acquire_lease(NAME, background=False),
    "release": lambda store: store.release_lease(NAME),
    "remove": lambda store: store.remove(NAME),
    "invalidate": lambda store: store.invalidate("scope", 60),
    "aclose": lambda store: store.aclose(),
}


@pytest.mark.parametrize("method", METHODS)
async def test_a_folder_that_was_deleted_is_made_anew(
    method: str, store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path
) -> None:
    for each in (store, other):
        await each.find(NAME)
    await fill(store)
    folder = folder_in(tmp_path)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.parent.rmdir()
    await METHODS[method](store)
    for each in (store, other):
        await each.put(NAME, VALUE, 60)
        assert (await other.find(NAME)).value == VALUE
        assert await each.acquire_lease(NAME, background=False)
        await each.release_lease(NAME)
    await other.invalidate("other", 60)
    assert "other" in (await store.find(NAME)).invalidations


async def test_a_disk_that_is_full_is_an_error_and_ends_the_lease(
    store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda _fd, data: len(data) // 2)
        with pytest.raises(OSError, match="No space left on device"):
            await store.put(NAME, b"other", 60)
    found = await other.find(NAME)
    assert (found.value, found.lease) == (VALUE, None)
    assert not list(folder_in(tmp_path).glob("*.tmp"))


async def test_where_no_folder_can_be_made_that_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = MachineCacheStore(tmp_path / "file")
    for method in METHODS.values():
        if method not in {METHODS["aclose"], METHODS["release"]}:
            with pytest.raises(NotADirectoryError):
                await method(store)
    await store.aclose()


async def test_there_are_never_more_responses_than_allowed_and_those_go_first_that_are_oldest(tmp_path: Path) -> None:
    store, other = (MachineCacheStore(tmp_path, max_entries=20) for _ in range(2))
    for number in range(100):
        await (store, other)[number % 2].put(f"{number:064}", VALUE, 600 - number)
        assert len(responses_in(tmp_path)) == (await tally_of(store)).entries <= 20
    assert {f"{number:064}" for number in range(90, 100)} <= responses_in(tmp_path)
    await store.aclose()
    await other.aclose()


async def test_a_response_that_was_read_a_moment_ago_stays(tmp_path: Path) -> None:
    """Where the system notes that, and however soon it expires."""
    store = MachineCacheStore(tmp_path, max_entries=10)
    for number in range(10):
        await store.put(f"{number}", VALUE, 60 + number)
    found = response_in(tmp_path, "0").stat()
    os.utime(response_in(tmp_path, "0"), (found.st_atime + 1, found.st_mtime))
    await store.put("new", VALUE, 5)
    assert responses_in(tmp_path) == {"new", "0", *map(str, range(3, 10))}
    await store.aclose()


async def test_a_process_with_small_bounds_keeps_what_it_has_beside_those_with_large_ones(tmp_path: Path) -> None:
    """The largest bound counts while something is kept that was kept under it."""
    small = MachineCacheStore(tmp_path, max_entries=5, max_bytes=100_000)
    large = MachineCacheStore(tmp_path, max_entries=50, max_bytes=1000)
    for number in range(40):
        await large.put(f"{number}", b"", 600)
    for number in range(20):
        await small.put(f"small-{number}", b"x", 5)
        assert (await large.find(f"small-{number}")).value == b"x"
    assert len(responses_in(tmp_path)) > 40
    await large.aclose()
    await small.aclose()


async def test_a_large_bound_ends_with_the_last_response_that_was_kept_under_it(tmp_path: Path) -> None:
    small, large = (MachineCacheStore(tmp_path, max_entries=number) for number in (5, 50))
    for number in range(40):
        await large.put(f"{number}", VALUE, 0.0)
    for number in range(20):
        await small.put(f"small-{number}", VALUE, 60)
    assert len(responses_in(tmp_path)) <= 5
    await large.aclose()
    await small.aclose()


async def test_there_are_never_more_bytes_than_allowed(tmp_path: Path) -> None:
    store = MachineCacheStore(tmp_path, max_bytes=100_000)
    for number in range(100):
        await store.put(f"{number:064}", os.urandom(random.randrange(20_000)), 60 + number)
        size = sum(path.stat().st_size for path in folder_in(tmp_path).glob("*.response-1"))
        assert size == (await tally_of(store)).size <= 100_000
        assert (await store.find(f"{number:064}")).value is not None
    assert len(responses_in(tmp_path)) > 3
    last = f"{99:064}"
    await store.put(last, bytes(200_000), 60)
    assert (await store.find(last)).value is None
    await store.aclose()


async def test_a_bound_may_be_as_large_as_any_int(tmp_path: Path) -> None:
    store = MachineCacheStore(tmp_path, max_entries=1 << 80, max_bytes=1 << 80)
    await store.put(NAME, VALUE, 60)
    assert (await store.find(NAME)).value == VALUE
    await store.aclose()


async def test_one_response_may_be_all_that_is_kept(tmp_path: Path) -> None:
    store = MachineCacheStore(tmp_path, max_entries=1)
    for number in range(3):
        await store.put(f"{number}", VALUE, 60 + number)
        assert responses_in(tmp_path) == {f"{number}"}
    await store.aclose()


async def test_what_is_counted_stays_right_whatever_is_done(tmp_path: Path) -> None:
    stores = [MachineCacheStore(tmp_path, max_entries=8) for _ in range(2)]
    for number in range(300):
        store, name = random.choice(stores), f"{random.randrange(12):064}"
        match random.randrange(4):
            case 0:
                await store.remove(name)
            case 1:
                await store.find(name)
            case _:
                await store.put(name, bytes(random.randrange(100)), random.choice([0.0, 60.0 + number]))
        files = [path.stat().st_size for path in folder_in(tmp_path).glob("*.response-1")]
        tally = await tally_of(store)
        assert (len(files), sum(files)) == (tally.entries, tally.size)
        assert len(files) <= 8
    for store in stores:
        await store.aclose()


async def test_what_others_left_is_removed_within_a_minute(
    store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Responses that expired, and what processes left that were killed; nothing else."""
    folder = folder_in(tmp_path)
    # The first one of all looks at the folder as well.
    await store.put("fresh", VALUE, 60)
    await store.put("expired", VALUE, 0.0)
    assert await other.acquire_lease("held", background=False)
    for name in ("left.tmp", "left.lease", "now.tmp", "notes.txt"):
        (folder / name).touch(0o600)
    for name in ("left.tmp", "left.lease", "held.lease", "notes.txt"):
        os.utime(folder / name, (0, 0))
    await store.put("first", VALUE, 60)
    assert "expired" in responses_in(tmp_path)
    monkeypatch.setattr("zenovay_async._cache.stores.machine._SWEEP", 0.0)
    await store.put("second", VALUE, 60)
    kept = {"fresh.response-1", "first.response-1", "second.response-1", "held.lease", "now.tmp", "notes.txt"}
    assert {path.name for path in folder.iterdir()} - {"tally"} == kept
    assert (await tally_of(store)).entries == 3


async def test_one_of_all_processes_looks_for_what_is_left(
    store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(NAME, VALUE, 60)
    monkeypatch.setattr("zenovay_async._cache.stores.machine._SWEEP", 0.0)
    monkeypatch.setattr("zenovay_async._cache.stores.machine._STEP", 1)
    looks: list[str] = []
    real = os.scandir

    def scan(path: Any) -> Any:
        looks.append(str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    puts = [asyncio.create_task(each.put(f"{number}", VALUE, 60)) for number in range(9) for each in (store, other)]
    await asyncio.gather(*puts)
    assert looks.count(str(folder_in(tmp_path))) < len(puts) / 2
    assert (await tally_of(store)).entries >= 10


async def test_files_that_a_person_removed_are_noticed(tmp_path: Path) -> None:
    store = MachineCacheStore(tmp_path, max_entries=5)
    for number in range(5):
        await store.put(f"{number}", VALUE, 60)
    for path in folder_in(tmp_path).glob("*.response-1"):
        path.unlink()
    await store.put("new", VALUE, 60)
    assert (await tally_of(store)).entries == 1
    await store.aclose()


async def test_a_lease_is_renewed_by_a_timer_while_it_is_held(
    store: MachineCacheStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_file, "RENEWAL", 0.001)
    assert await store.acquire_lease(NAME, background=False)
    seen: set[bytes] = set()

    def is_renewed() -> bool:
        seen.add(lease_in(tmp_path).read_bytes())
        return len(seen) > 3

    await until(is_renewed)
    await store.release_lease(NAME)
    await until(lambda: store._timer is None)


async def test_a_process_that_was_frozen_lost_its_lease(
    store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await store.acquire_lease(NAME, background=True)
    with monkeypatch.context() as patch:
        # As if the last renewal were that long ago.
        patch.setattr(lease_file, "FROZEN", -1.0)
        assert (await other.find(NAME)).lease is None
        assert await other.acquire_lease(NAME, background=False)
    store.renew_leases()
    assert (await store.find(NAME)).lease == "direct"
    await store.put(NAME, VALUE, 60)
    assert (await store.find(NAME)).lease == "direct"
    await other.put(NAME, VALUE, 60)
    assert not lease_in(tmp_path).exists()


async def test_a_lease_whose_folder_was_deleted_ends(
    store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path
) -> None:
    assert await store.acquire_lease(NAME, background=True)
    lease_in(tmp_path).unlink()
    store.renew_leases()
    assert store._leases == {}
    assert await other.acquire_lease(NAME, background=False)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 100])
async def test_a_lease_that_cannot_be_read_is_nobodys(
    content: bytes, store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path
) -> None:
    assert await store.acquire_lease(NAME, background=True)
    lease_in(tmp_path).write_bytes(content)
    assert (await other.find(NAME)).lease is None
    assert await other.acquire_lease(NAME, background=False)


async def test_a_store_that_nobody_has_any_more_has_no_lease(other: MachineCacheStore, tmp_path: Path) -> None:
    store = MachineCacheStore(tmp_path)
    assert await store.acquire_lease(NAME, background=False)
    del store
    gc.collect()
    assert (await other.find(NAME)).lease is None
    assert await other.acquire_lease(NAME, background=False)


async def test_what_was_invalidated_is_read_again_only_if_it_changed(
    store: MachineCacheStore, other: MachineCacheStore
) -> None:
    await store.invalidate("scope", 60)
    first = (await other.find(NAME)).invalidations
    assert (await other.find(NAME)).invalidations is first
    await store.invalidate("scope", 60)
    assert (await other.find(NAME)).invalidations != first


@pytest.mark.parametrize("content", [b"", os.urandom(9000)])
async def test_invalidations_that_cannot_be_read_are_none(
    content: bytes, store: MachineCacheStore, other: MachineCacheStore, tmp_path: Path
) -> None:
    await fill(store)
    (folder_in(tmp_path) / "invalidations").write_bytes(content)
    assert (await other.find(NAME)).invalidations == {}
    await other.invalidate("scope", 60)
    assert set((await store.find(NAME)).invalidations) == {"scope"}


async def test_invalidations_of_a_version_to_come_are_none(store: MachineCacheStore, other: MachineCacheStore) -> None:
    store._open_invalidations().update(lambda _value, _now: StoreWrite(b"\xc1"))
    assert (await other.find(NAME)).invalidations == {}


async def test_scopes_whose_names_are_very_long_are_one_for_all(
    store: MachineCacheStore, other: MachineCacheStore
) -> None:
    for number in range(3):
        await store.invalidate(f"{number}" * 40_000, 60)
    assert sum(map(len, (await other.find(NAME)).invalidations)) < 1 << 16
