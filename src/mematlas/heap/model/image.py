"""A copy of the memory of a process at one time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mappings

REGISTERS_START = 1 << 63
"""Where the registers of thread 0 stand in an image; those of thread N at + N * 4096. No address is there."""


class RangeKind(IntEnum):
    """What a copied range is: enum mematlas_heap_range_kind."""

    BRK = 0  # [heap]
    ANONYMOUS = 1
    STACK = 2  # from the stack pointer less the red zone to the end of the stack
    DATA = 3  # private writable mapping of a file, and its anonymous tail (.bss)
    CODE = 4  # not writable: vtables, type names, .eh_frame
    SHARED = 5
    REGISTERS = 6  # the general registers of one thread


@dataclass(frozen=True, slots=True)
class Range:
    """Copied memory [start, start + len(memory)). Pages that were never resident read as zero."""

    start: int
    kind: RangeKind
    memory: memoryview = field(repr=False)  # format "B"
    pages: bytes | None = field(default=None, repr=False)
    """A byte for each page the range touches: 0 no memory, 1 resident, 2 swapped out. None: unknown."""
    mapping: int = -1  # index in the image's mappings; -1: none

    @property
    def end(self) -> int:
        """First address behind the range."""
        return self.start + len(self.memory)


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread at the time of the copy."""

    tid: int
    name: str
    registers: dict[str, int] = field(
        repr=False
    )  # general registers by name; "rsp", "rip", "fs_base"
    stack: tuple[int, int] | None  # from the stack pointer to the end of its mapping; None: unknown

    @property
    def sp(self) -> int:
        """The stack pointer."""
        return self.registers.get("rsp", self.registers.get("sp", 0))


@dataclass(frozen=True, slots=True)
class Image:
    """The memory of a process. `ranges` ascend and are disjoint; registers stand last."""

    ranges: tuple[Range, ...] = field(repr=False)
    mappings: Mappings = field(repr=False)
    threads: tuple[Thread, ...]
    pid: int | None  # None: from a core file that does not tell
    way: str  # "stop", "copy-first", "core", "no-stop"
    moment: float  # seconds since the epoch
    pause_s: float | None = None  # how long the process was stopped; None: not at all, or unknown
    page_size: int = 4096
    name: str = ""  # of the program
    notes: tuple[str, ...] = ()  # what could not be copied, and why; a sentence each
    starts: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", tuple(found.start for found in self.ranges))

    def find(self, address: int) -> Range | None:
        """Return the range that holds an address."""
        index = bisect_right(self.starts, address) - 1
        if index < 0 or address >= self.ranges[index].end:
            return None
        return self.ranges[index]

    def read(self, address: int, size: int) -> bytes | None:
        """Return copied bytes; None unless they lie wholly inside one range."""
        found = self.find(address)
        if found is None or size > found.end - address:
            return None
        return bytes(found.memory[address - found.start : address - found.start + size])

    def read_word(self, address: int) -> int | None:
        """Return the 8-byte word at an address."""
        found = self.read(address, 8)
        return None if found is None else int.from_bytes(found, "little")

    def read_text(self, address: int, most: int = 4096) -> str | None:
        """Return the zero-terminated text at an address; None: not in the image, or it does not end in `most` bytes."""
        found = self.find(address)
        if found is None:
            return None
        offset = address - found.start
        data = bytes(found.memory[offset : offset + most])
        end = data.find(b"\0")
        return None if end < 0 else data[:end].decode(errors="replace")
