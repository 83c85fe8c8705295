"""What each mapping is for: from its name, its flags, the headers of the files."""

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
    """What a mapping is for."""

    TEXT = "text"  # the program's code and constants
    DATA = "data"  # its initialised variables
    BSS = "bss"  # its variables that begin as zero
    HEAP = "heap"
    STACK = "stack"  # of the first thread
    THREAD_STACK = "thread stack"
    LIBRARY = "library"  # any other file with code mapped, its data and BSS included
    FILE = "file"
    SHARED = "shared"  # shared anonymous memory, memfd, System V, /dev/shm
    ANONYMOUS = "anonymous"
    HUGETLB = "hugetlb"
    RESERVED = "reserved"  # no access: guard pages of stacks, address space kept for later
    KERNEL = "kernel"  # vdso, vvar, vsyscall


@dataclass(frozen=True, slots=True)
class Amounts:
    """Bytes of one or several mappings. None: this kernel does not tell."""

    size: int
    rss: int
    pss: int | None
    uss: int | None
    swap: int | None
    thp: int | None  # mapped by huge page-table entries; smaller huge pages are not in it
    hugetlb: int | None  # never part of rss, pss or uss
    locked: int | None


@dataclass(frozen=True, slots=True)
class Vma:
    """One mapping, named."""

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
    """What a mapping alone does not tell."""

    program: Program | None
    libraries: frozenset[tuple[tuple[int, int], int]]  # files with code mapped
    loaded: tuple[Program, ...]
    stack_pointers: dict[int, int]  # thread: address


def classify_vmas(facts: ProcessInfo) -> Iterator[Vma]:
    """Name every mapping, in address order."""
    hints = _Hints(
        program=facts.program,
        libraries=frozenset(
            (row.device, row.inode)
            for row in facts.mappings
            if row.inode and row.permissions & Permission.EXECUTE
        ),
        loaded=facts.libraries,
        stack_pointers={
            thread.tid: thread.stack_pointer for thread in facts.threads if thread.stack_pointer
        },
    )
    for mapping in facts.mappings:
        threads = tuple(
            tid
            for tid, pointer in hints.stack_pointers.items()
            if mapping.start <= pointer < mapping.end
        )
        kind, name = _name(mapping, hints, threads)
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


def _name(mapping: Mapping, hints: _Hints, threads: tuple[int, ...]) -> tuple[VmaClass, str]:
    name = printable(mapping.name)
    if mapping.name.startswith(_KERNEL_NAMES):
        return VmaClass.KERNEL, name
    if "ht" in mapping.flags or mapping.fields.get("KernelPageSize", 4096) >= 1 << 20:
        return VmaClass.HUGETLB, name
    if mapping.inode or mapping.name.startswith(b"/"):
        return _name_file(mapping, hints, name)
    if mapping.name.startswith(_SHARED_PREFIXES) or mapping.permissions & Permission.SHARED:
        return VmaClass.SHARED, name
    return _name_anonymous(mapping, hints, threads)


def _name_file(mapping: Mapping, hints: _Hints, name: str) -> tuple[VmaClass, str]:
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


def _name_anonymous(  # noqa: PLR0911 - one line a rule, in order
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
    """Tell whether a mapping lies where the headers put variables that begin as zero.

    Neighbours prove nothing: later mappings are placed right beside a library. One that goes on past
    its BSS has been merged with such a neighbour, and is no longer the library's alone.
    """
    return any(
        segment.file_end <= mapping.start and mapping.end <= _page_up(segment.end)
        for segment in program.segments
        if segment.file_end < segment.end
    )


def _page_up(address: int) -> int:
    return (address + 4095) // 4096 * 4096


def measure(mapping: Mapping) -> Amounts:
    """Take the amounts of one mapping from its smaps fields."""
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


def printable(name: bytes) -> str:
    r"""Show a name without ambiguity: bytes that are not UTF-8, and control characters, as \xNN."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
