"""Compile a loop and keep what it made."""

import time

import numba
import numpy as np


@numba.njit
def powers(count):
    """Return squares."""
    result = np.empty(count)
    for i in range(count):
        result[i] = i * i
    return result


kept = [powers(2_000_000) for _ in range(4)]
time.sleep(1.5)
print(len(kept), kept[0][-1])
