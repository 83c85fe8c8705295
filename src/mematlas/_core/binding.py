"""The compiled core, and the check of its results."""

from __future__ import annotations

import os

from mematlas.errors import UnsupportedError

try:
    from mematlas._native import ffi, lib
except ModuleNotFoundError:  # cffi
    raise
except ImportError as error:
    import platform

    if platform.libc_ver()[0] == "glibc":
        raise
    message = "mematlas needs glibc, and this Python runs on another libc (musl?): use an image with glibc"
    raise UnsupportedError(message) from error

if lib.mematlas_abi() != 2:
    message = "the compiled core is from another version; run scripts/setup"
    raise ImportError(message)

__all__ = ["PAGE", "check", "ffi", "lib"]

PAGE = os.sysconf("SC_PAGESIZE")


def check(result: int, name: str | None = None) -> int:
    """Return a count; raise OSError for -errno, with `name` as its file name."""
    if result < 0:
        raise OSError(-result, os.strerror(-result), name)
    return result
