"""How much room a process has: its limits with their use, file systems in memory, and what its huge pages hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mematlas.linux import memory_mounts
from mematlas.linux.status import parse_limits, read_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.linux.mappings import Mappings
    from mematlas.linux.process import ProcessDirectory
    from mematlas.linux.status import Limit

LIMITS = {
    "Max address space": "VmSize",
    "Max data size": "VmData",
    "Max stack size": "VmStk",
    "Max locked memory": "VmLck",
}
"""Limits of /proc/PID/limits, and their use in /proc/PID/status."""


@dataclass(frozen=True, slots=True)
class UsedMount:
    """One tmpfs and the sizes of its files that a process maps, in bytes."""

    path: str
    size: int
    free: int
    mapped: int
    device: str = ""  # the same wherever it is mounted; not recorded


@dataclass(frozen=True, slots=True)
class Room:
    """Soft limits that are set, as (name, limit, use); mounts with mapped files; huge pages. Sizes in bytes."""

    limits: tuple[tuple[str, int, int], ...] = ()
    mounts: tuple[UsedMount, ...] = ()
    huge_bytes: int = 0
    zero_bytes: int = 0  # of the huge pages, in 4 KiB pages with zeros alone; an estimate
    zero_error_bytes: int = 0  # its standard error
    hard_limits: tuple[tuple[str, int], ...] = ()  # of those that have one


def read(process: ProcessDirectory, mappings: Mappings) -> Room:
    """Read the room of a process with these mappings, read from smaps if its huge pages are to be sampled."""
    huge_bytes, zero_bytes, error_bytes = _huge_pages(process, mappings)
    limits = parse_limits(process.read("limits").decode())
    return Room(
        limits=_limits(process, limits),
        mounts=_mounts(process, mappings),
        huge_bytes=huge_bytes,
        zero_bytes=zero_bytes,
        zero_error_bytes=error_bytes,
        hard_limits=tuple(
            (each.name, each.hard)
            for each in limits
            if each.name in LIMITS and each.hard is not None
        ),
    )


def _huge_pages(process: ProcessDirectory, mappings: Mappings) -> tuple[int, int, int]:
    """Return the bytes of huge pages, of zeros within, and their standard error; zeros where they were not sampled."""
    if not mappings.fields:
        return 0, 0, 0
    from mematlas.linux.huge_use import read_huge_use

    found = read_huge_use(process, mappings)
    return (
        (0, 0, 0)
        if isinstance(found, str)
        else (found.huge_bytes, found.zero_bytes, found.error_bytes)
    )


def read_full(before: Room) -> Room | None:
    """Return the room of a process that is gone, with the file systems in memory that are full; None if none is.

    Those whose files it mapped are known by their device: it may have seen them at other places.
    """
    full = {
        each.device: each
        for each in memory_mounts.read_from()
        if each.free < each.size // 20 and each.used >= 1 << 20
    }
    if not full:
        return None
    mounts = []
    for each in before.mounts:
        now = full.pop(each.device, None)
        mounts.append(replace(each, size=now.size, free=now.free) if now else each)
    mounts += [UsedMount(each.path, each.size, each.free, 0) for each in full.values()]
    return replace(before, mounts=tuple(mounts))


def _limits(process: ProcessDirectory, limits: Sequence[Limit]) -> tuple[tuple[str, int, int], ...]:
    known = [(each.name, each.soft) for each in limits if each.name in LIMITS]
    sizes = read_status(process).sizes if any(soft is not None for _, soft in known) else {}
    return tuple(
        (name, soft, sizes.get(LIMITS[name], 0)) for name, soft in known if soft is not None
    )


def _mounts(process: ProcessDirectory, mappings: Mappings) -> tuple[UsedMount, ...]:
    if not any(folder in bytes(mappings.names) for folder in (b"/dev/shm/", b"/run/", b"/tmp/")):
        return ()
    names = [(each.name.decode("utf-8", "replace"), each.size) for each in mappings if each.inode]
    found = []
    for mount in memory_mounts.read(process):
        mapped = sum(size for name, size in names if name.startswith(mount.path.rstrip("/") + "/"))
        if mapped:
            found.append(UsedMount(mount.path, mount.size, mount.free, mapped, mount.device))
    return tuple(found)
