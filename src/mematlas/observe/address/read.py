"""One address of a process: its page, its mapping, and its symbol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas._core import PAGE
from mematlas.errors import TargetError
from mematlas.linux import cgroup_names, pagemap, smaps
from mematlas.linux.process import open_process
from mematlas.linux.program import read_loaded

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mapping, Mappings
    from mematlas.linux.pageflags import Pages
    from mematlas.linux.process import ProcessDirectory

Symbol = tuple[str | None, str | None]
"""Function, and source file with line."""


@dataclass(frozen=True, slots=True)
class AddressPages:
    """The page at one address, or no page, and the mapping it belongs to."""

    mapping: Mapping
    pages: Pages
    symbol: Symbol
    cgroup_names: dict[int, str]  # by inode; empty where cgroups of pages are hidden


def read(pid: int, address: int) -> AddressPages:
    """Read what is at an address; TargetError if nothing is mapped there."""
    with open_process(pid) as process:
        mappings, _ = smaps.read_from(process, fields=False)
        index = mappings.find(address)
        if index is None:
            raise TargetError(f"process {pid} has nothing mapped at {address:#x}")
        start = address // PAGE * PAGE
        pages = pagemap.read_from(process, [(start, start + PAGE)])
        symbol = _read_symbol(process, mappings, index, address)
    names = cgroup_names.read_names() if pages.cgroup is not None else {}
    return AddressPages(mappings.row(index), pages, symbol, names)


def _read_symbol(process: ProcessDirectory, mappings: Mappings, index: int, address: int) -> Symbol:
    """Return function and source line of an address in a mapped file that has symbols."""
    loaded = read_loaded(process, mappings, index) if mappings.inode[index] else None
    if loaded is None:
        return None, None
    from mematlas.recording.model import Module
    from mematlas.recording.symbols import open_table

    module = Module(loaded.path, "", loaded.bias, mappings.start[index], mappings.end[index])
    # The table expects return addresses, and looks up the byte before each.
    frames = open_table(module).frames(address - loaded.bias + 1)
    if not frames or not frames[0].function:
        return None, None
    line = f":{frames[0].line}" if frames[0].line else ""
    return frames[0].function, f"{frames[0].file}{line}" if frames[0].file else None
