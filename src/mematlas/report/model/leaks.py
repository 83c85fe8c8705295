"""What was still live when a program ended: the model behind `mematlas leaks`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Frame, Sampling
    from mematlas.report.model.report import BadFree


class LeakVerdict(StrEnum):
    """What live memory looks like over the run; the first two are likely leaks."""

    GROWING = "growing"  # grew to the end
    UNFREED = "unfreed"  # many blocks, none ever freed; too few looks to see growth
    STEADY = "steady"  # blocks come and go, or growth has stopped: a cache, a buffer
    SETUP = "setup"  # made once and kept: start-up, imports, one block


LIKELY = (LeakVerdict.GROWING, LeakVerdict.UNFREED)


@dataclass(frozen=True, slots=True)
class Leak:
    """One stack's memory that was live at the end, and why it may or may not be a leak."""

    frames: tuple[Frame, ...]
    kind: str  # model.recording.Kind
    process: int
    verdict: LeakVerdict
    evidence: str
    live_bytes: int
    live_count: int
    error_bytes: int  # one standard error of live_bytes
    allocated_bytes: int
    allocations: int
    bytes_per_s: float | None  # growth over the run; None: too few looks to tell


@dataclass(frozen=True, slots=True)
class Leaks:
    """Everything `mematlas leaks` shows. `likely_bytes` adds up the verdicts in LIKELY."""

    command: tuple[str, ...]
    started: str
    sampling: Sampling
    complete: bool
    time_s: float  # of the last sums
    live_bytes: int
    likely_bytes: int
    leaks: Sequence[Leak]  # in the order of LeakVerdict; made as they are looked at
    bad_frees: tuple[BadFree, ...]
    notes: tuple[str, ...]
