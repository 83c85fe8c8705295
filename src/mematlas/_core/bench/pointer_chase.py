"""Loads in a given order: dependent (pointer chase) and independent (gather)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mematlas._core.binding import ffi, lib

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _addresses(order: NDArray[np.uint64]) -> Any:
    if order.dtype != "u8" or not order.flags.c_contiguous or not order.size:
        message = "addresses are a contiguous array of uint64, at least one"
        raise ValueError(message)
    return ffi.from_buffer("uint64_t[]", order)


def link_pointer_chase(order: NDArray[np.uint64]) -> None:
    """Write to each address the next one, and to the last the first. Addresses are distinct words."""
    lib.mematlas_pointer_chase_link(_addresses(order), order.size)


def run_pointer_chase(start: int, steps: int) -> tuple[int, int]:
    """Follow `steps` links, each load depending on the one before; return the last address and the ns."""
    spent = ffi.new("uint64_t *")
    end = lib.mematlas_pointer_chase_run(start, steps, spent)
    return int(end), int(spent[0])


def gather_sum(order: NDArray[np.uint64]) -> tuple[int, int]:
    """Sum the words at addresses; return the sum modulo 2**64 and the nanoseconds."""
    spent = ffi.new("uint64_t *")
    total = lib.mematlas_gather_sum(_addresses(order), order.size, spent)
    return int(total), int(spent[0])
