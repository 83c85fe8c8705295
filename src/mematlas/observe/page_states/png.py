"""The page map as a PNG image: one pixel per cell, one colour per state."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from mematlas.linux.pageflags import PageState

if TYPE_CHECKING:
    from mematlas.linux.pageflags import PageReport

COLOURS: dict[PageState, tuple[int, int, int]] = {
    # The colours differ in lightness, so that colour-blind readers can tell them apart.
    PageState.NOTHING: (232, 232, 232),
    PageState.ANONYMOUS: (31, 119, 180),
    PageState.FILE: (152, 187, 120),
    PageState.ZERO: (255, 255, 255),
    PageState.KSM: (148, 103, 189),
    PageState.HUGE: (10, 42, 92),
    PageState.SWAPPED: (214, 39, 40),
    PageState.GUARD: (60, 60, 60),
}
_GAP = (255, 255, 255)
_PALETTE = [*COLOURS.values(), _GAP]


def render_png(report: PageReport, width: int) -> bytes:
    """Return a PNG image with the strips below each other, each wrapped at `width` pixels."""
    index = {state.value: number for number, state in enumerate(COLOURS)}
    gap = bytes([len(COLOURS)])
    rows: list[bytes] = []
    for strip in report.strips:
        pixels = bytes(index[cell] for cell in strip.cells)
        rows += [pixels[at : at + width].ljust(width, gap) for at in range(0, len(pixels), width)]
        rows.append(gap * width)
    return _png(width, rows or [gap * width])


def _png(width: int, rows: list[bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, len(rows), 8, 3, 0, 0, 0)  # 8 bits, palette
    palette = bytes(value for colour in _PALETTE for value in colour)
    image = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", image), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)
