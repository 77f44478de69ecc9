"""The options of the cache: what they may be, and how they are refused."""

from __future__ import annotations

import copy
import pickle
import traceback
from decimal import Decimal
from typing import Any

import pytest
from helpers import unique_key

from zenovay_async import Cache, ConfigurationError, Zenovay

HUGE = 10**400


def test_a_cache_has_defaults() -> None:
    cache = Cache()
    assert (cache.ttl, cache.stale, cache.negative_ttl, cache.jitter) == (60, 600, 0, 0.1)
    assert (cache.max_entries, cache.max_bytes, cache.store) == (1024, 64 * 1024 * 1024, None)


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": 0.001, "stale": 0, "jitter": 0, "negative_ttl": 0},
        {"ttl": 1e9, "stale": 1e9, "jitter": 1, "negative_ttl": 10, "max_entries": 1, "max_bytes": 1},
        {"store": "machine"},
        {"store": "redis://:pass@localhost:6379/1"},
        {"store": None},
    ],
)
def test_each_option_has_a_range(options: dict[str, Any]) -> None:
    cache = Cache(**options)
    assert {name: getattr(cache, name) for name in options} == options


@pytest.mark.parametrize("name", ["ttl", "stale", "negative_ttl"])
@pytest.mark.parametrize(
    "seconds", [-1, float("inf"), float("nan"), HUGE, "60", None, True, Decimal(60)], ids=lambda value: str(value)[:8]
)
def test_seconds_are_a_finite_number(name: str, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}=.*: expected seconds "):
        Cache(**{name: seconds})


def test_a_time_of_zero_keeps_nothing_fresh() -> None:
    with pytest.raises(ConfigurationError, match=r"^ttl=0: expected seconds above 0"):
        Cache(ttl=0)


@pytest.mark.parametrize("jitter", [-0.1, 1.1, "0.1", True, None, float("nan")])
def test_jitter_is_a_share(jitter: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^jitter=.*: expected a share of ttl from 0 to 1"):
        Cache(jitter=jitter)


@pytest.mark.parametrize("name", ["max_entries", "max_bytes"])
@pytest.mark.parametrize("count", [0, -1, 1.5, "10", True, None])
def test_bounds_are_integers(name: str, count: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}=.*: expected an int >= 1"):
        Cache(**{name: count})


@pytest.mark.parametrize("store", ["", "s3cret", "http://s3cret", 7, "redis://:s3cret#x@h:99999999", Cache])
def test_another_store_is_refused_without_a_word_of_what_may_be_a_password(store: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^store: ") as caught:
        Cache(store=store)
    ours = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = str(caught.value) + "".join(str(frame.locals) for frame in ours.stack[1:])
    assert "s3cret" not in shown


def test_what_a_cache_shows_is_no_password() -> None:
    cache = Cache(ttl=5, store="redis://user:s3cret@host")
    assert repr(cache) == (
        "Cache(ttl=5, stale=600.0, max_entries=1024, max_bytes=67108864, negative_ttl=0.0, jitter=0.1, store=<secret>)"
    )
    assert "s3cret" not in f"{cache} {vars(cache)} {cache.store!r}"
    assert "store='machine'" in repr(Cache(store="machine"))
    assert "store=None" in repr(Cache())


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_cache_is_neither_copied_nor_pickled(make: Any) -> None:
    with pytest.raises(TypeError, match="pass it to several clients as it is, and make one in each process"):
        make(Cache())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": 60}, r"^cache: expected a Cache such as Cache\(ttl=60\), or None for none, not int"),
        ({"cache": True}, "not bool"),
        ({"cache": Cache}, "not the class itself"),
        ({"coalesce": 1}, "coalesce=1: expected True or False"),
        ({"coalesce": None}, "coalesce=None: expected True or False"),
    ],
)
def test_a_client_says_what_is_wrong_with_its_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Zenovay(unique_key(), **options)


@pytest.mark.parametrize("max_age", [-1, "10", True, float("inf"), float("nan")])
def test_a_sibling_says_what_is_wrong_with_its_max_age(max_age: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^max_age=.*: expected seconds from 0 to 1e\+09"):
        Zenovay(unique_key()).with_options(max_age=max_age)


def test_a_sibling_keeps_the_options_that_are_omitted() -> None:
    cache = Cache()
    client = Zenovay(unique_key(), cache=cache, coalesce=False)
    sibling = client.with_options(max_age=5).with_options(timeout=3)
    assert (sibling._reuse.cache, sibling._reuse.coalesce, sibling._reuse.max_age) == (cache, False, 5)
    other = sibling.with_options(cache=None, coalesce=True, max_age=None)
    assert (other._reuse.cache, other._reuse.coalesce, other._reuse.max_age) == (None, True, None)
