"""What a report says: the model behind `mematlas report`, in text, HTML and JSON alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.linux.glibc_heap import HeapUse
    from mematlas.recording.model import Frame, Part, Sampling, SlackPart

METRICS = (
    "resident",
    "live",
    "peak",
    "allocated",
    "huge",
    "swapped",
    "touched",
    "churn",
    "pinned",
    "cold",
)
"""What stacks can be ranked by; the order is that of the metric switch."""


@dataclass(frozen=True, slots=True)
class Account:
    """RSS of one process, or of all together, at one moment, split into parts."""

    time_s: float
    trigger: str
    rss_bytes: int
    parts: tuple[Part, ...]
    unexplained_bytes: int


@dataclass(frozen=True, slots=True)
class StackFigures:
    """One stack, leaf first, and what it owned; or, of kind "touch", what it was first to touch.

    Live and residency are those of the account's moment, the rest is of the whole run.
    """

    frames: tuple[Frame, ...]
    kind: str  # model.recording.Kind, or "touch"
    process: int
    live_bytes: int
    live_count: int
    peak_bytes: int
    allocated_bytes: int
    allocations: int
    resident_bytes: int
    huge_bytes: int
    swapped_bytes: int
    error_bytes: int  # one standard error of live_bytes; 0 in exact mode
    touched_bytes: int = 0  # made resident by the page faults this stack took
    churn_bytes: int = 0  # of blocks freed within a millisecond
    pinned_bytes: int = 0  # free bytes on pages its blocks keep resident; exact mode alone
    cold_bytes: int = 0  # resident, and not used for a time; see Report.cold
    lived_100us: int = 0  # blocks freed, by how long they lived: below that,
    lived_1ms: int = 0  # and no less than the one before
    lived_10ms: int = 0
    lived_100ms: int = 0
    lived_1s: int = 0
    lived_10s: int = 0
    lived_longer: int = 0

    def metric(self, name: str) -> int:
        """Value in bytes of one of METRICS."""
        return int(getattr(self, f"{name}_bytes"))


@dataclass(frozen=True, slots=True)
class Series:
    """The timeline of one process: columns of equal length. Faults are counted from its start."""

    process: int
    time_s: tuple[float, ...]
    rss_bytes: tuple[int, ...]
    live_bytes: tuple[int, ...]
    swap_bytes: tuple[int, ...]
    huge_bytes: tuple[int | None, ...]  # of RSS mapped as huge pages, at the last look at them
    minor_faults: tuple[int, ...]
    major_faults: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ProcessLine:
    """One process in the report's list."""

    index: int
    pid: int
    parent_index: int | None
    command: str
    start_s: float
    end_s: float | None
    ending: str
    peak_rss_bytes: int
    note: str


@dataclass(frozen=True, slots=True)
class BadFree:
    """Frees, from one stack, of a pointer that was not a live allocation."""

    frames: tuple[Frame, ...]
    process: int
    count: int


@dataclass(frozen=True, slots=True)
class Touch:
    """Page faults one stack took in the memory of one owner. Estimates, but for a period of 1."""

    frames: tuple[Frame, ...]
    process: int
    owner: tuple[Frame, ...] | None  # the stack that allocated the memory; None: see `place`
    place: str  # what the memory is: a Kind where there is an owner, else a part and its name
    faults: int
    major_faults: int
    bytes: int
    error_bytes: int  # one standard error of `bytes`


@dataclass(frozen=True, slots=True)
class FirstTouch:
    """Who touched memory first, by sampled page faults of the program's own instructions."""

    period: int  # one minor fault in so many was sampled; major ones all
    refused: tuple[str, ...]  # why not in some process, or not to its end
    samples: int
    lost: int
    faults: int
    major_faults: int
    bytes: int
    error_bytes: int
    counted_faults: int | None  # by the kernel, those it took for the program included
    touches: tuple[Touch, ...]  # most bytes first, then most faults


@dataclass(frozen=True, slots=True)
class ColdSpell:
    """What nobody used for a time, in all processes together."""

    seconds: float  # at least so long
    time_s: float  # up to then, of the process looked at last
    method: str
    whole: bool  # False: stacks have the least that each must own of it
    bytes: int


@dataclass(frozen=True, slots=True)
class ObjectType:
    """Live Python objects of one type at the end of their process, and the line that made most of them.

    Bytes are those of the objects' own blocks, without what they point to.
    """

    name: str  # as the type calls itself; of classes of the program without their module
    live_bytes: int
    live_count: int
    error_bytes: int  # one standard error of live_bytes; 0 in exact mode
    frame: Frame | None  # None: stack not seen
    frame_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything `mematlas report` shows."""

    command: tuple[str, ...]
    started: str
    machine: dict[str, object]
    sampling: Sampling
    complete: bool
    processes: tuple[ProcessLine, ...]
    account: Account  # at the highest RSS
    last: Account  # at exit, or the last one taken
    peak_live_bytes: int
    peak_live_time_s: float
    stacks: Sequence[StackFigures]  # made as they are looked at: there can be a million
    series: tuple[Series, ...]
    bad_frees: tuple[BadFree, ...]
    notes: tuple[str, ...]  # what was not seen, and why
    cold: ColdSpell | None = None  # None: not asked for, or no such time was over
    slack: tuple[SlackPart, ...] | None = (
        None  # at the account's moment; None: sampled, or not seen
    )
    first_touch: FirstTouch | None = None  # None: page faults were not sampled
    heaps: tuple[HeapUse, ...] | None = None  # of glibc at the end, all processes; None: not known
    objects: tuple[ObjectType, ...] | None = None  # None: no Python, or it was not looked at
    lifetimes_known: bool = True

    def why_unknown(self, metric: str) -> str | None:
        """Say why a metric was not measured, and how it would be; None: it was."""
        unseen = None if self.account.parts else "no look at the program's pages succeeded"
        reasons = {
            **dict.fromkeys(("resident", "huge", "swapped"), unseen),
            "touched": _why_untouched(self.first_touch),
            "churn": None
            if self.lifetimes_known
            else "how long blocks lived was not recorded, or this machine's clock tells no time",
            "pinned": None
            if self.slack is not None
            else "what is free beside a block is known with --exact alone",
            "cold": None
            if self.cold is not None
            else "record with --cold TIME, for longer than that",
        }
        return reasons.get(metric)


def _why_untouched(found: FirstTouch | None) -> str | None:
    if found is None:
        return "page faults were not sampled (--faults off, or attached to)"
    return "; ".join(found.refused) if found.refused and not found.samples else None
