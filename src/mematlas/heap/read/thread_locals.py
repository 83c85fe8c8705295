"""Thread-local variables of threads: where the loader put those of each file."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.heap.model.image import Image
    from mematlas.heap.read.variables import Variables

Files: TypeAlias = "dict[tuple[int, int], Variables]"
Modules: TypeAlias = "list[tuple[int | None, Variables]]"
"""Bytes from the variables of a file to the thread's descriptor. None: a static program, whose table says it."""

_MOST_LIBRARIES = 4096
_DTV = 8  # struct pthread: header.dtv
_NEXT = 24  # struct link_map: l_next
_OFFSET = "_thread_db_link_map_l_tls_offset"  # glibc says where: bits, items, offset
_FIELD = struct.Struct("<III")
_NO_OFFSETS = {None, 0, (1 << 64) - 1}  # variables in blocks of malloc
_UNALLOCATED = (1 << 64) - 1


def list_modules(image: Image, files: Files) -> Modules:
    """Return the files with thread-local variables beside the descriptor of each thread.

    The loader's list of files (struct r_debug) has the place of each. The table of a thread (DTV) has not: the number
    of a file that was unloaded is given to another.
    """
    of_threads = [each for each in files.values() if each.thread_local]
    debug = _start_of("_r_debug", ("ld-",), files)
    if debug is None:
        return [(None, of_threads[0])] if len(of_threads) == 1 else []
    at = _place_of_offset(image, files)
    if at is None:
        return []
    by_bias = {each.bias: each for each in of_threads}
    found: Modules = []
    entry = image.read_word(debug + 8)
    for _ in range(_MOST_LIBRARIES):
        if not entry:
            break
        bias, offset = image.read_word(entry), image.read_word(entry + at)
        if bias in by_bias and offset not in _NO_OFFSETS:
            found.append((offset, by_bias.pop(bias)))
        entry = image.read_word(entry + _NEXT)
    return found


def _place_of_offset(image: Image, files: Files) -> int | None:
    """Return where struct link_map of this glibc has the offset of a file."""
    start = _start_of(_OFFSET, ("libc.", "libc-", "libpthread"), files)
    found = image.read(start, _FIELD.size) if start is not None else None
    if found is None:
        return None
    bits, items, place = _FIELD.unpack(found)
    return place if (bits, items) == (64, 1) else None


def _start_of(name: str, begins: tuple[str, ...], files: Files) -> int | None:
    """Return the address of a variable of the file whose name begins so."""
    starts: Iterable[int | None] = (
        each.start_of(name)
        for each in files.values()
        if each.path.rpartition("/")[2].startswith(begins)
    )
    return next((start for start in starts if start is not None), None)


def find_blocks(image: Image, base: int, modules: Modules) -> list[tuple[int, Variables]]:
    """Return where the variables of each file lie for the thread with this descriptor."""
    found = []
    for offset, each in modules:
        start = _static_block(image, base) if offset is None else base - offset
        if start is not None:
            found.append((start, each))
    return found


def _static_block(image: Image, base: int) -> int | None:
    """Return the first block in the table of a thread."""
    table = image.read_word(base + _DTV)
    start = image.read_word(table + 16) if table else None
    return None if start in {0, _UNALLOCATED} else start


def name_of(address: int, blocks: list[tuple[int, Variables]]) -> str | None:
    """Return the name of the thread-local variable that holds an address."""
    for start, file in blocks:
        name = file.of_threads.find(address - start)
        if name is not None:
            return name
    return None
