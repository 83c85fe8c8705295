"""Guard regions (MADV_GUARD_INSTALL). In pagemap they have the swap bit; only PAGEMAP_SCAN separates them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux.page_scan import Category

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mappings
    from mematlas.linux.process import ProcessDirectory


def read_guards(
    process: ProcessDirectory, mappings: Mappings
) -> tuple[tuple[int, int], ...] | None:
    """Return the guard regions of a process as (start, end), or None if this kernel cannot report them."""
    try:
        descriptor = process.open("pagemap")
    except OSError:
        return None
    guard = int(Category.GUARD)
    try:
        runs = [
            (start, end)
            for low, high in _spans(mappings)
            for start, end, _ in _core.scan_pagemap(descriptor, low, high, any_of=guard, want=guard)
        ]
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return tuple(runs)


def _spans(mappings: Mappings) -> list[tuple[int, int]]:
    """Return the address ranges to scan: adjacent mappings merged, the vsyscall page left out."""
    spans: list[tuple[int, int]] = []
    for start, end in zip(mappings.start, mappings.end, strict=True):
        if start >> 63:
            continue
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans
