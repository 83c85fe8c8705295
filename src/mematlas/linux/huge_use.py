"""How much of a process's anonymous huge pages holds data: a random sample of their 4 KiB pages is read.

A page with zeros alone was never written, or holds zeros. The kernel too takes a huge page with many such
pages for underused (khugepaged/max_ptes_none). Only present pages are read, so that nothing is faulted in.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux.mappings import ABSENT, Permission
from mematlas.linux.page_scan import Category

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mapping, Mappings
    from mematlas.linux.process import ProcessDirectory

SAMPLES = 1024  # pages; standard error of a share: at most 1.6 %
_ENOUGH = 8 << 20  # bytes of huge pages; less is not worth a look
_ZEROS = bytes(_core.PAGE)


@dataclass(frozen=True, slots=True)
class HugeUse:
    """Use of huge pages, in bytes. `zero_bytes` is an estimate; `error_bytes` its standard error."""

    huge_bytes: int
    zero_bytes: int = 0
    error_bytes: int = 0
    samples: int = 0
    advised: bool = False  # most of them by MADV_HUGEPAGE
    mappings: tuple[tuple[int, int, int], ...] = ()  # start, end, huge bytes; the largest first


def read_huge_use(process: ProcessDirectory, mappings: Mappings) -> HugeUse | str:
    """Sample the huge pages of a process; a string is the reason why they could not be read."""
    column = mappings.fields.get("AnonHugePages", ())
    huge = [mappings.row(index) for index, size in enumerate(column) if size not in {0, ABSENT}]
    rows = [each for each in huge if _is_anonymous(each)]
    whole = sum(map(_huge, rows))
    if whole < _ENOUGH:
        return HugeUse(whole)
    try:
        runs = _huge_runs(process, rows)
        return _sample(process, rows, runs)
    except OSError as error:
        return f"its huge pages cannot be read: {os.strerror(error.errno or 0)}; run as root"


def _is_anonymous(mapping: Mapping) -> bool:
    return not mapping.inode and not mapping.permissions & Permission.SHARED


def _huge(mapping: Mapping) -> int:
    return mapping.fields.get("AnonHugePages", 0)


def _huge_runs(process: ProcessDirectory, rows: list[Mapping]) -> list[tuple[int, int]]:
    pagemap = process.open("pagemap")
    try:
        both = int(Category.PRESENT | Category.HUGE)
        found = (
            _core.scan_pagemap(pagemap, row.start, row.end, any_of=int(Category.HUGE), want=both)
            for row in rows
        )
        return [(start, end) for runs in found for start, end, kind in runs if kind & both == both]
    finally:
        os.close(pagemap)


def _sample(
    process: ProcessDirectory, rows: list[Mapping], runs: list[tuple[int, int]]
) -> HugeUse | str:
    size = sum(end - start for start, end in runs)
    if not size:
        return "its huge pages changed while they were read"
    import random  # here: most processes have no huge pages to look at

    pages = size // _core.PAGE
    chosen = sorted(random.Random(pages).sample(range(pages), min(pages, SAMPLES)))
    zeros = samples = 0
    memory = process.open("mem")
    try:
        for address in _addresses(runs, chosen):
            text = os.pread(memory, _core.PAGE, address)
            samples += len(text) == _core.PAGE
            zeros += text == _ZEROS
    finally:
        os.close(memory)
    if not samples:
        return "its huge pages changed while they were read"
    share = zeros / samples
    rest = 1 - samples / pages  # of a finite number of pages
    return HugeUse(
        huge_bytes=size,
        zero_bytes=round(share * size),
        error_bytes=round(math.sqrt(max(share * (1 - share), 1 / samples) / samples * rest) * size),
        samples=samples,
        advised=2 * sum(_huge(each) for each in rows if "hg" in each.flags) > size,
        mappings=tuple(
            (each.start, each.end, _huge(each))
            for each in sorted(rows, key=_huge, reverse=True)[:3]
        ),
    )


def _addresses(runs: list[tuple[int, int]], chosen: list[int]) -> list[int]:
    """Return the addresses of the pages with these numbers, counted over all runs."""
    found, before, at = [], 0, 0
    for start, end in runs:
        pages = (end - start) // _core.PAGE
        while at < len(chosen) and chosen[at] < before + pages:
            found.append(start + (chosen[at] - before) * _core.PAGE)
            at += 1
        before += pages
    return found
