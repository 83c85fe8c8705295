"""The pages of a process, with the mappings they belong to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mematlas._core import PAGE
from mematlas.errors import TargetError
from mematlas.linux import cgroup_paths, pagemap, smaps
from mematlas.linux.process import open_process
from mematlas.linux.status import read_command

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mapping
    from mematlas.linux.pageflags import Pages


@dataclass(frozen=True, slots=True)
class ProcessPages:
    """Mappings of one process, and what is behind their pages."""

    command: str
    mappings: list[Mapping]
    pages: Pages
    cgroup_names: dict[int, str]  # by inode; empty where cgroups of pages are hidden


def read(
    pid: int, *, mapping: str | None = None, addresses: tuple[int, int] | None = None
) -> ProcessPages:
    """Read the mappings with `mapping` in their name, or the pages from one address to another.

    TargetError if nothing is mapped there, or the process is a kernel thread.
    """
    with open_process(pid) as process:
        mappings = list(smaps.read_from(process, fields=False)[0])
        if not mappings:
            raise TargetError(f"process {pid} has no memory of its own")
        mappings = _select(mappings, mapping, addresses)
        pages = pagemap.read_from(process, [(each.start, each.end) for each in mappings])
        command = " ".join(read_command(process))
    names = cgroup_paths.read_all_names() if pages.cgroup is not None else {}
    return ProcessPages(command, mappings, pages, names)


def _select(
    mappings: list[Mapping], name: str | None, addresses: tuple[int, int] | None
) -> list[Mapping]:
    """Keep the mappings of a name, or those of an address range, cut to its pages."""
    if name:
        wanted = name.encode("utf-8", "surrogateescape")
        mappings = [each for each in mappings if wanted in each.name]
    elif addresses:
        low, high = addresses[0] // PAGE * PAGE, -(-addresses[1] // PAGE) * PAGE
        mappings = [
            replace(each, start=max(each.start, low), end=min(each.end, high))
            for each in mappings
            if each.start < high and low < each.end
        ]
    if not mappings:
        what = repr(name) if name else "this range"
        raise TargetError(
            f"no mapping matches {what}; list them with `mematlas show PID --mappings`"
        )
    return mappings
