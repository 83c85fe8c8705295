"""Schema of a lake, version 1: its tables, their columns, and how rows of files are joined.

Each table has one row for each of what its name says. Sums of bytes are of one recording in `lines`, of all recordings
of a host and day in `rollup`. Unknown is null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mematlas.lake.model import METRICS

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
LAKE = f"mematlas/lake/{VERSION}"
_OF_RUN = {"day": str, "service": str, "host": str, "version": str, "build": str}
_BYTES = dict.fromkeys([f"{each}_bytes" for each in METRICS], int)
TABLES: dict[str, dict[str, type]] = {
    "runs": {
        **_OF_RUN, "run": str, "start": float, "duration_s": float, "command": str,
        "sample_bytes": int, "complete": bool, **_BYTES,
    },
    "labels": {"day": str, "run": str, "name": str, "value": str},
    "lines": {
        **_OF_RUN, "run": str, "start": float, "line_id": int, **_BYTES,
        "live_count": int, "allocations": int, "error_bytes": int,
    },
    "rollup": {
        **_OF_RUN, "line_id": int, "recordings": int, **_BYTES,
        "live_count": int, "allocations": int,
    },
    "names": {
        "line_id": int, "function_id": int, "file_id": int,
        "function": str, "file": str, "line": int,
    },
}  # fmt: skip
"""Names and types of the columns. `start` is a Unix time, `day` that day in UTC."""
ROLLUP_KEYS = (*_OF_RUN, "line_id")
BY_DAY = ("runs", "labels", "lines", "rollup")
BY_SERVICE = ("lines", "rollup")


def arrow_schema(table: str) -> pa.Schema:
    """Return the Arrow schema of a table; the version is in its metadata."""
    import pyarrow as pa

    types: dict[type, Any] = {
        int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_(),
    }  # fmt: skip
    fields = [(name, types[kind]) for name, kind in TABLES[table].items()]
    return pa.schema(fields, metadata={"mematlas.table": f"mematlas/lake-{table}/{VERSION}"})


def roll_up(lines: pa.Table) -> pa.Table:
    """Return the rows of `rollup` for rows of `lines`; the sum of a metric is null where all of it is unknown."""
    import pyarrow as pa

    ones = pa.chunked_array([pa.repeat(1, len(lines))], pa.int64())
    return merge_rollups(lines.append_column("recordings", ones))


def merge_rollups(rows: pa.Table) -> pa.Table:
    """Return rows of `rollup` with one row for each key: sums are added up."""
    keys = list(ROLLUP_KEYS)
    summed = [name for name in TABLES["rollup"] if name not in ROLLUP_KEYS]
    grouped = rows.group_by(keys, use_threads=False).aggregate([(name, "sum") for name in summed])
    grouped = grouped.rename_columns(
        [name.removesuffix("_sum") if name not in keys else name for name in grouped.column_names]
    )
    return _ordered("rollup", grouped)


def join_rows(table: str, pieces: list[pa.Table]) -> pa.Table:
    """Return the rows of several files as those of one."""
    import pyarrow as pa

    rows = pa.concat_tables(pieces)
    if table == "rollup":
        return merge_rollups(rows)
    if table == "names":
        names = rows.group_by(list(TABLES["names"]), use_threads=False).aggregate([])
        return _ordered(table, names)
    return _ordered(table, rows)


def _ordered(table: str, rows: pa.Table) -> pa.Table:
    """Return rows in the order that compresses and prunes best, with the columns of the schema."""
    order = {
        "lines": ("version", "host", "start", "line_id"),
        "rollup": ("version", "host", "line_id"),
        "runs": ("service", "host", "start", "run"),
        "labels": ("name", "value", "run"),
        "names": ("file", "function", "line"),
    }[table]
    rows = rows.select(list(TABLES[table])).cast(arrow_schema(table))
    return rows.sort_by([(name, "ascending") for name in order])
