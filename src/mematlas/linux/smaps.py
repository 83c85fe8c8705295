"""/proc/PID/smaps and maps, in one pass."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux.mappings import Mappings, ReadOutcome
from mematlas.linux.process import open_process

if TYPE_CHECKING:
    from mematlas.linux.process import ProcessDirectory


def read(pid: int, root: str = "/", *, fields: bool = True) -> tuple[Mappings, ReadOutcome]:
    """Read the mappings of a process, with their figures unless told otherwise (they cost a page walk)."""
    with open_process(pid, root) as process:
        return read_from(process, fields=fields)


def read_from(process: ProcessDirectory, *, fields: bool = True) -> tuple[Mappings, ReadOutcome]:
    """Read the mappings of a process that is held."""
    descriptor = process.open("smaps" if fields else "maps")
    try:
        mappings = parse(descriptor)
    finally:
        os.close(descriptor)
    # A zombie's file ends at once, without an error: only its state tells.
    if not process.alive():
        return mappings, ReadOutcome.EXITED
    return mappings, ReadOutcome.CHANGED if mappings.overlaps else ReadOutcome.COMPLETE


def parse(descriptor: int) -> Mappings:
    """Parse an open file with the text of maps or smaps."""
    columns = _core.read_maps(descriptor)
    return Mappings(
        count=columns.count,
        fields=columns.fields,
        flag_names=columns.flag_names,
        names=columns.names,
        overlaps=columns.overlaps,
        ignored=columns.ignored,
        **columns.base,
    )
