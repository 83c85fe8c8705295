"""Which limit the OOM killer killed a process at, from made-up files of the kernel."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from mematlas.tracing import oom
from mematlas.tracing.oom import OomWatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PID = 77
MOUNTS = {
    1: "30 20 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    2: "30 20 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
}


class Kernel:
    """Files below a root, for one process in /outer/inner."""

    def __init__(self, root: Path, version: int) -> None:
        """Write them, without any OOM kill."""
        self.root, self.version = root, version
        top = "sys/fs/cgroup/memory" if version == 1 else "sys/fs/cgroup"
        self.top = root / top
        self.write("proc/self/mountinfo", MOUNTS[version])
        self.write(
            f"proc/{PID}/cgroup", "4:memory:/outer/inner\n" if version == 1 else "0::/outer/inner\n"
        )
        self.machine(0)
        for path in ("", "outer", "outer/inner"):
            self.group(path, limit=200 << 20 if path == "outer" else None)

    def write(self, path: str, text: str) -> None:
        """Write a file below the root."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def machine(self, kills: int) -> None:
        """Write the machine's counter."""
        self.write("proc/vmstat", f"nr_free_pages 5\noom_kill {kills}\n")

    def log(self, *before: str, namespace: str = "pid:[4026531836]") -> Callable[[str, str], None]:
        """Write the kernel's log with some records, and return what adds a kill to it."""
        self.write("dev/kmsg", "")
        (self.root / "proc/self/ns").mkdir()
        (self.root / "proc/self/ns/pid").symlink_to(namespace)

        def add(constraint: str, rest: str) -> None:
            with (self.root / "dev/kmsg").open("a") as file:
                file.write(
                    f"6,7,20823258181,-;oom-kill:constraint={constraint},nodemask=(null),"
                    f"cpuset=/,mems_allowed=0,{rest}\n"
                )

        for each in before:
            add("CONSTRAINT_NONE", each)
        return add

    def group(self, path: str, *, limit: int | None = None, kills: int = 0, hits: int = 0) -> None:
        """Write the limit and the counters of a group."""
        folder = str((self.top / path).relative_to(self.root))
        if self.version == 1:
            self.write(f"{folder}/memory.limit_in_bytes", f"{limit or 9223372036854771712}\n")
            self.write(f"{folder}/memory.failcnt", f"{hits}\n")
            self.write(f"{folder}/memory.oom_control", f"under_oom 0\noom_kill {kills}\n")
            return
        self.write(f"{folder}/memory.max", f"{limit or 'max'}\n")
        self.write(f"{folder}/memory.events", f"max {hits}\noom {hits}\noom_kill {kills}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_an_outer_group(tmp_path: Path, version: int) -> None:
    """The kill is counted in the inner group, the limit is that of the outer one."""
    kernel = Kernel(tmp_path, version)
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    kernel.group("outer/inner", kills=1)
    kernel.group("outer", limit=200 << 20, kills=version - 1, hits=40)
    kernel.machine(1)
    found = watch.forget(PID, is_suspected=True)
    doubt = "probably " if version == 1 else ""
    assert found == f"{doubt}cgroup /outer reached its limit of 200 MiB"


@pytest.mark.parametrize("version", [1, 2])
def test_the_log_of_the_kernel_is_sure(tmp_path: Path, version: int) -> None:
    """The log names the group that ran out of memory, though an inner one was full as well."""
    kernel = Kernel(tmp_path, version)
    log = kernel.log(f"global_oom,task_memcg=/outer/inner,task=x,pid={PID},uid=0")
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    kernel.group("outer/inner", limit=100 << 20, kills=1, hits=9)
    kernel.group("outer", limit=200 << 20, kills=version - 1, hits=40)
    kernel.machine(1)
    log("CONSTRAINT_MEMCG", f"oom_memcg=/outer,task_memcg=/outer/inner,task=a,b,pid={PID},uid=0")
    log("CONSTRAINT_NONE", "global_oom,task_memcg=/elsewhere,task=x,pid=78,uid=0")
    found = watch.forget(PID, is_suspected=True)
    assert found == "cgroup /outer reached its limit of 200 MiB"


@pytest.mark.parametrize(
    ("constraint", "cause"),
    [
        ("CONSTRAINT_NONE", "the machine ran out of memory"),
        ("CONSTRAINT_CPUSET", "the memory nodes of its cpuset ran out of memory"),
    ],
)
def test_the_log_tells_that_no_group_was_full(tmp_path: Path, constraint: str, cause: str) -> None:
    """The failures that version 1 counts are then of reclaim."""
    kernel = Kernel(tmp_path, 1)
    log = kernel.log()
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    kernel.group("outer/inner", kills=1)
    kernel.group("outer", limit=200 << 20, hits=40)
    kernel.machine(1)
    log(constraint, f"global_oom,task_memcg=/outer/inner,task=x,pid={PID},uid=0")
    assert watch.forget(PID, is_suspected=True) == cause


def test_in_another_namespace_the_log_has_other_pids(tmp_path: Path) -> None:
    """There the counters tell."""
    kernel = Kernel(tmp_path, 1)
    log = kernel.log(namespace="pid:[4026532200]")
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    kernel.group("outer/inner", kills=1)
    kernel.group("outer", limit=200 << 20, hits=40)
    kernel.machine(1)
    log("CONSTRAINT_NONE", f"global_oom,task_memcg=/elsewhere,task=x,pid={PID},uid=0")
    assert watch.forget(PID, is_suspected=True).startswith("probably cgroup /outer")


@pytest.mark.parametrize("version", [1, 2])
def test_the_machine(tmp_path: Path, version: int) -> None:
    """Only where no group of the process has a limit: elsewhere an unseen outer one may have been reached."""
    kernel = Kernel(tmp_path, version)
    kernel.group("outer")
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    assert watch.forget(PID, is_suspected=True) == ""
    watch.see(PID)
    kernel.machine(1)
    kernel.group("outer/inner", kills=1)
    assert watch.forget(PID, is_suspected=True) == "the machine ran out of memory"


@pytest.mark.parametrize("version", [1, 2])
def test_a_kill_elsewhere(tmp_path: Path, version: int) -> None:
    """The machine counts kills of all groups; a kill of this process would count in its own."""
    kernel = Kernel(tmp_path, version)
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    kernel.machine(1)
    assert watch.forget(PID, is_suspected=True) == ""


def test_an_old_kernel_counts_for_the_machine_only(tmp_path: Path) -> None:
    """Groups of version 1 have no counter of kills before Linux 4.13."""
    kernel = Kernel(tmp_path, 1)
    for path in ("", "outer/", "outer/inner/"):
        kernel.write(f"sys/fs/cgroup/memory/{path}memory.oom_control", "under_oom 0\n")
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    kernel.machine(1)
    assert watch.forget(PID, is_suspected=True) == "the machine ran out of memory"


def test_reclaim_at_the_limit_is_no_oom(tmp_path: Path) -> None:
    """A group that often reaches its limit is not the cause of a kill by the machine."""
    kernel = Kernel(tmp_path, 2)
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    kernel.machine(1)
    kernel.write("sys/fs/cgroup/outer/memory.events", "max 9\noom 0\noom_kill 1\n")
    kernel.write("sys/fs/cgroup/outer/inner/memory.events", "max 0\noom 0\noom_kill 1\n")
    found = watch.forget(PID, is_suspected=True)
    assert found == "the OOM killer killed a process of its cgroup"


@pytest.mark.parametrize(("own", "cause"), [
    (0, "the OOM killer killed a process of its cgroup"),
    (1, "cgroup /outer reached its limit of 200 MiB"),
])  # fmt: skip
def test_a_limit_below_that_is_gone(tmp_path: Path, own: int, cause: str) -> None:
    """Version 2 counts in /outer what ran out in a group below, which was removed at once: its own count tells."""
    kernel = Kernel(tmp_path, 2)
    events = "sys/fs/cgroup/outer/memory.events"
    kernel.write(f"{events}.local", "max 0\noom 0\noom_kill 0\n")
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    shutil.rmtree(tmp_path / "sys/fs/cgroup/outer/inner")
    kernel.machine(1)
    kernel.write(events, "max 9\noom 1\noom_kill 1\n")
    kernel.write(f"{events}.local", f"max {own}\noom {own}\noom_kill 0\n")
    assert watch.forget(PID, is_suspected=True) == cause


def test_a_kill_before_the_last_look(tmp_path: Path) -> None:
    """Of another process of the same group."""
    kernel = Kernel(tmp_path, 2)
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    kernel.machine(1)
    kernel.group("outer/inner", kills=1)
    kernel.group("outer", limit=200 << 20, kills=1, hits=40)
    watch.see(PID)
    assert watch.forget(PID, is_suspected=True) == ""


@pytest.mark.parametrize("kills_before", [0, 1])
def test_processes_of_one_group_share_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills_before: int
) -> None:
    """As long as nothing was killed: a kill before the second process was seen is not its own."""
    monkeypatch.setattr(oom, "_SHARED_S", 60.0)
    kernel, second = Kernel(tmp_path, 2), PID + 1
    kernel.write(f"proc/{second}/cgroup", "0::/outer/inner\n")
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    kernel.machine(kills_before)
    kernel.group("outer/inner", kills=1)
    kernel.group("outer", limit=200 << 20, kills=1, hits=40)
    watch.see(second)
    kernel.machine(kills_before + 1)
    told = "" if kills_before else "cgroup /outer reached its limit of 200 MiB"
    assert watch.forget(second, is_suspected=True) == told


def test_a_zombie_is_in_no_group_of_version_1(tmp_path: Path) -> None:
    """The kernel shows `/` for it, which is not where it was killed."""
    kernel = Kernel(tmp_path, 1)
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    kernel.write(f"proc/{PID}/cgroup", "4:memory:/\n2:cpu:/\n0::/init\n")
    watch.see(PID)
    kernel.group("outer/inner", kills=1)
    kernel.group("outer", limit=200 << 20, hits=1)
    assert "limit of 200 MiB" in watch.forget(PID, is_suspected=True)


def test_an_orderly_end_reads_nothing(tmp_path: Path) -> None:
    """A process that waited for its last snapshot was not killed, whatever counters say."""
    kernel = Kernel(tmp_path, 2)
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    kernel.machine(1)
    assert watch.forget(PID, is_suspected=False) == ""
