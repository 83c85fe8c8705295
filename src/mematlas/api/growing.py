"""A recording that is read while its run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.recording.frames import FrameCache
    from mematlas.recording.model import RecordingData
    from mematlas.report.analyse.owner_patterns import Patterns


class GrowingRecording:
    """Reads what is recorded so far. Each symbol is resolved once."""

    def __init__(self, path: str) -> None:
        """Read the user's owner patterns, so that an error in them is told at the start."""
        from mematlas.report.analyse.owner_patterns import patterns

        self.path = path
        self._patterns: Patterns = patterns()
        self._names: FrameCache | None = None

    def read(self) -> RecordingData | None:
        """Read the recording; None if it has no chunk yet. Raises MematlasError if it is malformed."""
        from mematlas.recording import read
        from mematlas.recording.frames import FrameCache
        from mematlas.recording.segments import list_segments
        from mematlas.report.analyse.wrappers import mark_wrappers

        file = Path(self.path)
        if file.is_dir() and not list_segments(file):
            return None
        if not file.exists() or file.stat().st_size == 0:
            return None
        recording = read(self.path)
        if self._names is None or file.is_dir():  # of a folder, code IDs change as the oldest goes
            self._names = FrameCache()
        self._names.add_frames(recording)
        mark_wrappers(recording, self._patterns)
        return recording
