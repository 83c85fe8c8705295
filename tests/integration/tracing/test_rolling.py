"""Rolling recordings: segments, their limits, what a kill leaves, looks that are kept."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from killed_recordings import KILLED, check_files, kill_round
from mematlas.errors import UsageError
from mematlas.linux.file_lock import is_locked
from mematlas.recording import read
from mematlas.recording.model import Sampling
from mematlas.recording.row_types import ALIVE, LIFETIMES
from mematlas.recording.segments import list_segments
from mematlas.tracing import loop, rotation
from mematlas.tracing.follow import Follower
from mematlas.tracing.output import begun_recording, open_recording, write_names
from mematlas.tracing.rolling import RollingWriter
from mematlas.tracing.settings import TraceSettings

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Build
    from mematlas.recording import Writer

_LEAK = """
import time
held = []
def grow():
    held.append(bytearray(1 << 20))
def temporary():
    return [bytearray(100_000) for _ in range(10)]
for _ in range(120):
    grow(), temporary(), time.sleep(0.1)
"""


def _run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mematlas", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.fixture(scope="module")
def leak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a growing program for 12 s in segments of 5 s, with a look at 40 MiB."""
    folder = tmp_path_factory.mktemp("rolling")
    (folder / "leak.py").write_text(_LEAK)
    told = _run(
        *("run", "--exact", "--keep", "4m", "--when", "rss > 60M", "-o", "leak.atlas"),
        *("--", sys.executable, "leak.py"),
        cwd=folder,
    )
    (folder / "told").write_text(told.stderr)
    return folder


def test_segments_are_read_as_one(leak: Path) -> None:
    """Sums, live memory, lifetimes and windows are those of the whole run."""
    recording = read(leak / "leak.atlas")
    assert recording.complete
    assert recording.segment
    assert recording.segment.last >= 3
    rows = np.asarray(recording.totals[0].rows)
    grown = rows[rows["peak_bytes"] >= 100 << 20]
    assert len(grown) == 1
    assert grown["allocations"][0] == 120
    assert grown["peak_count"][0] >= 119
    assert grown["freed_bytes"][0] == grown["allocated_bytes"][0]  # by the interpreter, at its end
    temporary = rows[(rows["allocations"] == 1200) & (rows["allocated_bytes"] >= 1200 * 100_000)]
    assert len(temporary) == 1
    assert temporary["freed_bytes"][0] == temporary["allocated_bytes"][0]
    lived = np.asarray(recording.lifetimes[0])
    of_stack = lived[lived["stack"] == temporary["stack"][0]]
    assert sum(of_stack[name][0] for name in LIFETIMES) == 1200
    ages = np.asarray(recording.age_matrix[0].rows)
    held = ages[(ages["died"] == ALIVE) & (ages["stack"] == grown["stack"][0])]
    assert held["count"].sum() == 120
    assert len(np.unique(held["born"])) >= 60  # of all segments
    times = recording.timeline[0]["time_s"]
    assert (np.diff(times) >= 0).all()


def test_reports_of_a_folder(leak: Path) -> None:
    """Report, leaks, diff, export and a single segment open; a time of day is the recording as it was then."""
    report = _run("report", "leak.atlas", cwd=leak).stdout
    assert "grow  leak.py:5" in report
    assert "120 MiB" in _run("leaks", "leak.atlas", cwd=leak).stdout
    begin = dt.datetime.fromisoformat(read(leak / "leak.atlas").started)
    then = (begin + dt.timedelta(seconds=4)).isoformat()
    early = _run("report", "leak.atlas", "--at", then, cwd=leak).stdout
    assert "grow  leak.py:5" in early
    assert early != report
    change = _run("diff", f"leak.atlas@{then}", "leak.atlas", cwd=leak).stdout
    assert re.search(r"\+(?:[4-9]\d|1[01]\d)(?:\.\d)? MiB +grow  leak.py:5", change)


def test_a_look_is_kept(leak: Path) -> None:
    """When the condition becomes true, a file is kept, and the command that is printed opens it."""
    line = next(
        each for each in (leak / "told").read_text().splitlines() if "a look is kept" in each
    )
    assert line.startswith("mematlas: rss > 60M: a look is kept: mematlas report leak.atlas/look-")
    command = line.partition("mematlas report ")[2].split()
    assert "grow  leak.py:5" in _run("report", *command, cwd=leak).stdout
    looks = read(leak / command[0])
    assert looks.objects[0].names
    assert max(each.rss_bytes for each in looks.snapshots) > 60 << 20


def test_a_second_run_goes_on_in_the_folder(tmp_path: Path) -> None:
    """A service that starts again keeps what was recorded before; the last run is shown."""
    for size in (1, 2):
        code = f"x = bytearray({size} << 24)"
        _run("run", "--keep", "1h", "-o", "service", "--", sys.executable, "-c", code, cwd=tmp_path)
    assert {each.run for each in list_segments(tmp_path / "service")} == {1, 2}
    assert read(tmp_path / "service").command[-1] == "x = bytearray(2 << 24)"


HEADER = {
    "command": ["x"],
    "started": "2026-11-30T10:00:00.000+00:00",
    "machine": {},
    "sampling": Sampling("exact", 0, 1.0),
}


def writer_of(folder: Path, disk_bytes: int = 64 << 20) -> RollingWriter:
    """Begin a run."""
    return RollingWriter(str(folder), HEADER, keep_s=3600.0, disk_bytes=disk_bytes)


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    """Two would remove each other's segments; what nobody recorded into leaves no run."""
    folder = tmp_path / "rolling"
    first = writer_of(folder)
    with pytest.raises(UsageError, match="another mematlas records into"):
        writer_of(folder)
    assert is_locked(folder)
    first.finish()
    assert not is_locked(folder)
    second = writer_of(folder)
    assert len(list_segments(folder)) == 2
    second.discard()
    assert [each.run for each in list_segments(folder)] == [1]
    third = writer_of(tmp_path / "new")
    third.discard()
    assert not (tmp_path / "new").exists()


def test_what_a_killed_recorder_left_goes(tmp_path: Path) -> None:
    """Files that were not complete, and those that another file has joined; files of others stay."""
    left = (".0001-000001-000003.atlas.77", ".look-20261130T101010.atlas.77", "0001-000002.atlas")
    others = (".0001.atlas.77", "0001-000001-000003.atlas", "notes.txt")
    for name in (*left, *others):
        (tmp_path / name).write_bytes(b"")
    writer = writer_of(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {*others, "0002-000001.atlas"}
    writer.discard()


def test_looks_do_not_push_out_what_is_recorded(tmp_path: Path) -> None:
    """They take a quarter of the disk at most; the last one always stays."""
    (tmp_path / "0001-000001.atlas").write_bytes(bytes(1 << 20))
    for number in range(6):
        (tmp_path / f"look-20261130T10000{number}.atlas").write_bytes(bytes(1 << 20))
    writer = writer_of(tmp_path, 8 << 20)
    writer.trim()
    looks = sorted(each.name for each in tmp_path.glob("look-*"))
    assert looks == ["look-20261130T100004.atlas", "look-20261130T100005.atlas"]
    assert [each.run for each in list_segments(tmp_path)] == [1, 2]
    writer.discard()


def test_a_recording_that_does_not_begin_leaves_no_run(tmp_path: Path) -> None:
    """As where attach is refused: the folder would show a run without a process."""
    settings = TraceSettings(keep_s=3600.0, disk_bytes=64 << 20)
    folder = tmp_path / "rolling"

    def fail() -> None:
        with begun_recording(str(folder), ["x"], settings):
            assert list_segments(folder)
            raise ProcessLookupError

    with pytest.raises(ProcessLookupError):
        fail()
    assert not folder.exists()


@pytest.mark.parametrize("what", KILLED)
def test_all_files_open_after_a_kill(what: str, tmp_path: Path) -> None:
    """SIGKILL of the recorder, the program or all leaves a recording; `scripts/kill-rolling` does it 100 times."""
    history = kill_round(tmp_path, what, 0.5)
    assert check_files(tmp_path / "rolling", history) > 0


def test_full_churn_leaves_little(build: Build, tmp_path: Path) -> None:
    """Of 10^5 distinct stacks in a few seconds the files stay below the limit; `scripts/soak-rolling` goes on."""
    program = build("stack_churn")
    folder = tmp_path / "rolling"
    words = ("run", "--exact", "--keep", "24h", "--disk", "4M", "-o", str(folder), "--")
    done = _run(*words, str(program), "17000", "8", "4096", cwd=tmp_path)
    count = int(done.stdout)
    recording = read(folder)
    assert recording.complete
    assert recording.segment
    assert recording.segment.last > 1
    rows = np.asarray(recording.totals[0].rows)
    assert rows["live_count"].sum() >= 1024
    known = recording.segment.past.allocations + rows["allocations"].sum()
    assert count <= known < count + 1000  # the oldest segments are gone, and their sums are not
    assert sum(each.bytes for each in list_segments(folder)) <= 5 << 20


def test_ended_children_are_forgotten(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that forks for weeks: nothing of an ended child stays in memory, all of it in the recording."""
    program, folder = build("forks"), tmp_path / "rolling"
    settings = TraceSettings(keep_s=3600.0, disk_bytes=64 << 20, exact=True)
    followers: list[Follower] = []
    writers: list[Writer] = []
    finish = Follower.finish

    def open_writer(_pid: int) -> Writer:
        writers.append(open_recording(str(folder), ["forks", "storm"], settings))
        return writers[0]

    def forget_and_finish(self: Follower, *end: int | None) -> None:
        finish(self, *end)
        assert self._rotation
        self._rotation.look()
        followers.append(self)
        known = self._recorders
        assert all(not each.ended or each.pid == self._pid for each in known.values())
        assert set(self._families) == set(known)
        assert not self._rotation._gone
        for index in range(self._traced):
            if index not in known:
                with pytest.raises(OSError, match="No such process"):
                    self._collector.process(index)

    monkeypatch.setattr(rotation, "_STATUS_S", -1.0)
    monkeypatch.setattr(rotation, "_REMOVE_S", -1.0)
    monkeypatch.setattr(Follower, "finish", forget_and_finish)
    result = loop.run([str(program), "storm"], settings, open_writer)
    assert (result.status, result.failure) == (5, None)
    assert len(followers[0]._recorders) < 100 < followers[0]._traced
    recording = write_names(writers[0], str(folder))
    assert len(recording.processes) == followers[0]._traced
    assert all(each.ending != "running" for each in recording.processes)
    child = max(each.index for each in recording.processes)
    assert recording.totals[child].rows["allocated_bytes"].sum() >= 300_000
