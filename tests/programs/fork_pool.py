"""A Pool of two forked workers: 25 MiB made before the fork, and 15 MiB in each worker.

The workers exit by themselves with the argument `close`, else they are killed at once.
"""

import multiprocessing
import sys

MIB = 1 << 20
kept: list[bytearray] = []


def make_base() -> bytearray:
    """Return memory that the workers inherit."""
    return bytearray(25 * MIB)


def heavy(barrier: int) -> int:
    """Keep 15 MiB in this worker."""
    kept.append(bytearray(15 * MIB))
    meeting.wait()  # so that each of the two workers gets one of the two tasks
    return barrier


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    base = make_base()
    meeting = multiprocessing.Barrier(2)
    with multiprocessing.Pool(2) as pool:
        print(sum(pool.map(heavy, range(2), chunksize=1)), len(base))
        if sys.argv[1] == "close":
            pool.close()
            pool.join()
