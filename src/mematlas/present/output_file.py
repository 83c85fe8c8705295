"""Output files, written as a whole or not at all."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Return a temporary file to write, which replaces `path` when the block ends.

    A device, a pipe or any other special file is written to directly. A symbolic link is kept, and
    its target replaced. MematlasError if the file cannot be written.
    """
    try:
        target = _resolve(Path(path))
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        if not _is_replaceable(target):
            yield target
            return
        try:
            yield part
            if target.exists():
                part.chmod(stat.S_IMODE(target.stat().st_mode))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise MematlasError(f"cannot write {path}: {error.strerror}") from None


def _resolve(path: Path) -> Path:
    """Follow links, except in /dev and /proc: /dev/stdout is an open file, whatever its name."""
    return path if _is_in_kernel_tree(path) else path.resolve()


def _is_in_kernel_tree(path: Path) -> bool:
    return str(path.absolute()).startswith(("/dev/", "/proc/"))


def _is_replaceable(target: Path) -> bool:
    if _is_in_kernel_tree(target):
        return target.parent == Path("/dev/shm")  # noqa: S108
    if not target.exists():
        return True
    return target.is_file() and os.access(target.parent, os.W_OK)
