"""What the live view of a recording asks for; it does not know where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mematlas.recording.model import Recording


class RecordingSource(Protocol):
    """A recording that is being written, and the program it is of."""

    def read(self) -> Recording | None:
        """Read what there is by now, with names; None before its first chunk. MematlasError if it cannot be."""

    @property
    def running(self) -> bool:
        """It is still written to."""

    def output(self) -> str:
        """Give the last of what the program wrote."""

    def interrupt(self) -> None:
        """Have the program, or what was attached to it, end."""
