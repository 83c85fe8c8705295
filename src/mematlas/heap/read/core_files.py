"""Files that a core file names: read for the memory that the core leaves out, if they are the same files still.

The kernel writes the first page of each ELF file, which has its build ID, and leaves out what equals the file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mematlas.heap.model.image import Range, RangeKind
from mematlas.linux.mappings import Permission
from mematlas.linux.regular_file import open_regular
from mematlas.recording import elf

if TYPE_CHECKING:
    from mematlas.heap.read.core_headers import CoreSegment

_MOST_BYTES = 512 << 20  # of one mapping
_MOST_OF_ALL = 2 << 30


class CoreFiles:
    """The mapped files of a core, by path. `remarks` grows as files turn out to be other ones."""

    def __init__(self, files: dict[int, tuple[int, int, bytes]]) -> None:
        """Take start, end, offset and path of each mapping of a file."""
        self._files = files
        self._same: dict[bytes, bool] = {}
        self._numbers: dict[bytes, int] = {}
        self.remarks: list[str] = []
        self._left = _MOST_OF_ALL

    def identity(self, path: bytes) -> tuple[int, int]:
        """Return device and inode of a mapped file; made up where the path leads to another file now."""
        if self._same.get(path):
            try:
                status = os.stat(path)  # noqa: PTH116  bytes
            except OSError:
                pass
            else:
                return os.major(status.st_dev) << 32 | os.minor(status.st_dev), status.st_ino
        return 1 << 63, self._numbers.setdefault(path, len(self._numbers) + 1)

    def missing_ranges(self, segments: list[CoreSegment], there: list[Range]) -> list[Range]:
        """Read the mappings that the core leaves out, wholly or behind their first page, from their files."""
        kept = {each.mapping: each for each in there}
        found = []
        for number, segment in enumerate(segments):
            entry = self._files.get(segment.start)
            if entry is None:
                continue
            path = entry[2]
            if path not in self._same:
                self._same[path] = self._is_same(path, kept)
            have = len(kept[number].memory) if number in kept else 0
            if have < segment.size and self._wants(segment, path):
                found += self._read(segment, entry, have, number)
        return found

    def _wants(self, segment: CoreSegment, path: bytes) -> bool:
        readable = segment.permissions & (Permission.READ | Permission.EXECUTE) == Permission.READ
        return readable and self._same[path] and segment.size <= min(_MOST_BYTES, self._left)

    def _read(
        self, segment: CoreSegment, entry: tuple[int, int, bytes], have: int, number: int
    ) -> list[Range]:
        """Read a mapping behind its first `have` bytes."""
        try:
            with open_regular(os.fsdecode(entry[2])) as file:
                data = os.pread(file.fileno(), segment.size - have, entry[1] + have)
        except OSError:
            return []
        if not data:
            return []
        self._left -= len(data)
        return [Range(segment.start + have, RangeKind.CODE, memoryview(data), None, number)]

    def _is_same(self, path: bytes, kept: dict[int, Range]) -> bool:
        """Return whether a path still leads to the mapped file: by the build ID in its memory."""
        wanted = self._build_id_in_core(path, kept)
        if not wanted:
            return False
        try:
            found = elf.read(os.fsdecode(path))
        except OSError:
            return False
        if found is not None and found.build_id == wanted:
            return True
        self.remarks.append(f"{os.fsdecode(path)} is another file now: its memory is left out")
        return False

    def _build_id_in_core(self, path: bytes, kept: dict[int, Range]) -> str:
        for each in kept.values():
            entry = self._files.get(each.start)
            if entry is not None and entry[2] == path and entry[1] == 0:
                return elf.build_id_of_head(bytes(each.memory[: 1 << 16]))
        return ""
