"""Model of `mematlas leaks`: memory live at the end of a program."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mematlas.recording.model import Frame, Sampling
    from mematlas.report.model.report import BadFree


class LeakVerdict(StrEnum):
    """Classification of live memory by its course over the run. The first two count as possible leaks."""

    GROWING = "growing"  # grew to the end
    UNFREED = "unfreed"  # many blocks, none freed, and growth cannot be told from this run
    STEADY = "steady"  # blocks are allocated and freed, or growth has stopped: a cache, a buffer
    SETUP = "setup"  # allocated once and kept: start-up, imports, one block
    UNCLEAR = "unclear"  # no more than two standard errors: too few samples for any verdict


LIKELY = (LeakVerdict.GROWING, LeakVerdict.UNFREED)


@dataclass(frozen=True, slots=True)
class Leak:
    """Memory that was live at the end, of the stacks with one owner and callers, with the evidence of a verdict.

    What is unclear caller by caller is one leak for each owner.
    """

    frames: tuple[Frame, ...]  # of the stack with most of it
    kind: str  # model.recording.Kind, of the same stack
    process: int
    verdict: LeakVerdict
    evidence: str
    live_bytes: int
    live_count: int
    error_bytes: int  # one standard error of live_bytes
    allocated_bytes: int
    allocations: int
    bytes_per_s: float | None  # growth rate over the run; None: too few snapshots
    stacks: int = 1
    count_error: int = 0  # one standard error of live_count


class VerdictSum(NamedTuple):
    """The leaks of one verdict: how many, their bytes, and one standard error of these."""

    leaks: int
    live_bytes: int
    error_bytes: int


@dataclass(frozen=True, slots=True)
class Leaks:
    """Everything `mematlas leaks` shows. `likely_bytes` sums the verdicts in LIKELY.

    Of a sampled run, a leak of `resolution_bytes` has no sample with 5 %, a smaller one with more; 0: exact.
    """

    command: tuple[str, ...]
    started: str
    sampling: Sampling
    complete: bool
    time_s: float  # time of the last sums
    live_bytes: int
    likely_bytes: int
    leaks: Sequence[Leak]  # those in LIKELY first, then by bytes; created at access
    bad_frees: tuple[BadFree, ...]
    notes: tuple[str, ...]
    sums: Mapping[LeakVerdict, VerdictSum] = field(default_factory=dict)
    likely_error_bytes: int = 0  # one standard error
    resolution_bytes: int = 0

    def sum_of(self, verdict: LeakVerdict) -> VerdictSum:
        """Return the sum of a verdict."""
        return self.sums.get(verdict, VerdictSum(0, 0, 0))

    @property
    def least_bytes(self) -> int:
        """Return the likely bytes less two standard errors."""
        return max(0, self.likely_bytes - 2 * self.likely_error_bytes)

    @property
    def most_bytes(self) -> int:
        """Return the bytes that may be leaked: likely and unclear ones and two standard errors, what has no sample.

        Of an exact run these are the likely bytes.
        """
        unclear = self.sum_of(LeakVerdict.UNCLEAR)
        error = math.hypot(self.likely_error_bytes, unclear.error_bytes)
        seen = self.likely_bytes + unclear.live_bytes + round(2 * error)
        return max(seen, self.resolution_bytes) if self.resolution_bytes else self.likely_bytes
