"""Locks of files and folders by flock(2), as other processes hold them."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike


def is_locked(path: str | PathLike[str]) -> bool:
    """Return whether another descriptor has a file or folder locked for itself.

    False: there is none that can be opened. True also where the file system has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
