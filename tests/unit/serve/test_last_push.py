"""What the last push waits for."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from mematlas.recording import Writer
from mematlas.recording.model import Sampling
from mematlas.recording.segments import segment_path
from mematlas.serve.state import ServedRecording

if TYPE_CHECKING:
    from pathlib import Path


def test_the_end_is_waited_for_as_long_as_a_recorder_has_the_folder(tmp_path: Path) -> None:
    """A busy machine may run it late; one that was killed writes no end."""
    folder = tmp_path / "rolling"
    recording = ServedRecording(str(folder))
    assert not recording.lacks_end()
    folder.mkdir()
    path, sampling = segment_path(folder, 1, 1), Sampling("exact", 0, 1.0)
    with Writer(path, command=["x"], started="", machine={}, sampling=sampling) as writer:
        assert not recording.lacks_end()
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert recording.lacks_end()
        writer.end()
        assert not recording.lacks_end()
    os.close(lock)
