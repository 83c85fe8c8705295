"""Memory held by descriptors, found without asking any file system but those in memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mematlas.linux.held_files import mapped_files, read_held
from mematlas.linux.process import open_process

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SIZE = 1 << 16


def test_only_files_in_memory_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deleted file of a disk, as of NFS or FUSE, is not read, nor any file that has a name."""
    memfd = os.memfd_create("held")
    os.write(memfd, bytes(SIZE))
    named = os.open(tmp_path / "named", os.O_CREAT | os.O_RDWR)
    asked: list[str] = []
    real = os.stat

    def note(path: Any, **options: Any) -> os.stat_result:
        asked.append(str(path))
        return real(path, **options)

    try:
        with open_process(os.getpid()) as process:
            monkeypatch.setattr(os, "stat", note)
            held = read_held(process, lambda: mapped_files(process))
            monkeypatch.undo()
    finally:
        os.close(memfd)
        os.close(named)
    assert held is not None
    (found,) = (each for each in held if each.descriptors == (memfd,))
    assert (found.name, found.bytes) == ("/memfd:held", SIZE)
    assert str(memfd) in asked
    assert str(named) not in asked
    assert not {"0", "1", "2"} & set(asked)
