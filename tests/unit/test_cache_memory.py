"""What a process keeps in memory: bounded, per account, and never against an invalidation."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zenovay_async import Cache
from zenovay_async._cache import memory as memory_module
from zenovay_async._cache import tiers as tiers_module
from zenovay_async._cache.entry import VERSION, CachedResponse, decode, encode, kept_headers
from zenovay_async._cache.invalidation import Scope
from zenovay_async._cache.memory import Key, Memory, Record
from zenovay_async._cache.options import parts_of

ONE, TWO = (b"1", "https://a"), (b"2", "https://a")


def key_of(name: str, account: tuple[bytes, str] = ONE, operation: str = "heatmaps.pages") -> Key:
    return account, operation, f"heatmaps/{name}/pages", ""


def record(body: bytes = b"12345", began_at: float = 10.0) -> Record:
    return Record(CachedResponse(VERSION, b"", 200, (), body, began_at, began_at, began_at + 1, began_at + 2), {})


def test_the_least_recently_used_goes_first() -> None:
    memory = Memory(2, 1000)
    for name in "ab":
        assert memory.keep(key_of(name), record())
    assert memory.find(key_of("a")) is not None
    memory.keep(key_of("c"), record())
    assert [memory.find(key_of(name)) is not None for name in "abc"] == [True, False, True]
    assert (len(memory), memory.bytes) == (2, 10)


def test_bodies_are_bounded_by_their_bytes() -> None:
    memory = Memory(100, 10)
    for name in "abc":
        memory.keep(key_of(name), record())
    assert (len(memory), memory.bytes) == (2, 10)
    memory.keep(key_of("d"), record(b"x" * 10))
    assert (len(memory), memory.bytes) == (1, 10)
    assert not memory.keep(key_of("e"), record(b"x" * 11))
    assert memory.find(key_of("d")) is not None
    memory.keep(key_of("d"), record(b"x"))
    assert (len(memory), memory.bytes) == (1, 1)


def test_an_invalidation_drops_what_it_covers_of_one_account() -> None:
    memory = Memory(100, 1000)
    keys = [key_of("a"), key_of("b"), key_of("a", TWO), key_of("a", operation="request")]
    for key in keys:
        memory.keep(key, record())
    memory.invalidate(ONE, Scope("a", "heatmaps.pages"), 20.0)
    assert [memory.find(key) is not None for key in keys] == [False, True, True, True]
    memory.invalidate(ONE, Scope("a"), 20.0)
    assert [memory.find(key) is not None for key in keys] == [False, True, True, False]
    memory.invalidate(ONE, Scope(), 20.0)
    assert [memory.find(key) is not None for key in keys] == [False, False, True, False]
    assert memory.bytes == 5


def test_what_began_before_an_invalidation_is_not_kept() -> None:
    memory = Memory(100, 1000)
    memory.invalidate(ONE, Scope("a"), 20.0)
    memory.invalidate(ONE, Scope("other"), 30.0)
    assert not memory.keep(key_of("a"), record(began_at=20.0))
    assert memory.keep(key_of("a"), record(began_at=20.1))
    assert memory.keep(key_of("b"), record(began_at=10.0))
    assert memory.keep(key_of("a", TWO), record(began_at=10.0))


def test_invalidations_are_remembered_within_bounds() -> None:
    """What may have been invalidated by one that is forgotten is not kept."""
    memory = Memory(100, 1000)
    for number in range(5000):
        memory.invalidate(ONE, Scope(str(number)), float(number))
    for name, began_at, is_kept in (
        ("x", 0.0, False),
        ("x", 4999.0, True),
        ("4998", 4998.0, False),
        ("0", 4500.0, True),
    ):
        assert memory.keep(key_of(name), record(began_at=began_at)) is is_kept


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["keep", "invalidate", "find", "drop"]),
            st.sampled_from("abc"),
            st.integers(0, 30),
            st.binary(max_size=40),
        ),
        max_size=60,
    )
)
def test_bounds_hold_and_no_record_is_older_than_its_invalidation(steps: list[tuple[str, str, int, bytes]]) -> None:
    memory, invalidated = Memory(2, 50), dict.fromkeys("abc", -1.0)
    for at, (step, name, age, body) in enumerate(steps):
        key = key_of(name)
        if step == "keep":
            memory.keep(key, record(body, float(at - age)))
        elif step == "invalidate":
            memory.invalidate(ONE, Scope(name), float(at))
            invalidated[name] = float(at)
        elif step == "drop":
            memory.drop(key, float(at - age))
        found = {one: kept for one in "abc" if (kept := memory.find(key_of(one))) is not None}
        assert all(kept.entry.began_at > invalidated[one] for one, kept in found.items() if invalidated[one] >= 0)
        assert len(memory) == len(found) <= 2
        assert memory.bytes == sum(len(kept.entry.body) for kept in found.values()) <= 50


def test_threads_share_it() -> None:
    memory, failures = Memory(50, 10_000), list[BaseException]()

    def use(seed: int) -> None:
        try:
            for number in range(3000):
                name = str((number * seed) % 97)
                if memory.find(key_of(name)) is None:
                    memory.keep(key_of(name), record(name.encode(), float(number)))
                if number % 500 == 0:
                    memory.invalidate(ONE, Scope(name), float(number))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test fails with it
            failures.append(error)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in (1, 3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    kept = [found for number in range(97) if (found := memory.find(key_of(str(number)))) is not None]
    assert len(memory) == len(kept) <= 50
    assert memory.bytes == sum(len(one.entry.body) for one in kept)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_goes_on_while_another_thread_had_the_lock() -> None:
    memory = Memory(50, 10_000)
    memory.keep(key_of("a"), record())
    with memory._lock:
        child = os.fork()
        if not child:
            found = memory.find(key_of("a")) is not None and memory.bytes == 5
            os._exit(0 if found else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_entry_survives_a_store_with_another_clock() -> None:
    headers = kept_headers({"X-Request-Id": "1", "Set-Cookie": "a=1", "set-cookie2": "b", "Content-Type": "x"})
    assert headers == (("X-Request-Id", "1"), ("Content-Type", "x"))
    entry = CachedResponse(VERSION, b"s", 200, headers, b"{}", 1.0, 2.0, 3.0, 4.0)
    assert decode(encode(entry, 100.0), 100.0) == entry
    shifted = decode(encode(entry, 100.0), 90.0)
    assert shifted is not None
    assert (shifted.began_at, shifted.expires_at) == (11.0, 14.0)
    assert decode(b"garbage", 0.0) is None


def test_what_memory_and_stores_know_is_their_own_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a forked process runs first; here without the fork."""
    monkeypatch.setattr("zenovay_async._cache.tiers._inherited", [])
    cache = Cache(store="machine")
    memory, tiers = parts_of(cache).memory, parts_of(cache).tiers
    assert tiers is not None
    before = tiers.here()
    memory.keep(key_of("a"), record())
    size = memory.bytes
    memory_module._restart()
    tiers_module._restart()
    assert tiers.here() is not before
    assert (len(memory), memory.bytes) == (1, size)
