"""Which results all callers may share: those that nobody can change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest

from zenovay_async import AnalyticsOverview, HeatmapPages, Usage, WebsiteList
from zenovay_async._protocol.decoding import UNTYPED, Decoder

T = TypeVar("T")


class Frozen(msgspec.Struct, frozen=True):
    a: int
    b: tuple[str | None, ...] = ()


class Thawed(msgspec.Struct):
    a: int


class Nested(msgspec.Struct, frozen=True):
    frozen: Frozen
    pair: tuple[int, Frozen]
    days: frozenset[date]
    kind: Literal["a", "b"] | None = None


class WithList(msgspec.Struct, frozen=True):
    values: list[int]


class Box(msgspec.Struct, Generic[T], frozen=True):
    value: T


@dataclass
class Record:
    a: int


class Typed(TypedDict):
    a: int


class Named(NamedTuple):
    a: int


@pytest.mark.parametrize("kind", [HeatmapPages, Usage, WebsiteList, Frozen, Nested, Box[int], int, datetime, None])
def test_what_is_immutable_all_the_way_down_is_shared(kind: Any) -> None:
    assert Decoder[Any](kind).is_shareable


@pytest.mark.parametrize(
    "kind",
    [
        *(AnalyticsOverview, Thawed, WithList, Box[list[int]], Box[Box[dict[str, int]]], tuple[Thawed, ...]),
        *(list[int], dict[str, int], Mapping[str, int], Any, Record, Typed, Frozen | list[int], tuple[int, Any]),
        *(bytearray, set[int], Named, tuple[Box[int], Box[list[int]]]),
    ],
)
def test_what_can_be_changed_anywhere_is_not(kind: Any) -> None:
    """Such as undocumented fields, which are kept in a dictionary."""
    assert not Decoder[Any](kind).is_shareable


def test_plain_values_are_not_shared() -> None:
    assert not UNTYPED.is_shareable
