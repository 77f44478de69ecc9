"""The outcome for one item of a batch."""

from __future__ import annotations

from typing import Generic, TypeAlias, TypeVar

import msgspec

ItemT = TypeVar("ItemT")
T = TypeVar("T")


class Success(msgspec.Struct, Generic[ItemT, T], frozen=True):
    """An item whose call succeeded.

    Attributes:
        item: The item, as it came from the source.
        value: What ``fetch`` returned for it.
        error: Always ``None``; distinguishes it from a :class:`Failure`.
        replayed: Whether it comes from the journal: from an earlier run, or an equal item of this one.
    """

    item: ItemT
    value: T
    error: None = None
    replayed: bool = False


class Failure(msgspec.Struct, Generic[ItemT], frozen=True):
    """An item whose call failed; the others are not affected.

    Attributes:
        item: The item, as it came from the source.
        error: What ``fetch`` raised for it: a ``ZenovayError``, or whatever else the caller's function raised.
        value: Always ``None``.
        replayed: Always false, as failures are tried again.
    """

    item: ItemT
    error: Exception
    value: None = None
    replayed: bool = False


BatchResult: TypeAlias = Success[ItemT, T] | Failure[ItemT]
"""The outcome for one item: ``error`` is ``None`` where ``value`` is the result."""
