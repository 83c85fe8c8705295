"""What a thread uses of its stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.heap.model.image import RangeKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.heap.model.image import Range

RED_ZONE = 128
"""Bytes below the stack pointer that a function may use."""


def find_stack(sp: int, ranges: Iterable[Range]) -> tuple[int, int] | None:
    """Return start and end of the stack that a stack pointer lies in, from the red zone on; None: in no stack."""
    for each in ranges:
        if each.kind is RangeKind.STACK and each.start <= sp < each.end:
            return max(each.start, sp - RED_ZONE), each.end
    return None
