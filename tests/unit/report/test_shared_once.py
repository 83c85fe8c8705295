"""Memory that forked processes share counts once in a sum of accounts of different moments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import synthetic_recording
from mematlas.recording.model import Part, PartKind, Process, Sampling, Snapshot
from mematlas.recording.model import RecordingData as Data
from mematlas.recording.row_types import SNAPSHOT_DTYPE
from mematlas.report.analyse.inherited import forked as forked_ones
from mematlas.report.analyse.shared_once import counted_elsewhere, own_bytes

MIB = 1 << 20


def look(process: int, time_s: float, private: int, shared: int, files: int = 3) -> Snapshot:
    """Return an account in MiB."""
    parts = (
        Part(PartKind.LIVE, "live allocations", private * MIB),
        Part(PartKind.COW, "3 processes", shared * MIB),
        Part(PartKind.FILE, "/lib", files * MIB),
    )
    rss = sum(each.resident_bytes for each in parts)
    return Snapshot(process, time_s, "peak", rss, parts, 0, np.zeros(0, SNAPSHOT_DTYPE))


def data(snapshots: list[Snapshot], parents: list[int | None]) -> Data:
    """Return a recording of processes that forked from each other."""
    processes: list[Process] = [
        replace(synthetic_recording.PARENT, index=index, pid=100 + index, parent_index=parent)
        for index, parent in enumerate(parents)
    ]
    return Data(
        command=("service",),
        started="now",
        machine={},
        sampling=Sampling("exact", 0, 1.0),
        processes=processes,
        nodes={},
        modules={},
        codes={},
        frames={},
        snapshots=snapshots,
        totals={},
        timeline={},
        notes=[],
        complete=True,
    )


def total(found: Data, chosen: list[Snapshot], *, at_own_peaks: bool = True) -> int:
    """Return the sum of accounts in MiB."""
    less = counted_elsewhere(chosen, found, at_own_peaks=at_own_peaks)
    return (sum(map(own_bytes, chosen)) - sum(less.values())) // MIB


def test_what_a_child_inherited_counts_in_its_parent() -> None:
    """30 MiB of a parent and 5 of its own in each of two children are 40."""
    children = [look(1, 2.0, 5, 30), look(2, 3.0, 5, 30)]
    for parent in (look(0, 1.0, 30, 0), look(0, 3.0, 0, 30)):
        looks = [parent, *children]
        assert total(data(looks, [None, 0, 0]), looks) == 40


def test_what_a_child_wrote_is_its_own() -> None:
    """A page that a child wrote exists twice."""
    looks = [look(0, 1.0, 10, 20), look(1, 2.0, 15, 20)]
    assert total(data(looks, [None, 0]), looks) == 45


def test_a_peak_before_the_writes_counts_as_one_after() -> None:
    """RSS does not change when a child writes to what it shares, so its peak may be of any moment."""
    early, late = look(1, 2.0, 5, 30), look(1, 3.0, 25, 10)
    parent = look(0, 1.0, 30, 0)
    found = data([parent, early, late], [None, 0])
    assert total(found, [parent, early]) == total(found, [parent, late]) == 55
    assert total(found, [parent, early], at_own_peaks=False) == 35


def test_a_child_shares_with_its_own_children_what_it_made() -> None:
    """100 MiB that a child made before it forked are no memory of its parent of 10."""
    looks = [look(0, 1.0, 0, 10), look(1, 2.0, 0, 110), look(2, 3.0, 1, 110)]
    assert total(data(looks, [None, 0, 1]), looks) == 10 + 100 + 1


def test_without_the_parent_one_child_stands_for_it() -> None:
    """Of siblings whose parent has no account one keeps what all share."""
    looks = [look(1, 2.0, 5, 30), look(2, 3.0, 5, 30)]
    assert total(data(looks, [None, 0, 0]), looks) == 40


def test_a_spawned_program_shares_nothing_with_its_spawner() -> None:
    """Two pools that a driver of 50 MiB spawned have 100 MiB of their own each, with one worker each."""
    parents = [None, 0, 0, 1, 2]
    found = data([], parents)
    spawned = [False, False, False, True, True]
    pairs = zip(found.processes, spawned, strict=True)
    found = replace(found, processes=[replace(each, forked=forked) for each, forked in pairs])
    looks = [look(0, 1.0, 50, 0), *(look(pool, 2.0, 0, 100) for pool in (1, 2))]
    looks += [look(worker, 3.0, 2, 100) for worker in (3, 4)]
    assert total(found, looks) == 50 + 2 * (100 + 2)
    assert total(found, looks[1:]) == 2 * (100 + 2)  # the driver ended before its account
    assert forked_ones(found.processes) == {3, 4}
