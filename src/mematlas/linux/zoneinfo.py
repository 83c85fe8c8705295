"""/proc/zoneinfo: the frame numbers of each NUMA node."""

from __future__ import annotations

import re
from pathlib import Path

from mematlas.linux.pageflags import FrameRange

_ZONE = re.compile(r"^Node (\d+), zone +(\S+)$", re.MULTILINE)
_SPANNED = re.compile(r"^ +spanned +(\d+)$", re.MULTILINE)
_START = re.compile(r"^ +start_pfn: +(\d+)$", re.MULTILINE)


def read_frame_ranges(root: str = "/") -> tuple[FrameRange, ...]:
    """Read the frame ranges of all zones; empty if the file cannot be read."""
    try:
        text = Path(root, "proc/zoneinfo").read_text()
    except OSError:
        return ()
    heads = list(_ZONE.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    ranges = []
    for head, end in zip(heads, ends, strict=True):
        spanned = _SPANNED.search(text, head.end(), end)
        start = _START.search(text, head.end(), end)
        if spanned and start and int(spanned[1]):
            first = int(start[1])
            ranges.append(FrameRange(int(head[1]), first, first + int(spanned[1])))
    return tuple(ranges)
