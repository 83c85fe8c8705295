"""The session directory: the files through which traced programs and the collector share memory."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError
from mematlas.linux.regular_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED_RINGS = 128  # rings that /dev/shm must have space for, to be used
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  directories in it are private
_PREFIX = "mematlas-"
_STARTUP_S = 60.0  # age up to which a directory without a lock counts as new


@contextmanager
def session_directory(ring_bytes: int) -> Iterator[Path]:
    """Create the private directory of one session, and remove it at the end of the block.

    The directory is in /dev/shm if that has space for SHARED_RINGS rings of `ring_bytes`, else in TMPDIR.

    Raises:
        MematlasError: the directory cannot be created.
    """
    base = _choose_base(SHARED_RINGS * ring_bytes)
    remove_abandoned()
    try:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))  # mode 0700
    except OSError as error:
        raise MematlasError(
            f"{base}: {error.strerror}; set TMPDIR to a directory with free space"
        ) from None
    try:
        with open(directory / "lock", "wb") as lock:  # noqa: PTH123
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove this user's session directories whose mematlas was killed: their lock is free."""
    for path in _sessions("*"):
        try:
            info = path.lstat()
            if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
                continue
            if _is_abandoned(path, info.st_mtime):
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue


def _sessions(pattern: str) -> Iterator[Path]:
    for base in {_SHARED_MEMORY, Path(tempfile.gettempdir())}:
        yield from base.glob(_PREFIX + pattern)


def _choose_base(needed: int) -> Path:
    """Choose /dev/shm if it has `needed` bytes free; containers often limit it to 64 MiB."""
    try:
        info = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return Path(tempfile.gettempdir())
    fits = info.f_bavail * info.f_frsize >= needed
    if fits and os.access(_SHARED_MEMORY, os.W_OK | os.X_OK):
        return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _is_abandoned(path: Path, modified: float) -> bool:
    try:
        lock = open_regular(path / "lock")
    except FileNotFoundError:
        return time.time() - modified > _STARTUP_S
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
