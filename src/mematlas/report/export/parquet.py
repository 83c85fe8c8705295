"""Apache Parquet, zstd-compressed. Needs pyarrow, which is an optional extra because of its size."""

from __future__ import annotations

import io
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

from mematlas._version import __version__
from mematlas.errors import UnsupportedError
from mematlas.present.printable import clean
from mematlas.report.export.rows import COLUMNS_OF, rows_of
from mematlas.report.export.source import commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.report.export.source import ExportSource

_GROUP = 4_000  # rows; deep stacks take 10 KB each


def render(sources: Sequence[ExportSource]) -> Iterator[bytes]:
    """Render the table, one row group at a time."""
    try:
        pa, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        message = "Parquet needs pyarrow: run `pip install 'mematlas[parquet]'` or use --to csv"
        raise UnsupportedError(message) from None
    types: dict[type, Any] = {
        int: pa.int64(),
        float: pa.float64(),
        str: pa.string(),
        list: pa.list_(pa.string()),
        dict: pa.map_(pa.string(), pa.string()),
    }
    columns = COLUMNS_OF[sources[0].rows]
    metadata = {
        "mematlas.table": f"mematlas/export-{sources[0].rows}/1",
        "mematlas.version": __version__,
        "mematlas.command": commands(sources),
        "mematlas.started": min(each.report.started for each in sources),
        "mematlas.sampling": " + ".join(
            dict.fromkeys(each.report.sampling.mode for each in sources)
        ),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()], metadata=metadata)
    sink = _Sink()
    rows = rows_of(sources)
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        while group := list(islice(rows, _GROUP)):
            cells = {name: [_cell(row[name]) for row in group] for name in columns}
            writer.write_table(pa.Table.from_pydict(cells, schema))
            yield from sink.taken()
    yield from sink.taken()


class _Sink(io.RawIOBase):
    """File object whose bytes are taken as they are written."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._length

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._length += len(piece)
        return len(piece)

    def taken(self) -> list[bytes]:
        """Return the bytes written since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return list(value.items())
    return clean(value) if isinstance(value, str) else value
