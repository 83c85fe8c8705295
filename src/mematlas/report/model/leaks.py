"""Model of `mematlas leaks`: memory live at the end of a program."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Frame, Sampling
    from mematlas.report.model.report import BadFree


class LeakVerdict(StrEnum):
    """Classification of live memory by its course over the run. The first two are likely leaks."""

    GROWING = "growing"  # grew to the end
    UNFREED = "unfreed"  # many blocks, none freed; too few snapshots to see growth
    STEADY = "steady"  # blocks are allocated and freed, or growth has stopped: a cache, a buffer
    SETUP = "setup"  # allocated once and kept: start-up, imports, one block


LIKELY = (LeakVerdict.GROWING, LeakVerdict.UNFREED)


@dataclass(frozen=True, slots=True)
class Leak:
    """Memory of one stack that was live at the end, with its classification and evidence."""

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
    bytes_per_s: float | None  # growth rate over the run; None: too few snapshots


@dataclass(frozen=True, slots=True)
class Leaks:
    """Everything `mematlas leaks` shows. `likely_bytes` sums the verdicts in LIKELY."""

    command: tuple[str, ...]
    started: str
    sampling: Sampling
    complete: bool
    time_s: float  # time of the last sums
    live_bytes: int
    likely_bytes: int
    leaks: Sequence[Leak]  # in the order of LeakVerdict; created at access
    bad_frees: tuple[BadFree, ...]
    notes: tuple[str, ...]
