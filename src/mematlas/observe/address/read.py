"""One address of a process: its page, its mapping, and its symbol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas._core import PAGE
from mematlas.errors import TargetError
from mematlas.linux import cgroup_paths, pagemap, smaps
from mematlas.linux.mappings import Permission
from mematlas.linux.process import open_process
from mematlas.linux.program import read_libraries, read_loaded, read_program

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mapping, Mappings
    from mematlas.linux.pageflags import Pages
    from mematlas.linux.process import ProcessDirectory
    from mematlas.linux.program import Program

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
    names = cgroup_paths.read_all_names() if pages.cgroup is not None else {}
    return AddressPages(mappings.row(index), pages, symbol, names)


def _read_symbol(process: ProcessDirectory, mappings: Mappings, index: int, address: int) -> Symbol:
    """Return function and source line of an address of code, or the variable that holds one of data."""
    loaded = read_loaded(process, mappings, index) if mappings.inode[index] else None
    if loaded is None or not mappings.permissions[index] & Permission.EXECUTE:
        return _read_variable(process, mappings, loaded, address), None
    from mematlas.recording.model import Module
    from mematlas.recording.symbols import open_table

    module = Module(loaded.path, "", loaded.bias, mappings.start[index], mappings.end[index])
    # The table expects return addresses, and looks up the byte before each.
    frames = open_table(module).frames(address - loaded.bias + 1)
    if not frames or not frames[0].function:
        return None, None
    line = f":{frames[0].line}" if frames[0].line else ""
    return frames[0].function, f"{frames[0].file}{line}" if frames[0].file else None


def _read_variable(
    process: ProcessDirectory, mappings: Mappings, loaded: Program | None, address: int
) -> str | None:
    """Return the variable that holds an address, or the file and the address in it; None: no file's data.

    The end of .bss is anonymous memory, which the segments of the files reach into.
    """
    from mematlas.recording.elf import object_at

    for program in (loaded, read_program(process), *read_libraries(process, mappings)):
        if program is None or not any(
            each.start <= address < each.end for each in program.segments
        ):
            continue
        in_file = address - program.bias
        name, start = object_at(program.path, in_file)
        if not name:
            return f"{program.path.rpartition('/')[2]}+{in_file:#x}"
        return name if start == in_file else f"{name}+{in_file - start:#x}"
    return None
