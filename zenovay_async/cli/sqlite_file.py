"""Results in a SQLite database: a table for each operation, whose rows of a website are replaced as a whole.

Each result is one transaction, so whatever ends the program, a website has the rows of one result. The connection is
open only meanwhile: another program reads and writes in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zenovay_async.cli.writer import KEY_NAME, Writer
from zenovay_async.tables import WEBSITE_ID, column_types, table_of

if TYPE_CHECKING:
    from pathlib import Path

    from zenovay_async.tables import ColumnType, Row

# Seconds to wait for another program that writes to the file.
_PATIENCE = 5.0

_SQL_TYPES: dict[ColumnType, str] = {"integer": "INTEGER", "boolean": "INTEGER", "number": "REAL"}
_TEXT = "TEXT"
# As SQLite takes names for equal.
_LOWER = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_INT64 = range(-(2**63), 2**63)


class SqliteFile(Writer):
    """The rows of each result in a table of the operation, in place of the rows that its website had there.

    A table that lacks a column gets it. A website that failed keeps the rows of an earlier run.

    Args:
        result_type: Type of the results; one without columns is kept as JSON, in a column ``data``.
        path: The database; made if there is none.
        name: Name of the operation.
        per_website: Whether there is a result for each website, and not a single one, which replaces all rows.

    Raises:
        ConfigurationError: The file is no database that can be written, or its table is another program's.
    """

    streams = True

    def __init__(self, result_type: Any, path: Path, name: str, *, per_website: bool) -> None:
        super().__init__()
        self._rows = table_of(result_type)
        self._types = column_types(result_type) or ({"data": "json"} if self._rows is None else {})
        self._path = path
        self._name = name.replace(".", "_")
        self._first = {WEBSITE_ID: _TEXT} if per_website else {}
        self._mark = f"CREATE TABLE {_quoted(self._name)} (/* {name} by zenovay-async */ "
        self._check()

    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:
        rows = [{"data": result}] if self._rows is None else self._rows.rows_of(result)
        own = () if self._rows is None else self._rows.columns_of(result)
        names = _distinct(own)
        given: Row = {} if key_name is None else {KEY_NAME: key_name}
        if self._first:
            given[WEBSITE_ID] = website_id
        columns = [*given, *(self._types or names)]
        values = [
            [
                _value(value, self._types.get(column))
                for column, value in zip(columns, _cells(given, row, self._types or names), strict=True)
            ]
            for row in rows
        ]
        with self._transaction() as connection:
            self._grow(connection, key_name, self._types or names.values())
