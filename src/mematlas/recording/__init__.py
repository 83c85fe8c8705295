"""Recordings on disk: written chunk by chunk during a run, readable up to the last whole chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.recording.writer import Writer

if TYPE_CHECKING:
    from os import PathLike

    from mematlas.recording.model import Recording

__all__ = ["Writer", "read"]


def read(path: str | PathLike[str]) -> Recording:
    """Read the recording in a file; loads NumPy, which writing one does not need."""
    from mematlas.recording import reader

    return reader.read(path)
