"""Resolves (path, file offset) pairs to frames."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.linux.regular_file import open_regular
from mematlas.recording import elf
from mematlas.recording.frames import Resolver
from mematlas.recording.model import Frame, Module

if TYPE_CHECKING:
    from collections.abc import Iterable

    FileOffset = tuple[str, int]

_PT_LOAD = 1
_END = 1 << 47


def resolve_offsets(offsets: Iterable[FileOffset]) -> dict[FileOffset, tuple[Frame, ...]]:
    """Return the frames of each distinct file offset, innermost inlined frame first."""
    by_file: dict[str, set[int]] = {}
    for path, offset in offsets:
        by_file.setdefault(path, set()).add(offset)
    resolver, found = Resolver(), {}
    for path, in_file in by_file.items():
        segments = _segments(path) if path else []
        addresses = {offset: _address(segments, offset) for offset in in_file}
        # The resolver expects return addresses and looks one byte before them.
        words = [address + 1 for address in addresses.values() if address is not None]
        frames = resolver.resolve(words, [_module(path)], []) if words else {}
        for offset, address in addresses.items():
            known = None if address is None else frames.get(address + 1)
            found[path, offset] = known or (_unnamed(path, offset),)
    return found


def _module(path: str) -> Module:
    try:
        headers = elf.read(path)
    except OSError:
        headers = None
    return Module(path, headers.build_id if headers else "", 0, 0, _END)


def _unnamed(path: str, offset: int) -> Frame:
    name = f"{Path(path).name}+{offset:#x}" if path else f"{offset:#x}"
    return Frame(name, None, None, path or None, "native")


def _segments(path: str) -> list[tuple[int, int, int]]:
    """List the loaded segments of an ELF file as (offset, end, address - offset)."""
    try:
        with open_regular(path) as file:
            head = file.read(64)
            if head[:6] != b"\x7fELF\x02\x01":
                return []
            at, size, count = struct.unpack_from("<32xQ14xHH", head)
            file.seek(at)
            table = file.read(size * count)
    except OSError:
        return []
    found = []
    for start in range(0, len(table) - 55, max(size, 56)):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", table, start)
        if kind == _PT_LOAD:
            found.append((offset, offset + length, address - offset))
    return found


def _address(segments: list[tuple[int, int, int]], offset: int) -> int | None:
    for begin, end, shift in segments:
        if begin <= offset < end:
            return offset + shift
    return None
