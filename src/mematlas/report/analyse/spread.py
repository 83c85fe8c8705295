"""Sampling variances of sums over processes, of which some are forked copies of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Whole = NDArray[Any]  # integers of any width


@dataclass(frozen=True, slots=True)
class Spread:
    """Sampling variances of rows. Those of processes are independent, but not of forked copies."""

    variance: Floats
    family: Numbers
    process: Whole

    def of(self, groups: Numbers, count: int) -> Floats:
        """Return the variance of each group's sum. Within a family standard errors add up, as of equal samples."""
        alone, shared = self._members()
        rows = np.isin(self.process, alone)
        found = np.bincount(groups[rows], self.variance[rows], count).astype(np.float64)
        for processes in shared:
            errors = np.zeros(count)
            for process in processes:
                rows = self.process == process
                errors += np.sqrt(np.bincount(groups[rows], self.variance[rows], count))
            found += errors**2
        return found

    def _members(self) -> tuple[list[int], list[list[int]]]:
        """Return the processes that are a family alone, and those of each larger family."""
        members: dict[int, list[int]] = {}
        processes, first = np.unique(self.process, return_index=True)
        for process, family in zip(processes.tolist(), self.family[first].tolist(), strict=True):
            members.setdefault(family, []).append(process)
        alone = [each[0] for each in members.values() if len(each) == 1]
        return alone, [each for each in members.values() if len(each) > 1]
