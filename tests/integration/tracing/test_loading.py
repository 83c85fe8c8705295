"""The memfd of a process, filled from outside: nothing else that the process puts at its number is written to."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from mematlas import MematlasError
from mematlas.tracing.loading import _fill_memfd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = b"content of another file"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Return a file of some blocks."""
    (tmp_path / "library.so").write_bytes(bytes(range(256)) * 1000)
    return tmp_path / "library.so"


@contextmanager
def closing(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def new_memfd() -> int:
    """Create a memfd as in the process."""
    return os.memfd_create("tracer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def test_a_memfd_is_filled_and_sealed(library: Path) -> None:
    """Nobody changes the library between writing and loading."""
    with closing(new_memfd()) as file:
        _fill_memfd(file, 7, str(library))
        assert os.pread(file, 1 << 20, 0) == library.read_bytes()
        with pytest.raises(PermissionError):
            os.pwrite(file, b"x", 0)
        with pytest.raises(PermissionError):
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)


@pytest.mark.parametrize("kind", ["named", "empty", "deleted", "filled memfd", "pipe", "sealed"])
def test_another_file_is_not_written(library: Path, tmp_path: Path, kind: str) -> None:
    """What another thread of the process put at the number keeps its content."""
    path = tmp_path / "other"
    path.write_bytes(b"" if kind == "empty" else CONTENT)
    if kind == "pipe":
        reading, file = os.pipe()
        os.close(reading)
    elif kind in {"filled memfd", "sealed"}:
        file = new_memfd()
        os.write(file, CONTENT if kind == "filled memfd" else b"")
        if kind == "sealed":
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    else:
        file = os.open(path, os.O_RDWR)
        if kind == "deleted":
            path.unlink()
    with closing(file):
        size = os.fstat(file).st_size
        with pytest.raises(MematlasError, match="process 7 replaced the memfd"):
            _fill_memfd(file, 7, str(library))
        assert os.fstat(file).st_size == size


def test_the_rights_of_the_descriptor_count(library: Path) -> None:
    """A memfd that the process may only read is not opened again for writing."""
    with (
        closing(new_memfd()) as whole,
        closing(os.open(f"/proc/self/fd/{whole}", os.O_RDONLY)) as file,
    ):
        with pytest.raises(OSError, match="Bad file descriptor"):
            _fill_memfd(file, 7, str(library))
        assert os.fstat(whole).st_size == 0
