"""Which limit the OOM killer killed a process at, from made-up files of the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mematlas.tracing.oom import OomWatch

if TYPE_CHECKING:
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
    assert found == "cgroup /outer reached its limit of 200 MiB"


@pytest.mark.parametrize("version", [1, 2])
def test_the_machine(tmp_path: Path, version: int) -> None:
    """Without a kill in its groups, the machine's counter tells; without that, nothing is said."""
    kernel = Kernel(tmp_path, version)
    watch = OomWatch(str(tmp_path))
    watch.see(PID)
    assert watch.forget(PID, is_suspected=True) == ""
    watch.see(PID)
    kernel.machine(1)
    assert watch.forget(PID, is_suspected=True) == "the machine ran out of memory"


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
