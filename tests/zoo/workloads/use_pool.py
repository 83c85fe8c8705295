"""Workers of a pool keep blocks."""

import time
from multiprocessing import get_context

KEPT = []


def work(number):
    """Keep a megabyte, and return its size."""
    KEPT.append(bytes([number]) * 1_000_000)
    time.sleep(0.05)
    return len(KEPT[-1])


if __name__ == "__main__":
    with get_context("fork").Pool(2) as pool:
        print(sum(pool.map(work, range(40), chunksize=1)))
