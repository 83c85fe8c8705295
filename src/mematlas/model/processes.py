"""All processes of a machine at one moment: what `mematlas ps` shows."""

from __future__ import annotations

from dataclasses import dataclass

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
    twin_of: int | None  # it has the address space of this process (CLONE_VM): count once
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
