"""All processes from /proc/PID/stat and /proc/PID/smaps_rollup, in one pass."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from mematlas import _core
from mematlas.errors import MematlasError
from mematlas.linux.held_files import mapped_files, read_held
from mematlas.linux.process import ENDED_ERRORS, open_process
from mematlas.linux.shared_mm import list_pids

SORTS = ("pss", "uss", "rss", "swap", "thp", "faults")


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process. Sizes in bytes; None: access was denied or the process ended (`note` says which)."""

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
    swap: int | None  # includes swapped shared memory, which VmSwap leaves out
    thp: int | None
    hugetlb: int | None  # not part of rss, pss or uss
    pss_anonymous: int | None
    pss_file: int | None
    pss_shared: int | None
    minor_faults: int  # since the process started
    major_faults: int
    cgroup: str | None
    same_mm_as: int | None  # PID of an earlier process with the same address space (CLONE_VM)
    note: str = ""
    held: int | None = None  # bytes of memory that its descriptors hold and it does not map

    def metric(self, name: str) -> int:
        """Return the value to sort by; unknown values sort last."""
        if name == "faults":
            return self.minor_faults + self.major_faults
        value = getattr(self, name)
        return -1 if value is None else int(value)


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """All processes with an address space, and the numbers of those that could not be read."""

    processes: tuple[ProcessRow, ...]
    kernel_threads: int
    denied: int
    exited: int


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """Sums over the processes of one user or cgroup. A shared address space counts once."""

    name: str
    processes: int
    rss: int  # a shared page counts once per process
    pss: int  # pss, uss and swap are sums over the processes with known values
    uss: int
    swap: int
    unknown: int  # processes without known pss, uss and swap


_FIELD = re.compile(rb"^(\w+): *(\d+) kB$", re.MULTILINE)
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD
DENIED = "denied: needs CAP_SYS_PTRACE or the same user"
EXITED = "exited while it was read"


class Stat(NamedTuple):
    """Fields of /proc/PID/stat (proc_pid_stat(5))."""

    name: str
    state: str
    parent: int
    flags: int
    minor_faults: int
    major_faults: int
    threads: int
    started: int  # clock ticks after boot; together with the PID it identifies a process
    size: int
    rss: int
    code: int
    stack: int

    @property
    def kernel_thread(self) -> bool:
        """Return whether this is a kernel thread (PF_KTHREAD), which has no address space."""
        return bool(self.flags & _KERNEL_THREAD)


class Detail(NamedTuple):
    """Attributes that cost more to read than /proc/PID/stat, or rarely change."""

    uid: int
    command: str
    cgroup: str | None
    sizes: dict[bytes, int]
    note: str


def read(root: str = "/", *, commands: bool = True, cgroups: bool = False) -> ProcessTable:
    """Read all processes. A process that denies access keeps its row, with a note.

    `commands` and `cgroups` choose whether command lines and cgroup paths are read.
    """
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


def with_held(row: ProcessRow, root: str = "/") -> ProcessRow:
    """Return the row with the memory that its descriptors alone hold; None where that cannot be read."""
    try:
        with open_process(row.pid, root) as process:
            held = read_held(process, lambda: mapped_files(process))
    except MematlasError:
        return row
    return row if held is None else replace(row, held=sum(each.bytes for each in held))


def read_stat(path: str) -> Stat:
    """Read the stat file in a process's directory. Raises OSError if the process has ended."""
    return parse_stat(_read(f"{path}/stat"))


def read_started(pid: int) -> int | None:
    """Return when a process started, in clock ticks after boot; None if it has ended."""
    try:
        return read_stat(f"/proc/{pid}").started
    except (OSError, ValueError):
        return None


def is_running(path: str, started: int) -> bool:
    """Return whether the process that started then runs: it is no zombie, and no other has its directory."""
    try:
        stat = read_stat(path)
    except (OSError, ValueError):
        return False
    return stat.started == started and stat.state not in "ZX"


def parse_stat(text: bytes) -> Stat:
    """Parse /proc/PID/stat. The name may contain spaces and parentheses, so fields follow the last one."""
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
    """Return the row with its command line, or with its name if the process has ended."""
    command = read_command(f"{root}/proc/{row.pid}")
    return replace(row, command=command or row.name)


def read_command(path: str) -> str:
    """Read the command line; empty for kernel threads, zombies and ended processes."""
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


def make_row(pid: int, stat: Stat, detail: Detail, same_mm_as: int | None) -> ProcessRow:
    """Build the row of one process from its parts."""
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
        same_mm_as=same_mm_as,
        note=detail.note,
    )


def read_sizes(path: str, stat: Stat) -> tuple[dict[bytes, int], str]:
    """Read smaps_rollup in bytes by field, and a note that is empty or gives the reason for no fields.

    The kernel walks the page tables of the process.
    """
    if stat.state in "ZX":
        return {}, "zombie: it has ended and has no memory"
    try:
        text = _read(f"{path}/smaps_rollup")
    except OSError as error:
        return {}, EXITED if error.errno in ENDED_ERRORS else DENIED
    return parse_sizes(text), ""


def parse_sizes(text: bytes) -> dict[bytes, int]:
    """Parse smaps_rollup into bytes by field."""
    words = text[text.find(b"\n") + 1 :].replace(b":", b" ").split()
    if words[2::3].count(b"kB") * 3 == len(words):  # "Rss", "4", "kB": all that kernels print
        return dict(zip(words[::3], [int(word) << 10 for word in words[1::3]], strict=True))
    return {match[1]: int(match[2]) * 1024 for match in _FIELD.finditer(text)}


def _sum(sizes: dict[bytes, int], *names: bytes) -> int | None:
    known = [sizes[name] for name in names if name in sizes]
    return sum(known) if known else None


def read_cgroup(path: str) -> str | None:
    """Return the path of the memory cgroup: of version 1 if its controller is mounted, else of version 2."""
    unified = None
    for line in _read_text(f"{path}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return path
        if not controllers:
            unified = path
    return unified


def find_same_mm(pid: int, stat: Stat, spaces: dict[tuple[int, int, int], list[int]]) -> int | None:
    """Return an earlier process with the same address space, or None.

    kcmp(2) compares only processes with equal VSZ, code and stack addresses; `spaces` collects them.
    """
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
