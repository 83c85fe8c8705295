"""Recordings on disk. Written chunk by chunk during a run, readable up to the last complete chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.recording.writer import Writer

if TYPE_CHECKING:
    from os import PathLike

    from mematlas.recording.model import RecordingData

__all__ = ["Writer", "read"]


def read(path: str | PathLike[str], *, at_s: float | None = None) -> RecordingData:
    """Read a recording: a file, or the folder of a rolling one. This imports NumPy, which the writer does not need.

    `at_s`: seconds since 1970; the recording as it was then.
    """
    from mematlas.recording import folder

    return folder.read(path, at_s)
