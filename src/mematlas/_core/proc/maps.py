"""/proc/PID/maps and smaps, parsed into columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mematlas._core.binding import check, ffi, lib

ABSENT = 2**64 - 1
"""Value of a field that the kernel did not print for a row."""

MAPS_COLUMNS = (
    "start",
    "end",
    "permissions",
    "offset",
    "device",
    "inode",
    "flags",
    "name_at",
    "name_length",
)
"""Names of enum mematlas_maps_column, in its order."""


@dataclass(frozen=True, slots=True)
class MapsColumns:
    """Columns of one pass over maps or smaps. The memoryviews (format "Q") own their memory."""

    count: int
    overlaps: int
    ignored: int
    base: dict[str, memoryview]
    fields: dict[str, memoryview]
    flag_names: tuple[str, ...]
    names: memoryview


def read_maps(descriptor: int) -> MapsColumns:
    """Parse an open maps or smaps file into columns."""
    holder = ffi.new("struct mematlas_maps **")
    check(lib.mematlas_maps_create(descriptor, holder))
    maps = ffi.gc(holder[0], lib.mematlas_maps_destroy)
    return columns_of(maps, maps)


def columns_of(maps: Any, owner: Any) -> MapsColumns:
    """Return the columns of parsed maps that `owner` keeps alive."""
    sizes = ffi.new("struct mematlas_maps_sizes *")
    lib.mematlas_maps_sizes(maps, sizes)
    count = sizes.count
    return MapsColumns(
        count=count,
        overlaps=sizes.overlaps,
        ignored=sizes.ignored,
        base={
            name: _view(lib.mematlas_maps_base(maps, index), count * 8, owner).cast("Q")
            for index, name in enumerate(MAPS_COLUMNS)
        },
        fields={
            ffi.string(lib.mematlas_maps_key(maps, index)).decode("ascii", "replace"): _view(
                lib.mematlas_maps_values(maps, index), count * 8, owner
            ).cast("Q")
            for index in range(sizes.keys)
        },
        flag_names=tuple(
            ffi.string(lib.mematlas_maps_flag(maps, index)).decode("ascii", "replace")
            for index in range(sizes.flags)
        ),
        names=_view(lib.mematlas_maps_names(maps), sizes.names, owner),
    )


def _view(pointer: Any, size: int, owner: Any) -> memoryview:
    """Return memory of C as read-only bytes that keep `owner` alive."""
    if size == 0:
        return memoryview(b"")
    # A buffer keeps its cdata alive, and the cdata its destructor, which holds the owner.
    kept = ffi.gc(pointer, lambda _, owner=owner: owner)
    return memoryview(ffi.buffer(kept, size)).toreadonly()
