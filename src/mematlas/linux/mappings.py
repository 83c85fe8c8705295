"""The mappings of one process as columns, and the outcome of reading them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ABSENT = 2**64 - 1
"""Column value of a field that the kernel did not print for this mapping."""


class ReadOutcome(StrEnum):
    """Outcome of reading the mappings of a running process."""

    COMPLETE = "complete"
    CHANGED = "changed"  # mappings changed during the read; no page is counted twice
    EXITED = "exited"  # the process ended during the read; the mappings may be incomplete
    DENIED = "denied"  # the kernel denied access


class Permission(IntFlag):
    """Permissions of a mapping, as in the second column of /proc/PID/maps."""

    READ = 1
    WRITE = 2
    EXECUTE = 4
    SHARED = 8

    def text(self) -> str:
        """Return the kernel's notation, such as "r-xp"."""
        letters = "".join(
            letter if self & bit else "-"
            for letter, bit in zip("rwx", (self.READ, self.WRITE, self.EXECUTE), strict=True)
        )
        return letters + ("s" if self & self.SHARED else "p")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping. `fields` holds the smaps fields by the kernel's name, in bytes (proc_pid_smaps(5))."""

    start: int
    end: int
    permissions: Permission
    offset: int
    device: tuple[int, int]
    inode: int
    name: bytes  # as printed by the kernel: a newline in a path reads \012
    flags: frozenset[str]
    fields: dict[str, int]

    @property
    def size(self) -> int:
        """Size of the address range in bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Mappings:
    """All mappings of a process. Columns have format "Q", so `np.asarray(column)` copies nothing."""

    count: int
    start: memoryview
    end: memoryview
    permissions: memoryview
    offset: memoryview
    device: memoryview
    inode: memoryview
    flags: memoryview  # bit N stands for flag_names[N]
    flag_names: tuple[str, ...]
    fields: dict[str, memoryview]  # by smaps name; empty if read from maps
    name_at: memoryview = field(repr=False)
    name_length: memoryview = field(repr=False)
    names: memoryview = field(repr=False)
    overlaps: int = 0  # mappings printed twice because they changed during the read
    ignored: int = 0  # lines that could not be parsed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Mapping]:
        """Yield all mappings. Columns are read side by side: several hundred rows by index take milliseconds."""
        names = tuple(self.fields)
        columns = zip(*self.fields.values(), strict=True) if names else ((),) * self.count
        permissions = {bits: Permission(bits) for bits in set(self.permissions)}
        flags = {bits: self._flags(bits) for bits in set(self.flags)}
        for index, values in enumerate(columns):
            device = self.device[index]
            yield Mapping(
                self.start[index],
                self.end[index],
                permissions[self.permissions[index]],
                self.offset[index],
                (device >> 32, device & 0xFFFFFFFF),
                self.inode[index],
                self.name(index),
                flags[self.flags[index]],
                {name: size for name, size in zip(names, values, strict=True) if size != ABSENT},
            )

    def _flags(self, bits: int) -> frozenset[str]:
        return frozenset(name for bit, name in enumerate(self.flag_names) if bits >> bit & 1)

    def name(self, index: int) -> bytes:
        """Return the name of one mapping as the kernel printed it."""
        at = self.name_at[index]
        return bytes(self.names[at : at + self.name_length[index]])

    def row(self, index: int) -> Mapping:
        """Return one mapping."""
        device = self.device[index]
        values = ((name, column[index]) for name, column in self.fields.items())
        return Mapping(
            start=self.start[index],
            end=self.end[index],
            permissions=Permission(self.permissions[index]),
            offset=self.offset[index],
            device=(device >> 32, device & 0xFFFFFFFF),
            inode=self.inode[index],
            name=self.name(index),
            flags=self._flags(self.flags[index]),
            fields={name: value for name, value in values if value != ABSENT},
        )

    def total(self, name: str) -> int | None:
        """Return the sum of a field over all mappings in bytes, or None if this kernel does not print it."""
        column = self.fields.get(name)
        if column is None:
            return None
        return sum(value for value in column if value != ABSENT)

    def find(self, address: int) -> int | None:
        """Return the index of the mapping that contains an address, or None."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self.end[middle] <= address:
                low = middle + 1
            else:
                high = middle
        return low if low < self.count and self.start[low] <= address else None
