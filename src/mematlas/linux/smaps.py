"""/proc/PID/smaps and /proc/PID/maps, parsed in one pass (proc_pid_smaps(5))."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux.mappings import Mappings, ReadOutcome
from mematlas.linux.process import open_process

if TYPE_CHECKING:
    from mematlas._core import MapsColumns
    from mematlas.linux.process import ProcessDirectory


def read(pid: int, root: str = "/", *, fields: bool = True) -> tuple[Mappings, ReadOutcome]:
    """Read the mappings of a process from smaps, or from maps if `fields` is False.

    Reading smaps walks the page tables. Raises TargetError if there is no such process and AccessError
    if the kernel denies access.
    """
    with open_process(pid, root) as process:
        return read_from(process, fields=fields)


def read_from(process: ProcessDirectory, *, fields: bool = True) -> tuple[Mappings, ReadOutcome]:
    """Read the mappings of an open process directory."""
    descriptor = process.open("smaps" if fields else "maps")
    try:
        mappings = parse(descriptor)
    finally:
        os.close(descriptor)
    # The smaps of a zombie is empty and reading it is no error; only the state shows it.
    if not process.alive():
        return mappings, ReadOutcome.EXITED
    return mappings, ReadOutcome.CHANGED if mappings.overlaps else ReadOutcome.COMPLETE


def parse(descriptor: int) -> Mappings:
    """Parse an open file in the format of maps or smaps."""
    return mappings_of(_core.read_maps(descriptor))


def mappings_of(columns: MapsColumns) -> Mappings:
    """Return the mappings of columns that the core has parsed."""
    return Mappings(
        count=columns.count,
        fields=columns.fields,
        flag_names=columns.flag_names,
        names=columns.names,
        overlaps=columns.overlaps,
        ignored=columns.ignored,
        **columns.base,
    )
