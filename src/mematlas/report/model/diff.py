"""Model of `mematlas diff`: the changes between two recordings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.recording.model import Frame
    from mematlas.report.model.report import Report

SURE = 2.0
"""Standard errors above which the change of the total is significant."""
_SURE_OVER = 3.1  # standard errors that two equal runs exceed once in 1,000 pairs
_ONE_SIDED = 1.645  # standard errors below its mean that a difference is in 5 % of pairs
_LACKING = 0.5  # of the bytes missing once in 1,000 pairs: those missing in 5 % are less
_FOUND_OVER = (
    1.35  # standard errors beyond the limit: a growth of limit + 3 is found 19 times in 20
)


@dataclass(frozen=True, slots=True)
class StackChange:
    """Bytes of one line or stack in both recordings. Empty `frames`: unknown stacks.

    `certain`: the change is no chance of sampling. Of the total, it exceeds SURE standard errors; of lines and
    stacks, as many as keep the chance at 5 % that any of them all is wrong. Beyond that, both exceed what a run can
    lack of blocks without a sample, and lines and stacks twice the bytes by which the accounts of both recordings miss the peak.
    """

    frames: tuple[Frame, ...]
    before: int
    after: int
    error_bytes: int | None  # one standard error of the difference; None: unknown
    certain: bool

    @property
    def bytes(self) -> int:
        """Growth; negative if it shrank."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Moment:
    """What is compared of one recording: when it was, and what it lacks."""

    time_s: float | None  # None: the whole run, or another moment of each process
    words: str  # "at the mark loaded"
    missed_bytes: int  # peak RSS beyond that of the account


@dataclass(frozen=True, slots=True)
class Diff:
    """Everything `mematlas diff` shows. Largest absolute changes first.

    `total` is what the headline and the limit are about. By resident bytes it is the kernel's figure of all
    private and shared memory, and then sum(lines) + rest = total, where `rest` is in no line.
    """

    by: str
    at: str  # PEAK, END or the label of a mark
    moments: tuple[Moment, Moment]
    unlike: str  # why the two moments are not the same; "" if they are
    reports: tuple[Report, Report]
    ignore_lines: bool  # match by function, ignoring lines
    same: Callable[[int, Frame], Frame]  # of a side, 0 or 1: one frame for all that match
    commands: tuple[str, str]
    total: StackChange
    rest: StackChange
    lines: tuple[StackChange, ...]
    stacks: tuple[StackChange, ...]  # the largest MOST_STACKS
    stack_count: int  # all stacks that changed
    notes: tuple[str, ...]
    missing_bytes: int = 0  # that chance lets one of two equal runs lack, once in 1,000 pairs

    def exceeds(self, limit: int) -> bool:
        """Return whether the total grew by more than `limit`, and by more than chance.

        Of equal runs, fewer than one pair in 1,000 exceeds any limit, also if large blocks are in one of them without
        a sample. The conditions are one threshold, so a small error costs little power: where the error is small beside
        the limit, a growth as of resolves() is found in 95 % of pairs.
        """
        return self.total.bytes > self._threshold(limit)

    def found_bytes(self, limit: int) -> int:
        """Return the growth that exceeds() finds in 95 % of pairs."""
        error = self.total.error_bytes or 0
        below = math.hypot(_ONE_SIDED * error, _LACKING * self.missing_bytes)
        return round(self._threshold(limit) + below)

    def resolves(self, limit: int) -> bool:
        """Return whether a growth of `limit`, three standard errors and half of `missing_bytes` is found in 95 % of pairs.

        With an error above 0.57 of the limit no test can do that and fail one in 1,000 equal pairs: a normal
        difference of mean `limit` + 3 errors exceeds 3.1 errors, which 1 in 1,000 of mean 0 does, in 95 % only if
        limit + 3 errors >= (3.1 + 1.645) errors. No other test of this size finds more (Neyman and Pearson).
        Neither is it found if a single block of that size can be in a run without a sample.
        """
        error = self.total.error_bytes or 0
        return self.found_bytes(limit) <= limit + 3 * error + _LACKING * self.missing_bytes + 1

    def _threshold(self, limit: int) -> float:
        error = self.total.error_bytes or 0
        return max(limit + _FOUND_OVER * error, math.hypot(_SURE_OVER * error, self.missing_bytes))
