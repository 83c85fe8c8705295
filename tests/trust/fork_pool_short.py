"""Two workers of a Pool that keep 15 MiB each, and are killed at once by the end of the `with` block."""

from __future__ import annotations

import multiprocessing

MIB = 1 << 20
kept: list[bytearray] = []


def heavy(number: int) -> int:
    """Keep 15 MiB in this worker, and wait for the other one."""
    kept.append(bytearray(15 * MIB))
    meeting.wait()
    return number


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    meeting = multiprocessing.Barrier(2)
    with multiprocessing.Pool(2) as pool:
        print(sum(pool.map(heavy, range(2), chunksize=1)))
