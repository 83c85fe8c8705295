"""Leaks as columns. A leak becomes an object at access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

from mematlas.report.model.leaks import Leak, LeakVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

_VERDICTS = tuple(LeakVerdict)


@dataclass(frozen=True, slots=True)
class ClassifiedRows:
    """Classified rows of one process: index in LeakVerdict, live bytes, and a function that creates the leak."""

    verdict: Numbers
    live_bytes: Numbers
    make: Callable[[int], Leak]


class Sum(NamedTuple):
    """Number and bytes of the stacks of one verdict."""

    stacks: int
    live_bytes: int


class LeakTable(Sequence[Leak]):
    """Classified rows of several processes, in any order."""

    __slots__ = ("_parts", "_process", "_row", "live_bytes", "verdict")

    def __init__(
        self,
        parts: Sequence[ClassifiedRows],
        process: Numbers,
        row: Numbers,
        verdict: Numbers,
        live_bytes: Numbers,
    ) -> None:
        """Store columns of equal length; `process` indexes `parts` and `row` the rows of that part."""
        self._parts, self._process, self._row = parts, process, row
        self.verdict, self.live_bytes = verdict, live_bytes

    @classmethod
    def ranked(cls, parts: Sequence[ClassifiedRows]) -> LeakTable:
        """Return all rows, likely leaks first, the largest of each verdict first."""
        nothing = np.zeros(0, np.int64)
        verdict = np.concatenate([nothing, *(each.verdict for each in parts)])
        live = np.concatenate([nothing, *(each.live_bytes for each in parts)])
        lengths = [len(each.live_bytes) for each in parts]
        process = np.repeat(np.arange(len(parts)), lengths)
        row = np.concatenate([nothing, *(np.arange(length) for length in lengths)])
        order = np.lexsort((-live, verdict))
        return cls(parts, process[order], row[order], verdict[order], live[order])

    def __len__(self) -> int:
        return len(self._row)

    @overload
    def __getitem__(self, index: int) -> Leak: ...
    @overload
    def __getitem__(self, index: slice) -> LeakTable: ...
    def __getitem__(self, index: int | slice) -> Leak | LeakTable:
        """Return one leak, or a slice of the table."""
        if isinstance(index, slice):
            columns = (self._process, self._row, self.verdict, self.live_bytes)
            return LeakTable(self._parts, *(column[index] for column in columns))
        return self._parts[int(self._process[index])].make(int(self._row[index]))

    def __iter__(self) -> Iterator[Leak]:
        for index in range(len(self)):
            yield self[index]


def add_up(leaks: Sequence[Leak]) -> dict[LeakVerdict, Sum]:
    """Count and sum leaks by verdict; verdicts without leaks are left out."""
    if isinstance(leaks, LeakTable):
        counts = np.bincount(leaks.verdict, minlength=len(_VERDICTS)).tolist()
        sums = np.zeros(len(_VERDICTS), np.int64)
        np.add.at(sums, leaks.verdict, leaks.live_bytes)
        every = zip(_VERDICTS, counts, sums.tolist(), strict=True)
        return {verdict: Sum(count, size) for verdict, count, size in every if count}
    found: dict[LeakVerdict, Sum] = {}
    for leak in leaks:
        count, size = found.get(leak.verdict, Sum(0, 0))
        found[leak.verdict] = Sum(count + 1, size + leak.live_bytes)
    return found


def largest(leaks: Sequence[Leak], verdict: LeakVerdict, most: int) -> Sequence[Leak]:
    """Return the first `most` leaks of a verdict, in their order."""
    if isinstance(leaks, LeakTable):
        rows = np.flatnonzero(leaks.verdict == _VERDICTS.index(verdict))[:most]
        return [leaks[row] for row in rows.tolist()]
    return [leak for leak in leaks if leak.verdict == verdict][:most]
