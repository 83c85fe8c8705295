"""What mematlas asks of its own libraries by its environment, which is not the programs' it starts."""

from __future__ import annotations

import os
from functools import cache

_THREADS = "OPENBLAS_NUM_THREADS"


@cache
def ask_for_one_thread() -> None:
    """Keep NumPy from starting a thread a CPU that waits busily for linear algebra we never do.

    The process's environment says so, ``os.environ`` does not; a forked child takes it back.
    """
    if _THREADS not in os.environ:
        os.putenv(_THREADS, "1")
        os.register_at_fork(after_in_child=take_back)


def take_back() -> None:
    """Be as we were started: before this process becomes another program."""
    if _THREADS not in os.environ:
        os.unsetenv(_THREADS)
