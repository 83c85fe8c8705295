"""PSS and USS of forked processes, compared with the kernel and with what the program knows it shares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mematlas.recording import read
from mematlas.recording.model import PartKind
from traced_runs import PROGRAMS, ask, named, stopped_snapshots, trace, trace_stopping
from waiting import wait_until

if TYPE_CHECKING:
    from conftest import Build

MIB = 1 << 20
ROUNDING = 256  # of 4 processes' parts to whole bytes
PAGES = 16 * 4096  # of blocks that do not begin at a page, and of the allocator around them
OTHERS = 256 << 10  # of libraries, which processes map that come and go


def rollup(pid: int) -> dict[str, int]:
    """Return the figures of smaps_rollup in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def is_seen_stopped(file: Path, pid: int) -> bool:
    """Return whether the recording has a snapshot of the stopped process."""
    pids = {each.index: each.pid for each in read(file).processes}
    return any(pids[each.process] == pid for each in stopped_snapshots(file))


@pytest.mark.parametrize("options", [("--exact",), ()], ids=["exact", "sampled"])
def test_shared_memory_counts_once(build: Build, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Of stopped processes, PSS and USS equal the kernel's, and what forks share belongs to its line once."""
    kernel: dict[int, dict[str, int]] = {}
    file = tmp_path / "stop.atlas"

    def look(pid: int) -> None:
        wait_until(lambda: is_seen_stopped(file, pid), "a snapshot of the stopped parent")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        kernel.update({each: rollup(each) for each in (pid, *map(int, children))})

    run = trace_stopping(file, [build("prefork")], *options, look=look)
    recording = read(run.file)
    pids = {each.index: each.pid for each in recording.processes}
    stopped = next(  # the parent stops last
        each for each in recording.snapshots if each.trigger == "stopped" and not each.process
    )
    moment = [each for each in recording.snapshots if each.moment_s == stopped.moment_s]
    assert {pids[each.process] for each in moment} == set(kernel)
    for each in moment:
        truth = kernel[pids[each.process]]
        sharing = recording.sharing[each.process, each.time_s]
        private = truth["Private_Clean"] + truth["Private_Dirty"]
        assert each.rss_bytes == pytest.approx(truth["Rss"], abs=OTHERS)  # reclaim takes file pages
        assert each.unexplained_bytes == 0
        assert sharing.pss_bytes == pytest.approx(truth["Pss"], abs=OTHERS)
        assert sharing.uss_bytes == pytest.approx(private, abs=OTHERS)
        cow = {part.name: part.resident_bytes for part in each.parts if part.kind == PartKind.COW}
        assert cow["4 processes"] == pytest.approx(20 * MIB, abs=PAGES + OTHERS)
    report = ask("report", str(run.file), "--json")
    account = report["account"]
    assert report["by"] == account["sum"] == "pss"
    assert account["processes"] == 4
    parts = sum(part["resident_bytes"] for part in account["parts"])
    assert parts + account["unexplained_bytes"] == account["pss_bytes"]
    assert abs(account["unexplained_bytes"]) <= ROUNDING
    assert account["pss_bytes"] == pytest.approx(
        sum(each["Pss"] for each in kernel.values()), abs=4 * OTHERS
    )
    assert line_sum(report, "pss_bytes", "base") == pytest.approx(36 * MIB, abs=PAGES)
    assert line_sum(report, "uss_bytes", "base") == pytest.approx(16 * MIB, abs=PAGES)
    assert line_sum(report, "resident_bytes", "base") == pytest.approx(96 * MIB, abs=PAGES)
    if options:
        assert line_sum(report, "pss_bytes", "own") == pytest.approx(9 * MIB, abs=PAGES)


def line_sum(report: dict[str, list[dict[str, object]]], figure: str, function: str) -> int:
    """Return the sum of a figure over the stacks of a function."""
    return sum(
        stack[figure]  # type: ignore[misc]
        for stack in report["stacks"]
        if any(named(frame, function) for frame in stack["frames"])  # type: ignore[attr-defined]
    )


def test_a_pool_that_forks(tmp_path: Path) -> None:
    """Data made before a Pool forks is put down once, and workers that are killed at once are told of."""
    program = PROGRAMS / "fork_pool.py"
    run = trace(tmp_path / "pool.atlas", [sys.executable, program, "close"])
    report = ask("report", str(run.file), "--json")
    assert report["account"]["sum"] == "pss"
    assert line_sum(report, "pss_bytes", "make_base") == pytest.approx(25 * MIB, abs=PAGES)
    run = trace(tmp_path / "pool.atlas", [sys.executable, program, "terminate"])
    report = ask("report", str(run.file), "--json")
    had = line_sum(report, "live_bytes", "heavy") + sum(
        each["live_bytes"] for each in report["own_peaks"] if each["frame"]["function"] == "heavy"
    )
    assert had == pytest.approx(30 * MIB, rel=0.1)
    assert "heavy" in run.stderr
