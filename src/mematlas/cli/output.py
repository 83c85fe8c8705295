"""Files that a command writes: whole, or not at all."""

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
def writing(path: str | Path) -> Iterator[Path]:
    """Give the file to write; what stands at `path` gives way to it once all is written.

    Devices, pipes and what else is no regular file are written to as they are; a link stays one.
    """
    try:
        target = _place(Path(path))
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        if not _gives_way(target):
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


def _place(path: Path) -> Path:
    """Follow links, but for the kernel's own: /dev/stdout is what is open, not the name it has."""
    return path if _is_kernels(path) else path.resolve()


def _is_kernels(path: Path) -> bool:
    return str(path.absolute()).startswith(("/dev/", "/proc/"))


def _gives_way(target: Path) -> bool:
    if _is_kernels(target):
        return target.parent == Path("/dev/shm")  # noqa: S108
    if not target.exists():
        return True
    return target.is_file() and os.access(target.parent, os.W_OK)
