"""Thread-local variables of threads, by the table of their blocks (DTV) that the loader keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.heap.model.image import Image
    from mematlas.heap.read.variables import Variables

_MOST_LIBRARIES = 4096
_DTV = 8  # struct pthread: header.dtv
_NEXT = 24  # struct link_map: l_next
_UNALLOCATED = (1 << 64) - 1


def list_modules(image: Image, files: dict[tuple[int, int], Variables]) -> list[Variables]:
    """Return the files with thread-local variables in the order in which the loader numbers them, from 1 on.

    The loader lists the files in the order of loading (struct r_debug). A file that took the number of one
    that was unloaded is not told from it, so the names of libraries that come and go may be wrong: such a list
    has more files than numbers, and is refused by `find_blocks`.
    """
    of_threads = [each for each in files.values() if each.thread_local]
    starts = (
        each.start_of("_r_debug")
        for each in files.values()
        if each.path.rpartition("/")[2].startswith("ld-")
    )
    debug = next((start for start in starts if start is not None), None)
    if debug is None:
        return of_threads if len(of_threads) == 1 else []
    by_bias = {each.bias: each for each in of_threads}
    found, entry = [], image.read_word(debug + 8)
    for _ in range(_MOST_LIBRARIES):
        if not entry:
            break
        bias = image.read_word(entry)
        if bias in by_bias:
            found.append(by_bias.pop(bias))
        entry = image.read_word(entry + _NEXT)
    return found


def find_blocks(image: Image, base: int, modules: list[Variables]) -> list[tuple[int, Variables]]:
    """Return where the variables of each file lie for the thread with this descriptor."""
    table = image.read_word(base + _DTV)
    slots = image.read_word(table - 16) if table else None
    if not table or slots is None or slots < len(modules):
        return []
    found = []
    for number, each in enumerate(modules, 1):
        start = image.read_word(table + 16 * number)
        if start and start != _UNALLOCATED:
            found.append((start, each))
    return found


def name_of(address: int, blocks: list[tuple[int, Variables]]) -> str | None:
    """Return the name of the thread-local variable that holds an address."""
    for start, file in blocks:
        name = file.of_threads.find(address - start)
        if name is not None:
            return name
    return None
