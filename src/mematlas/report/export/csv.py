"""Comma-separated values (RFC 4180) with a header. Unknown values are empty."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from typing import TYPE_CHECKING

from mematlas.present.printable import clean
from mematlas.report.export.rows import COLUMNS_OF, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.report.export.source import ExportSource

_BATCH = 1000
_BLANK = re.compile("[\\s\u200b\ufeff]*")  # that spreadsheets may take away
_FORMULA = ("=", "+", "-", "@")
_LOOKED_AT = 256  # characters, of which the first ones may be blank


def render(sources: Sequence[ExportSource]) -> Iterator[bytes]:
    """Render the table. The frames of a stack are lines of one cell, innermost first; labels are a JSON object."""
    names = list(COLUMNS_OF[sources[0].rows])
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(names)
    for number, row in enumerate(rows_of(sources)):
        writer.writerow([_cell(row[name]) for name in names])
        if number % _BATCH == 0:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, list):
        return _text("\n".join(map(clean, value)))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False) if value else None
    return _text(clean(value)) if isinstance(value, str) else value


def _text(value: str) -> str:
    """Return a cell that no spreadsheet evaluates: an apostrophe goes before what starts a formula."""
    # NFKC makes "=" of its full-width form, which spreadsheets take for it.
    start = unicodedata.normalize("NFKC", _BLANK.sub("", value, count=1)[:_LOOKED_AT])
    return f"'{value}" if start.startswith(_FORMULA) else value
