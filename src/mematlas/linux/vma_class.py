"""The class of each VMA, from its name, its flags and the ELF headers of mapped files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from mematlas.linux.mappings import Permission

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.linux.mappings import Mapping
    from mematlas.linux.process_info import ProcessInfo
    from mematlas.linux.program import Program


class VmaClass(StrEnum):
    """The class of a VMA."""

    TEXT = "text"  # read-only segments of the program: code and constants
    DATA = "data"  # writable segments of the program
    BSS = "bss"  # zero-initialised variables of the program
    HEAP = "heap"
    STACK = "stack"  # of the main thread
    THREAD_STACK = "thread stack"
    LIBRARY = "library"  # any other file with an executable mapping, including its data and BSS
    FILE = "file"
    SHARED = "shared"  # shared anonymous memory, memfd, System V shared memory, /dev/shm
    ANONYMOUS = "anonymous"
    HUGETLB = "hugetlb"
    RESERVED = "reserved"  # PROT_NONE: stack guard pages, reserved address space
    KERNEL = "kernel"  # vdso, vvar, vsyscall


@dataclass(frozen=True, slots=True)
class Amounts:
    """Sizes of one or several mappings in bytes. None: this kernel does not report the field."""

    size: int
    rss: int
    pss: int | None
    uss: int | None
    swap: int | None
    thp: int | None  # mapped by a PMD; smaller large folios are not included
    hugetlb: int | None  # not part of rss, pss or uss
    locked: int | None


@dataclass(frozen=True, slots=True)
class Vma:
    """One mapping with its class. `threads` are the TIDs whose stack pointer lies in it."""

    start: int
    end: int
    permissions: Permission
    offset: int
    kind: VmaClass
    name: str
    threads: tuple[int, ...]
    amounts: Amounts


_KERNEL_NAMES = (b"[vdso]", b"[vvar", b"[vsyscall]", b"[vectors]", b"[uprobes]", b"[sigpage]")
_SHARED_PREFIXES = (b"/memfd:", b"/dev/shm/", b"/SYSV", b"/dev/zero", b"[anon_shmem:")
_NAMED = {b"[heap]": VmaClass.HEAP, b"[stack]": VmaClass.STACK}
_ACCESS = Permission.READ | Permission.WRITE | Permission.EXECUTE


class _Hints(NamedTuple):
    """Process-wide information that classifying one mapping needs."""

    program: Program | None
    libraries: frozenset[
        tuple[tuple[int, int], int]
    ]  # (device, inode) of files with an executable mapping
    loaded: tuple[Program, ...]
    stack_pointers: dict[int, int]  # by TID


def classify_vmas(info: ProcessInfo) -> Iterator[Vma]:
    """Classify every mapping of a process, in address order."""
    hints = _Hints(
        program=info.program,
        libraries=frozenset(
            (row.device, row.inode)
            for row in info.mappings
            if row.inode and row.permissions & Permission.EXECUTE
        ),
        loaded=info.libraries,
        stack_pointers={
            thread.tid: thread.stack_pointer for thread in info.threads if thread.stack_pointer
        },
    )
    for mapping in info.mappings:
        threads = tuple(
            tid
            for tid, pointer in hints.stack_pointers.items()
            if mapping.start <= pointer < mapping.end
        )
        kind, name = _classify(mapping, hints, threads)
        yield Vma(
            start=mapping.start,
            end=mapping.end,
            permissions=mapping.permissions,
            offset=mapping.offset,
            kind=kind,
            name=name,
            threads=threads,
            amounts=measure(mapping),
        )


def _classify(mapping: Mapping, hints: _Hints, threads: tuple[int, ...]) -> tuple[VmaClass, str]:
    name = printable(mapping.name)
    if mapping.name.startswith(_KERNEL_NAMES):
        return VmaClass.KERNEL, name
    if "ht" in mapping.flags or mapping.fields.get("KernelPageSize", 4096) >= 1 << 20:
        return VmaClass.HUGETLB, name
    if mapping.inode or mapping.name.startswith(b"/"):
        return _classify_file(mapping, hints, name)
    if mapping.name.startswith(_SHARED_PREFIXES) or mapping.permissions & Permission.SHARED:
        return VmaClass.SHARED, name
    return _classify_anonymous(mapping, hints, threads)


def _classify_file(mapping: Mapping, hints: _Hints, name: str) -> tuple[VmaClass, str]:
    program = hints.program
    if mapping.name.startswith(_SHARED_PREFIXES):
        return VmaClass.SHARED, name
    if program and (mapping.device, mapping.inode) == (program.device, program.inode):
        writable = any(
            segment.writable and segment.start < mapping.end and mapping.start < segment.end
            for segment in program.segments
        )
        return VmaClass.DATA if writable else VmaClass.TEXT, name
    if (mapping.device, mapping.inode) in hints.libraries:
        return VmaClass.LIBRARY, name
    return VmaClass.FILE, name


def _classify_anonymous(  # noqa: PLR0911 - one return per rule; the order is the precedence
    mapping: Mapping, hints: _Hints, threads: tuple[int, ...]
) -> tuple[VmaClass, str]:
    if mapping.name in _NAMED:
        return _NAMED[mapping.name], ""
    if mapping.name:
        return VmaClass.ANONYMOUS, printable(mapping.name)
    if not mapping.permissions & _ACCESS:
        return VmaClass.RESERVED, ""
    if hints.program and _is_bss(mapping, hints.program):
        return VmaClass.BSS, ""
    if threads:
        return VmaClass.THREAD_STACK, ""
    library = next((each for each in hints.loaded if _is_bss(mapping, each)), None)
    if library:
        return VmaClass.LIBRARY, printable(os.fsencode(library.path))
    return VmaClass.ANONYMOUS, ""


def _is_bss(mapping: Mapping, program: Program) -> bool:
    """Return whether a mapping lies inside the BSS that the program headers describe.

    Adjacency to the library proves nothing, since the kernel places later mappings next to it. A mapping
    that extends past the BSS was merged with such a neighbour and does not belong to the library alone.
    """
    return any(
        segment.file_end <= mapping.start and mapping.end <= _page_up(segment.end)
        for segment in program.segments
        if segment.file_end < segment.end
    )


def _page_up(address: int) -> int:
    return (address + 4095) // 4096 * 4096


def measure(mapping: Mapping) -> Amounts:
    """Return the sizes of one mapping from its smaps fields (proc_pid_smaps(5))."""
    fields = mapping.fields

    def add(*names: str) -> int | None:
        values = [fields.get(name) for name in names]
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    return Amounts(
        size=mapping.size,
        rss=fields.get("Rss", 0),
        pss=add("Pss"),
        uss=add("Private_Clean", "Private_Dirty"),
        swap=add("Swap"),
        thp=add("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"),
        hugetlb=add("Shared_Hugetlb", "Private_Hugetlb"),
        locked=add("Locked"),
    )


def freed_at_exit(mapping: Mapping) -> int | None:
    """Return the private bytes of a mapping that are free once its process ends.

    Pages of files stay: in the page cache, or in a tmpfs as long as the file has a name. None: this kernel
    does not report the fields.
    """
    fields = mapping.fields
    private = [fields.get(name) for name in ("Private_Clean", "Private_Dirty")]
    if private[0] is None or private[1] is None:
        return None
    whole = private[0] + private[1]
    if not mapping.inode or (
        mapping.name.endswith(b" (deleted)") and mapping.name.startswith(_SHARED_PREFIXES)
    ):
        return whole
    return min(whole, fields.get("Anonymous", 0))  # written copies of a private mapping


def printable(name: bytes) -> str:
    r"""Return a name as text; control characters and bytes that are not UTF-8 become \xNN."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
