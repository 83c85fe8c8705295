"""The user of a traced process."""

from __future__ import annotations

import os
from pathlib import Path

from mematlas.errors import MematlasError
from mematlas.linux.process import open_process
from mematlas.linux.status import read_status


def user_of(pid: int) -> int | None:
    """Return the effective user of a process that sees the files of this one; None if it does not, or is gone."""
    try:
        with open_process(pid) as process:
            same = (
                os.path.samestat(
                    os.stat(name, dir_fd=process.descriptor), Path(f"/proc/self/{name}").stat()
                )
                for name in ("ns/mnt", "root")
            )
            return read_status(process).uid if all(same) else None
    except (OSError, MematlasError, ValueError, KeyError):
        return None
