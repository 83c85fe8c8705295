"""Model of `mematlas diff`: the changes between two recordings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.recording.model import Frame
    from mematlas.report.model.report import Report


@dataclass(frozen=True, slots=True)
class StackChange:
    """Bytes of one line or stack in both recordings. Empty `frames`: unknown stacks."""

    frames: tuple[Frame, ...]
    before: int
    after: int
    error_bytes: int | None  # one standard error of the difference; None: unknown

    @property
    def bytes(self) -> int:
        """Growth; negative if it shrank."""
        return self.after - self.before

    @property
    def certain(self) -> bool:
        """Whether the change exceeds two standard errors."""
        return self.bytes != 0 and abs(self.bytes) > 2 * (self.error_bytes or 0)


@dataclass(frozen=True, slots=True)
class Diff:
    """Everything `mematlas diff` shows. Largest absolute changes first."""

    by: str
    reports: tuple[Report, Report]
    ignore_lines: bool  # match by function, ignoring lines
    commands: tuple[str, str]
    total: StackChange
    lines: tuple[StackChange, ...]
    stacks: tuple[StackChange, ...]  # the largest MOST_STACKS
    stack_count: int  # all stacks that changed
    notes: tuple[str, ...]
