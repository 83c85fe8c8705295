"""Accounts of several processes: one moment, shared pages once, and what processes had at other times."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import reports
import synthetic_recording
from mematlas.recording import read
from mematlas.recording.model import (
    AgeMatrix,
    Frame,
    Part,
    PartKind,
    Process,
    RecordingData,
    Sampling,
    SharedPart,
    Sharing,
    Snapshot,
    Totals,
)
from mematlas.recording.row_types import AGE_MATRIX_DTYPE, ALIVE, SNAPSHOT_DTYPE, TOTALS_DTYPE
from mematlas.report import run_facts
from mematlas.report.analyse.account import account, at_peak
from mematlas.report.analyse.call_tree import make_call_tree
from mematlas.report.analyse.lines import lines
from mematlas.report.analyse.own_peaks import Seen, find_own_peaks
from mematlas.report.analyse.report import make_report
from mematlas.report.analyse.table import StackTable
from mematlas.report.analyse.window import make_window
from mematlas.report.model.report import END, OwnPeak, StackStats

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def empty() -> RecordingData:
    """Return a recording without any rows."""
    return RecordingData(
        command=("pool",),
        started="2026-01-02T03:04:05Z",
        sampling=Sampling("exact", 1, 1.0),
        processes=[],
        snapshots=[],
        notes=[],
        complete=True,
        machine={},
        nodes={},
        modules={},
        codes={},
        frames={},
        totals={},
        timeline={},
    )


PARENT = replace(synthetic_recording.PARENT, index=0, pid=10, parent_index=None, end_s=None)
CHILDREN = [
    replace(PARENT, index=index, pid=10 + index, parent_index=0, end_s=None) for index in (1, 2)
]
PROCESSES = [PARENT, *CHILDREN]


def snapshot(process: int, time_s: float, moment_s: float | None, cow: int, own: int) -> Snapshot:
    """Return a snapshot with memory shared copy-on-write and memory of its own, in MiB."""
    parts = (
        Part(PartKind.LIVE, "", own * MIB),
        Part(PartKind.COW, "3 processes", cow * MIB),
    )
    rows = np.zeros(0, [("stack", "<u4")])
    rss = (cow + own) * MIB
    return Snapshot(process, time_s, "interval", rss, parts, 0, rows, moment_s=moment_s)


def shared_by(count: int, snapshots: list[Snapshot]) -> dict[tuple[int, float], Sharing]:
    """Return the sharing of snapshots whose copy-on-write memory `count` processes map."""
    found = {}
    for each in snapshots:
        live, cow = (part.resident_bytes for part in each.parts)
        share = SharedPart(PartKind.COW, "3 processes", cow, cow / count)
        pss = live + round(cow / count)
        found[each.process, each.time_s] = Sharing(
            each.process, each.time_s, pss, live, (share,), each.rows
        )
    return found


def test_shared_pages_count_once() -> None:
    """The parts of several processes are PSS, and sum to it."""
    recording = empty()
    snapshots = [snapshot(0, 1.0, 1.0, 24, 0), snapshot(1, 1.1, 1.0, 24, 3)]
    snapshots.append(snapshot(2, 1.2, 1.0, 24, 3))
    recording.sharing = shared_by(3, snapshots)
    found = account(snapshots, recording, {0, 1, 2})
    assert found.counted_once
    assert found.total_bytes == found.pss_bytes == 30 * MIB
    assert found.rss_bytes == 78 * MIB
    sizes = {part.kind: part.resident_bytes for part in found.parts}
    assert sizes == {PartKind.LIVE: 6 * MIB, PartKind.COW: 24 * MIB}
    assert found.unexplained_bytes == 0
    assert not account(snapshots[:1], recording, {0}).counted_once


def test_without_sharing_rss_is_summed() -> None:
    """Recordings of older versions have no PSS."""
    recording = empty()
    found = account(
        [snapshot(0, 1.0, None, 24, 0), snapshot(1, 1.1, None, 24, 3)], recording, {0, 1}
    )
    assert (found.counted_once, found.pss_bytes, found.total_bytes) == (False, None, 51 * MIB)


def test_processes_that_share_are_of_one_moment() -> None:
    """A parent read after its workers ended does not join what they had when they lived."""
    together = [
        snapshot(0, 1.0, 1.0, 24, 0),
        snapshot(1, 1.1, 1.0, 24, 3),
        snapshot(2, 1.2, 1.0, 24, 3),
    ]
    alone = snapshot(0, 2.0, 2.0, 0, 24)  # the workers' ends are not known yet
    sharing = shared_by(3, together) | shared_by(1, [alone])
    assert at_peak([*together, alone], PROCESSES, sharing) == together


def test_a_moment_is_not_taken_apart() -> None:
    """While a moment's snapshots follow each other, new ones are not summed with old ones."""
    first = [snapshot(0, 1.0, 1.0, 24, 0), snapshot(1, 1.1, 1.0, 24, 0)]
    second = [
        snapshot(0, 2.0, 2.0, 24, 0),
        snapshot(1, 2.1, 2.0, 20, 4),
        snapshot(2, 2.2, 2.0, 24, 0),
    ]
    sharing = shared_by(2, first) | shared_by(3, second)
    assert at_peak([*first, *second], PROCESSES, sharing) == second


def test_a_much_higher_sum_is_kept_though_not_of_one_moment() -> None:
    """If no moment is near the highest RSS, the account is of different times."""
    early = [snapshot(0, 1.0, 1.0, 24, 0), snapshot(1, 1.1, 1.0, 24, 0)]
    late = [snapshot(0, 5.0, None, 24, 0), snapshot(1, 5.5, None, 24, 90)]
    sharing = shared_by(2, [*early, *late])
    assert at_peak([*early, *late], PROCESSES, sharing) == late


def test_exec_begins_a_new_family() -> None:
    """A program that a forked process executes shares nothing with its parent."""
    image = Process(**{**{n: getattr(CHILDREN[0], n) for n in PARENT.__slots__}, "index": 3})
    snapshots = [snapshot(0, 1.0, 1.0, 24, 0), snapshot(1, 1.1, 1.0, 24, 0)]
    other = snapshot(3, 1.5, None, 0, 50)
    sharing = shared_by(2, snapshots) | shared_by(1, [other])
    assert at_peak([*snapshots, other], [*PROCESSES, image], sharing) == [*snapshots, other]


def stats(function: str, process: int, **figures: int) -> StackStats:
    """Return the figures of one stack; those not given are 0."""
    frames = (Frame(function, "/app/pool.py", 1, None, "python"),)
    names = [
        *("live_bytes", "live_count", "peak_bytes", "allocated_bytes", "allocations"),
        *("resident_bytes", "huge_bytes", "swapped_bytes", "error_bytes", "pss_bytes"),
    ]
    return StackStats(frames, "malloc", process, **{n: figures.get(n, 0) for n in names})


def test_what_ended_processes_had_is_found() -> None:
    """Own peaks leave out what was inherited, and what the account has."""
    table = StackTable.of(
        [
            stats("base", 0, live_bytes=25 * MIB, peak_bytes=25 * MIB, allocated_bytes=25 * MIB),
            stats("base", 1, peak_bytes=25 * MIB),  # inherited
            stats("heavy", 1, peak_bytes=15 * MIB, allocated_bytes=60 * MIB),
            stats("heavy", 2, peak_bytes=14 * MIB, allocated_bytes=14 * MIB, live_bytes=2 * MIB),
            stats("small", 2, peak_bytes=MIB // 2, allocated_bytes=MIB // 2),
        ]
    )
    (found,) = find_own_peaks(table)
    assert found.frame is not None
    assert found.frame.function == "heavy"
    assert (found.live_bytes, found.largest_bytes) == (27 * MIB, 15 * MIB)
    assert found.processes == (1, 2)


def test_address_space_that_was_never_touched_is_no_memory() -> None:
    """A reservation leads no list: what can have been resident at the process's own peak counts."""
    table = StackTable.of(
        [
            stats("reserve", 1, peak_bytes=256 * MIB, allocated_bytes=256 * MIB),
            stats("fill", 1, peak_bytes=9 * MIB, allocated_bytes=9 * MIB),
        ]
    )
    stack = {
        paths.frames(number)[0].function: number
        for paths in table.paths.values()
        for number in (1, 2)
    }
    rows = np.zeros(1, SNAPSHOT_DTYPE)
    rows["stack"], rows["kind"], rows["resident_bytes"] = stack["fill"], 1, 8 * MIB
    (found,) = find_own_peaks(table, {1: Seen(rows, 0, None)})
    assert found.frame is not None
    assert (found.frame.function, found.live_bytes) == ("fill", 8 * MIB)
    # RSS was 2 MiB higher than in any snapshot: of each line no more than that can be unseen.
    sizes = {
        each.frame.function: each.live_bytes
        for each in find_own_peaks(table, {1: Seen(rows, 2 * MIB, None)})
        if each.frame
    }
    assert sizes == {"fill": 9 * MIB, "reserve": 2 * MIB}


def test_memory_of_a_fork_before_its_exec_is_told() -> None:
    """Processes that are not listed, as they lived between fork and exec only, have peaks, too."""
    report = reports.native_program()
    frame = Frame("fill", "/app/pool.py", 1, None, "python")
    unlisted = OwnPeak(frame, 4 * MIB, 2 * MIB, (90, 91))
    assert run_facts.own_peak(report, unlisted) == "in 2 processes, 2.00 MiB at most"
    alone = replace(unlisted, processes=(90,))
    assert run_facts.own_peak(report, alone) == "in a fork before its exec"


def of_forks(count: int, **figures: int) -> StackTable:
    """Return one stack of a parent and its forks, each with these figures."""
    table = StackTable.of([stats("base", index, **figures) for index in range(count)])
    for paths in table.paths.values():
        paths.family = 0
    return table


def test_errors_of_copies_add_up() -> None:
    """Forks have copies of one sample: the error of their sum is the sum of their errors."""
    table = of_forks(4, live_bytes=4000, error_bytes=100)
    (line,) = lines(table, "live")
    assert line.error_bytes == 400
    for index, paths in table.paths.items():
        paths.family = index
    (line,) = lines(table, "live")
    assert line.error_bytes == 200


def test_blocks_of_a_forks_own_are_samples_of_their_own() -> None:
    """Of 4000 live bytes 1000 are inherited: the errors of these add up, those of the others by their squares."""
    table = of_forks(3, live_bytes=4000, error_bytes=100)
    totals = np.zeros(1, TOTALS_DTYPE)
    (row,) = set(zip(table.stack.tolist(), table.kind.tolist(), strict=True))
    totals["stack"], totals["kind"] = row
    totals["live_bytes"], totals["allocated_bytes"] = 4000, 3000
    for index in (1, 2):
        table.paths[index].inherits = totals
    (line,) = lines(table, "live")
    copied, own = 2500, 7500  # of a variance of 10,000 each
    assert line.variance == pytest.approx(3 * own + (3 * copied**0.5) ** 2)
    tree = make_call_tree(table, "live")
    assert tree.root.variance == pytest.approx(line.variance)


def test_a_window_has_the_same_errors(tmp_path: Path) -> None:
    """Blocks born before a fork are copies; a window that begins later has none of them."""
    file = tmp_path / "a.atlas"
    synthetic_recording.write(file)
    recording = read(file)
    parent = replace(recording.processes[0], end_s=None)
    child = replace(parent, index=1, pid=parent.pid + 1, parent_index=0, start_s=1.0)
    recording.processes[:] = [parent, child]
    rows = np.zeros(2, AGE_MATRIX_DTYPE)
    rows["stack"], rows["kind"], rows["died"] = 1, 1, ALIVE
    rows["born"], rows["bytes"], rows["variance"] = (2, 15), 1000, 100**2
    for index in (0, 1):
        recording.age_matrix[index] = AgeMatrix(index, 2.0, 0.1, rows)
        recording.totals[index] = replace(recording.totals[0], process=index)
    recording.nodes[1] = recording.nodes[0]
    assert make_window(recording, 0.0, None).error_bytes == pytest.approx(
        ((2 * 100) ** 2 + 2 * 100**2) ** 0.5, abs=1
    )
    assert make_window(recording, 1.2, None).error_bytes == pytest.approx(100 * 2**0.5, abs=1)


def test_parts_of_forks_have_honest_errors() -> None:
    """Of the errors of a part, those of inherited blocks add up over the forks."""
    recording = empty()
    recording.processes[:] = PROCESSES
    rows = np.zeros(1, SNAPSHOT_DTYPE)
    rows["stack"], rows["kind"], rows["live_bytes"], rows["live_variance"] = 1, 1, 4000, 100
    totals = np.zeros(1, TOTALS_DTYPE)
    totals["stack"], totals["kind"], totals["live_bytes"] = 1, 1, 4000
    totals["allocated_bytes"] = 4000  # nothing is inherited
    live = (Part(PartKind.LIVE, "", 5 * MIB, 100),)
    looks = [replace(snapshot(index, 1.0, 1.0, 0, 5), parts=live, rows=rows) for index in (1, 2)]
    recording.totals = {index: Totals(index, 1.0, 1.0, 4000.0, totals.copy()) for index in (1, 2)}
    (part,) = account(looks, recording, {1, 2}).parts
    assert part.error_bytes == round(100 * 2**0.5)
    for each in recording.totals.values():
        each.rows["allocated_bytes"] = 0  # all is
    (part,) = account(looks, recording, {1, 2}).parts
    assert part.error_bytes == 200


def test_an_error_is_of_the_metric_beside_it() -> None:
    """PSS is a part of live bytes with the same relative error; what is of another moment has none."""
    (line,) = lines(
        of_forks(2, live_bytes=4000, error_bytes=100, resident_bytes=4000, pss_bytes=2000), "pss"
    )
    assert line.variance_of("live") == 200**2
    assert line.variance_of("pss") == 100**2
    assert line.variance_of("peak") == 0


def test_a_note_on_the_peak_is_of_the_peak() -> None:
    """How the moment was chosen is not said where the user chose one."""
    looks = [
        replace(snapshot(index, 1.0, 1.0, 0, 5), rows=np.zeros(0, SNAPSHOT_DTYPE))
        for index in (0, 1)
    ]
    recording = replace(empty(), processes=PROCESSES[:2], snapshots=looks)
    said = "the account is of the time when memory other than files and tracer was highest"
    assert said in make_report(recording).notes
    assert said not in make_report(recording, at=END).notes
