"""Guard regions (MADV_GUARD_INSTALL): pages that look swapped to anyone who does not ask."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mematlas import native
from mematlas.model.pages import Category

if TYPE_CHECKING:
    from mematlas.model.mappings import Mappings
    from mematlas.sources.process import ProcessDirectory


def read_guards(
    process: ProcessDirectory, mappings: Mappings
) -> tuple[tuple[int, int], ...] | None:
    """Find the guard regions of a process; None if this kernel cannot tell."""
    try:
        descriptor = process.open("pagemap")
    except OSError:
        return None
    guard = int(Category.GUARD)
    try:
        runs = [
            (start, end)
            for low, high in _spans(mappings)
            for start, end, _ in native.scan_pagemap(
                descriptor, low, high, any_of=guard, want=guard
            )
        ]
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return tuple(runs)


def _spans(mappings: Mappings) -> list[tuple[int, int]]:
    """Address ranges worth a scan: contiguous mappings together, the vsyscall page left out."""
    spans: list[tuple[int, int]] = []
    for start, end in zip(mappings.start, mappings.end, strict=True):
        if start >> 63:
            continue
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans
