"""BatchTable: the results of a batch as one table."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zenovay_async._batch.source import is_collection, key_of
from zenovay_async._tables.display import MAX_ROWS, html_of
from zenovay_async._tables.layout import Layout, Rows, column_types, in_utc, layout_of, unique_names
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.tables import Table

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Collection, Mapping

    from zenovay_async._batch.results import BatchResult, Failure
    from zenovay_async._tables.layout import ColumnType, Row

ItemT = TypeVar("ItemT")

_NO_ROWS = Layout(rows="rows")


class BatchTable(Table, Generic[ItemT]):
    """The rows of a batch's successes, made by ``Batch.table``; the first column has the item of each row.

    A column of the results that has the name of the first one is ``website_id_2``, or the like.

    Attributes:
        failures: The items that failed, which have no rows.
    """

    __slots__ = ("_item", "_parts", "failures")

    def __init__(self, item: str, results: Iterable[BatchResult[ItemT, Any]]) -> None:
        failures: list[Failure[ItemT]] = []
        self._item = item
        self._parts: list[tuple[ItemT, Any]] = []
        for result in results:
            if result.error is None:
                self._parts.append((result.item, result.value))
            else:
                failures.append(result)
        self.failures = tuple(failures)

    def __len__(self) -> int:
        return sum(layout_for(value).count(value) for _, value in self._parts)

    def __repr__(self) -> str:
        done = len(self._parts) + len(self.failures)
        return f"BatchTable({self._shape.noun or 'rows'}: {len(self):,}, items: {done:,}{self._failed()})"

    def _repr_html_(self) -> str:
        notes = [f"items: {len(self._parts) + len(self.failures):,}{self._failed()}"]
        return html_of(self._rows(MAX_ROWS), self._shape, len(self), notes)

    def _failed(self) -> str:
        classes = Counter(type(failure.error).__name__ for failure in self.failures)
        named = ", ".join(f"{name} {count:,}" for name, count in classes.most_common())
        return f", failures: {named}" if named else ""

    @property
    def _shape(self) -> Layout:
        """What the rows are."""
        return layout_for(self._parts[0][1]) if self._parts else _NO_ROWS

    def _rows(self, limit: int | None = None) -> Rows:
        columns = dict.fromkeys((self._item,))
        rows: list[Row] = []
        for item, value in self._parts:
            left = None if limit is None else limit - len(rows)
            found = layout_for(value).rows_of(value, left)
            names = self._renamed(found.columns)
            columns |= dict.fromkeys(names.values())
            rows += ({self._item: item, **{names[name]: row[name] for name in names}} for row in found.rows)
            if left is not None and len(found.rows) >= left:
                break
        return in_utc(Rows(tuple(columns), [{name: row.get(name) for name in columns} for row in rows]))

    def _column_types(self) -> Mapping[str, ColumnType | None]:
        types: dict[str, ColumnType | None] = {}
        kinds: dict[Any, None] = {type(value): None for _, value in self._parts}
        for kind in kinds:
            documented = column_types(kind)
            renamed = self._renamed(documented)
            for name, found in documented.items():
                column = renamed[name]
                types[column] = found if types.get(column, found) == found else None
        return types

    def _renamed(self, columns: Collection[str]) -> dict[str, str]:
        """The columns of a result and their names here."""
        others = [name for name in columns if name != self._item]
        *_, renamed = unique_names((self._item, *others, self._item))
        return {name: renamed if name == self._item else name for name in columns}


def layout_for(value: object) -> Layout:
    """The layout of a result of a batch.

    Raises:
        ConfigurationError: It has none.
    """
    layout = layout_of(type(value))
    if layout is None:
        raise ConfigurationError(
            f"table(): fetch returned a {type(value).__name__}; expected a list, such as HeatmapPages. "
            "For a list in pages, return await zenovay.analytics.visitors(website_id).table()"
        )
    return layout


def in_order(
    results: list[BatchResult[ItemT, Any]], items: Iterable[ItemT] | AsyncIterable[ItemT]
) -> list[BatchResult[ItemT, Any]]:
    """Results in the order of the items, if these are a collection, such as a list; else as they are."""
    if not (isinstance(items, Iterable) and is_collection(items)):
        return results
    waiting: dict[object, deque[BatchResult[ItemT, Any]]] = {}
    for result in results:
        waiting.setdefault(_identity(result.item), deque()).append(result)
    ordered: list[BatchResult[ItemT, Any]] = []
    for item in items:
        # A collection may be endless but for its name, as a large range.
        if not waiting:
            break
        identity = _identity(item)
        if found := waiting.get(identity):
            ordered.append(found.popleft())
            if not found:
                del waiting[identity]
    return ordered + [result for found in waiting.values() for result in found]


def _identity(item: object) -> object:
    return key_of(item) or id(item)
