"""Maps and smaps, read straight into columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mematlas._core.binding import check, ffi, lib

ABSENT = 2**64 - 1
"""In a column: the kernel did not print this field for this row."""

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
"""In the order of enum mematlas_maps_column."""


@dataclass(frozen=True, slots=True)
class MapsColumns:
    """What one pass over maps or smaps gave. The memoryviews (format "Q") keep their memory alive."""

    count: int
    overlaps: int
    ignored: int
    base: dict[str, memoryview]
    fields: dict[str, memoryview]
    flag_names: tuple[str, ...]
    names: memoryview


def read_maps(descriptor: int) -> MapsColumns:
    """Read an open maps or smaps to its end, straight into columns."""
    holder = ffi.new("struct mematlas_maps **")
    check(lib.mematlas_maps_create(descriptor, holder))
    maps = ffi.gc(holder[0], lib.mematlas_maps_destroy)
    sizes = ffi.new("struct mematlas_maps_sizes *")
    lib.mematlas_maps_sizes(maps, sizes)
    count = sizes.count
    return MapsColumns(
        count=count,
        overlaps=sizes.overlaps,
        ignored=sizes.ignored,
        base={
            name: _view(lib.mematlas_maps_base(maps, index), count * 8, maps).cast("Q")
            for index, name in enumerate(MAPS_COLUMNS)
        },
        fields={
            ffi.string(lib.mematlas_maps_key(maps, index)).decode("ascii", "replace"): _view(
                lib.mematlas_maps_values(maps, index), count * 8, maps
            ).cast("Q")
            for index in range(sizes.keys)
        },
        flag_names=tuple(
            ffi.string(lib.mematlas_maps_flag(maps, index)).decode("ascii", "replace")
            for index in range(sizes.flags)
        ),
        names=_view(lib.mematlas_maps_names(maps), sizes.names, maps),
    )


def _view(pointer: Any, size: int, owner: Any) -> memoryview:
    """Memory that C owns, as bytes that cannot be written and that keep `owner` alive."""
    if size == 0:
        return memoryview(b"")
    # A buffer keeps its cdata alive, and the cdata its destructor, which holds the owner.
    kept = ffi.gc(pointer, lambda _, owner=owner: owner)
    return memoryview(ffi.buffer(kept, size)).toreadonly()
