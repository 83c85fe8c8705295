"""Sampling variances of rows of several processes, of which some are forked copies of each other.

A block that a process has from its parent was sampled once, however many forks have a copy: the errors of copies add
up, where those of other rows add up by their squares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas.report.analyse import sums
from mematlas.report.analyse.inherited import inherited_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.report.analyse.table import StackTable

    Numbers = NDArray[np.int64]
    Floats = NDArray[np.float64]


def additive(table: StackTable, variance: Floats, rows: Numbers | None = None) -> Floats:
    """Return the variances of some rows of a table, all by default, so that the variance of a sum is their sum.

    Of the copies of one stack in a family of forks, with variances v, the sum has the variance (sum of sqrt(v))^2.
    Each copy gets its part of that.
    """
    rows = np.arange(len(table)) if rows is None else rows
    family = table.families[rows]
    if len(distinct(family)) == len(distinct(table.process[rows])):
        return variance
    found = variance.copy()
    some = np.flatnonzero(variance > 0)
    key = table.keys(rows[some])
    _, group = np.unique(np.stack([family[some], key]), axis=1, return_inverse=True)
    group = group.ravel()
    copied = _copied(table, rows[some], variance[some], family[some], group)
    whole, errors = np.bincount(group, copied), np.bincount(group, np.sqrt(copied))
    factor = np.divide(errors**2, whole, out=np.ones(len(whole)), where=whole > 0)
    found[some] += copied * (factor[group] - 1)
    return found


def _copied(
    table: StackTable, rows: Numbers, variance: Floats, family: Numbers, group: Numbers
) -> Floats:
    """Return the part of each variance that is of blocks which other processes of the family have, too.

    `group` numbers the rows of one stack in one family. The first process of a family has the originals of what the
    others inherited.
    """
    found = variance.copy()
    process = table.process[rows].astype(np.int64)
    for index in distinct(process).tolist():
        totals = table.paths[index].inherits
        mine = np.flatnonzero((process == index) & sums.are_owning(table.kind[rows]))
        if totals is None or not len(mine):
            continue
        keys, place = np.unique(table.keys(rows[mine]), return_inverse=True)
        before = inherited_bytes(totals, keys)[place]
        live = table.metric("live")[rows[mine]]
        found[mine] *= np.minimum(
            np.divide(before, live, out=np.ones(len(mine)), where=live > 0), 1
        )
    first = np.flatnonzero(process == family)
    most = np.zeros(int(group.max(initial=-1)) + 1)
    others = np.flatnonzero(process != family)
    np.maximum.at(most, group[others], found[others])
    found[first] = np.minimum(variance[first], most[group[first]])
    return found
