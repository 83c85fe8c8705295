"""Reads a memory cgroup: its figures, processes, files and page frames."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.errors import MematlasError
from mematlas.linux import cgroup, cgroup_members, machine, processes
from mematlas.linux.process import open_process
from mematlas.linux.status import read_status
from mematlas.observe.cgroup_account.files import MOST_FILES, ChargedFiles
from mematlas.observe.cgroup_account.model import CgroupReading, Member
from mematlas.present import progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.linux.cgroup import CgroupLevel
    from mematlas.observe.cgroup_account.model import ChargedFile

_INTERPRETERS = re.compile(r"(python|pypy|node|ruby|perl|php|bash|sh|dash|java)[\d.]*$")
_TRIES = 10  # to count the threads of the machine while none are started
_CHANGE = 0.05  # of their number, meanwhile
_OWNER = "needs root"
_NEEDS = "needs CAP_SYS_ADMIN (run as root)"


def read_cgroup(level: CgroupLevel, trees: Sequence[str] = ()) -> CgroupReading:
    """Read the members, files and frames of a group of the running kernel; `level` was read just before.

    `trees` are directories whose files may be cached for the group, though no process has them open.
    """
    usage_after = cgroup.read_usage(level)
    inodes = frozenset(cgroup_members.read_names(level.directory))
    pids = cgroup_members.read_pids(level.directory)
    notes: list[str] = []
    progress.step("reading the processes of the group")
    found = [_member(pid) for pid in pids]
    members = tuple(each for each in found if each is not None)
    progress.step("counting the cached pages of files")
    files, files_known = _read_files(inodes, [each.pid for each in members], trees, notes)
    return CgroupReading(
        level=level,
        usage_after=usage_after,
        usage_end=cgroup.read_usage(level),
        members=members,
        unread=len(found) - len(members),
        files=files,
        files_known=files_known,
        frames=_read_frames(inodes, notes) if level.version == 1 else None,
        stack_bytes=_kernel_stack(),
        batch_bytes=cgroup.charged_ahead(),
        notes=tuple(notes),
        swap_bytes=_read_meminfo().get("SwapTotal", 0),
    )


def _member(pid: int) -> Member | None:
    """Read one process; None if it ended. A kernel thread or zombie has no memory."""
    path = f"/proc/{pid}"
    try:
        with open_process(pid) as process:
            stat = processes.read_stat(path)
            sizes, _ = processes.read_sizes(path, stat)
            status = read_status(process)
            adjustment = int(process.read("oom_score_adj"))
    except (OSError, MematlasError, ValueError):
        return None
    if not status.has_memory:
        return None
    command = processes.read_command(path)
    counted = sum(status.sizes.get(name, 0) for name in ("VmRSS", "VmSwap", "VmPTE"))
    return Member(
        pid=pid,
        name=_named(stat.name, command),
        command=command or stat.name,
        threads=stat.threads,
        anonymous=sizes.get(b"Pss_Anon"),
        shared=sizes.get(b"Pss_Shmem"),
        counted=counted,
        oom_score_adj=adjustment,
    )


def _named(name: str, command: str) -> str:
    """Return the name of a program, with the script or module that an interpreter runs."""
    if not _INTERPRETERS.match(name):
        return name
    words = command.split()[1:]
    if "-m" in words[:-1]:
        return f"{name} -m {words[words.index('-m') + 1]}"
    script = next((each for each in words if not each.startswith("-")), "")
    return f"{name} {os.path.basename(script)}" if script and "-c" not in words else name  # noqa: PTH119


def _read_files(
    inodes: frozenset[int], pids: Sequence[int], trees: Sequence[str], notes: list[str]
) -> tuple[tuple[ChargedFile, ...], bool]:
    """Return the files, and whether the pages of all files that are open in the group are counted."""
    files = ChargedFiles(inodes)
    try:
        for pid in pids:
            files.add_process(pid)
        for tree in trees:
            files.add_tree(tree)
        if not files.exact:
            notes.append(f"which group the pages of a file are charged to: hidden, {_NEEDS}")
        if files.left_out:
            notes.append(
                f"{files.left_out:,} mounts or directories have more than {MOST_FILES:,} files, which were left out"
            )
        if files.unasked:
            notes.append(
                f"{files.unasked:,} open or mapped files were not looked at: their file systems may never answer"
                " (of servers and users), or are of another user namespace"
            )
        if files.exact and files.uncounted:
            notes.append(f"pages of {files.uncounted:,} files could not be counted")
        if files.refused:
            notes.append(f"open files of {files.refused} processes: hidden, {_OWNER}")
        missed = files.refused or files.unasked or files.uncounted
        return files.sorted(), files.exact and not missed
    finally:
        files.close()


def _read_frames(inodes: frozenset[int], notes: list[str]) -> dict[str, int] | None:
    """Count the frames charged to the groups by kind, in bytes. One pass over the machine's memory."""
    progress.step("reading the groups of all page frames")
    try:
        with (
            open("/proc/kpagecgroup", "rb", buffering=0) as groups,  # noqa: PTH123
            open("/proc/kpageflags", "rb", buffering=0) as flags,  # noqa: PTH123
        ):
            found = _core.read_charged_frames(groups.fileno(), flags.fileno(), inodes)
    except OSError:
        notes.append(f"page tables, kernel stacks and buffers of the group: hidden, {_NEEDS}")
        return None
    return {
        name: pages * _core.PAGE for name, pages in found._asdict().items() if name != "looked_at"
    }


def _kernel_stack() -> int:
    """Return the bytes of a thread's stack in the kernel: all stacks by all threads, to a power of two; 0: unknown.

    Programs that start or end thousands of threads meanwhile make the quotient wrong, so threads are counted
    before and after.
    """
    stacks = before = after = 0
    with suppress(OSError, ValueError, IndexError):
        for _ in range(_TRIES):
            before = _count_threads()
            stacks = _read_meminfo().get("KernelStack", 0)
            after = _count_threads()
            if abs(after - before) <= _CHANGE * before:
                break
    if not stacks or not before:
        return 0
    return int(2 ** round(math.log2(2 * stacks / (before + after))))


def _read_meminfo() -> dict[str, int]:
    return machine.parse_meminfo(machine.Tree("/").text("proc/meminfo"))


def _count_threads() -> int:
    """Count the threads of the machine."""
    return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
