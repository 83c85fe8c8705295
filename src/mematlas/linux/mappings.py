"""The mappings of one process as columns, and how far the reading of them can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ABSENT = 2**64 - 1
"""In a column: the kernel did not print this field for this mapping."""


class ReadOutcome(StrEnum):
    """How a reading of a live process ended."""

    COMPLETE = "complete"
    CHANGED = "changed"  # it mapped or unmapped while it was read; no page counted twice
    EXITED = "exited"  # it ended meanwhile: what is there may be cut short
    DENIED = "denied"  # the kernel refused


class Permission(IntFlag):
    """What a mapping allows."""

    READ = 1
    WRITE = 2
    EXECUTE = 4
    SHARED = 8

    def text(self) -> str:
        """Write it as the kernel does: "r-xp"."""
        letters = "".join(
            letter if self & bit else "-"
            for letter, bit in zip("rwx", (self.READ, self.WRITE, self.EXECUTE), strict=True)
        )
        return letters + ("s" if self & self.SHARED else "p")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping. `fields` are the fields of smaps by the kernel's name, in bytes."""

    start: int
    end: int
    permissions: Permission
    offset: int
    device: tuple[int, int]
    inode: int
    name: bytes  # as printed: a newline in a path reads \012
    flags: frozenset[str]
    fields: dict[str, int]

    @property
    def size(self) -> int:
        """Bytes of address space."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Mappings:
    """Every mapping of a process. Columns have format "Q": `np.asarray(column)` copies nothing."""

    count: int
    start: memoryview
    end: memoryview
    permissions: memoryview
    offset: memoryview
    device: memoryview
    inode: memoryview
    flags: memoryview  # bit N stands for flag_names[N]
    flag_names: tuple[str, ...]
    fields: dict[str, memoryview]  # empty if read from maps
    name_at: memoryview = field(repr=False)
    name_length: memoryview = field(repr=False)
    names: memoryview = field(repr=False)
    overlaps: int = 0  # mappings told twice, since they changed meanwhile
    ignored: int = 0  # lines not understood

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Mapping]:
        return (self.row(index) for index in range(self.count))

    def name(self, index: int) -> bytes:
        """Name of one mapping, as the kernel printed it."""
        at = self.name_at[index]
        return bytes(self.names[at : at + self.name_length[index]])

    def row(self, index: int) -> Mapping:
        """One mapping."""
        bits, device = self.flags[index], self.device[index]
        values = ((name, column[index]) for name, column in self.fields.items())
        return Mapping(
            start=self.start[index],
            end=self.end[index],
            permissions=Permission(self.permissions[index]),
            offset=self.offset[index],
            device=(device >> 32, device & 0xFFFFFFFF),
            inode=self.inode[index],
            name=self.name(index),
            flags=frozenset(name for bit, name in enumerate(self.flag_names) if bits >> bit & 1),
            fields={name: value for name, value in values if value != ABSENT},
        )

    def total(self, name: str) -> int | None:
        """Sum of a field over all mappings; None if this kernel does not print it."""
        column = self.fields.get(name)
        if column is None:
            return None
        return sum(value for value in column if value != ABSENT)

    def find(self, address: int) -> int | None:
        """Index of the mapping that holds an address."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self.end[middle] <= address:
                low = middle + 1
            else:
                high = middle
        return low if low < self.count and self.start[low] <= address else None
