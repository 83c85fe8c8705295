"""What the collector takes and tells: settings of a session, events, processes, looks at residency, marks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from mematlas._core.binding import lib

LIVE_BLOCK_FORMAT = [("address", "u8"), ("size", "u8"), ("stack", "u4"), ("kind", "u4")]
"""NumPy format of struct mematlas_live_block. `stack` is a node of the trie."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Settings of a session; struct mematlas_trace_settings, which has their units."""

    exact: bool
    ring_bytes: int
    sample_bytes: int
    seed: int
    interval_s: float
    budget: float
    fault_period: int
    most_nodes: int = 0


class Event(IntEnum):
    """Events of Collector.poll(); enum mematlas_event_type."""

    NONE = lib.MEMATLAS_EVENT_NONE
    PROCESS = lib.MEMATLAS_EVENT_PROCESS
    INTERVAL = lib.MEMATLAS_EVENT_INTERVAL
    PEAK = lib.MEMATLAS_EVENT_PEAK
    STOPPED = lib.MEMATLAS_EVENT_STOPPED
    EXITING = lib.MEMATLAS_EVENT_EXITING
    ENDED = lib.MEMATLAS_EVENT_ENDED
    MARK = lib.MEMATLAS_EVENT_MARK
    WATCHED = lib.MEMATLAS_EVENT_WATCHED


class Faults(IntEnum):
    """Whether page faults are sampled in a process; enum trace_faults of trace_format.h."""

    OFF = 0
    ON = 1
    REFUSED = 2
    ENDED = 3


class LeftKind(IntEnum):
    """Why a program runs untraced. enum trace_left_kind."""

    NOT = 0
    UNREACHABLE = 1
    STATIC = 2
    OTHER_LIBC = 3
    FOREIGN = 4
    PRIVILEGED = 5
    SANITIZED = 6
    UNREAD = 7


def left_kind(path: str) -> LeftKind:
    """Read whether a program file can load the tracer; NOT if it can, or cannot be read."""
    return LeftKind(lib.mematlas_program_left(os.fsencode(path)))


@dataclass(frozen=True, slots=True)
class Traced:
    """One traced process image.

    Times are seconds since the collector was created; struct mematlas_traced.
    """

    pid: int
    parent_pid: int
    parent: int
    execed: bool
    status: int | None  # as from wait()
    python_version: int
    python_free_threaded: bool
    disabled: bool
    attached: bool  # tracing began while it ran
    detached: bool  # tracing ended on request
    reason: str
    inherited: bool  # forked, and its parent's live memory is known
    forked: bool  # made by a fork that its parent recorded
    start_s: float
    end_s: float
    live_bytes: float
    peak_bytes: float
    peak_s: float
    rss_bytes: int
    peak_rss_bytes: int  # VmHWM as last read; 0: never
    looks_missed: int  # waits for a snapshot before RSS fell that ended without one
    stalls: int
    untraced_threads: int
    sharing_threads: int  # threads without a ring of their own
    own_malloc: int  # 1: the program defines malloc() itself, before the tracer in the lookup order
    left: tuple[int, ...]  # programs it started that run untraced, by LeftKind
    events: int
    unknown_frees: int
    cut_stacks: int  # definitions that end at a caller, since there were most_nodes
    has_cut: bool  # likewise, in this segment or an earlier one
    broken_rings: int
    marks_lost: int  # too many at once
    lost_events: int  # not recorded, since their ring stayed full or had no memory
    exits_missed: int  # ends that were not waited for long enough to see the last snapshot
    nodes: int
    codes: int
    modules: int
    totals: int
    timeline: int
    fault_sites: int
    fault_parts: int
    fault_samples: int
    faults_lost: int
    faults: Faults
    faults_reason: str
    executable: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResidencySnapshot:
    """The result of one residency join: where the resident bytes of a process belong.

    sum(resident bytes of parts) + unexplained_bytes == rss_bytes
    """

    time_s: float
    cost_s: float
    rss_bytes: int
    pss_bytes: int
    uss_bytes: int
    huge_bytes: int
    statm_rss_bytes: int
    peak_rss_bytes: int  # highest until then (VmHWM)
    page_table_bytes: int  # VmPTE; 0: unknown
    unexplained_bytes: int
    parts: list[tuple[int, str, int, float]]  # kind, name, resident bytes, standard error
    slack: list[tuple[str, int, int]]  # exact: name, bytes of free pages, free bytes on used pages
    shared: list[tuple[int, str, int, float]]  # kind, name, bytes that others map, own part of them
    rows: bytes  # SNAPSHOT_DTYPE
    touched: bytes  # FAULT_SITES_DTYPE; of memory mapped without saying for what


@dataclass(frozen=True, slots=True)
class Sums:
    """What a process allocated since tracing began, or since the last restart; struct mematlas_sums."""

    allocated_bytes: float
    allocations: float
    allocated_variance: float
    live_bytes: float
    live_variance: float
    peak_bytes: float
    peak_variance: float
    peak_s: float


@dataclass(frozen=True, slots=True)
class SetMark:
    """A mark as a thread of the program set it."""

    name: str
    time_s: float
    ring: int
    serial: int

    @property
    def waits(self) -> bool:
        """Whether the thread waits until the mark is answered."""
        return self.serial > 0


class BadFreeRow(NamedTuple):
    """A free of a pointer that was no live block; struct mematlas_bad_free, `reason` its enum."""

    time_s: float
    stack: int
    address: int
    reason: int
    block_stack: int
    freed_stack: int
    block_address: int
    block_bytes: int
    freed_s: float | None
