"""Ranges of threads, for every source of an image: registers, and the used part of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.heap.model.image import REGISTERS_START, Range, RangeKind

if TYPE_CHECKING:
    from collections.abc import Iterable

RED_ZONE = 128
"""Bytes below the stack pointer that a function may use."""


def register_range(number: int, words: bytes) -> Range:
    """Return the range of the registers of a thread."""
    return Range(REGISTERS_START + number * 4096, RangeKind.REGISTERS, memoryview(words))


def find_stack(sp: int, ranges: Iterable[Range]) -> tuple[int, int] | None:
    """Return what a thread uses of its stack, with the red zone; None: no stack holds the stack pointer."""
    for each in ranges:
        if each.kind is RangeKind.STACK and each.start <= sp < each.end:
            return max(each.start, sp - RED_ZONE), each.end
    return None
