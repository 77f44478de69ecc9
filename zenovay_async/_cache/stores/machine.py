"""MachineCacheStore: responses in files, for all processes of one user on one machine.

Each response has a file of its own, which is read without a lock. Whoever changes what the folder has, such as a
response or a lease, locks a file for as long as that takes, some 50 microseconds; it counts the responses. Nobody waits
for the lock in the event loop: after 50 microseconds, a timer tries again. The lock is released with the process that
holds it, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from zenovay_async._cache.store import Found
from zenovay_async._cache.stores import lease_file, response_file
from zenovay_async._cache.stores.invalidations import add_invalidation, read_invalidations
from zenovay_async._cache.stores.lease_file import LeaseFile, find_holder
from zenovay_async._cache.stores.response_file import remove, stat_file, write_temporary
from zenovay_async._cache.stores.tally import LARGEST_BOUND, SeenFile, Tally, select_kept
from zenovay_async._limits.stores.private_file import PrivateFile
from zenovay_async._limits.stores.private_folder import PrivateFolder, wait_for_lock
from zenovay_async.rate_limits import StoreWrite

if TYPE_CHECKING:
    from zenovay_async.rate_limits import StoreChange

_FOLDER = "cache"
_TALLY, _INVALIDATIONS = "tally", "invalidations"
# Seconds between looks at the folder for what expired, and for which one look keeps others from another.
_SWEEP = 60.0
_CLAIM = 1.0
# Seconds after which a temporary file, or a lease that nobody has, was left by a process that was killed.
_LEFT = 60.0
# Files looked at before other tasks may run.
_STEP = 64


class MachineCacheStore:
    """Keeps each response in a file; its clock is ``time.monotonic``, which all processes of a machine have in common.

    Args:
        root: Folder in which the private one is; ``None`` for memory where the system has a folder for that, else a
            temporary one.
        max_entries: Responses kept at most; those go first that were used least recently. Of processes with different
            bounds, the largest one counts.
        max_bytes: Bytes of their files.
    """

    def __init__(self, root: Path | None = None, *, max_entries: int = 1024, max_bytes: int = 1 << 26) -> None:
        self._max_entries = min(max_entries, LARGEST_BOUND)
        self._max_bytes = min(max_bytes, LARGEST_BOUND)
        self._folder = PrivateFolder(root, _FOLDER)
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._tally: PrivateFile | None = None
        self._invalidations: PrivateFile | None = None
        # The invalidations as last read, encoded and decoded.
        self._encoded: bytes | None = None
        self._invalidated: dict[str, float] = {}
        self._leases: dict[str, LeaseFile] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return "MachineCacheStore()"

    async def find(self, name: str) -> Found:
        """Look up a name.

        Raises:
            OSError: The folder or a file cannot be used.
        """
        path = self._path(name)
        # First, as a holder that keeps a response releases the lease after that.
        lease = find_holder(path + lease_file.SUFFIX)
        response = response_file.read(path + response_file.SUFFIX)
        if response is not None and response.value is None:
            # If nobody has locked the folder now; else the next one who finds it does.
            with contextlib.suppress(OSError):
                self._remove_nowait(SeenFile(path + response_file.SUFFIX, response.file))
        # Last, so that none is missed that a response does not survive.
        if not self._read_invalidations():
            await wait_for_lock(self._read_invalidations, self._folder)
        value = None if response is None else response.value
        return Found(value=value, invalidations=self._invalidated, lease=lease)

    async def acquire_lease(self, name: str, *, background: bool, steal: bool = False) -> bool:
        """Say that this process requests the response; returns whether nobody else does.

        Raises:
            OSError: The folder or a file cannot be used.
        """
        path = self._path(name) + lease_file.SUFFIX
        is_acquired = False

        def change(_value: bytes | None, _now: float) -> None:
            nonlocal is_acquired
            lease = self._leases.get(name)
            if lease is not None and lease.is_current():
                lease.set_background(background=background)
            elif (holder := find_holder(path)) is None or (steal and holder == "background"):
                self._leases[name] = LeaseFile(self._folder.open(), path, background=background)
            else:
                return
            is_acquired = True

        await self._change(change)
        self._set_timer()
        return is_acquired

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        """Keep a value for so many seconds, and release the lease.

        Raises:
            OSError: The folder or a file cannot be used.
        """
        path = self._path(name) + response_file.SUFFIX
        size = response_file.size_of(value)
        if size > self._max_bytes:
            await self.remove(name)
            return
        must_sweep = False
        temporary = ""

        def change(encoded: bytes | None, now: float) -> StoreWrite:
            nonlocal must_sweep
            old = stat_file(path)
            Path(temporary).replace(path)
            self._release(name)
            tally = Tally.decode(encoded).add(1, size).widen(self._max_entries, self._max_bytes, now + seconds, now)
            if old is not None:
                tally = tally.add(-1, -old.st_size)
            must_sweep = (tally.is_full or now - tally.swept_at > _SWEEP) and now > tally.claimed_until
            if must_sweep:
                tally = tally._replace(claimed_until=now + _CLAIM)
            return StoreWrite(tally.encode())

        try:
            temporary = self._write(value, seconds)
            await self._change(change)
        finally:
            remove(temporary)
            self._drop_lease(name)
        if must_sweep:
            await self._sweep()

    async def release_lease(self, name: str) -> None:
        """Release the lease, if this process has it.

        Raises:
            OSError: The folder or a file cannot be used.
        """
        self._check_owner()
        if name not in self._leases:
            return
        try:
            await self._change(lambda _value, _now: self._release(name))
        finally:
            self._drop_lease(name)

    async def remove(self, name: str) -> None:
        """Forget a value, and release the lease.

        Raises:
            OSError: The folder or a file cannot be used.
        """
        path = self._path(name) + response_file.SUFFIX

        def change(encoded: bytes | None, _now: float) -> StoreWrite | None:
            self._release(name)
            old = stat_file(path)
            if old is None:
                return None
            Path(path).unlink()
            return StoreWrite(Tally.decode(encoded).add(-1, -old.st_size).encode())

        try:
            await self._change(change)
        finally:
            self._drop_lease(name)

    async def invalidate(self, scope: str, seconds: float) -> None:
        """Record that a scope is invalidated now; the record may be forgotten after so many seconds.

        Raises:
            OSError: The folder or a file cannot be used.
        """

        def change(encoded: bytes | None, now: float) -> StoreWrite:
            return StoreWrite(add_invalidation(encoded, scope, now, seconds))

        await wait_for_lock(lambda: self._change_file(self._open_invalidations(), change), self._folder)

    async def aclose(self) -> None:
        """Release the leases, and close the files; a later use opens them again."""
        self._check_owner()
        for name in list(self._leases):
            self._drop_lease(name)
        if self._timer is not None:
            self._timer.cancel()
        self._forget()

    def renew_leases(self) -> None:
        """Renew the leases that this process still has; called by a timer while it has any."""
        self._timer = None
        for name, lease in list(self._leases.items()):
            if not lease.renew():
                del self._leases[name]
        self._set_timer()

    def _set_timer(self) -> None:
        if self._leases and self._timer is None:
            # A store that nobody has any more renews no lease.
            reference: weakref.ref[MachineCacheStore] = weakref.ref(self)
            self._timer = asyncio.get_running_loop().call_later(lease_file.RENEWAL, _renew, reference)

    def _check_owner(self) -> None:
        owner = os.getpid(), asyncio.get_running_loop()
        if self._owner != owner:
            self._forget()
            self._owner = owner

    def _forget(self) -> None:
        """Close what is open: a forked process shares descriptors, and with them locks, with its parent."""
        for file in (self._tally, self._invalidations, *self._leases.values()):
            if file is not None:
                file.close()
        self._tally = self._invalidations = self._timer = None
        self._leases = {}
        self._folder.forget()

    def _path(self, name: str) -> str:
        self._check_owner()
        return f"{self._folder.open()}/{name}"

    def _open_invalidations(self) -> PrivateFile:
        self._check_owner()
        if self._invalidations is None:
            self._invalidations = PrivateFile(self._folder.open() / _INVALIDATIONS)
        return self._invalidations

    def _change_file(self, file: PrivateFile, change: StoreChange) -> bool:
        try:
            return file.update(change) is not None
        except FileNotFoundError:
            # The folder was deleted, as at the end of a user's last session.
            self._folder.forget()
            self._folder.open()
            return file.update(change) is not None

    def _change_nowait(self, change: StoreChange) -> bool:
        """Change what the folder has, unless another process has locked it; returns whether it was changed."""
        self._check_owner()
        if self._tally is None:
            self._tally = PrivateFile(self._folder.open() / _TALLY)
        return self._change_file(self._tally, change)

    async def _change(self, change: StoreChange) -> None:
        await wait_for_lock(lambda: self._change_nowait(change), self._folder)

    def _write(self, value: bytes, seconds: float) -> str:
        try:
            return write_temporary(self._folder.open(), value, seconds)
        except FileNotFoundError:
            self._folder.forget()
            return write_temporary(self._folder.open(), value, seconds)

    def _read_invalidations(self) -> bool:
        """Read when each scope was invalidated; returns ``False`` if that needs a lock that another process has."""
        try:
            encoded = self._open_invalidations().read()
        except BlockingIOError:
            return False
        if encoded != self._encoded:
            self._invalidated = read_invalidations(encoded)
            self._encoded = encoded
        return True

    def _release(self, name: str) -> None:
        lease = self._leases.pop(name, None)
        if lease is not None:
            lease.release()

    def _drop_lease(self, name: str) -> None:
        """Release a lease that this process still has, as where the folder could not be changed."""
        if name in self._leases:
            with contextlib.suppress(OSError):
                self._change_nowait(lambda _value, _now: self._release(name))
        lease = self._leases.pop(name, None)
        if lease is not None:
            # It is nobody's without a lock.
            lease.close()

    def _remove_nowait(self, file: SeenFile) -> None:
        """Remove a response that does not count, if it is still the one that was read."""

        def change(encoded: bytes | None, _now: float) -> StoreWrite | None:
            found = stat_file(file.path)
            if found is None or not file.is_same(found):
                return None
            Path(file.path).unlink()
            return StoreWrite(Tally.decode(encoded).add(-1, -found.st_size).encode())

        self._change_nowait(change)

    async def _sweep(self) -> None:
        """Remove what expired, what is too much, and what processes left that were killed."""
        before = await self._read_tally()
        responses: list[SeenFile] = []
        left: list[SeenFile] = []
        now = time.time()
        with os.scandir(self._folder.open()) as entries:
            for number, entry in enumerate(entries, 1):
                if number % _STEP == 0:
                    await asyncio.sleep(0)
                found = stat_file(entry.path)
                if found is None:
                    continue
                if entry.name.endswith(response_file.SUFFIX):
                    responses.append(SeenFile(entry.path, found))
                elif entry.name.endswith((response_file.TEMPORARY, lease_file.SUFFIX)) and found.st_mtime < now - _LEFT:
                    left.append(SeenFile(entry.path, found))
        kept = select_kept(responses, before.max_entries.limit, before.max_bytes.limit, now)
        remaining = {file.path for file in kept}
        removed = [file for file in responses if file.path not in remaining]
        removed += [file for file in left if _is_left(file.path)]
        for at in range(0, len(removed), _STEP):
            await self._remove_files(removed[at : at + _STEP])
        await self._count(kept, before)

    async def _read_tally(self) -> Tally:
        read: list[Tally] = []
        await self._change(lambda encoded, _now: read.append(Tally.decode(encoded)))
        return read[-1]

    async def _remove_files(self, files: list[SeenFile]) -> None:
        def change(_encoded: bytes | None, _now: float) -> None:
            for file in files:
                found = stat_file(file.path)
                if found is not None and file.is_same(found):
                    remove(file.path)

        await self._change(change)

    async def _count(self, kept: list[SeenFile], before: Tally) -> None:
        """Say what is left, and what came meanwhile."""
        size = sum(file.found.st_size for file in kept)

        def change(encoded: bytes | None, now: float) -> StoreWrite:
            after = Tally.decode(encoded)
            entries, size_now = len(kept) + after.entries - before.entries, size + after.size - before.size
            counted = after._replace(entries=max(0, entries), size=max(0, size_now), swept_at=now, claimed_until=0.0)
            return StoreWrite(counted.encode())

        await self._change(change)


def _is_left(path: str) -> bool:
    return path.endswith(response_file.TEMPORARY) or find_holder(path) is None


def _renew(reference: weakref.ref[MachineCacheStore]) -> None:
    store = reference()
    if store is not None:
        store.renew_leases()
