"""Huge pages of the machine: hugetlb pools of each size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HugePool:
    """One hugetlb pool, in pages of `size` bytes."""

    size: int
    total: int
    free: int
    reserved: int
    surplus: int
