"""Leaks as columns. A leak becomes an object at access."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

from mematlas.report.model.leaks import LIKELY, Leak, LeakVerdict, VerdictSum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

_VERDICTS = tuple(LeakVerdict)
NUMBER_OF_VERDICT = {verdict: number for number, verdict in enumerate(_VERDICTS)}
LIKELY_NUMBERS = [NUMBER_OF_VERDICT[each] for each in LIKELY]


@dataclass(frozen=True, slots=True)
class ClassifiedRows:
    """Classified rows of one process: index in LeakVerdict, bytes, and a function that creates the leak."""

    verdict: Numbers
    live_bytes: Numbers
    variance: NDArray[np.float64]  # of live_bytes
    make: Callable[[int], Leak]


class LeakTable(Sequence[Leak]):
    """Classified rows of several processes, in any order."""

    __slots__ = ("_parts", "_process", "_row", "live_bytes", "variance", "verdict")

    def __init__(
        self,
        parts: Sequence[ClassifiedRows],
        process: Numbers,
        row: Numbers,
        verdict: Numbers,
        live_bytes: Numbers,
        variance: NDArray[np.float64],
    ) -> None:
        """Store columns of equal length; `process` indexes `parts` and `row` the rows of that part."""
        self._parts, self._process, self._row = parts, process, row
        self.verdict, self.live_bytes, self.variance = verdict, live_bytes, variance

    @classmethod
    def ranked(cls, parts: Sequence[ClassifiedRows]) -> LeakTable:
        """Return all rows, likely leaks first, then the others, the largest of both first."""
        nothing = np.zeros(0, np.int64)
        verdict = np.concatenate([nothing, *(each.verdict for each in parts)])
        live = np.concatenate([nothing, *(each.live_bytes for each in parts)])
        variance = np.concatenate([np.zeros(0), *(each.variance for each in parts)])
        lengths = [len(each.live_bytes) for each in parts]
        process = np.repeat(np.arange(len(parts)), lengths)
        row = np.concatenate([nothing, *(np.arange(length) for length in lengths)])
        likely = np.isin(verdict, LIKELY_NUMBERS)
        order = np.lexsort((verdict, -live, ~likely))
        ranked = process[order], row[order], verdict[order], live[order]
        return cls(parts, *ranked, variance[order])

    def __len__(self) -> int:
        return len(self._row)

    @overload
    def __getitem__(self, index: int) -> Leak: ...
    @overload
    def __getitem__(self, index: slice) -> LeakTable: ...
    def __getitem__(self, index: int | slice) -> Leak | LeakTable:
        """Return one leak, or a slice of the table."""
        if isinstance(index, slice):
            process, row, verdict = self._process[index], self._row[index], self.verdict[index]
            some = self.live_bytes[index], self.variance[index]
            return LeakTable(self._parts, process, row, verdict, *some)
        return self._parts[int(self._process[index])].make(int(self._row[index]))

    def __iter__(self) -> Iterator[Leak]:
        for index in range(len(self)):
            yield self[index]

    def add_up(self) -> dict[LeakVerdict, VerdictSum]:
        """Sum leaks by verdict; verdicts without leaks are left out."""
        counts = np.bincount(self.verdict, minlength=len(_VERDICTS)).tolist()
        errors = np.sqrt(np.bincount(self.verdict, self.variance, len(_VERDICTS)))
        sums = np.zeros(len(_VERDICTS), np.int64)
        np.add.at(sums, self.verdict, self.live_bytes)
        every = zip(_VERDICTS, counts, sums.tolist(), errors.tolist(), strict=True)
        return {
            verdict: VerdictSum(count, size, round(error))
            for verdict, count, size, error in every
            if count
        }


def add_up(leaks: Sequence[Leak]) -> dict[LeakVerdict, VerdictSum]:
    """Sum leaks by verdict, in columns or one by one."""
    if isinstance(leaks, LeakTable):
        return leaks.add_up()
    found: dict[LeakVerdict, VerdictSum] = {}
    for leak in leaks:
        count, size, error = found.get(leak.verdict, VerdictSum(0, 0, 0))
        error = round(math.hypot(error, leak.error_bytes))
        found[leak.verdict] = VerdictSum(count + 1, size + leak.live_bytes, error)
    return found
