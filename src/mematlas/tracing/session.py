"""The session directory: where traced programs and the collector meet."""

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

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY = Path("/dev/shm")  # noqa: S108  private directories are made in it
_PREFIX = "mematlas-"
_YOUNG_S = 60.0  # a directory without a lock may be one just being made


@contextmanager
def session_directory(room: int) -> Iterator[Path]:
    """Make a fresh directory for one run, in memory if there is room; remove it at the end."""
    base = _choose_base(room)
    remove_abandoned()
    try:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))  # mode 0700
    except OSError as error:
        raise MematlasError(
            f"{base}: {error.strerror}; set TMPDIR to a directory with room"
        ) from None
    try:
        with open(directory / "lock", "wb") as lock:  # noqa: PTH123
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def note_target(session: Path, pid: int) -> None:
    """Note in the session which process it was attached to, and who attached."""
    (session / "attached").write_text(f"{pid} {os.getpid()}\n")


def attached_to(pid: int) -> int | None:
    """Give the PID of the `mematlas attach` that is attached to a process, if one is."""
    for note in _sessions("*/attached"):
        try:
            target, owner = map(int, note.read_text().split())
            alive = not _is_abandoned(note.parent, time.time())
        except (OSError, ValueError):
            continue
        if target == pid and alive:
            return owner
    return None


def _sessions(pattern: str) -> Iterator[Path]:
    for base in {_MEMORY, Path(tempfile.gettempdir())}:
        yield from base.glob(_PREFIX + pattern)


def _choose_base(room: int) -> Path:
    """Shared memory, unless it is as small as containers make it."""
    try:
        facts = os.statvfs(_MEMORY)
    except OSError:
        facts = None
    if facts and facts.f_bavail * facts.f_frsize >= room and os.access(_MEMORY, os.W_OK | os.X_OK):
        return _MEMORY
    return Path(tempfile.gettempdir())


def remove_abandoned() -> None:
    """Remove directories of our own runs that were killed: nobody holds their lock."""
    for path in _sessions("*"):
        try:
            facts = path.lstat()
            if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
                continue
            if _is_abandoned(path, facts.st_mtime):
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue


def _is_abandoned(path: Path, changed: float) -> bool:
    try:
        lock = open(path / "lock", "rb")  # noqa: PTH123
    except FileNotFoundError:
        return time.time() - changed > _YOUNG_S
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
