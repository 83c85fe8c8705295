"""Model of `mematlas report`, the same for text, HTML and JSON.

One word for one thing: *stack stats* are the sums of one (process, stack, kind). The collector exports
them as rows, the recording stores them as rows, `analyse.table.StackTable` holds them as columns, and
`StackStats` is one of them as an object. *Line stats* (`analyse.lines.LineStats`) are the stack stats
summed by the line of code that owns the stack. *Account* is RSS split into parts.

"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, get_args

from mematlas.recording.model import PartKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mematlas.linux.glibc_heap import HeapUse
    from mematlas.recording.model import BadFreeReason, Frame, Part, Run, Sampling, SlackPart

Metric: TypeAlias = Literal[
    "resident",
    "pss",
    "uss",
    "live",
    "peak",
    "allocated",
    "huge",
    "swapped",
    "faulted",
    "temporary",
    "fragmented",
    "idle",
]
KILLED = "killed by "  # how the ending of a killed process begins
LATELY_S = 0.05  # age of a look from which on the program can have changed
_LEAST_SAMPLES = 16  # of freed memory: with fewer, what was live may be an error of the sampling
NEAR = 0.95  # part of the highest RSS that an account of the peak has
METRICS: tuple[Metric, ...] = get_args(Metric)
"""Metrics that stacks can be ranked by, in the order of the metric switch."""


PEAK, END = "peak", "end"
"""Moments of an account, besides the marks of the program."""


@dataclass(frozen=True, slots=True)
class MarkedMoment:
    """A moment that the program named. `label` tells apart marks of one name: "loaded", "loaded#2"."""

    label: str
    process: int
    time_s: float
    account_s: float | None  # time of the account taken for it; None: none was taken
    rss_bytes: int | None  # of the process, in that account


@dataclass(frozen=True, slots=True)
class Account:
    """RSS of one process, or of several together, split into parts.

    Invariant: sum(parts) + unexplained_bytes = total_bytes.
    """

    time_s: float
    trigger: str
    rss_bytes: int
    parts: tuple[Part, ...]
    unexplained_bytes: int
    pss_bytes: int | None = None  # None: not recorded
    counted_once: bool = False  # parts are PSS: pages that processes share count once in all
    processes: int = 1
    highest_rss_bytes: int = 0  # of the run: VmHWM, of several processes by samples; 0: unknown
    highest_time_s: float | None = None  # None: unknown
    highest_processes: int = 1  # that ran then
    seen_rss_bytes: int = 0  # the highest that snapshots saw, at this or another moment

    @property
    def total_bytes(self) -> int:
        """PSS if parts are PSS, else RSS."""
        if self.counted_once and self.pss_bytes is not None:
            return self.pss_bytes
        return self.rss_bytes

    @property
    def is_near(self) -> bool:
        """Whether RSS is that of the peak."""
        return self.rss_bytes >= NEAR * self.highest_rss_bytes

    @property
    def missed_peak(self) -> bool:
        """Whether RSS was clearly higher at another time, which no snapshot saw."""
        return max(self.rss_bytes, self.seen_rss_bytes) < NEAR * self.highest_rss_bytes


@dataclass(frozen=True, slots=True)
class StackStats:
    """Stats of one stack (frames leaf first) and kind.

    Stats of kind "fault" own no memory: only `faulted_bytes` is set.
    Live and resident bytes are those at the time of the account. All others are of the whole run.
    """

    frames: tuple[Frame, ...]
    kind: str  # model.recording.Kind, or "fault"
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
    pss_bytes: int = 0  # resident; of a page that n processes map, one n-th
    uss_bytes: int = 0  # resident, on pages that no other process maps
    faulted_bytes: int = 0  # made resident by page faults of this stack
    temporary_bytes: int = 0  # freed within TEMPORARY_S
    fragmented_bytes: int = 0  # free bytes on pages its blocks keep resident; exact mode only
    idle_bytes: int = 0  # resident and not used for Report.idle.seconds
    lived_100us: int = 0  # freed blocks by lifetime: below 100 us,
    lived_1ms: int = 0  # 100 us to 1 ms, and so on
    lived_10ms: int = 0
    lived_100ms: int = 0
    lived_1s: int = 0
    lived_10s: int = 0
    lived_longer: int = 0

    def metric(self, name: str) -> int:
        """Return a metric in bytes; `name` is one of METRICS."""
        return int(getattr(self, f"{name}_bytes"))


@dataclass(frozen=True, slots=True)
class Series:
    """Samples of one process in columns of equal length. Faults are counted from its start."""

    process: int
    time_s: tuple[float, ...]
    rss_bytes: tuple[int, ...]
    live_bytes: tuple[int, ...]
    swap_bytes: tuple[int, ...]
    huge_bytes: tuple[int | None, ...]  # of RSS, mapped as huge pages at the last snapshot
    minor_faults: tuple[int, ...]
    major_faults: tuple[int, ...]
    end_s: float | None = None  # of the process; None: it did not end


@dataclass(frozen=True, slots=True)
class ProcessSummary:
    """One process in the process list."""

    index: int
    pid: int
    parent_index: int | None
    command: str
    start_s: float
    end_s: float | None
    ending: str
    peak_rss_bytes: int
    note: str
    cause: str = ""  # of its ending, where the OOM killer ended it
    forked: bool = False  # it began with the memory of its parent
    run: int = 0  # index in Report.runs


@dataclass(frozen=True, slots=True)
class LastLook:
    """The last look at a process that a signal killed, and what changed from then to its end."""

    process: int
    time_s: float
    age_s: float  # at the end of the process
    rss_bytes: int  # at the look
    end_rss_bytes: int  # of the last sample of RSS
    live_change_bytes: int | None  # 0: within two standard errors; None: unknown
    grown_frame: Frame | None = None  # owner that grew most; None: none beyond two standard errors
    grown_bytes: int = 0

    @property
    def is_old(self) -> bool:
        """Whether the account of the look is not that of the end."""
        if self.age_s < LATELY_S:
            return False
        changes = (self.end_rss_bytes - self.rss_bytes, self.live_change_bytes or 0)
        return any(abs(each) > (1 - NEAR) * max(self.rss_bytes, 1) for each in changes)


@dataclass(frozen=True, slots=True)
class BadFree:
    """Frees by one stack of pointers that were not live allocations, for one reason.

    The figures after `reason` are those of the first of them. `block` is the block that was freed before, or
    the live one that the pointer lies in.
    """

    frames: tuple[Frame, ...]
    process: int
    count: int
    reason: BadFreeReason | None = None  # None: not recorded
    address: int | None = None
    time_s: float | None = None
    block_address: int | None = None
    block_bytes: int | None = None
    block_frames: tuple[Frame, ...] = ()  # that allocated the block; none: unknown
    freed_frames: tuple[Frame, ...] = ()  # the call that freed it before; none: unknown
    freed_s: float | None = None


@dataclass(frozen=True, slots=True)
class StackFaults:
    """Page faults of one stack in the memory of one owner. Exact if the period is 1, else estimates."""

    frames: tuple[Frame, ...]
    process: int
    owner: tuple[Frame, ...] | None  # stack of the allocation; None: see `memory`
    memory: str  # Kind of the allocation, or the part of memory without an owner
    faults: int
    major_faults: int
    bytes: int
    error_bytes: int  # one standard error of `bytes`


@dataclass(frozen=True, slots=True)
class OwnPeak:
    """Memory of one line in processes at their own peaks that the account does not have.

    A process that ended before the account's time, or began after it, has all of it.
    """

    frame: Frame | None
    live_bytes: int  # sum of the processes
    largest_bytes: int  # of one process
    processes: tuple[int, ...]  # indices, largest first


@dataclass(frozen=True, slots=True)
class PageFaults:
    """Sampled page faults of the program's own instructions: which code made memory resident."""

    period: int  # one minor fault in `period` is sampled; all major faults
    refused: tuple[str, ...]  # reasons of processes without sampling, or where it ended early
    samples: int
    lost: int
    faults: int
    major_faults: int
    bytes: int
    error_bytes: int
    counted_faults: int | None  # kernel counters; includes faults inside system calls
    sites: tuple[StackFaults, ...]  # most bytes first, then most faults


@dataclass(frozen=True, slots=True)
class IdleSummary:
    """Memory not used for a time, all processes together."""

    seconds: float  # minimum idle time
    time_s: float  # end of the last scan
    method: str
    whole: bool  # False: figures of stacks are lower bounds
    bytes: int


@dataclass(frozen=True, slots=True)
class ObjectType:
    """Live Python objects of one type at the end of the process, and the line with most of them.

    Bytes are those of the objects' own blocks, without the memory they refer to.
    """

    name: str  # tp_name; for classes of the program without their module
    live_bytes: int
    live_count: int
    error_bytes: int  # one standard error of live_bytes; 0 in exact mode
    frame: Frame | None  # the main line; None: unknown stack
    frame_bytes: int


@dataclass(frozen=True, slots=True)
class Import:
    """Memory allocated while a module was imported, by all code that its import ran."""

    name: str
    resident_bytes: int
    live_bytes: int


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Everything `mematlas report` shows."""

    command: tuple[str, ...]
    started: str
    machine: dict[str, object]
    sampling: Sampling
    complete: bool
    processes: tuple[ProcessSummary, ...]
    account: Account  # at the highest RSS
    last: Account  # at exit, or the last snapshot
    peak_live_bytes: (
        int  # of several processes the sum of the peaks of each, or `peak_is_of_one_moment`
    )
    peak_live_time_s: float
    stacks: Sequence[StackStats]  # created at access: there can be a million
    series: tuple[Series, ...]
    bad_frees: tuple[BadFree, ...]
    notes: tuple[str, ...]  # what was not seen, and why
    idle: IdleSummary | None = None  # None: no scan was requested or completed
    slack: tuple[SlackPart, ...] | None = (
        None  # at the time of the account; None: sampled, or unknown
    )
    imports: tuple[Import, ...] = ()  # of Python modules, largest first; they contain one another
    page_faults: PageFaults | None = None  # None: page faults were not sampled
    heaps: tuple[HeapUse, ...] | None = (
        None  # glibc heaps at the end of all processes; None: unknown
    )
    objects: tuple[ObjectType, ...] | None = None  # None: no Python process, or not scanned
    lifetimes_known: bool = True
    at: str = PEAK  # moment of the account: PEAK, END, or the label of a mark
    marks: tuple[MarkedMoment, ...] = ()  # by time
    sharing_known: bool = False  # PSS and USS at the time of the account
    own_peaks: tuple[OwnPeak, ...] = ()  # of several processes; largest first
    only_of_root: bool = False  # no process was another user's
    peak_is_of_one_moment: bool = False  # live bytes at the peak are those at the highest RSS
    runs: tuple[Run, ...] = ()  # of the processes
    account_live_bytes: int | None = None  # live at the moment of the account, resident or not
    last_looks: tuple[LastLook, ...] = ()  # at processes that a signal killed
    cell_view: ClassVar[Callable[[Report], str] | None] = (
        None  # of mematlas.api: a model has no views
    )

    def _repr_html_(self) -> str | None:
        """Return the report as notebooks show it; None where nothing shows one."""
        view = type(self).cell_view
        return view(self) if view else None

    def __repr__(self) -> str:
        command = " ".join(self.command)
        return (
            f"<Report of {command[:60]!r}: {self.account.rss_bytes:,} bytes resident, "
            f"{len(self.processes)} processes, {len(self.stacks):,} stacks>"
        )

    @property
    def keeps_freed(self) -> bool:
        """Whether most resident memory was live before the account, and an allocator kept it when it was freed.

        RSS stays as high then, so the account of its highest can be of a time when nothing is live any more.
        """
        account = self.account
        if self.at != PEAK or len(self.processes) > 1 or account.missed_peak:
            return False
        if self.account_live_bytes is None:
            return False
        slack = sum(part.resident_bytes for part in account.parts if part.kind == PartKind.SLACK)
        freed = self.peak_live_bytes - self.account_live_bytes
        least = max(account.rss_bytes / 2, _LEAST_SAMPLES * self.sampling.sample_bytes)
        return min(slack, freed) >= least

    @property
    def main_metric(self) -> Metric:
        """The metric of the answer: what was live at the peak, if the account is of another moment.

        Else what sums to the account: of several processes PSS, if it is known.
        """
        known = self.peak_is_of_one_moment or len(self.processes) == 1
        if self.at == PEAK and self.account.missed_peak and known and self.peak_live_bytes > 0:
            return "peak"
        if self.keeps_freed:
            return "peak"
        return "pss" if self.account.counted_once else "resident"

    def why_unknown(self, metric: str) -> str | None:
        """Return why a metric was not measured and which option measures it; None if it was measured."""
        unread = None if self.account.parts else "the program's pages could not be read"
        reasons = {
            **dict.fromkeys(("resident", "huge", "swapped"), unread),
            **dict.fromkeys(
                ("pss", "uss"), unread or (None if self.sharing_known else "not in this recording")
            ),
            "faulted": _why_no_faults(self.page_faults),
            "temporary": None
            if self.lifetimes_known
            else "lifetimes were not recorded, or no steady clock on this machine",
            "fragmented": None if self.slack is not None else "known with --exact only",
            "idle": None
            if self.idle is not None
            else "record with --idle TIME, and for longer than that",
        }
        return reasons.get(metric)


def _why_no_faults(found: PageFaults | None) -> str | None:
    if found is None:
        return "page faults were not sampled (--faults off, or attached)"
    return "; ".join(found.refused) if found.refused and not found.samples else None
