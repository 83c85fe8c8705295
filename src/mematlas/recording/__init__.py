"""Recordings on disk. Written chunk by chunk during a run, readable up to the last complete chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.recording.writer import Writer

if TYPE_CHECKING:
    from os import PathLike

    from mematlas.recording.model import RecordingData

__all__ = ["Writer", "read"]


def read(path: str | PathLike[str]) -> RecordingData:
    """Read a recording. This imports NumPy, which the writer does not need."""
    from mematlas.recording import reader

    return reader.read(path)
