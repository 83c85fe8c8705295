"""The table of the stacks of one process, with its columns."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas.recording.row_types import LIFETIMES
from mematlas.report.analyse import sums
from mematlas.report.analyse.column import NarrowColumn
from mematlas.report.analyse.table import StackTable, make_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Rows
    from mematlas.report.analyse.stacks import Stacks

_SNAPSHOT = ("live_bytes", "live_count", "live_variance")
_RESIDENCY = ("resident_bytes", "huge_bytes", "swapped_bytes")
_TOTALS = ("allocated_bytes", "allocations")
_TITLES = {"live_variance": "error_bytes", "temporary_bytes": "temporary_bytes"}
SHARES = ("pss", "uss")


def process_tables(
    stacks: Stacks,
    process: int,
    totals: Rows | None,
    held: Rows | None,
    more: Mapping[str, Rows | None],
    only: str | None,
    less: Mapping[str, Mapping[int, int]],
) -> Iterator[StackTable]:
    """Yield the stack stats of one process; `held` has live and resident bytes at the account's time."""
    tables = [rows for rows in (totals, held) if rows is not None]
    if not tables or only == "faulted":
        return
    keyed = {id(rows): sums.KeyedRows(rows) for rows in tables}
    at = sums.distinct(*(each.owning for each in keyed.values()))
    names = [name for name in _RESIDENCY if held is not None and name in (held.dtype.names or ())]
    groups: tuple[tuple[Rows | None, tuple[str, ...]], ...] = (
        (held, (*_SNAPSHOT, *names)),
        (totals, _TOTALS),
        (more["then"], ("peak_bytes",)),
        (more["lifetimes"], (*LIFETIMES, "temporary_bytes")),
        (more["fragmentation"], ("fragmented_bytes",)),
        (more["idle"], ("idle_bytes",)),
    )
    if only:
        at = _with_some(at, groups, "resident" if only in SHARES else only)
    columns = {
        _TITLES.get(name, name): partial(_column, joined, name, len(at))
        for rows, group in groups
        for joined in [sums.Join(keyed.get(id(rows), rows), at)]
        for name in group
    }
    if "resident_bytes" in columns:
        whole = columns["resident_bytes"]
        shared = sums.Join(more["sharing"], at) if more["sharing"] is not None else None
        columns |= {f"{name}_bytes": partial(_share, whole, shared, name) for name in SHARES}
    for name in columns.keys() & less.keys():
        columns[name] = partial(_reduced, columns[name], at, less[name])
    yield make_table(process, at, columns, stacks)


def _reduced(
    make: Callable[[], NarrowColumn], at: sums.Numbers, less: Mapping[int, int]
) -> NarrowColumn:
    """Return a column without the bytes of some keys that are not theirs."""
    values = make().whole()
    keys = np.array(list(less), np.int64)
    where = np.minimum(np.searchsorted(at, keys), max(len(at) - 1, 0))
    hit = at[where] == keys
    values[where[hit]] -= np.minimum(np.array(list(less.values())), values[where])[hit]
    return NarrowColumn.of(values)


def _share(make: Callable[[], NarrowColumn], shared: sums.Join | None, name: str) -> NarrowColumn:
    """Return PSS or USS: resident bytes, less those on shared pages, with their share in PSS."""
    resident = make()
    if shared is None or not len(rows := np.flatnonzero(shared.column("shared_bytes"))):
        return resident
    less = shared.column("shared_bytes")[rows].astype(np.float64)
    if name == "pss":
        less -= shared.column("share_bytes")[rows]
    values = resident.whole()
    values[rows] = np.rint(values[rows] - less).astype(np.int64)
    return NarrowColumn.of(np.maximum(values, 0, out=values))


def _column(joined: sums.Join, name: str, count: int) -> NarrowColumn:
    few = joined.few(name)
    if few is not None:
        return NarrowColumn.few(
            count, few[0], _errors(few[1]) if name == "live_variance" else few[1]
        )
    column = joined.column(name)
    return NarrowColumn.of(_errors(column) if name == "live_variance" else column)


def _errors(variances: NDArray[Any]) -> NDArray[Any]:
    errors: NDArray[Any] = np.sqrt(np.maximum(variances, 0))
    return errors


def _with_some(
    at: sums.Numbers, groups: Sequence[tuple[Rows | None, tuple[str, ...]]], only: str
) -> sums.Numbers:
    """Return the keys with any of a metric."""
    for rows, group in groups:
        for name in group:
            if _TITLES.get(name, name) == f"{only}_bytes":
                return at[sums.Join(rows, at).column(name) > 0]
    return at[:0]
