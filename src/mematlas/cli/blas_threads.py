"""The number of OpenBLAS threads in mematlas itself; traced programs keep their own."""

from __future__ import annotations

import os
from functools import cache

_THREADS = "OPENBLAS_NUM_THREADS"


@cache
def limit_blas_threads() -> None:
    """Keep NumPy from starting one OpenBLAS thread per CPU: they spin, and mematlas uses no BLAS.

    Only the C environment is changed, not `os.environ`, from which programs are started; a forked
    child restores it.
    """
    if _THREADS not in os.environ:
        os.putenv(_THREADS, "1")
        os.register_at_fork(after_in_child=restore_environment)


def restore_environment() -> None:
    """Restore the environment before this process executes another program."""
    if _THREADS not in os.environ:
        os.unsetenv(_THREADS)
