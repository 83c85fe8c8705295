"""Live memory that a forked process has from its parent, in whose figures it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas.report.analyse import sums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Process, RecordingData, Rows
    from mematlas.report.analyse.stacks import Stacks

    Floats = NDArray[np.float64]

_SUMS = ("live_bytes", "freed_bytes", "allocated_bytes")


def families(processes: Sequence[Process]) -> dict[int, int]:
    """Return for each process the first ancestor whose memory it may share: exec begins a new family.

    Where the recording does not say which programs forked, those with a new PID did: that is not known of one
    that was spawned.
    """
    pids: set[int] = set()
    found: dict[int, int] = {}
    for each in sorted(processes, key=lambda each: each.index):
        forked = each.pid not in pids if each.forked is None else each.forked
        forked = forked and each.parent_index is not None
        found[each.index] = found.get(each.parent_index or 0, each.index) if forked else each.index
        pids.add(each.pid)
    return found


def forked(processes: Sequence[Process]) -> set[int]:
    """Return the processes that began with the memory of another one."""
    return {index for index, first in families(processes).items() if first != index}


def relate_forks(recording: RecordingData, paths: Mapping[int, Stacks]) -> None:
    """Set the family of the stacks of each process, and the rows that tell what a fork inherited.

    A fork that forked itself has blocks that its children inherited: of these nothing is told apart.
    """
    members = families(recording.processes)
    parents = {
        each.parent_index for each in recording.processes if members[each.index] != each.index
    }
    for index, stacks in paths.items():
        stacks.family = members.get(index)
        totals = recording.totals.get(index)
        if totals and stacks.family != index and index not in parents:
            stacks.inherits = totals.rows


def inherited_bytes(totals: Rows, keys: sums.Numbers) -> Floats:
    """Return the live bytes of a forked process at the fork, by distinct ascending key.

    What a process allocates and frees counts from the fork: inherited + allocated = live + freed.
    """
    found = sums.gather(totals, keys, _SUMS)
    live, freed, allocated = (found[name] for name in _SUMS)
    before: Floats = np.maximum(live + freed - allocated, 0)
    return before


def less_inherited(columns: dict[str, Floats], inherited: Floats) -> dict[str, Floats]:
    """Return live columns of a process without what it inherited: its growth since the fork.

    Counts and variances go with the bytes: the blocks of one stack are mostly of one size.
    """
    live = columns["live_bytes"]
    own = np.maximum(live - inherited, 0)
    own[own < 1] = 0  # a rounding error
    share = np.divide(own, live, out=np.zeros(len(live)), where=live > 0)
    found = {name: column * share for name, column in columns.items()}
    return found | {"live_bytes": own}
