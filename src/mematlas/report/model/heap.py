"""Heap graphs of a recording as reports show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.heap.model.answers import Summary


@dataclass(frozen=True, slots=True)
class HeapView:
    """What held the memory of one process at one moment."""

    moment: str  # "peak" | "exit"
    summary: Summary

    @property
    def when(self) -> str:
        """Format the moment as a part of a sentence."""
        return f"at the {self.moment}"
