"""Where the .bss of a file ends: the kernel merges it with what is mapped behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas._core import PAGE
from mematlas.heap.model.image import Range, RangeKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.linux.mappings import Mappings
    from mematlas.linux.program import Segment


def cut_bss(ranges: list[Range], mappings: Mappings, segments: Iterable[Segment]) -> list[Range]:
    """Cut ranges where the .bss of a file ends, by the segments of all files as loaded."""
    ends = sorted(
        (segment.file_end, -(-segment.end // PAGE) * PAGE)
        for segment in segments
        if segment.writable and segment.file_end < segment.end
    )
    found: list[Range] = []
    for each in ranges:
        if each.kind is not RangeKind.DATA or mappings.inode[each.mapping]:
            found.append(each)
            continue
        inside = [end for start, end in ends if start <= each.start < end]
        if not inside:  # no .bss: other memory that happens to follow
            found.append(replace(each, kind=RangeKind.ANONYMOUS))
        elif inside[0] < each.end:
            found += _cut(each, inside[0])
        else:
            found.append(each)
    return found


def _cut(whole: Range, end: int) -> tuple[Range, Range]:
    size = end - whole.start
    pages = whole.pages
    first, second = (
        (None, None) if pages is None else (pages[: size // PAGE], pages[size // PAGE :])
    )
    return (
        Range(whole.start, whole.kind, whole.memory[:size], first, whole.mapping),
        Range(end, RangeKind.ANONYMOUS, whole.memory[size:], second, whole.mapping),
    )
