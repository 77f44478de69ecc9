"""Results as CSV: RFC 4180 with line feeds.

The module ``csv`` of Python before 3.11.9 and 3.12.3 does not quote a lone carriage return, which many readers take for
the end of a row.

Sources: RFC 4180, OWASP "CSV Injection".
"""

from __future__ import annotations

import re
import unicodedata
from typing import IO, TYPE_CHECKING, Any

from zenovay_async._protocol.json_text import encode_json
from zenovay_async._protocol.text import is_printable, printable
from zenovay_async._tables.layout import KEY_NAME, WEBSITE_ID, has_extra_columns
from zenovay_async.cli.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zenovay_async._tables.layout import Layout, Row

_QUOTED = re.compile(r'[",\r\n]')
# Some spreadsheets take these for the ends of cells as well.
_QUOTED_IF_SAFE = re.compile(r'[",\r\n;\t]')
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class CsvLines(Writer):
    """The rows of each result, with the ID of its website first; a header line before the first.

    It streams if all results have the same columns. Else it writes all at the end, with the columns of all.

    Args:
        result_type: Type of the results.
        layout: Its layout.
        file: Where to write.
        per_website: Whether there is a result for each website, and not a single one.
        safe: Whether to keep spreadsheets from running cells.
    """

    def __init__(self, result_type: Any, layout: Layout, file: IO[str], *, per_website: bool, safe: bool) -> None:
        self.streams = not has_extra_columns(result_type)
        self._layout = layout
        self._file = file
        self._safe = safe
        self._on_terminal = file.isatty()
        self._has_header = False
        # An ordered set.
        self._columns: dict[str, None] = dict.fromkeys(((WEBSITE_ID,) if per_website else ()) + layout.columns)
        self._rows: list[Row] = []

    def add(self, website_id: str, result: Any, key_name: str | None = None) -> None:
        columns, found = self._layout.rows_of(result)
        # A row may have a website_id of its own, which is the same.
        rows = [{KEY_NAME: key_name, WEBSITE_ID: website_id, **row} for row in found]
        if key_name is not None and KEY_NAME not in self._columns:
            self._columns = {KEY_NAME: None, **self._columns}
        if self.streams:
            self._write(rows)
        else:
            self._columns.update(dict.fromkeys(columns))
            self._rows += rows

    def close(self) -> None:
        self._write(self._rows)
        self._rows = []

    def _write(self, rows: list[Row]) -> None:
        if not self._has_header and self._columns:
            self._has_header = True
            self._write_line(self._columns)
        for row in rows:
            self._write_line(row.get(column) for column in self._columns)
        self._file.flush()

    def _write_line(self, values: Iterable[Any]) -> None:
        cells = [self._cell(value) for value in values]
        # An empty line would be no row.
        self._file.write((",".join(cells) if cells != [""] else '""') + "\n")

    def _cell(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        text = value if isinstance(value, str) else encode_json(value)
        if self._on_terminal:
            text = printable(text)
        if self._safe and _is_run(text):
            text = f"'{text}"
        quoted = _QUOTED_IF_SAFE if self._safe else _QUOTED
        return '"{}"'.format(text.replace('"', '""')) if quoted.search(text) else text


def _is_run(text: str) -> bool:
    """Whether a spreadsheet would run a text as a formula: as OWASP lists them, also in full width and after blanks."""
    start = next((character for character in text if not character.isspace() and is_printable(character)), "")
    # Compatibility characters, such as those in full width, are read as the plain ones.
    is_formula = unicodedata.normalize("NFKC", start)[:1] in {"=", "+", "-", "@"}
    return (is_formula or text.startswith(("\t", "\r", "\n"))) and not _NUMBER.fullmatch(text)
