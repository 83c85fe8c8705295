"""What the recorder process of a program leaves behind."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from mematlas.recording import Writer
from mematlas.recording.model import Sampling
from mematlas.recording.segments import segment_path
from mematlas.tracing import recorder

if TYPE_CHECKING:
    from pathlib import Path


class Failing(Writer):
    """A recording on a disk that fails at its end."""

    def end(self) -> None:
        """Fail."""
        raise OSError(errno.EIO, "Input/output error")


def test_a_temporary_folder_goes_though_its_end_cannot_be_written(tmp_path: Path) -> None:
    """Nobody else would remove it where the program has ended."""
    folder = tmp_path / "rolling"
    folder.mkdir()
    sampling = Sampling("exact", 0, 1.0)
    path = segment_path(folder, 1, 1)
    with (
        Failing(path, command=["x"], started="", machine={}, sampling=sampling) as writer,
        pytest.raises(OSError, match="Input/output error"),
    ):
        recorder._remove(writer, str(folder), 0)
    assert not folder.exists()
