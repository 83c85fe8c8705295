"""Interface between the live view and the source of its recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mematlas.recording.model import RecordingData


class RecordingSource(Protocol):
    """A growing recording and its program."""

    def read(self) -> RecordingData | None:
        """Read the recording with resolved frames; None before its first chunk. Raises MematlasError."""

    @property
    def running(self) -> bool:
        """Whether the program is still recorded."""

    def output(self) -> str:
        """Return the last output of the program."""

    def interrupt(self) -> None:
        """Interrupt the program, or detach."""
