"""All processes, by /proc/PID/stat and smaps_rollup: one pass, no process read twice."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from mematlas import _core
from mematlas.linux.process import ENDED_ERRORS
from mematlas.linux.shared_mm import list_pids

SORTS = ("pss", "uss", "rss", "swap", "thp", "faults")


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process. Sizes in bytes; None: the kernel refused, or it ended meanwhile (`note` says)."""

    pid: int
    parent_pid: int
    uid: int
    name: str
    command: str
    state: str
    threads: int
    rss: int
    pss: int | None
    uss: int | None
    swap: int | None  # swapped shared memory too
    thp: int | None
    hugetlb: int | None  # not part of rss, pss, uss
    pss_anonymous: int | None
    pss_file: int | None
    pss_shared: int | None
    minor_faults: int  # since it began
    major_faults: int
    cgroup: str | None
    same_mm_as: int | None  # it has the address space of this process (CLONE_VM): count once
    note: str = ""

    def metric(self, name: str) -> int:
        """Value to sort by; what is unknown comes last."""
        if name == "faults":
            return self.minor_faults + self.major_faults
        value = getattr(self, name)
        return -1 if value is None else int(value)


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """Every process with memory of its own, and how many could not be read."""

    processes: tuple[ProcessRow, ...]
    kernel_threads: int
    denied: int
    exited: int


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """Processes of one user or cgroup added up, address spaces that are shared counted once."""

    name: str
    processes: int
    rss: int  # shared pages count once per process here
    pss: int  # of those that are known, like the next two
    uss: int
    swap: int
    unknown: int  # processes that were refused or ended: not in pss, uss and swap


_FIELD = re.compile(rb"^(\w+): +(\d+) kB$", re.MULTILINE)
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD
DENIED = "denied: needs CAP_SYS_PTRACE, or to be its user"
EXITED = "exited while it was read"


class Stat(NamedTuple):
    """What /proc/PID/stat tells of memory. Its second field may hold spaces and parentheses."""

    name: str
    state: str
    parent: int
    flags: int
    minor_faults: int
    major_faults: int
    threads: int
    started: (
        int  # clock ticks after the machine's start: with the PID, it names one process for ever
    )
    size: int
    rss: int
    code: int
    stack: int

    @property
    def kernel_thread(self) -> bool:
        """Tell whether it is part of the kernel: no address space of its own."""
        return bool(self.flags & _KERNEL_THREAD)


class Detail(NamedTuple):
    """What costs more to read than /proc/PID/stat, or hardly ever changes."""

    uid: int
    command: str
    cgroup: str | None
    sizes: dict[bytes, int]
    note: str


def read(root: str = "/", *, commands: bool = True, cgroups: bool = False) -> ProcessTable:
    """Read every process. None is left out for being refused; its row says so."""
    rows, kernel_threads, exited = [], 0, 0
    spaces: dict[tuple[int, int, int], list[int]] = {}
    for pid in list_pids(root):
        path = f"{root}/proc/{pid}"
        try:
            stat = read_stat(path)
            uid = os.stat(path).st_uid  # noqa: PTH116
        except OSError:
            exited += 1
            continue
        if stat.kernel_thread:
            kernel_threads += 1
            continue
        sizes, note = read_sizes(path, stat)
        rows.append(
            make_row(
                pid,
                stat,
                Detail(
                    uid=uid,
                    command=read_command(path) if commands else "",
                    cgroup=read_cgroup(path) if cgroups else None,
                    sizes=sizes,
                    note=note,
                ),
                find_same_mm(pid, stat, spaces) if root == "/" else None,
            )
        )
    return ProcessTable(
        processes=tuple(rows),
        kernel_threads=kernel_threads,
        denied=sum(row.note == DENIED for row in rows),
        exited=exited + sum(row.note == EXITED for row in rows),
    )


def read_stat(path: str) -> Stat:
    """Read the stat file in a process's directory; an OSError if it has ended."""
    return parse_stat(_read(f"{path}/stat"))


def parse_stat(text: bytes) -> Stat:
    """Parse /proc/PID/stat: what follows the last parenthesis has no surprises."""
    name = text[text.index(b"(") + 1 : text.rindex(b")")]
    words = text[text.rindex(b")") + 2 :].split()
    return Stat(
        name=name.decode("utf-8", "surrogateescape"),
        state=words[0].decode(),
        parent=int(words[1]),
        flags=int(words[6]),
        minor_faults=int(words[7]),
        major_faults=int(words[9]),
        threads=int(words[17]),
        started=int(words[19]),
        size=int(words[20]),
        rss=int(words[21]) * _core.PAGE,
        code=int(words[23]),
        stack=int(words[25]),
    )


def with_command(row: ProcessRow, root: str = "/") -> ProcessRow:
    """Give a row its command line, for those that are shown; it may have ended meanwhile."""
    command = read_command(f"{root}/proc/{row.pid}")
    return replace(row, command=command or row.name)


def read_command(path: str) -> str:
    """Read the command line; empty for kernel threads, zombies and what has ended."""
    return _read_text(f"{path}/cmdline").rstrip("\0").replace("\0", " ")


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
    return data


def _read_text(path: str) -> str:
    try:
        return _read(path).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def make_row(pid: int, stat: Stat, detail: Detail, twin: int | None) -> ProcessRow:
    """Join what was read of one process."""
    sizes = detail.sizes
    return ProcessRow(
        pid=pid,
        parent_pid=stat.parent,
        uid=detail.uid,
        name=stat.name,
        command=detail.command or stat.name,
        state=stat.state,
        threads=stat.threads,
        rss=sizes.get(b"Rss", stat.rss),
        pss=sizes.get(b"Pss"),
        uss=_sum(sizes, b"Private_Clean", b"Private_Dirty"),
        swap=sizes.get(b"Swap"),
        thp=_sum(sizes, b"AnonHugePages", b"ShmemPmdMapped", b"FilePmdMapped"),
        hugetlb=_sum(sizes, b"Shared_Hugetlb", b"Private_Hugetlb"),
        pss_anonymous=sizes.get(b"Pss_Anon"),
        pss_file=sizes.get(b"Pss_File"),
        pss_shared=sizes.get(b"Pss_Shmem"),
        minor_faults=stat.minor_faults,
        major_faults=stat.major_faults,
        cgroup=detail.cgroup,
        same_mm_as=twin,
        note=detail.note,
    )


def read_sizes(path: str, stat: Stat) -> tuple[dict[bytes, int], str]:
    """Read smaps_rollup, which walks the page table; or why it told nothing."""
    if stat.state in "ZX":
        return {}, "zombie: it has ended, and has no memory"
    try:
        text = _read(f"{path}/smaps_rollup")
    except OSError as error:
        return {}, EXITED if error.errno in ENDED_ERRORS else DENIED
    return {match[1]: int(match[2]) * 1024 for match in _FIELD.finditer(text)}, ""


def _sum(sizes: dict[bytes, int], *names: bytes) -> int | None:
    known = [sizes[name] for name in names if name in sizes]
    return sum(known) if known else None


def read_cgroup(path: str) -> str | None:
    """Path of the memory cgroup: version 1 if its controller is there, else version 2."""
    unified = None
    for line in _read_text(f"{path}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return path
        if not controllers:
            unified = path
    return unified


def find_same_mm(pid: int, stat: Stat, spaces: dict[tuple[int, int, int], list[int]]) -> int | None:
    """Find an earlier process with the very same address space; only look-alikes are asked."""
    key = (stat.size, stat.code, stat.stack)
    alike = spaces.setdefault(key, [])
    if stat.size:
        for other in alike:
            try:
                if _core.same_address_space(other, pid):
                    return other
            except OSError:
                continue
    alike.append(pid)
    return None
