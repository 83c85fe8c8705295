"""Memory of an image that equals a mapped file: constants, vtables, unwind tables, unwritten data.

The file is read and not mapped: a writer that truncates the file would end this process by SIGBUS.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas._core import PAGE
from mematlas.heap.model.image import Range, RangeKind
from mematlas.linux.mappings import Permission
from mematlas.linux.page_scan import Category

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mapping
    from mematlas.linux.process import ProcessDirectory

_MOST_BYTES = 512 << 20  # of one mapping


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A mapping of a file by index, with what it says."""

    index: int
    row: Mapping


def find_code(rows: list[Mapping]) -> list[MappedFile]:
    """Return the read-only mappings of ELF files that hold more than instructions.

    Linkers put constants beside the instructions or in a segment of their own. In the first case the code's
    mapping begins with the file's headers.
    """
    loaded = {_file(row) for row in rows if row.inode and row.permissions & Permission.EXECUTE}
    unwanted = Permission.WRITE | Permission.SHARED
    return [
        MappedFile(index, row)
        for index, row in enumerate(rows)
        if _file(row) in loaded
        and row.permissions & Permission.READ
        and not row.permissions & unwanted
        and (not row.permissions & Permission.EXECUTE or row.offset == 0)
    ]


def read_code(process: ProcessDirectory, mapped: MappedFile) -> Range | None:
    """Copy a read-only mapping: from its file, and what the loader wrote there from the process.

    None: neither can be read.
    """
    row = mapped.row
    if row.size > _MOST_BYTES:
        return None
    memory = bytearray(row.size)
    from_file = _read_file(process, row, memoryview(memory), 0)
    copied = _overlay(process, row, memory, all_pages=not from_file)
    if not from_file and not copied:
        return None
    return Range(row.start, RangeKind.CODE, memoryview(memory).toreadonly(), None, mapped.index)


def fill_unwritten(
    process: ProcessDirectory, row: Mapping, start: int, memory: memoryview, pages: memoryview
) -> bool:
    """Fill the pages of a private mapping that the program has not written from its file.

    Returns:
        Whether the file could be read.
    """
    if row.size > _MOST_BYTES:
        return False
    text = bytes(pages)
    at = text.find(0)
    while at >= 0:
        end = next((i for i in range(at, len(text)) if text[i]), len(text))
        first = max(at * PAGE - start % PAGE, 0)
        part = memory[first : end * PAGE - start % PAGE]
        if not _read_file(process, row, part, start + first - row.start):
            return False
        at = text.find(0, end)
    return True


def _file(row: Mapping) -> tuple[tuple[int, int], int] | None:
    return (row.device, row.inode) if row.inode else None


def _read_file(process: ProcessDirectory, row: Mapping, to: memoryview, skip: int) -> bool:
    """Read the file of a mapping from `skip` bytes behind the mapping's start; False: it cannot be read."""
    descriptor = _open(process, row)
    if descriptor is None:
        return False
    done = 0
    try:
        while done < len(to):
            got = os.preadv(descriptor, [to[done:]], row.offset + skip + done)
            if not got:
                break
            done += got
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _open(process: ProcessDirectory, row: Mapping) -> int | None:
    """Open the file of a mapping, whatever its path leads to now; None: it cannot be opened."""
    span = f"map_files/{row.start:x}-{row.end:x}"
    for path in (span, b"root" + row.name.replace(b"\\012", b"\n")):
        try:
            descriptor = os.open(
                path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=process.descriptor
            )
        except OSError:
            continue
        if os.fstat(descriptor).st_ino == row.inode:
            return descriptor
        os.close(descriptor)
    return None


def _overlay(
    process: ProcessDirectory, row: Mapping, memory: bytearray, *, all_pages: bool
) -> bool:
    """Copy the pages that differ from the file, such as relocated constants, or all that are resident."""
    anything = int(Category.PRESENT | Category.SWAPPED)
    descriptor = process.open("pagemap")
    copied = False
    try:
        runs = _core.scan_pagemap(
            descriptor, row.start, row.end, any_of=anything, want=int(Category.FILE)
        )
    except OSError:  # before Linux 6.7
        runs = [(row.start, row.end, 0)]
    finally:
        os.close(descriptor)
    view = memoryview(memory)
    for start, end, found in runs:
        if all_pages or not found & Category.FILE:
            part = view[start - row.start : end - row.start]
            copied |= _core.read_process(process.pid, start, part) > 0
    return copied
