"""Growth of RSS outside live allocations, from made-up accounts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import synthetic_recording
from mematlas.recording.model import Part, PartKind, Sampling, Snapshot
from mematlas.recording.model import RecordingData as Data
from mematlas.recording.row_types import SNAPSHOT_DTYPE
from mematlas.report import leaks as words
from mematlas.report.analyse.leaks import exceeds, find_leaks
from mematlas.report.analyse.rss_growth import count_unknown, find_growth

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1 << 20
LOOKS = 16


def recording(
    slack: Sequence[float],
    live: Sequence[float] | float = 40,
    *,
    kind: PartKind = PartKind.SLACK,
    tables: Sequence[int] | None = None,
    triggers: Sequence[str] | None = None,
    error: float = 0,
) -> Data:
    """Return a recording of one process whose account has slack, live memory and a file, in MiB."""
    snapshots = []
    for at, size in enumerate(slack):
        held = live if isinstance(live, (int, float)) else live[at]
        parts = (
            Part(kind, "glibc heap", round(size * MIB), round(error * MIB)),
            Part(PartKind.LIVE, "live allocations", round(held * MIB)),
            Part(PartKind.FILE, "/data", at * 30 * MIB),
        )
        snapshots.append(
            Snapshot(
                process=0,
                time_s=float(at),
                trigger=triggers[at] if triggers else "interval",
                rss_bytes=sum(each.resident_bytes for each in parts),
                parts=parts,
                unexplained_bytes=0,
                rows=np.zeros(0, SNAPSHOT_DTYPE),
                page_table_bytes=tables[at] if tables else None,
            )
        )
    process = replace(synthetic_recording.PARENT, end_s=float(len(slack)))
    return Data(
        command=("service",),
        started="now",
        machine={},
        sampling=Sampling("exact", 0, 1.0),
        processes=[process],
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


EVEN = [5 + 2 * at for at in range(LOOKS)]


@pytest.mark.parametrize("kind", [PartKind.SLACK, PartKind.ANON, PartKind.SHARED, PartKind.STACK])
def test_a_part_that_rises_is_named_with_base_and_moment(kind: PartKind) -> None:
    """The growth is from a third of the time to the last snapshot, and counts for a limit."""
    leaks = find_leaks(recording(EVEN, kind=kind))
    (found,) = leaks.growth
    assert (found.kind, found.bytes, found.since_s, found.time_s) == (kind, 20 * MIB, 5.0, 15.0)
    assert found.end_bytes == 35 * MIB
    assert found.bytes_per_s == pytest.approx(2 * MIB)
    assert [exceeds(leaks, size * MIB) for size in (19, 20, 21)] == [True, False, False]
    sentence = words.sentence(leaks, 0, "")
    assert "RSS outside live allocations grew by 20.0 MiB from 5 s to the end" in sentence
    assert words.growth_evidence(found) == "15.0 MiB at 5 s, 35.0 MiB at 15 s; 2.00 MiB/s"


@pytest.mark.parametrize(
    "found",
    [
        recording([5 + 20 * (at > 2) for at in range(LOOKS)]),  # only at the start
        recording([20 + 5 * np.sin(at) for at in range(LOOKS)]),  # up and down
        recording([*([5] * (LOOKS - 1)), 60]),  # freed at the end
        recording(EVEN, live=[80 - each for each in EVEN]),  # what was live: RSS is level
        recording([5 + 0.01 * at for at in range(LOOKS)]),  # little
        recording(EVEN, kind=PartKind.FILE),
        recording(EVEN, error=15.0),  # within the error of the samples
        recording(EVEN[:4]),
    ],
)
def test_no_other_course_is_growth(found: Data) -> None:
    """Start-up, a buffer, the end of a program, freed live memory, files and chance are none."""
    assert find_growth(found) == ()


def test_what_is_live_at_a_peak_is_slack_right_after() -> None:
    """Snapshots of peaks are left out where there are others."""
    slack = [each if at % 2 else 0 for at, each in enumerate(EVEN + EVEN)]
    live = [0 if at % 2 else each for at, each in enumerate(EVEN + EVEN)]
    looks = ["interval" if at % 2 else "peak" for at in range(2 * LOOKS)]
    rising = [each * (at + 1) / LOOKS for at, each in enumerate(slack)]
    (found,) = find_growth(recording(rising, live, triggers=looks))
    assert found.kind == PartKind.SLACK


def test_page_tables_are_told_apart_from_rss() -> None:
    """They grow while RSS is level, and the evidence says that they are not in it."""
    tables = [(1 + at) * MIB for at in range(LOOKS)]
    (found,) = find_growth(recording([5] * LOOKS, tables=tables))
    assert words.growth_name(found) == "page tables"
    assert "not in RSS" in words.growth_evidence(found)
    assert words.growth_sentence(find_leaks(recording([5] * LOOKS, tables=tables))) == ""


def test_too_few_snapshots_are_said_to_be() -> None:
    """Without five snapshots growth is not known to be none."""
    assert count_unknown(recording(EVEN)) == 0
    assert count_unknown(recording(EVEN[:4])) == 1
    assert "unknown: fewer than 5" in words.growth_unknown(find_leaks(recording(EVEN[:4])))


def several(*recordings: Data) -> Data:
    """Return a recording of a process and its forks, each with the snapshots of one of some recordings."""
    first = recordings[0].processes[0]
    forks = [
        replace(first, index=at, pid=first.pid + at, parent_index=0, forked=True)
        for at in range(1, len(recordings))
    ]
    looks = [
        replace(look, process=at) for at, each in enumerate(recordings) for look in each.snapshots
    ]
    return replace(recordings[0], processes=[first, *forks], snapshots=looks)


def test_shared_memory_of_a_family_counts_once() -> None:
    """Workers that fill the pages of one segment have the same pages: the largest growth stands for all."""
    smaller = recording([each / 2 for each in EVEN], kind=PartKind.SHARED)
    (alone,) = find_growth(recording(EVEN, kind=PartKind.SHARED))
    (found,) = find_growth(several(smaller, *[recording(EVEN, kind=PartKind.SHARED)] * 3))
    assert found.bytes == alone.bytes
    assert found.processes == 4
    assert "grew in 4 processes and counts once" in words.growth_evidence(found)
    assert len(find_growth(several(recording(EVEN), recording(EVEN)))) == 2  # private memory


def test_growth_is_unknown_for_each_process_with_too_few_snapshots() -> None:
    """One process whose growth is known says nothing of the others."""
    leaks = find_leaks(several(recording(EVEN), *[recording(EVEN[:4])] * 3))
    assert not leaks.growth_known
    assert "unknown for 3 of 4 processes" in words.growth_unknown(leaks)
