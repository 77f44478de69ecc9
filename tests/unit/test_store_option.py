"""The option ``rate_limit_store``: what it may be, and how it is refused."""

from __future__ import annotations

import asyncio
import sys
import traceback
from typing import Any

import pytest
from helpers import unique_key

from zenovay_async import ConfigurationError, Store, Zenovay
from zenovay_async._limits.options import Limits
from zenovay_async._limits.registry import entry_of
from zenovay_async._limits.stores import make_store
from zenovay_async._limits.stores.machine import MachineStore
from zenovay_async._limits.stores.memory import MemoryStore
from zenovay_async._limits.stores.redis import RedisStore
from zenovay_async._limits.window import WindowLimiter
from zenovay_async._protocol.auth import Auth, Secret
from zenovay_async.rate_limits import StoreWrite

VARIABLE = "ZENOVAY_RATE_LIMIT_STORE"
URLS = [
    *("redis://localhost", "rediss://user:p%40ss@host:6380/3?ssl_cert_reqs=none", "redis://[::1]:1/0", "REDIS://h"),
    *("unix:///run/redis.sock?db=2", "valkey://h", "valkeys://:pw@h"),
]


class OwnStore(MemoryStore):
    """A store of one's own."""


def test_a_store_is_made_of_each_option() -> None:
    own = OwnStore(lambda: 0.0)
    assert isinstance(make_store("machine"), MachineStore)
    assert make_store(own) is own
    for url in URLS:
        store = make_store(url)
        assert isinstance(store, RedisStore)
        assert repr(store) == "RedisStore(<secret>)"


@pytest.mark.parametrize("option", [None, "machine", *URLS, MemoryStore(lambda: 0.0)])
def test_a_client_takes_each_store_without_opening_it(option: Any) -> None:
    Zenovay(unique_key(), rate_limit_store=option, rate_limit=20)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("", "expected 'machine' or the URL of a Redis .*, not an empty text"),
        ("s3cret", "not another text"),
        ("memcached://:s3cret@h", "not a URL of memcached://"),
        ("http://s3cret", "not a URL of http://"),
        ("redis:s3cret", "not another text"),
        (7, "a Store, or None for this process alone, not int"),
        (MemoryStore, "not _ProtocolMeta|not type"),
        ("redis://", "cannot read the URL; expected such as redis://user:password@host:6379/0"),
        ("redis://:s3cret/x@h", "percent-encoded"),
        ("redis://:s3cret#x@h:99999999", "percent-encoded"),
        ("redis://h:s3cret", "percent-encoded"),
        ("redis://h?s3cret=1", "percent-encoded"),
        ("redis://h?db=s3cret", "percent-encoded"),
        ("unix://", "percent-encoded"),
    ],
)
def test_another_store_is_refused_with_what_is_expected(option: Any, message: str) -> None:
    """Of what was given, nothing shows that may be a password."""
    with pytest.raises(ConfigurationError, match=rf"^rate_limit_store: .*({message})") as caught:
        Zenovay(unique_key(), rate_limit_store=option)
    assert "s3cret" not in str(caught.value)
    # The frames of the test itself know what they passed.
    ours = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join("".join(map(str, frame.locals or {})) + str(frame.locals) for frame in ours.stack[1:])
    assert "s3cret" not in text
    assert ours.__context__ is None


@pytest.mark.parametrize("rate_limit", [None, "limiter"])
def test_a_store_that_would_have_no_effect_is_refused(rate_limit: Any) -> None:
    limiter = None if rate_limit is None else WindowLimiter()
    with pytest.raises(ConfigurationError, match="rate_limit_store has no effect with rate_limit=None"):
        Zenovay(unique_key(), rate_limit=limiter, rate_limit_store="machine")
    Zenovay(unique_key(), rate_limit=limiter, rate_limit_store=None)


def test_the_variable_names_the_store_of_clients_that_name_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is empty names none, and clients that pace nothing ignore it, but not their siblings."""
    assert Zenovay(unique_key())._limits.shared_store is None
    monkeypatch.setenv(VARIABLE, "")
    assert Zenovay(unique_key())._limits.shared_store is None
    monkeypatch.setenv(VARIABLE, "redis://h")
    assert Zenovay(unique_key())._limits.shared_store == "redis://h"
    assert Zenovay(unique_key(), rate_limit_store=None)._limits.shared_store is None
    assert Zenovay(unique_key(), rate_limit_store="machine")._limits.shared_store == "machine"
    for unpaced in (Zenovay(unique_key(), rate_limit=None), Zenovay(unique_key(), rate_limit=WindowLimiter())):
        assert unpaced._limits.shared_store is None
        assert unpaced.with_options(rate_limit="auto")._limits.shared_store == "redis://h"
        assert "redis" not in repr(unpaced._limits)


def test_the_newline_at_the_end_of_a_mounted_secret_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the key: what a file or a secret of Kubernetes puts into the variable often ends with one."""
    monkeypatch.setenv(VARIABLE, "machine\n")
    assert Zenovay(unique_key())._limits.shared_store == "machine"
    monkeypatch.setenv(VARIABLE, "redis://h\r\n")
    assert Zenovay(unique_key())._limits.shared_store == "redis://h"


def test_a_variable_that_names_no_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "postgres://h")
    with pytest.raises(
        ConfigurationError, match=f"^{VARIABLE}: expected 'machine' or the URL.*, not a URL of postgres://"
    ):
        Zenovay(unique_key())


def test_a_redis_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any request, when the client is made."""
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'zenovay-async\[redis\]'"):
        Zenovay(unique_key(), rate_limit_store="redis://h")


def test_a_window_stated_as_an_int_or_a_float_is_one() -> None:
    """Processes that state the same window share one budget, whichever they write."""
    auth = Auth(Secret(unique_key()))
    names = {entry_of(auth, "https://h", Limits("auto", window, store="machine")).name for window in (60, 60.0)}
    assert len(names) == 1


async def test_the_store_of_one_process_rings_those_who_share_it() -> None:
    store, rings = MemoryStore(lambda: 5.0), list[str]()
    assert isinstance(store, Store)
    await store.listen("a", lambda: rings.append("x"))
    address = await store.listen("a", lambda: rings.append("y"))
    seen: list[tuple[bytes | None, float]] = []

    def change(value: bytes | None, now: float) -> StoreWrite | None:
        seen.append((value, now))
        return StoreWrite(b"1", (address, "gone")) if value is None else None

    await store.update("a", change)
    assert store.update_nowait("a", change)
    assert seen == [(None, 5.0), (b"1", 5.0)]
    await asyncio.sleep(0)
    assert rings == ["y"]
    await store.aclose()
    await store.update("a", lambda _value, _now: StoreWrite(b"2", (address,)))
    await asyncio.sleep(0)
    assert rings == ["y"]
