"""Moving the pages of a process to a node by move_pages(2), with the outcome of every page."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import numpy as np

from mematlas import _core
from mematlas.control.migrate.model import Migration
from mematlas.errors import AccessError, TargetError, UnsupportedError
from mematlas.linux import numa_maps, pagemap, smaps
from mematlas.linux.pageflags import PagemapEntry
from mematlas.linux.process import open_process
from mematlas.linux.status import read_status
from mematlas.memory import numa
from mematlas.memory.headroom import read_node_headroom

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.linux.mappings import Mapping
    from mematlas.linux.pageflags import Words

_CHUNK = 1 << 16
_AGAIN = 3  # times that pages are tried again that the kernel was using
_LAST_USER_ADDRESS = 1 << 63  # above it is [vsyscall]


def migrate(
    pid: int, to: int, *, source: Sequence[int] = (), shared: bool = False, dry_run: bool = False
) -> Migration:
    """Move the pages of a process to a node, or only those on the nodes of `source`.

    shared: move pages that other processes map, too. dry_run: only count what is where.

    Raises:
        UsageError: no such node.
        TargetError: there is no such process.
        AccessError: another user's process, or `shared`, without CAP_SYS_NICE.
        UnsupportedError: a kernel without NUMA.
    """
    numa.check_nodes([to, *source])
    started = time.monotonic()
    name, before = _by_node(pid)
    room = read_node_headroom([to])
    outcomes: dict[str, int] = {}
    after = None
    if not dry_run:
        for step, pages in _resident_pages(pid):
            for outcome, count in _move(pid, pages, to, source, shared=shared).items():
                outcomes[outcome] = outcomes.get(outcome, 0) + count * step
        _, after = _by_node(pid)
    return Migration(
        pid=pid,
        name=name,
        to=to,
        before=before,
        after=after,
        outcomes=outcomes,
        room=None if room is None else room.size,
        shared=shared,
        seconds=time.monotonic() - started,
    )


def _by_node(pid: int) -> tuple[str, dict[int, int]]:
    with open_process(pid) as process:
        name = read_status(process).lines.get("Name", "")
        lines = numa_maps.read(process)
    if isinstance(lines, str):
        raise (UnsupportedError if "built without" in lines else AccessError)(
            f"process {pid}: {lines}"
        )
    sums: dict[int, int] = {}
    for line in lines:
        for node, size in line.nodes.items():
            sums[node] = sums.get(node, 0) + size
    return name, dict(sorted(sums.items()))


def _resident_pages(pid: int) -> Iterator[tuple[int, list[int]]]:
    """Return the addresses of the resident pages by mapping, in parts, with the size of a page."""
    for mapping in smaps.read(pid)[0]:
        if mapping.start < _LAST_USER_ADDRESS and mapping.fields.get("Rss", 1) | _hugetlb(mapping):
            step = mapping.fields.get("KernelPageSize", _core.PAGE)
            pages = _present(pid, mapping, step)
            for first in range(0, len(pages), _CHUNK):
                yield step, pages[first : first + _CHUNK].tolist()


def _hugetlb(mapping: Mapping) -> int:
    return mapping.fields.get("Private_Hugetlb", 0) | mapping.fields.get("Shared_Hugetlb", 0)


def _present(pid: int, mapping: Mapping, step: int) -> Words:
    table = pagemap.read(pid, [(mapping.start, mapping.end)], join=False)
    present = table.entry & np.uint64(PagemapEntry.PRESENT) != 0
    pages: Words = table.address[present & (table.address % np.uint64(step) == 0)]
    return pages


def _move(
    pid: int, pages: list[int], to: int, source: Sequence[int], *, shared: bool
) -> numa.Counts:
    """Move pages and return their number by outcome."""
    try:
        before = _core.move_pages(pid, pages, None)
        if source:
            chosen = [
                (page, node) for page, node in zip(pages, before, strict=True) if node in source
            ]
            pages, before = [page for page, _ in chosen], [node for _, node in chosen]
        if not pages:
            return {}
        after = _core.move_pages(pid, pages, [to] * len(pages), shared=shared)
        for _ in range(_AGAIN):
            busy = [at for at, status in enumerate(after) if status == -errno.EBUSY]
            if not busy:
                break
            again = _core.move_pages(
                pid, [pages[at] for at in busy], [to] * len(busy), shared=shared
            )
            for at, status in zip(busy, again, strict=True):
                after[at] = status
    except OSError as error:
        raise _refusal(error, pid, to, shared=shared) from None
    return numa.count_outcomes(before, after, to)


def _refusal(error: OSError, pid: int, to: int, *, shared: bool) -> Exception:
    if error.errno == errno.ESRCH:
        return TargetError(f"process {pid} has ended")
    if error.errno == errno.EPERM and shared:
        return AccessError(
            "--shared is refused: moving pages that other processes map needs CAP_SYS_NICE"
        )
    if error.errno == errno.EACCES:
        return AccessError(
            f"node {to} is outside the cpuset of process {pid}, which root can change"
        )
    return numa.refusal(error, "moving pages", [to])
