"""Page frames and pages of files that are charged to memory cgroups: kpagecgroup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Collection


class ChargedFrames(NamedTuple):
    """Frames charged to some groups, by what they hold, and the number of frames of the machine."""

    anonymous: int
    shared: int
    file: int
    page_tables: int
    slab: int
    other: int  # kernel stacks, pipes, buffers of sockets
    looked_at: int


class FileCharge(NamedTuple):
    """Pages of one file. Invariant: charged <= known <= cached, unless pages come or go meanwhile."""

    cached: int
    known: int  # whose group was read
    charged: int


def read_charged_frames(groups: int, flags: int, inodes: Collection[int]) -> ChargedFrames:
    """Count the frames charged to the groups with these inodes, by open kpagecgroup and kpageflags."""
    found = ffi.new("struct mematlas_charged *")
    words = _ascending(inodes)
    frames = check(lib.mematlas_charged_frames(groups, flags, words, len(words), found))
    return ChargedFrames(
        found.anonymous,
        found.shared,
        found.file,
        found.page_tables,
        found.slab,
        found.other,
        frames,
    )


def file_charge(
    descriptor: int, size: int, pagemap: int, groups: int, inodes: Collection[int]
) -> FileCharge:
    """Count the cached pages of an open file and those charged to the groups with these inodes.

    `pagemap`: this process's; `groups`: kpagecgroup. The pages do not count as used by this.
    """
    found = ffi.new("struct mematlas_file_charge *")
    files = ffi.new("struct mematlas_charge_files *", {"pagemap": pagemap, "groups": groups})
    words = _ascending(inodes)
    check(lib.mematlas_file_charge(descriptor, size, files, words, len(words), found))
    return FileCharge(found.cached, found.known, found.charged)


def _ascending(inodes: Collection[int]) -> Any:
    return ffi.new("uint64_t[]", sorted(inodes))
