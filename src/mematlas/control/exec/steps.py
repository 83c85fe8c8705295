"""Settings that this process applies to itself before it executes the program."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas._core import LeftKind
from mematlas.control.exec.after_exec import LIMITS, NO_ASLR, format_limit, list_numbers
from mematlas.errors import AccessError, MematlasError, UnsupportedError, UsageError
from mematlas.linux import hugepages
from mematlas.linux.cpulist import parse_list
from mematlas.memory.headroom import read_node_headroom
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

NODES = Path("/sys/devices/system/node")
POLICIES = {"preferred": 1, "membind": 2, "interleave": 3, "weighted": 6}
_LIMIT_MEANINGS = {
    "memlock": "limit of locked memory",
    "stack": "limit of the main thread's stack",
    "as": "limit of the address space; mappings beyond it fail",
}
_MEANINGS = {
    "membind": "pages come from these nodes only; beyond what they can give, the OOM killer ends a process",
    "preferred": "pages come from this node while it has free ones",
    "interleave": "pages are spread over these nodes in turn",
    "weighted": "pages are spread by the weights in /sys/kernel/mm/mempolicy",
}
_LIBRARY = "libmematlas_lock.so"
_OPTIONS = {"aslr": "--no-aslr", "locked": "--lock-all", "malloc": "--huge"}
_NOT_PRELOADED = {
    LeftKind.STATIC: "static",
    LeftKind.OTHER_LIBC: "built for another C library than glibc",
    LeftKind.FOREIGN: "for 32 bits or another processor",
    LeftKind.SANITIZED: "built with a sanitizer, whose runtime must come first",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One property of the process: the wanted value, as after_exec.read() formats it, and how to set it."""

    name: str
    wanted: str
    call: str
    meaning: str
    apply: Callable[[], None]


def policy(kind: str, nodes: list[int]) -> Step:
    """Return the step that sets the NUMA memory policy.

    UsageError if a node has no memory. set_mempolicy(2).
    """
    present = parse_list((NODES / "has_memory").read_text()) if NODES.exists() else [0]
    absent = sorted(set(nodes) - set(present))
    if absent:
        raise UsageError(
            f"node {list_numbers(absent)} has no memory here; nodes with memory: {list_numbers(present)}"
        )
    if kind == "preferred" and len(nodes) != 1:
        raise UsageError("--preferred takes one node; use --interleave for several")

    def apply() -> None:
        try:
            _core.set_policy(POLICIES[kind], nodes)
        except OSError as error:
            hint = "; it needs kernel 6.9" if kind == "weighted" else ""
            raise UnsupportedError(f"--{kind} is refused: {error.strerror}{hint}") from None

    wanted = f"{kind} {list_numbers(nodes)}"
    return Step("policy", wanted, "set_mempolicy(2)", _MEANINGS[kind] + _room(kind, nodes), apply)


def _room(kind: str, nodes: list[int]) -> str:
    """Return what the only nodes of a program can give now; "" where other nodes help out."""
    room = read_node_headroom(nodes) if kind == "membind" else None
    if room is None:
        return ""
    return f"; now {format_bytes(room.size)}, of free memory, page cache and swap"


def cpu_nodes(nodes: list[int]) -> Step:
    """Return the step that binds to the CPUs of nodes.

    UsageError if a node, or an allowed CPU, is missing.
    """
    cpus: set[int] = set()
    for node in nodes:
        try:
            cpus.update(parse_list((NODES / f"node{node}" / "cpulist").read_text()))
        except FileNotFoundError:
            raise UsageError(f"there is no node {node}; see {NODES}") from None
    allowed = sorted(cpus & os.sched_getaffinity(0))
    if not allowed:
        raise UsageError(f"node {list_numbers(nodes)} has no CPU that this process may use")
    return Step(
        "cpus",
        list_numbers(allowed),
        "sched_setaffinity(2)",
        f"the program runs on the CPUs of node {list_numbers(nodes)}",
        lambda: os.sched_setaffinity(0, allowed),
    )


def huge(kind: str) -> Step:
    """Return the step that puts malloc's memory in huge pages (thp, 2M), or disables THP (never).

    Raises:
        UnsupportedError: the C library is not glibc 2.35 or later.
        MematlasError: this machine has no such pages.
    """
    if kind == "never":
        return Step(
            "thp",
            "off",
            "prctl(PR_SET_THP_DISABLE)",
            "no transparent huge pages; inherited by children",
            lambda: _core.disable_thp(disable=True),
        )
    _check_glibc()
    if kind == "thp":
        hugepages.check_available(hugepages.parse_kind("thp"))
        value, meaning = 1, "malloc marks its memory MADV_HUGEPAGE (glibc only)"
    else:
        pages = hugepages.parse_kind(kind)
        try:
            hugepages.check_available(pages, pages.size)
        except hugepages.PagesUnavailableError as error:
            raise MematlasError(f"{error}, or use --huge thp") from None
        pool = hugepages.read_pool(pages.size)
        free = pool.available if pool else 0
        value, meaning = 2, f"malloc uses hugetlb pages, of which {free} are free, then small pages"

    def apply() -> None:
        tunables = [
            each
            for each in os.environ.get("GLIBC_TUNABLES", "").split(":")
            if each and not each.startswith("glibc.malloc.hugetlb=")
        ]
        os.environ["GLIBC_TUNABLES"] = ":".join([*tunables, f"glibc.malloc.hugetlb={value}"])

    return Step("malloc", kind, "GLIBC_TUNABLES", meaning, apply)


def no_aslr() -> Step:
    """Return the step that disables address space randomization. personality(2)."""
    return Step(
        "aslr",
        "off",
        "personality(2)",
        "the same addresses on every run, which helps attackers too",
        lambda: _core.add_personality(NO_ASLR),
    )


def oom_score(value: int) -> Step:
    """Return the step that sets the OOM score adjustment.

    UsageError out of -1000 to 1000. proc(5).
    """
    if not -1000 <= value <= 1000:
        raise UsageError("--oom-score must be from -1000 (never killed) to 1000 (killed first)")

    def apply() -> None:
        try:
            Path("/proc/self/oom_score_adj").write_text(str(value))
        except PermissionError:
            raise AccessError(
                f"--oom-score {value} is lower than this process may set; it needs CAP_SYS_RESOURCE"
            ) from None

    order = "sooner" if value > 0 else "later" if value > -1000 else "never"
    meaning = f"killed {order} when memory runs out; inherited by children"
    return Step("oom-score", str(value), "/proc/self/oom_score_adj", meaning, apply)


def limit(name: str, size: int | None) -> Step:
    """Return the step that sets a resource limit: the soft one, and the hard one if it is lower.

    `size` is in bytes; None: unlimited. setrlimit(2).
    """
    number, meaning = LIMITS[name], _LIMIT_MEANINGS[name]
    value = resource.RLIM_INFINITY if size is None else size
    _, hard = resource.getrlimit(number)
    above = hard != resource.RLIM_INFINITY and (size is None or size > hard)

    def apply() -> None:
        try:
            resource.setrlimit(number, (value, value if above else hard))
        except (ValueError, PermissionError):
            raise AccessError(
                f"--{name} {format_limit(value)} is above the hard limit, {format_limit(hard)}; raising it needs "
                "CAP_SYS_RESOURCE, or an entry in /etc/security/limits.conf"
            ) from None

    return Step(name, format_limit(value), "setrlimit(2)", meaning, apply)


def lock_all() -> Step:
    """Return the step that has a preloaded library lock the program's memory: locks do not survive exec.

    Raises:
        MematlasError: the library is missing.
        UsageError: LD_PRELOAD cannot hold its path.
    """
    found = Path(str(resources.files("mematlas").joinpath(_LIBRARY)))
    if not found.exists():
        raise MematlasError(f"{found} is missing; reinstall mematlas")
    if any(each in str(found) for each in " :;"):
        raise UsageError(f"{found}: LD_PRELOAD cannot hold a path with a space, colon or semicolon")

    def apply() -> None:
        preloaded = os.environ.get("LD_PRELOAD", "")
        os.environ["LD_PRELOAD"] = f"{found}:{preloaded}" if preloaded else str(found)
        os.environ["MEMATLAS_LOCK_ALL"] = str(os.getpid())

    meaning = "pages stay in memory once touched"
    return Step("locked", "all", "LD_PRELOAD, mlockall(2)", meaning, apply)


def read_malloc() -> str:
    """Allocate a large block and return the kind of pages that hold it, from smaps."""
    from mematlas.linux import smaps

    if "glibc.malloc.hugetlb" not in os.environ.get("GLIBC_TUNABLES", ""):
        return "default"
    block = memoryview(bytearray(8 << 20))
    address = _core.address_of(block) + (4 << 20)
    for mapping in smaps.read(os.getpid())[0]:
        if mapping.start <= address < mapping.end:
            return (
                "2M"
                if "ht" in mapping.flags
                else "thp"
                if "hg" in mapping.flags
                else hugepages.BASE.name
            )
    return "unknown"


def _check_glibc() -> None:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        recent = name == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)
    except ValueError:
        recent = False
    if not recent:
        raise UnsupportedError(
            "--huge needs glibc 2.35 or later; this C library has no such malloc"
        )


def refusal(name: str, left: LeftKind) -> str:
    """Return why a setting cannot take effect in a program of a kind; "": it can, or nobody knows."""
    if left is LeftKind.PRIVILEGED and name in ("aslr", "locked", "malloc"):
        return f"{_OPTIONS[name]} has no effect on a program that gains privileges (set-user-ID or file capabilities)"
    if name == "locked" and left in _NOT_PRELOADED:
        return (
            "--lock-all works by a preloaded library, and the program loads none: it is "
            f"{_NOT_PRELOADED[left]}; it must call mlockall(2) itself"
        )
    return ""
