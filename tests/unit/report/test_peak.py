"""How near the account is to the peak, and how processes ended, in words and numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mematlas.recording import read
from mematlas.recording.model import Frame, Part, PartKind, Process
from mematlas.recording.row_types import TIMELINE_DTYPE
from mematlas.report import run_facts
from mematlas.report.analyse.highest import find_highest
from mematlas.report.analyse.lines import lines
from mematlas.report.analyse.report import make_report
from mematlas.report.answer import answer
from mematlas.report.endings import endings
from mematlas.report.json_writer import render_report
from mematlas.report.model.report import END, LastLook
from reports import native_program
from synthetic_recording import write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mematlas.recording.model import RecordingData
    from mematlas.report.model.report import Report

MIB = 1 << 20


def single(highest: float, ending: str = "exited 0", cause: str = "") -> Report:
    """Return the report of one process whose highest RSS is `highest` times that of the account."""
    report = native_program()
    account = replace(
        report.account, highest_rss_bytes=round(report.account.rss_bytes * highest), trigger="peak"
    )
    process = replace(report.processes[0], ending=ending, cause=cause)
    return replace(report, account=account, processes=(process,))


def highest_rss(recording: RecordingData, processes: Sequence[Process]) -> int:
    """Return the highest RSS of processes together."""
    return find_highest(recording, processes).rss_bytes


def first_sentence(report: Report) -> str:
    """Return the answer up to the largest owner."""
    return answer(report, lines(report.stacks, report.main_metric), "").partition(" The largest")[0]


def test_near_has_a_number() -> None:
    """The peak itself is called so; what is near it says how near."""
    assert " resident at the peak: " in first_sentence(single(1.0))
    assert " resident at 97 % of the highest RSS of " in first_sentence(single(1 / 0.974))
    account = single(1 / 0.974).account
    assert "at 97 % of the highest RSS" in run_facts.account_time(account)
    assert "the highest" not in run_facts.account_time(replace(account, highest_rss_bytes=0))


def test_a_missed_peak_comes_first_and_ranks_by_what_was_live_then() -> None:
    """An account of another moment names no owner of the peak; what was live at the peak does."""
    report = single(2.0)
    text = answer(report, lines(report.stacks, report.main_metric), "")
    assert report.main_metric == "peak"
    assert "resident at the peak, which was missed: the account has " in text
    assert "%" not in text  # shares of another moment would mislead
    assert "The largest owner then was " in text


@pytest.mark.parametrize(
    ("slack", "peak", "live", "sample_bytes", "kept"),
    [
        (0.9, 0.8, 0, 0, True),
        (0.9, 0.8, 0, MIB, True),
        (0.9, 0.8, 0, 60 * MIB, False),  # 800 MiB may be a few samples
        (0.4, 0.8, 0, 0, False),  # something else fills the memory
        (0.9, 0.4, 0, 0, False),  # the allocator holds more than was ever live
        (0.9, 3.0, 2.9, 0, False),  # most is live still, and was never touched
        (0.9, 0.8, None, 0, False),  # it is not known what was freed
    ],
)
def test_freed_memory_that_the_allocator_keeps(
    slack: float, peak: float, live: float | None, sample_bytes: int, *, kept: bool
) -> None:
    """RSS is highest still when nothing is live any more: the owner is that of the live peak."""
    report = single(1.0)
    size = 1000 * MIB
    parts = tuple(
        Part(kind, name, round(share * size), 0)
        for kind, name, share in (
            (PartKind.SLACK, "glibc heap", slack),
            (PartKind.FILE, "libc.so.6", 1 - slack),
        )
    )
    report = replace(
        report,
        account=replace(
            report.account, rss_bytes=size, highest_rss_bytes=size, parts=parts, unexplained_bytes=0
        ),
        sampling=replace(report.sampling, sample_bytes=sample_bytes),
        peak_live_bytes=round(peak * size),
        peak_live_time_s=2.0,
        account_live_bytes=None if live is None else round(live * size),
    )
    text = answer(report, lines(report.stacks, report.main_metric), "")
    assert report.keeps_freed is kept
    assert ("freed since but kept by the allocator. The largest owner then was" in text) is kept
    assert ("The largest owner is" in text) is not kept
    assert not replace(report, at=END).keeps_freed


def test_json_has_the_same_base() -> None:
    """`highest_rss_bytes` is what `rss_bytes` is held against; unknown is null."""
    for factor, expected in ((2.0, True), (0.0, False)):
        report = single(factor)
        data = json.loads("".join(render_report(report, by="peak", top=1)))["data"]["account"]
        assert (data["highest_rss_bytes"] == 2 * data["rss_bytes"]) is expected
        assert expected or data["highest_rss_bytes"] is None


@pytest.mark.parametrize(
    ("ending", "cause", "words"),
    [
        ("exited 0", "", ""),
        ("killed by SIGSEGV", "", "It was killed by SIGSEGV."),
        (
            "killed by SIGKILL",
            "cgroup /a reached its limit of 200 MiB",
            "It was killed by SIGKILL: cgroup /a reached its limit of 200 MiB.",
        ),
    ],
)
def test_how_it_ended(ending: str, cause: str, words: str) -> None:
    """A signal is named with its cause; an exit is not."""
    assert endings(single(1.0, ending, cause)) == words


@pytest.mark.parametrize(
    ("look", "words"),
    [
        ({}, "SIGSEGV."),
        ({"age_s": 3.0}, "SIGSEGV."),  # nothing changed
        ({"age_s": 0.02, "end_rss_bytes": 900 * MIB}, "SIGSEGV."),  # the program had no time
        (
            {"age_s": 3.0, "end_rss_bytes": 900 * MIB, "live_change_bytes": 300 * MIB},
            " 900 MiB were resident at the end, and 300 MiB more were live; load /srv/a.py:3 had grown most, by 310 MiB.",
        ),
        (
            {"age_s": 3.0, "end_rss_bytes": 90 * MIB, "live_change_bytes": None},
            " 90.0 MiB were resident at the end; load /srv/a.py:3 had grown most, by 310 MiB.",
        ),
        ({"rss_bytes": MIB, "end_rss_bytes": MIB}, " It had 1.00 MiB resident then: see --at end."),
    ],
)
def test_what_a_killed_process_had_at_its_end(look: dict[str, Any], words: str) -> None:
    """What an old look does not have is said, and where the end was far below the peak."""
    report = single(1.0, "killed by SIGSEGV")
    report = replace(report, account=replace(report.account, rss_bytes=600 * MIB))
    same: dict[str, Any] = {"rss_bytes": 600 * MIB, "end_rss_bytes": 600 * MIB, "age_s": 0.01}
    frame = Frame("load", "/srv/a.py", 3, None, "python")
    last = LastLook(0, 1.0, live_change_bytes=0, grown_frame=frame, grown_bytes=310 * MIB, **same)
    found = endings(replace(report, last_looks=(replace(last, **look),)))
    assert found.startswith("It was killed by SIGSEGV.")
    assert found.endswith(words)
    assert ("last read 3 s before, with 600 MiB resident" in found) is (" were resident" in words)


def test_the_account_of_an_old_look_is_not_that_of_the_end() -> None:
    """`--at end` of a killed process says that it has the last look."""
    report = replace(single(1.0, "killed by SIGKILL"), at=END)
    look = LastLook(0, 1.0, 4.0, 600 * MIB, 900 * MIB, 0)
    assert " resident at the end, " in first_sentence(report)
    assert " resident at the last look, " in first_sentence(replace(report, last_looks=(look,)))


def test_workers_that_are_told_to_end_are_not_named() -> None:
    """SIGTERM ends the workers of a pool; the OOM killer does not."""
    report = single(1.0)
    first = report.processes[0]
    worker = replace(first, index=1, pid=2, command="worker", ending="killed by SIGTERM")
    assert endings(replace(report, processes=(first, worker))) == ""
    killed = replace(worker, ending="killed by SIGKILL", cause="the machine ran out of memory")
    found = endings(replace(report, processes=(first, killed)))
    assert found == "worker (PID 2) was killed by SIGKILL: the machine ran out of memory."


def test_the_highest_sum_of_several_processes(tmp_path: Path) -> None:
    """RSS is summed while processes overlap, and the mark of the kernel counts for each."""

    def rows(*pairs: tuple[float, float]) -> NDArray[np.void]:
        found = np.zeros(len(pairs), TIMELINE_DTYPE)
        found["time_s"], found["rss_bytes"] = zip(*pairs, strict=True)
        return found

    write(tmp_path / "a.atlas")
    recording = read(tmp_path / "a.atlas")
    first, second = (
        Process(index, 10 + index, 1, None, "a", ("a",), 0.0, None, end_s=end)
        for index, end in ((0, 2.0), (1, 4.0))
    )
    recording.snapshots.clear()
    recording.timeline = {
        0: rows((0.0, 10 * MIB), (1.0, 30 * MIB)),
        1: rows((0.5, 5 * MIB), (1.5, 20 * MIB), (2.5, 40 * MIB)),
    }
    assert highest_rss(recording, [first, second]) == 50 * MIB
    assert highest_rss(recording, [replace(first, peak_rss_bytes=99 * MIB), second]) == 99 * MIB
    assert highest_rss(recording, []) == 0


def rows_of(time_rss: Sequence[tuple[float, float]]) -> NDArray[np.void]:
    """Return the samples of a process."""
    found = np.zeros(len(time_rss), TIMELINE_DTYPE)
    found["time_s"], found["rss_bytes"] = zip(*time_rss, strict=True)
    return found


def test_a_program_replaced_by_exec_does_not_add_up(tmp_path: Path) -> None:
    """The sample at the exec is the last of one program and the first of the next."""
    write(tmp_path / "a.atlas")
    recording = read(tmp_path / "a.atlas")
    first, second = (
        Process(index, 10, 1, None, "a", ("a",), start, None, end_s=end)
        for index, start, end in ((0, 0.0, 1.0), (1, 1.0, 2.0))
    )
    recording.snapshots.clear()
    recording.timeline = {
        0: rows_of([(0.0, 10 * MIB), (1.0, 30 * MIB)]),
        1: rows_of([(1.0, 20 * MIB), (1.5, 25 * MIB)]),
    }
    found = find_highest(recording, [first, second])
    assert (found.rss_bytes, found.processes) == (30 * MIB, 1)


def missed_recording(path: Path, *, execed: bool) -> RecordingData:
    """Return a recording of two processes, or one with two programs, whose peak no snapshot saw.

    The first had 80 MiB at 1.0 s, of which load() had 70; at the end, the second has 10 MiB.
    """
    write(path)
    recording = read(path)
    first, second = recording.processes[:2]
    first = replace(first, end_s=1.2 if execed else None, ending="exec" if execed else "running")
    second = replace(second, start_s=1.2, end_s=None, pid=first.pid if execed else second.pid)
    recording.processes[:] = [first, second]
    looks = [replace(each, rss_bytes=10 * MIB) for each in recording.snapshots[:1]]
    recording.snapshots[:] = [replace(each, process=1, time_s=1.4) for each in looks]
    recording.timeline = {
        0: rows_of([(0.0, 10 * MIB), (1.0, 80 * MIB), (1.1, 12 * MIB)]),
        1: rows_of([(1.2, 9 * MIB), (1.5, 10 * MIB)]),
    }
    recording.sharing.clear()
    recording.nodes[1], recording.frames[1] = recording.nodes[0], recording.frames[0]
    for index, totals in {0: recording.totals[0], 1: recording.totals[0]}.items():
        rows = np.zeros(1, totals.rows.dtype)
        rows["stack"], rows["kind"] = 2, 1
        rows["peak_bytes"] = 70 * MIB if index == 0 else 8 * MIB
        peak_s = 1.0 if index == 0 else 1.4
        recording.totals[index] = replace(
            totals,
            process=index,
            rows=rows,
            peak_live_bytes=float(rows["peak_bytes"][0]),
            peak_time_s=peak_s,
        )
    return recording


@pytest.mark.parametrize("execed", [True, False], ids=["exec", "processes"])
def test_a_missed_peak_of_several_programs(tmp_path: Path, *, execed: bool) -> None:
    """The first sentence tells it, and owners are of what was live at that moment in all processes together."""
    recording = missed_recording(tmp_path / "a.atlas", execed=execed)
    report = make_report(recording)
    account = report.account
    assert account.missed_peak
    assert (account.highest_rss_bytes, account.highest_time_s) == (80 * MIB, 1.0)
    assert report.main_metric == "peak"
    assert report.peak_live_bytes == 70 * MIB
    assert sum(each.peak_bytes for each in report.stacks) == 70 * MIB
    text = answer(report, lines(report.stacks, "peak"), "")
    assert "80.0 MiB resident at the peak, which was missed: the account has 10.0 MiB" in text
    assert "70.0 MiB were live then, at 1 s." in text
    assert "with 70.0 MiB" in text
    data = json.loads("".join(render_report(report, by="peak", top=1)))["data"]
    assert data["account"]["missed_peak"] is True
    assert data["account"]["highest_time_s"] == 1.0


def test_another_moment_by_choice_is_not_a_missed_peak(tmp_path: Path) -> None:
    """A snapshot saw the highest RSS, but the account is of the time with most memory of the processes' own."""
    report = make_report(missed_recording(tmp_path / "a.atlas", execed=False))
    chosen = replace(report.account, seen_rss_bytes=79 * MIB)
    assert not chosen.missed_peak
    assert not chosen.is_near
    text = first_sentence(replace(report, account=chosen))
    assert (
        "when memory other than files was highest, at 12 % of the highest RSS of 80.0 MiB" in text
    )


def test_a_peak_before_the_attach_is_not_of_the_run(tmp_path: Path) -> None:
    """VmHWM has the whole life of a process; only what rose after the attach is of the recording."""
    write(tmp_path / "run.atlas")
    recording = read(tmp_path / "run.atlas")
    parent = replace(recording.processes[0], peak_rss_bytes=200 * MIB)
    assert highest_rss(recording, [parent]) == 200 * MIB
    attached = replace(parent, attached=True, earlier_peak_rss_bytes=200 * MIB)
    seen = highest_rss(recording, [attached])
    assert 0 < seen < 100 * MIB
    assert highest_rss(recording, [replace(attached, peak_rss_bytes=300 * MIB)]) == 300 * MIB
    older = replace(attached, earlier_peak_rss_bytes=None)  # a recording without this fact
    assert highest_rss(recording, [older]) == seen
