"""25 MiB made before a Pool of two forks, and 15 MiB that each worker keeps until it exits."""

from __future__ import annotations

import multiprocessing

MIB = 1 << 20
kept: list[bytearray] = []


def make_base() -> bytearray:
    """Return memory that the workers inherit."""
    return bytearray(25 * MIB)


def work(number: int) -> int:
    """Keep 15 MiB in this worker, and wait for the other one."""
    kept.append(bytearray(15 * MIB))
    meeting.wait()
    return number


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    base = make_base()
    meeting = multiprocessing.Barrier(2)
    with multiprocessing.Pool(2) as pool:
        print(sum(pool.map(work, range(2), chunksize=1)), len(base))
        pool.close()
        pool.join()
