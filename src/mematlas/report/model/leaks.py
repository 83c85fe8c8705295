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
    UNCLEAR = "unclear"  # too few samples, or snapshots, for any other verdict


_ERRORS = 2.0  # standard errors of a bound
LIKELY = (LeakVerdict.GROWING, LeakVerdict.UNFREED)


@dataclass(frozen=True, slots=True)
class Leak:
    """Memory that was live at the end, of the stacks with one owner and callers, with the evidence of a verdict.

    What is unclear caller by caller is one leak for each owner, and what is unclear process by process is one leak of
    several processes if they tell more together.
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
    processes: tuple[
        int, ...
    ] = ()  # that are judged together, `process` among them; none: it alone


PAGE_TABLES = "page tables"
"""Kind of an RssGrowth that is not of RSS: the kernel's tables for the process, which count in its cgroup."""


@dataclass(frozen=True, slots=True)
class RssGrowth:
    """A part of resident memory outside live allocations that grew to the end of a process, while its RSS grew.

    `bytes` is the growth from `since_s`, a third of the way, to `time_s`, the last snapshot.
    """

    process: int
    kind: str  # recording.model.PartKind, or PAGE_TABLES
    name: str
    bytes: int
    error_bytes: int  # one standard error of `bytes`
    since_s: float
    time_s: float
    end_bytes: int  # of the whole part
    processes: int = 1  # of one family of forks, in which shared memory of this name grew
    most_bytes: int | None = None  # if each of them has memory of its own; None: `bytes`

    @property
    def bytes_per_s(self) -> float:
        """Growth rate."""
        return self.bytes / (self.time_s - self.since_s)


class VerdictSum(NamedTuple):
    """The leaks of one verdict: how many, their bytes, and one standard error of these."""

    leaks: int
    live_bytes: int
    error_bytes: int


@dataclass(frozen=True, slots=True)
class LostMemory:
    """Blocks that nothing pointed to at the exit, of one type and line, with what hangs on them. Exact."""

    frames: tuple[Frame, ...]  # of the stack of the first block; empty: unknown
    process: int
    type: str
    cycle: bool  # one of each ring counts as direct
    count: int
    bytes: int
    indirect_count: int
    indirect_bytes: int
    collectable: int  # Python objects that Python's collector would free
    forgotten: int  # Python objects that count more references than there are

    @property
    def all_bytes(self) -> int:
        """The bytes of all blocks that are lost this way."""
        return self.bytes + self.indirect_bytes


@dataclass(frozen=True, slots=True)
class HeapAtExit:
    """What the heap graphs at the exits say of live memory: lost, or still reachable from a root."""

    lost: tuple[LostMemory, ...]  # largest first
    lost_bytes: int
    lost_count: int
    reachable_bytes: int
    doubts: tuple[str, ...] = ()  # a block may be held from what was not read


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
    growth: tuple[RssGrowth, ...] = ()  # largest first
    growth_unknown: int = 0  # processes with too few snapshots to see growth of RSS
    process_count: int = 1
    heap: HeapAtExit | None = None  # None: no heap graph of an exit was recorded

    @property
    def growth_known(self) -> bool:
        """Return whether growth of RSS is known of all processes."""
        return not self.growth_unknown

    def sum_of(self, verdict: LeakVerdict) -> VerdictSum:
        """Return the sum of a verdict."""
        return self.sums.get(verdict, VerdictSum(0, 0, 0))

    @property
    def least_bytes(self) -> int:
        """Return the likely bytes and the growth outside live allocations, each less two standard errors."""
        live = max(0, self.likely_bytes - round(_ERRORS * self.likely_error_bytes))
        return live + max(0, self.grown_bytes - round(_ERRORS * self.grown_error_bytes))

    @property
    def grown_bytes(self) -> int:
        """Return the growth of RSS that no live allocation explains."""
        return sum(each.bytes for each in self.growth)

    @property
    def grown_error_bytes(self) -> int:
        """Return one standard error of grown_bytes."""
        return round(math.hypot(*(each.error_bytes for each in self.growth)))

    @property
    def most_bytes(self) -> int:
        """Return the bytes that may be leaked: likely, unclear, grown, and what the sampling may have missed.

        Each sample of small blocks stands for `sampling.sample_bytes`, so the samples are a Poisson count, and
        the bound is that of such a count by two standard errors. Of an exact run nothing was missed.
        """
        unclear = self.sum_of(LeakVerdict.UNCLEAR)
        found = self.likely_bytes + unclear.live_bytes
        grown = sum(
            each.bytes if each.most_bytes is None else each.most_bytes for each in self.growth
        )
        found += grown + round(_ERRORS * self.grown_error_bytes)
        if not self.resolution_bytes:
            return found
        error = math.hypot(self.likely_error_bytes, unclear.error_bytes)
        return found + round(unseen_bytes(error, self.sampling.sample_bytes))


def unseen_bytes(error_bytes: float, sample_bytes: int) -> float:
    """Return by how much the truth may exceed an estimate with this standard error, by two standard errors.

    The estimate counts as n = (error / sample)^2 samples. The bound of a Poisson count n is a quantile of the
    gamma distribution of n + 1 (Garwood), here by the approximation of Wilson and Hilferty.
    """
    samples = (error_bytes / sample_bytes) ** 2
    more = samples + 1
    bound = more * (1 - 1 / (9 * more) + _ERRORS / (3 * math.sqrt(more))) ** 3
    return (bound - samples) * sample_bytes
