"""Reports of synthetic recordings: sums are conserved, each stack is the path of its node."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import synthetic_recording
from mematlas.recording.model import Frame, RecordingData, Sampling, Snapshot, Totals
from mematlas.recording.row_types import NODE_DTYPE, SNAPSHOT_DTYPE, TOTALS_DTYPE
from mematlas.report.analyse.leaks import find_leaks
from mematlas.report.analyse.lines import lines
from mematlas.report.analyse.report import make_report

OWNING = (1, 2, 3)
ROWS = st.dictionaries(
    st.tuples(st.integers(0, 14), st.integers(1, 4)), st.integers(0, 1 << 40), max_size=30
)


def frame(word: int) -> Frame:
    """Return the frame of a word."""
    return Frame(f"f{word}", f"/src/{word % 3}.c", word, "/home/me/program", "native")


def recording(parents: list[int], held: list[dict[tuple[int, int], int]]) -> RecordingData:
    """Build a recording with one process per table of live bytes."""
    nodes = np.zeros(15, NODE_DTYPE)
    nodes["parent"][1:] = [parent % (index + 1) for index, parent in enumerate(parents)]
    nodes["word"] = np.arange(15)
    snapshots, totals = [], {}
    for process, table in enumerate(held):
        rows = np.zeros(len(table), SNAPSHOT_DTYPE)
        sums = np.zeros(len(table), TOTALS_DTYPE)
        for row, ((stack, kind), size) in enumerate(table.items()):
            rows[row] = (stack, kind, size, 1, 0, size // 2, 0, size // 3)
            for name in ("live_bytes", "allocated_bytes", "peak_bytes"):
                sums[row][name] = size
            sums[row]["stack"], sums[row]["kind"], sums[row]["allocations"] = stack, kind, 1
        snapshots.append(Snapshot(process, 1.0, "exit", 100, (), 100, rows))
        totals[process] = Totals(process, 1.0, 1.0, 1.0, sums)
    frames: dict[int, tuple[Frame, ...]] = {word: (frame(word),) for word in range(1, 15)}
    return RecordingData(
        command=("x",),
        started="now",
        machine={},
        sampling=Sampling("exact", 0, 1.0),
        processes=[replace(synthetic_recording.PARENT, index=index) for index in range(len(held))],
        nodes=dict.fromkeys(range(len(held)), nodes),
        modules={},
        codes={},
        frames=dict.fromkeys(range(len(held)), frames),
        snapshots=snapshots,
        totals=totals,
        timeline={},
        notes=[],
        complete=True,
    )


def path(parents: list[int], node: int) -> tuple[Frame, ...]:
    """Walk from a node to the root, one step after the other."""
    found = []
    while node:
        found.append(frame(node))
        node = parents[node - 1] % node
    return tuple(found)


@given(st.lists(st.integers(0, 1000), min_size=14, max_size=14), st.lists(ROWS, max_size=3))
def test_sums_and_stacks_are_those_of_the_rows(
    parents: list[int], held: list[dict[tuple[int, int], int]]
) -> None:
    """Stacks, lines and leaks sum to the owning rows; each stack is the path of its node."""
    made = recording(parents, held)
    report = make_report(made)
    expected = Counter(
        {
            (process, path(parents, stack), kind): size
            for process, table in enumerate(held)
            for (stack, kind), size in table.items()
            if kind in OWNING
        }
    )
    kinds = {"malloc": 1, "mmap": 2, "pyobject": 3}
    found = Counter(
        {
            (each.process, each.frames, kinds[each.kind]): each.live_bytes
            for each in report.stacks
            if each.kind in kinds
        }
    )
    assert found == expected
    total = sum(expected.values())
    assert sum(line.bytes["live"] for line in lines(report.stacks, "live")) == total
    assert find_leaks(made).live_bytes == total
    halves = sum(size // 2 for size in expected.values())
    assert sum(each.resident_bytes for each in report.stacks) == halves
    assert report.account.rss_bytes == 100 * len(held)
