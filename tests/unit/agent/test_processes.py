"""Processes of a made-up tree: which PSS is read next, what is an estimate, and how many are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._core import PAGE
from mematlas.agent.metrics import Sums, _bounded, _sum_up
from mematlas.agent.watch import processes as module
from mematlas.agent.watch.hung import Readings
from mematlas.agent.watch.processes import Process, Processes

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

KTHREAD = 0x00200000


def write(
    root: Path, pid: int, rss: int, pss: int | None = None, started: int = 5, flags: int = 0, state: str = "S"
) -> None:  # fmt: skip
    """Write the files of a process; sizes in bytes."""
    folder = root / "proc" / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    words = [
        state,
        1,
        1,
        1,
        0,
        -1,
        flags,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        20,
        0,
        1,
        0,
        started,
        1 << 30,
        rss // PAGE,
    ]
    rest = [0] * 30
    (folder / "stat").write_text(f"{pid} (app {pid}) " + " ".join(map(str, words + rest)) + "\n")
    (folder / "cmdline").write_bytes(b"app\0--x\0")
    (folder / "cgroup").write_text("0::/a\n")
    if pss is not None:
        (folder / "smaps_rollup").write_text(
            f"0-1 ---p 0 00:00 0 [rollup]\nRss: {rss >> 10} kB\nPss: {pss >> 10} kB\nPss_Anon: 4 kB\n"
        )


def read(processes: Processes, now: float) -> None:
    """Read all processes."""
    processes.begin_round()
    while not processes.read_some(now, lambda: True):
        pass


def test_what_changed_most_is_read_next(tmp_path: Path) -> None:
    """Unread ones by RSS, then by what changed since; never the same within a minute."""
    for pid, size in ((10, 40), (11, 80), (12, 20)):
        write(tmp_path, pid, size << 20, size << 19)
    write(tmp_path, 2, 0, flags=KTHREAD)
    processes = Processes(str(tmp_path))
    read(processes, 0.0)
    assert sorted(processes.by_pid) == [10, 11, 12]
    order = []
    while (process := processes.next_pss(1.0)) is not None:
        processes.read_pss(process, 1.0)
        order.append(process.pid)
    assert order == [11, 10, 12]
    write(tmp_path, 12, 90 << 20, 45 << 20)
    read(processes, 70.0)
    changed = processes.by_pid[12]
    assert changed.pss == (10 + 70) << 20  # as read, and what RSS changed
    assert changed.estimated == 70 << 20
    assert processes.next_pss(70.0) is changed
    processes.read_pss(changed, 70.0)
    assert (changed.pss, changed.estimated) == (45 << 20, 0)


def test_thousands_of_processes_are_ranked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A choice does not look at all of them."""
    for pid in range(10, 210):
        write(tmp_path, pid, pid << 20, pid << 19)
    processes = Processes(str(tmp_path))
    read(processes, 0.0)
    ranked: list[int] = []
    urgency = module._urgency

    def counted(each: Process, now: float) -> float:
        ranked.append(each.pid)
        return urgency(each, now)

    monkeypatch.setattr(module, "_urgency", counted)
    for pid in range(209, 201, -1):
        process = processes.next_pss(8.0)
        assert process is processes.next_pss(8.0) is processes.by_pid[pid]
        processes.read_pss(process, 8.0)
    assert len(ranked) == 200


def test_unknown_is_not_zero(tmp_path: Path) -> None:
    """A process whose PSS cannot be read counts as unread."""
    write(tmp_path, 10, 8 << 20)
    write(tmp_path, 11, 8 << 20, 4 << 20)
    processes = Processes(str(tmp_path))
    read(processes, 0.0)
    for process in list(processes):
        processes.read_pss(process, 0.0)
    assert 10 not in processes.by_pid or processes.by_pid[10].pss is None
    sums = _sum_up(processes, lambda _: "all")["all"]
    assert sums.pss == 4 << 20
    assert sums.unread == sums.processes - 1


def test_another_process_with_the_same_pid(tmp_path: Path) -> None:
    """It has nothing of the one before, which is kept for a report."""
    write(tmp_path, 10, 8 << 20, 4 << 20)
    processes = Processes(str(tmp_path))
    read(processes, 0.0)
    before = processes.by_pid[10]
    processes.read_pss(before, 0.0)
    write(tmp_path, 10, 1 << 20, 1 << 20, started=6)
    read(processes, 1.0)
    assert processes.by_pid[10] is not before
    assert processes.by_pid[10].sizes is None
    assert list(processes.gone) == [before]
    write(tmp_path, 10, 0, started=6, state="Z")
    read(processes, 2.0)
    assert not processes.by_pid


def test_the_number_of_processes_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those beyond are counted."""
    monkeypatch.setattr(module, "MOST", 3)
    for pid in range(10, 18):
        write(tmp_path, pid, 1 << 20)
    processes = Processes(str(tmp_path))
    read(processes, 0.0)
    assert len(processes.by_pid) == 3
    assert processes.left_out == 5


def test_sums_with_few_labels_add_up() -> None:
    """Whatever is shown, the sum is that of all processes; a shared address space counts once."""
    every = [
        Process.restored([pid, 1, 0, f"n{pid % 7}", "", "/", pid << 10]) for pid in range(1, 50)
    ]
    every[5].same_as = every[4].pid
    sums = _sum_up(every, lambda process: process.name)
    found = _bounded(sums, {"n1", "n2"})
    assert set(found) == {"n1", "n2", "other"}
    whole = Sums()
    for each in found.values():
        whole.add_sums(each)
    assert whole.processes == 48
    assert whole.rss == sum(each.rss for each in every) - every[5].rss


def test_a_process_that_hung_an_agent_is_not_read_again(tmp_path: Path) -> None:
    """The agent was killed while it read: the next ones leave that process alone, and the others not."""
    write(tmp_path, 10, 8 << 20, 4 << 20)
    write(tmp_path, 11, 8 << 20, 4 << 20)
    for _ in range(2):
        before = Readings(str(tmp_path))
        with before.of(11, 5):
            pass
        before.close()
    assert before.hung == set()
    during = Readings(str(tmp_path))
    with during.of(10, 5):
        left = (tmp_path / "reading").read_bytes()
    during.close()
    (tmp_path / "reading").write_bytes(left)  # as a kill at that time leaves it
    for _ in range(2):
        readings = Readings(str(tmp_path))
        assert readings.hung == {(10, 5)}
        processes = Processes(str(tmp_path), readings=readings)
        read(processes, 0.0)
        assert (processes.by_pid[10].command, processes.by_pid[11].command) == ("", "app --x")
        assert processes.next_pss(1.0) is processes.by_pid[11]
        processes.read_pss(processes.by_pid[11], 1.0)
        assert processes.next_pss(1.0) is None
        readings.close()
    write(tmp_path, 10, 8 << 20, 4 << 20, started=6)  # another process
    read(processes, 2.0)
    assert processes.by_pid[10].command == "app --x"
