"""Distinct numbers. np.unique hashes if only these are asked for, which takes thirty times as long as a sort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def distinct(numbers: NDArray[Any]) -> NDArray[Any]:
    """Return the distinct numbers of an array, ascending."""
    import numpy as np

    ordered = np.sort(numbers, axis=None)
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]
