"""The compiled core, and how its results are checked."""

from __future__ import annotations

import os

from mematlas._native import ffi, lib

if lib.mematlas_abi() != 1:
    message = "the compiled core is of another version; run scripts/setup"
    raise ImportError(message)

__all__ = ["PAGE", "check", "ffi", "lib"]

PAGE = os.sysconf("SC_PAGESIZE")


def check(result: int, name: str | None = None) -> int:
    """Pass a count through; turn -errno into the OSError that says it."""
    if result < 0:
        raise OSError(-result, os.strerror(-result), name)
    return result
