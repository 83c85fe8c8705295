"""Counters that several threads write at once, timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARING_MODES = {
    "store": lib.MEMATLAS_SHARING_STORE,
    "add": lib.MEMATLAS_SHARING_ADD,
    "swap": lib.MEMATLAS_SHARING_SWAP,
    "load": lib.MEMATLAS_SHARING_LOAD,
}


def run_sharing(
    mode: str, base: int, distance: int, cpus: Sequence[int], duration_ns: int
) -> list[tuple[int, int, int]]:
    """Run one thread on each CPU, on the counter at base + its number * distance.

    Return for each thread its operations, nanoseconds and involuntary context switches.
    """
    results = ffi.new("struct mematlas_sharing_result[]", len(cpus))
    check(
        lib.mematlas_sharing_run(
            SHARING_MODES[mode], base, distance, cpus, len(cpus), duration_ns, results
        )
    )
    return [
        (int(each.operations), int(each.elapsed_ns), int(each.interruptions)) for each in results
    ]
