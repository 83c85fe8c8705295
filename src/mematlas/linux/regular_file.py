"""Opening of files whose names a traced program may have chosen."""

from __future__ import annotations

import errno
import os
import stat
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe's open() never waits


def open_regular(path: str | PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading. OSError: it cannot be read, or is a pipe, a device, a directory.

    No file has a name with a null byte, or with characters that no byte stands for.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except ValueError as error:
        raise OSError(errno.ENOENT, str(error), os.fspath(path)) from None
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
