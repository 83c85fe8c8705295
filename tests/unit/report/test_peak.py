"""How near the account is to the peak, and how processes ended, in words and numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mematlas.recording import read
from mematlas.recording.model import TIMELINE_DTYPE, Process
from mematlas.report import run_facts
from mematlas.report.analyse.highest import highest_rss
from mematlas.report.analyse.lines import lines
from mematlas.report.answer import answer
from mematlas.report.endings import endings
from mematlas.report.json_writer import render_report
from reports import native_program
from synthetic_recording import write

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

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
