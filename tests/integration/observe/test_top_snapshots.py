"""`mematlas top` without its UI: one snapshot, and recordings that survive damage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mematlas.errors import MematlasError, TargetError
from mematlas.linux import processes
from mematlas.observe.top.rates import process_rates
from mematlas.observe.top.read import TopSampler
from mematlas.observe.top.snapshots import SnapshotReader, SnapshotWriter
from terminal import print_in_terminal
from waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from mematlas.observe.top.model import MachineSnapshot, ProcessSnapshot

TOP = (sys.executable, "-m", "mematlas", "top")
GROW = """
import sys
blocks = []
for line in sys.stdin:
    blocks.append(b"x" * (int(line) << 20))
    print(len(blocks), flush=True)
"""


def of(snapshot: MachineSnapshot, pid: int) -> ProcessSnapshot:
    """Return the row of a process."""
    return next(each for each in snapshot.processes if each.row.pid == pid)


def grow(process: subprocess.Popen[str], mib: int) -> None:
    """Make the process allocate more memory, and wait for it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{mib}\n")
    process.stdin.flush()
    process.stdout.readline()


@pytest.fixture
def growing() -> object:
    """Start a process that allocates memory on request."""
    with subprocess.Popen(
        [sys.executable, "-c", GROW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        grow(process, 1)
        yield process
        process.kill()


def test_sizes_are_those_of_ps(growing: subprocess.Popen[str]) -> None:
    """For an idle process, a snapshot and one pass of `ps` agree in every field."""
    for _ in range(50):  # PSS and USS change with other processes
        snapshot = TopSampler().read(None)
        table = processes.read(cgroups=True)
        sampled = of(snapshot, growing.pid).row
        listed = next(row for row in table.processes if row.pid == growing.pid)
        if sampled == listed:
            break
    assert sampled == listed


def test_growth_is_seen_at_once_and_pages_are_walked_on_demand(
    growing: subprocess.Popen[str],
) -> None:
    """RSS is current for all processes; PSS is current for requested ones and has an age for the others."""
    sampler = TopSampler(budget_s=0.0)
    first = sampler.read([growing.pid])
    assert first.cost.page_walks == 1
    assert of(first, os.getpid()).read_at is None
    assert of(first, os.getpid()).row.pss is None
    grow(growing, 50)
    second = sampler.read(())
    old, new = of(first, growing.pid), of(second, growing.pid)
    assert second.cost.page_walks == 0
    # The kernel batches the count per CPU, so stat deviates by up to a few hundred KiB.
    assert abs(new.row.rss - old.row.rss - (50 << 20)) < 4 << 20
    assert (new.row.pss, new.read_at) == (old.row.pss, first.clock_s)
    fresh = new
    while fresh.read_at == first.clock_s:  # the pause is 20 times the duration of the last walk
        third = sampler.read([growing.pid])
        fresh = of(third, growing.pid)
    assert fresh.read_at == third.clock_s
    rise = (fresh.row.pss or 0) - (old.row.pss or 0)
    assert rise >= 48 << 20  # PSS of its libraries changes too


def test_a_process_that_stands_still_does_not_grow(growing: subprocess.Popen[str]) -> None:
    """An idle process never shows growth, not at its first page walk either."""
    sampler, before = TopSampler(budget_s=0.0), None
    for wanted in ((), (), (growing.pid,), (growing.pid,), (), (growing.pid,)):
        after = sampler.read(wanted)
        if before is not None:
            rates = process_rates(before, after)[of(after, growing.pid).key]
            assert rates.growth in {0.0, None}
        before = after


def test_everyone_gets_a_turn() -> None:
    """With a budget of about one page walk per snapshot, all processes are walked eventually."""
    sampler = TopSampler(budget_s=1e-9)
    for _ in range(1000):
        snapshot = sampler.read(())
        assert snapshot.cost.page_walks <= 1
        if not any(
            each.read_at is None and not each.row.note and each.row.rss
            for each in snapshot.processes
        ):
            return
    pytest.fail("some process was never read")


def test_what_was_recorded_is_what_is_read(tmp_path: Path) -> None:
    """Recorded snapshots are read back equal: forwards, backwards and at random, across sessions."""
    path, sampler, written = tmp_path / "a.top", TopSampler(), []
    for _ in range(2):
        with SnapshotWriter(path, {}) as recorder:
            for _ in range(60):  # more than between two WHOL chunks
                with subprocess.Popen(["true"]):
                    written.append(sampler.read(()))
                recorder.add(written[-1])
    found = SnapshotReader(path)
    assert len(found) == len(written) == 120
    for number in [*range(120), *range(119, -1, -1), 7, 100, 7, 8, 7]:
        wanted, got = written[number], found[number]
        assert got.session == number // 60
        assert got.processes == tuple(sorted(wanted.processes, key=lambda each: each.key))
        assert (got.meminfo, got.vmstat, got.stalls) == (
            wanted.meminfo, wanted.vmstat, wanted.stalls,
        )  # fmt: skip
    found.close()


def test_any_cut_is_a_prefix_and_can_be_appended_to(tmp_path: Path) -> None:
    """A recording truncated anywhere reads up to its last complete snapshot, and can be appended to."""
    path, sampler = tmp_path / "a.top", TopSampler()
    ends = []
    with SnapshotWriter(path, {}) as recorder:
        for _ in range(4):
            recorder.add(sampler.read(()))
            ends.append(path.stat().st_size)
    data = path.read_bytes()
    for cut in range(ends[0], len(data), 37):
        path.write_bytes(data[:cut])
        found = SnapshotReader(path)
        assert len(found) == sum(end <= cut for end in ends)
        found.close()
    with SnapshotWriter(path, {}) as recorder:
        recorder.add(sampler.read(()))
    found = SnapshotReader(path)
    assert [each.session for each in found] == [0] * (len(found) - 1) + [1]
    found.close()


def test_two_cannot_write_one_file(tmp_path: Path) -> None:
    """A second writer on the same file fails, and other files are not read as recordings."""
    path = tmp_path / "a.top"
    with SnapshotWriter(path, {}), pytest.raises(MematlasError, match="another mematlas"):
        SnapshotWriter(path, {})
    other = tmp_path / "notes.txt"
    other.write_text("do not overwrite this, please")
    with pytest.raises(TargetError, match="not a recording"):
        SnapshotWriter(other, {})
    assert other.read_text() == "do not overwrite this, please"
    with pytest.raises(TargetError, match="no complete snapshot"):
        SnapshotReader(path)
    with pytest.raises(TargetError, match="no file"):
        SnapshotReader(tmp_path / "none")


def test_killed_while_recording(tmp_path: Path) -> None:
    """Kill -9 leaves a recording with all snapshots taken."""
    path = tmp_path / "a.top"
    command = [*TOP, "--record", str(path), "--interval", "100ms"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as recording:
        wait_until(lambda: path.exists() and path.stat().st_size > 8000, "some snapshots")
        recording.kill()
    found = SnapshotReader(path)
    assert any(each.row.pid == recording.pid for each in found[len(found) - 1].processes)
    found.close()


def test_interrupted_recording_ends_well(tmp_path: Path) -> None:
    """Ctrl-C ends a recording with exit code 0 and a line with the number of snapshots."""
    path = tmp_path / "a.top"
    command = [*TOP, "--record", str(path), "--interval", "100ms"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as recording:
        assert recording.stderr is not None
        recording.stderr.readline()
        wait_until(lambda: path.exists() and path.stat().st_size >= 3000, "a snapshot")
        recording.send_signal(signal.SIGINT)
        said = recording.stderr.read()
    assert recording.returncode == 0
    assert "snapshots" in said


def test_command_line(tmp_path: Path, growing: subprocess.Popen[str]) -> None:
    """--once works as text and JSON, live and replayed; --at selects the snapshot."""
    path = tmp_path / "a.top"
    subprocess.run([*TOP, "--record", path, "--count", "3", "--interval", "1s"], check=True)
    answer = json.loads(subprocess.check_output([*TOP, "--replay", path, "--json"]))
    assert answer["schema"] == "mematlas/top/1"
    row = next(
        each for each in answer["data"]["processes"] if each["process"]["pid"] == growing.pid
    )
    assert row["rates"]["minor"] == 0
    first = json.loads(subprocess.check_output([*TOP, "--replay", path, "--json", "--at", "100ms"]))
    assert first["data"]["time_s"] <= answer["data"]["time_s"] - 1
    assert first["data"]["pressure"]["faults"] is None
    live = json.loads(subprocess.check_output([*TOP, "--json", "--interval", "100ms"]))
    (own,) = [each for each in live["data"]["processes"] if each["process"]["pid"] == os.getpid()]
    assert own["process"]["pss"] > 0
    assert own["rates"] is not None
    for more in ([], ["--group", "user"], ["--tree"], ["--replay", str(path)]):
        text = print_in_terminal([*TOP, "--once", *more])
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    "options",
    [
        ["--record", "a", "--replay", "b"],
        ["--count", "3"],
        ["--at", "3s"],
        ["--interval", "1ms"],
    ],
)
def test_what_makes_no_sense_is_refused(options: list[str]) -> None:
    """Options that exclude each other, or lack another option, end with exit code 2."""
    result = subprocess.run([*TOP, *options], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("mematlas: ")
