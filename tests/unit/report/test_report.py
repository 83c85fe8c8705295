"""Reports: sums are conserved, the right snapshots are chosen, stacks are attributed to lines."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import synthetic_recording
from mematlas.cli import main
from mematlas.recording import read
from mematlas.recording.model import Part, PartKind, RecordingData, Snapshot
from mematlas.recording.row_types import NODE_DTYPE, TIMELINE_DTYPE
from mematlas.report.analyse.account import at_end, at_peak
from mematlas.report.analyse.report import make_report
from mematlas.report.analyse.series import SERIES_POINTS
from mematlas.report.analyse.stacks import Stacks

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def recording(tmp_path: Path) -> RecordingData:
    """Return the synthetic recording."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path)
    return read(path)


def test_the_account_is_that_of_the_highest_rss(recording: RecordingData) -> None:
    """Parts and unexplained bytes sum to the kernel's figure at the peak."""
    account = make_report(recording).account
    assert (account.trigger, account.time_s, account.rss_bytes) == ("exit", 1.0, 10_000_000)
    parts = sum(part.resident_bytes for part in account.parts)
    assert parts + account.unexplained_bytes == account.rss_bytes
    assert [part.kind for part in account.parts] == ["live", "slack", "file"]


def test_stacks_add_up_to_the_rows(recording: RecordingData) -> None:
    """Stacks sum to the rows."""
    report = make_report(recording)
    totals = recording.totals[0].rows
    held = recording.snapshots[-1].rows
    stacks = report.stacks
    assert sum(each.live_bytes for each in stacks) == held["live_bytes"].sum()
    assert sum(each.resident_bytes for each in stacks) == held["resident_bytes"].sum()
    assert sum(each.swapped_bytes for each in stacks) == held["swapped_bytes"].sum()
    assert sum(each.allocated_bytes for each in stacks) == totals["allocated_bytes"].sum()
    assert sum(each.allocations for each in stacks) == totals["allocations"].sum()
    assert sum(each.peak_bytes for each in stacks) == report.peak_live_bytes


def test_a_stack_is_its_frames_from_leaf_to_root(recording: RecordingData) -> None:
    """Inlined frames come before the function they are inlined in, callers after."""
    first = make_report(recording).stacks[0]
    names = [frame.function for frame in first.frames]
    assert names == ["fill", "strdup", f"{synthetic_recording.WORDS[2]:#x}", "<module>"]
    assert first.error_bytes == 2000
    assert first.kind == "malloc"


def test_bad_frees_keep_their_stack(recording: RecordingData) -> None:
    """Bad frees have their count and stack."""
    (bad,) = make_report(recording).bad_frees
    assert (bad.count, bad.process) == (3, 0)
    assert bad.frames[-1].function == "<module>"


def test_an_arena_is_no_allocation(tmp_path: Path) -> None:
    """An allocator's own mapping is not counted beside its blocks."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path)
    recording = read(path)
    rows = recording.totals[0].rows.copy()
    rows["kind"][0] = 4
    recording.totals[0] = replace(recording.totals[0], rows=rows)
    assert sum(each.allocated_bytes for each in make_report(recording).stacks) == 400_000


def test_one_process_can_be_reported_alone(recording: RecordingData) -> None:
    """With an index, only that process is in the report."""
    report = make_report(recording, 1)
    assert [line.pid for line in report.processes] == [101]
    assert report.stacks == ()
    assert report.account.trigger == "timeline"


def test_a_cut_recording_says_so(tmp_path: Path) -> None:
    """The first note of an incomplete recording says up to when its data is valid."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path, end=False)
    report = make_report(read(path))
    assert not report.complete
    assert report.notes[0] == "the recording was cut short; data is valid up to 1.5 s"


def test_the_sums_of_a_process_that_ended_are_whole(recording: RecordingData) -> None:
    """A note names the time up to which those are summed that ran when the recording was cut."""
    recording.complete = False
    sums_s, later_s = recording.totals[0].time_s, recording.totals[0].time_s + 100
    rows = recording.timeline[0].copy()
    rows["time_s"][-1] = later_s
    recording.timeline[0] = rows
    text = f"allocations and frees are summed up to {sums_s:.1f} s only"
    for end_s, expected in ((None, True), (sums_s, False)):
        recording.processes[:] = [replace(each, end_s=end_s) for each in recording.processes[:1]]
        assert (text in make_report(recording).notes) is expected


def test_what_was_not_seen_is_noted(recording: RecordingData) -> None:
    """The report has the notes of the recording and names processes without snapshots."""
    notes = make_report(recording).notes
    assert "one thread was not traced" in notes
    assert any(note.startswith("residency unknown for PID 101") for note in notes)


def test_lines_of_the_command_can_be_pasted(recording: RecordingData) -> None:
    """The command of a process is quoted for the shell."""
    recording.processes[1] = replace(recording.processes[1], command=("sort", "a b"))
    assert make_report(recording).processes[1].command == "sort 'a b'"


def snapshot(process: int, time_s: float, rss: int) -> Snapshot:
    """Return a snapshot with one part, all of its RSS."""
    part = Part(PartKind.LIVE, "", rss)
    rows = np.zeros(0, [("stack", "<u4")])
    return Snapshot(process, time_s, "interval", rss, (part,), 0, rows)


def test_the_peak_of_several_processes_is_one_moment() -> None:
    """Memory of different times is not summed: ended processes do not count."""
    first = replace(synthetic_recording.PARENT, end_s=1.5)
    second = replace(synthetic_recording.CHILD, end_s=None)
    snapshots = [
        snapshot(0, 1.0, 100),
        snapshot(1, 1.2, 50),
        snapshot(1, 2.0, 120),
        snapshot(1, 3.0, 10),
    ]
    assert at_peak(snapshots, [first, second]) == snapshots[:2]
    assert at_end(snapshots, [first, second]) == [snapshots[3]]
    still = replace(first, end_s=None)
    assert at_peak(snapshots, [still, second]) == [snapshots[0], snapshots[2]]
    assert at_end(snapshots, [still, second]) == [snapshots[0], snapshots[3]]


def test_shared_libraries_do_not_make_a_peak() -> None:
    """Many small processes are not the peak because of shared libraries."""
    files = Part(PartKind.FILE, "/lib/libc.so.6", 90, 0)
    shells = [
        replace(snapshot(0, 1.0, 100), parts=(files,)),
        replace(snapshot(1, 1.1, 100), parts=(files,)),
    ]
    service = snapshot(1, 2.0, 60)
    first = replace(synthetic_recording.PARENT, end_s=1.5)
    second = replace(synthetic_recording.CHILD, end_s=None)
    assert at_peak([*shells, service], [first, second]) == [service]


def test_a_long_timeline_keeps_its_peaks(recording: RecordingData) -> None:
    """A thinned-out timeline keeps its ends and its highest value."""
    rows = np.zeros(100_000, TIMELINE_DTYPE)
    rows["time_s"] = np.arange(len(rows))
    rows["rss_bytes"] = 1000
    rows["rss_bytes"][54_321] = 5000
    recording.timeline[0] = rows
    (series,) = make_report(recording).series
    assert len(series.time_s) <= SERIES_POINTS
    assert (series.time_s[0], series.time_s[-1]) == (0, 99_999)
    assert series.time_s[series.rss_bytes.index(5000)] == 54_321


def test_huge_pages_over_time_are_those_of_the_last_look(recording: RecordingData) -> None:
    """Huge pages are unknown before the first snapshot and hold its value after it."""
    taken = next(each for each in recording.snapshots if each.process == 0)
    recording = replace(recording, snapshots=[replace(taken, time_s=0.3, huge_bytes=2 << 20)])
    series = next(each for each in make_report(recording).series if each.process == 0)
    for time, size in zip(series.time_s, series.huge_bytes, strict=True):
        assert size == (2 << 20 if time >= 0.3 else None)
    assert series.minor_faults[-1] > series.minor_faults[0] > 0


def test_unknown_swap_is_carried_on_or_noted(recording: RecordingData) -> None:
    """A gap takes the last known value; a note says if none is known."""
    assert make_report(recording).series[0].swap_bytes == (0, 0, 4096)
    rows = recording.timeline[0].copy()
    rows["swap_bytes"] = np.nan
    recording.timeline[0] = rows
    assert any("swapped bytes over time are unknown" in n for n in make_report(recording).notes)


@pytest.mark.parametrize("view", [["--tree"], ["--by-package"], ["--tree", "--json"]])
def test_every_view_is_of_the_moment_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], view: list[str]
) -> None:
    """Trees and packages obey --at: they show that moment, and refuse one that is unknown."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path)
    assert main(["report", str(path), *view, "--at", "end"]) == 0
    capsys.readouterr()
    assert main(["report", str(path), *view, "--at", "no such mark"]) == 2
    assert "no such mark" in capsys.readouterr().err


def test_the_nodes_of_a_process_are_unpacked_once() -> None:
    """Stacks of equal rows share their columns while one of them lives; other rows do not."""
    nodes = np.zeros(3, NODE_DTYPE)
    nodes["parent"][2] = 1
    first, second = Stacks(nodes, {}), Stacks(nodes, {})
    assert first.parents is second.parents
    assert first.word_of is second.word_of
    assert Stacks(nodes.copy(), {}).parents is not first.parents
