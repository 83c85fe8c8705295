"""Transposes, nested reads and software prefetch, timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]

METHODS = ("rows", "halves", "tiles")
"""Names of enum mematlas_transpose_method, in its order."""


def transpose_memory(
    method: str,
    source: tuple[int, int],
    target: tuple[int, int],
    shape: tuple[int, int],
    size: int,
) -> int:
    """Transpose a matrix of `size`-byte elements; both are (address, bytes between rows). Return the ns."""
    spent = ffi.new("uint64_t *")
    check(
        lib.mematlas_transpose(
            METHODS.index(method), *source, *target, shape[0], shape[1], size, spent
        )
    )
    return int(spent[0])


def transpose_kernel(method: str) -> str | None:
    """Return the kernel that this thread's last transpose by `method` chose; None if none was chosen."""
    name = lib.mematlas_transpose_kernel(METHODS.index(method))
    return ffi.string(name).decode() if name else None


def sum_pattern(
    address: int, outer: int, outer_step: int, inner: int, inner_step: int
) -> tuple[int, int]:
    """Sum words in two nested loops, steps in bytes; return the sum modulo 2**64 and the nanoseconds."""
    spent = ffi.new("uint64_t *")
    total = lib.mematlas_pattern_sum(address, outer, outer_step, inner, inner_step, spent)
    return int(total), int(spent[0])


def sum_ahead(values: Words, index: Words, distance: int, rounds: int) -> tuple[int, int]:
    """Sum digests of looked-up values, prefetched `distance` ahead; return the sum and the nanoseconds."""
    spent = ffi.new("uint64_t *")
    total = lib.mematlas_prefetch_sum(
        _words(values), _words(index), len(index), distance, rounds, spent
    )
    return int(total), int(spent[0])


def sum_in_order(values: Words, distance: int) -> tuple[int, int]:
    """Sum 2 * x + 1 in order, prefetched `distance` words ahead; return the sum and the nanoseconds."""
    spent = ffi.new("uint64_t *")
    total = lib.mematlas_sequential_sum(_words(values), len(values), distance, spent)
    return int(total), int(spent[0])


def _words(array: Words) -> Any:
    if array.dtype != "u8" or not array.flags.c_contiguous or array.ndim != 1:
        message = "expected a contiguous array of uint64"
        raise ValueError(message)
    return ffi.from_buffer("uint64_t[]", array)
