"""Bytes of a recording that stay in the file until somebody asks for them."""

from __future__ import annotations

import os
from typing import Any


class Descriptor:
    """An open file of one's own: it stays readable when the other is closed, or its name is gone."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        """Take another descriptor of the same file. OSError as from dup()."""
        self.number = -1
        self.number = os.dup(number)

    def __del__(self) -> None:
        """Close it."""
        if self.number >= 0:
            os.close(self.number)


class FileSlice:
    """Some bytes of a file, which are read each time a part of them is looked at."""

    __slots__ = ("_file", "_length", "_start")

    def __init__(self, file: Descriptor, start: int, length: int) -> None:
        """Take where they are."""
        self._file = file
        self._start = start
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the bytes: elsewhere there is no such file."""
        return bytes, (bytes(self[:]),)

    def __getitem__(self, part: slice) -> memoryview:
        """Read a part. ValueError if the file was cut since; OSError as from pread()."""
        start, end, _ = part.indices(self._length)
        found, at = bytearray(max(0, end - start)), 0
        view = memoryview(found)
        while at < len(found):
            got = os.preadv(self._file.number, [view[at:]], self._start + start + at)
            if not got:
                message = "the file was cut while it was read"
                raise ValueError(message)
            at += got
        return view.toreadonly()
