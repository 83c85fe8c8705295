"""Bytes of a recording that stay in the file until accessed."""

from __future__ import annotations

import os
from typing import Any


class Descriptor:
    """Duplicate of a file descriptor. It stays readable after the original is closed or unlinked."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        """Duplicate a descriptor. Raises OSError like dup()."""
        self.number = -1
        self.number = os.dup(number)

    def __del__(self) -> None:
        """Close the descriptor."""
        if self.number >= 0:
            os.close(self.number)


class FileSlice:
    """A byte range of a file, read at each access."""

    __slots__ = ("_file", "_length", "_start")

    def __init__(self, file: Descriptor, start: int, length: int) -> None:
        """Store the range."""
        self._file = file
        self._start = start
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as bytes: the descriptor is not valid in another process."""
        return bytes, (bytes(self[:]),)

    def __getitem__(self, part: slice) -> memoryview:
        """Read a part. Raises ValueError if the file was truncated, OSError like pread()."""
        start, end, _ = part.indices(self._length)
        found, at = bytearray(max(0, end - start)), 0
        view = memoryview(found)
        while at < len(found):
            got = os.preadv(self._file.number, [view[at:]], self._start + start + at)
            if not got:
                message = "the file was truncated while it was read"
                raise ValueError(message)
            at += got
        return view.toreadonly()
