"""What changed between two recordings: the model behind `mematlas diff`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.recording.model import Frame
    from mematlas.report.model.report import Report


@dataclass(frozen=True, slots=True)
class StackChange:
    """One line's or stack's bytes in both recordings. No frames: stacks that were not seen."""

    frames: tuple[Frame, ...]
    before: int
    after: int
    error_bytes: int | None  # one standard error of the difference; None: unknown

    @property
    def bytes(self) -> int:
        """By how much it grew; negative where it shrank."""
        return self.after - self.before

    @property
    def certain(self) -> bool:
        """Tell if the change is more than two standard errors."""
        return self.bytes != 0 and abs(self.bytes) > 2 * (self.error_bytes or 0)


@dataclass(frozen=True, slots=True)
class Diff:
    """Everything `mematlas diff` shows; the largest changes first, be they up or down."""

    by: str
    reports: tuple[Report, Report]
    ignore_lines: bool  # a function is one, wherever it is
    commands: tuple[str, str]
    total: StackChange
    lines: tuple[StackChange, ...]
    stacks: tuple[StackChange, ...]  # the first of them
    stack_count: int  # all that changed
    notes: tuple[str, ...]
