"""The collector: the reading side of a tracing session."""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator


_MOST_OBJECTS, _MOST_TYPES = 1 << 16, 1 << 14


def _text(chars: Any) -> str:
    return bytes(ffi.string(chars)).decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Settings of a session; struct mematlas_trace_settings."""

    exact: bool
    ring_bytes: int
    sample_bytes: int
    seed: int
    interval_s: float
    budget: float
    fault_period: int


class Event(IntEnum):
    """Events of mematlas_collector_poll(): enum mematlas_event_type."""

    NONE = lib.MEMATLAS_EVENT_NONE
    PROCESS = lib.MEMATLAS_EVENT_PROCESS
    INTERVAL = lib.MEMATLAS_EVENT_INTERVAL
    PEAK = lib.MEMATLAS_EVENT_PEAK
    STOPPED = lib.MEMATLAS_EVENT_STOPPED
    EXITING = lib.MEMATLAS_EVENT_EXITING
    ENDED = lib.MEMATLAS_EVENT_ENDED
    WATCHED = lib.MEMATLAS_EVENT_WATCHED


class Faults(IntEnum):
    """State of page fault sampling in a process: enum trace_faults of trace_format.h."""

    OFF = 0
    ON = 1
    REFUSED = 2
    ENDED = 3


@dataclass(frozen=True, slots=True)
class Traced:
    """State of one traced image: struct mematlas_traced describes the fields."""

    pid: int
    parent_pid: int
    parent: int
    execed: bool
    status: int | None  # as from wait()
    python_version: int
    python_free_threaded: bool
    disabled: bool
    attached: bool  # tracing began while it ran
    detached: bool  # tracing was ended on request
    reason: str
    inherited: bool
    start_s: float
    end_s: float
    live_bytes: float
    peak_bytes: float
    peak_s: float
    rss_bytes: int
    stalls: int
    untraced_threads: int
    sharing_threads: int  # threads without a ring of their own
    own_malloc: int  # 1: its own malloc() precedes the tracer's in symbol lookup
    left_behind: int  # programs it started outside the session's reach
    events: int
    unknown_frees: int
    broken_rings: int
    nodes: int
    codes: int
    modules: int
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
    """Totals of one residency join, and its rows (SNAPSHOT_DTYPE)."""

    time_s: float
    cost_s: float
    rss_bytes: int
    huge_bytes: int
    statm_rss_bytes: int
    unexplained_bytes: int
    parts: list[tuple[int, str, int, float]]  # kind, name, resident bytes, standard error
    slack: list[tuple[str, int, int]]  # exact: name, whole free pages, free beside live blocks
    rows: bytes


class Collector:
    """The reading side of a session. native/include/mematlas_api.h describes each call."""

    def __init__(self, directory: str, settings: SessionSettings) -> None:
        """Create the session's control page in a directory, by which programs join the session."""
        values = ffi.new("struct mematlas_trace_settings *", asdict(settings))
        out = ffi.new("struct mematlas_collector **")
        check(lib.mematlas_collector_create(os.fsencode(directory), values, out))
        self._handle = ffi.gc(out[0], lib.mematlas_collector_destroy)
        self._event = ffi.new("struct mematlas_event *")

    def close(self) -> None:
        """Unmap everything. No other method may be called afterwards."""
        ffi.release(self._handle)

    def watch(self, pid: int) -> None:
        """Report WATCHED when this process has ended."""
        check(lib.mematlas_collector_watch(self._handle, pid))

    def poll(self, timeout_s: float) -> tuple[Event, int]:
        """Read rings until an event occurs; return it and the process, or NONE after the timeout."""
        check(lib.mematlas_collector_poll(self._handle, int(timeout_s * 1000), self._event))
        return Event(self._event.type), self._event.process

    def now_s(self) -> float:
        """Return the seconds since the collector was created."""
        return float(lib.mematlas_collector_now(self._handle))

    def release(self, process: int) -> None:
        """Release a process that waits for its last snapshot, so that it exits."""
        check(lib.mematlas_collector_release(self._handle, process))

    def forget(self, process: int) -> None:
        """Free all but the state of a process that has ENDED."""
        check(lib.mematlas_collector_forget(self._handle, process))

    def stop(self) -> None:
        """Stop tracing in every process."""
        check(lib.mematlas_collector_stop(self._handle))

    def process(self, process: int) -> Traced:
        """Return the state of a process."""
        facts = ffi.new("struct mematlas_traced *")
        check(lib.mematlas_collector_process(self._handle, process, facts))
        command = bytes(ffi.buffer(facts.command)).split(b"\0\0", 1)[0].rstrip(b"\0")
        return Traced(
            pid=facts.pid,
            parent_pid=facts.parent_pid,
            parent=facts.parent,
            execed=facts.ending == lib.MEMATLAS_EXECED,
            status=facts.status if facts.status >= 0 else None,
            python_version=facts.python_version,
            python_free_threaded=bool(facts.python_free_threaded),
            disabled=bool(facts.disabled),
            attached=bool(facts.attached),
            detached=bool(facts.detached),
            reason=_text(facts.reason),
            inherited=bool(facts.inherited),
            start_s=facts.start_s,
            end_s=facts.end_s,
            live_bytes=facts.live_bytes,
            peak_bytes=facts.peak_bytes,
            peak_s=facts.peak_s,
            rss_bytes=facts.rss_bytes,
            stalls=facts.stalls,
            untraced_threads=facts.untraced_threads,
            sharing_threads=facts.sharing_threads,
            own_malloc=facts.own_malloc,
            left_behind=facts.left_behind,
            events=facts.events,
            unknown_frees=facts.unknown_frees,
            broken_rings=facts.broken_rings,
            nodes=facts.nodes,
            codes=facts.codes,
            modules=facts.modules,
            timeline=facts.timeline,
            fault_sites=facts.fault_sites,
            fault_parts=facts.fault_parts,
            fault_samples=facts.fault_samples,
            faults_lost=facts.faults_lost,
            faults=Faults(facts.faults),
            faults_reason=_text(facts.faults_reason),
            executable=_text(facts.executable),
            command=tuple(word.decode("utf-8", "surrogateescape") for word in command.split(b"\0")),
        )

    def nodes(self, process: int, first: int, count: int) -> bytes:
        """Return `count` trie nodes from number `first` on (NODE_DTYPE)."""
        rows = ffi.new("struct mematlas_node[]", max(count, 1))
        got = check(lib.mematlas_collector_nodes(self._handle, process, first, rows, count))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_node")))

    def totals(self, process: int) -> bytes:
        """Return the statistics of every (stack, kind) so far (TOTALS_DTYPE)."""
        rows, capacity = self._allocate(process, "struct mematlas_total")
        got = lib.mematlas_collector_totals(self._handle, process, rows, capacity)
        return bytes(ffi.buffer(rows, check(got) * ffi.sizeof("struct mematlas_total")))

    def lifetimes(self, process: int) -> bytes:
        """Return the lifetimes of freed blocks by (stack, kind) (LIFETIMES_DTYPE)."""
        rows, capacity = self._allocate(process, "struct mematlas_lifetimes")
        got = check(lib.mematlas_collector_lifetimes(self._handle, process, rows, capacity))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_lifetimes")))

    def age_matrix(self, process: int) -> tuple[float, bytes]:
        """Return the seconds of a time cell, and bytes by birth and death cell (AGE_MATRIX_DTYPE).

        0 seconds and no rows where the tracer has no steady clock.
        """
        cell_s, rows = ffi.new("double *"), ffi.new("struct mematlas_age_cell **")
        got = check(lib.mematlas_collector_age_matrix(self._handle, process, cell_s, rows))
        data = (
            bytes(ffi.buffer(rows[0], got * ffi.sizeof("struct mematlas_age_cell"))) if got else b""
        )
        return float(cell_s[0]), data

    def fault_sites(self, process: int, count: int) -> bytes:
        """Return the page faults by (stack, owner) so far (FAULT_SITES_DTYPE)."""
        rows = ffi.new("struct mematlas_fault_site[]", max(count, 1))
        got = check(lib.mematlas_collector_fault_sites(self._handle, process, rows, count))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_fault_site")))

    def fault_parts(self, process: int, first: int, end: int) -> Iterator[tuple[int, str]]:
        """Yield kind and name of the fault parts `first` to `end`."""
        part = ffi.new("struct mematlas_part *")
        for number in range(first, end):
            check(lib.mematlas_collector_fault_part(self._handle, process, number, part))
            yield part.kind, _text(part.name)

    def modules(
        self, process: int, first: int, end: int
    ) -> Iterator[tuple[str, str, int, int, int]]:
        """Yield path, build ID, bias, start and end of the modules `first` to `end`."""
        module = ffi.new("struct mematlas_module *")
        for number in range(first, end):
            check(lib.mematlas_collector_module(self._handle, process, number, module))
            yield _text(module.path), _text(module.build_id), module.bias, module.start, module.end

    def codes(
        self, process: int, first: int, end: int
    ) -> Iterator[tuple[str, str, int, bytes, int]]:
        """Yield name, file, first line, line table and its format of the code objects `first` to `end`."""
        code = ffi.new("struct mematlas_code *")
        for number in range(first, end):
            check(lib.mematlas_collector_code(self._handle, process, number, code))
            name = bytes(ffi.buffer(code.name, code.name_length)).decode("utf-8", "replace")
            file = bytes(ffi.buffer(code.file, code.file_length)).decode("utf-8", "replace")
            table = bytes(ffi.buffer(code.table, code.table_length))
            yield name, file, code.first_line, table, code.format

    def timeline(self, process: int, count: int) -> bytes:
        """Return up to `count` rows since the last call (TIMELINE_DTYPE)."""
        rows = ffi.new("struct mematlas_sample[]", max(count, 1))
        got = check(lib.mematlas_collector_timeline(self._handle, process, rows, count))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_sample")))

    def snapshot(self, process: int) -> ResidencySnapshot | None:
        """Join live blocks with resident pages now; None if the process is gone."""
        account = ffi.new("struct mematlas_account *")
        result = lib.mematlas_collector_snapshot(self._handle, process, account)
        if result in {-errno.ESRCH, -errno.ENOENT}:
            return None
        check(result)
        parts = ffi.new("struct mematlas_part[]", account.parts + 1)
        found = check(lib.mematlas_collector_parts(self._handle, parts, account.parts))
        return ResidencySnapshot(
            time_s=account.time_s,
            cost_s=account.cost_s,
            rss_bytes=account.rss_bytes,
            huge_bytes=account.huge_bytes,
            statm_rss_bytes=account.statm_rss_bytes,
            unexplained_bytes=account.unexplained_bytes,
            parts=[
                (part.kind, _text(part.name), part.resident_bytes, part.error_bytes)
                for part in parts[0:found]
            ],
            slack=[
                (_text(part.name), part.free_page_bytes, part.held_free_bytes)
                for part in parts[0:found]
                if part.free_page_bytes or part.held_free_bytes
            ],
            rows=self._rows(account.rows),
        )

    def fragmentation(self, process: int) -> bytes:
        """Return free bytes by the stacks that share their pages, at the last snapshot (FRAGMENTATION_DTYPE)."""
        rows, capacity = self._allocate(process, "struct mematlas_stack_bytes")
        got = check(lib.mematlas_collector_fragmentation(self._handle, process, rows, capacity))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_stack_bytes")))

    def idle(self, process: int, ranges: list[tuple[int, int, int]]) -> tuple[bytes, float]:
        """Return the owners of idle memory in sorted ranges: (start, end, accessed bytes).

        Returns rows (IDLE_DTYPE) and all idle bytes. A row of a range that was accessed in part is a
        lower bound.
        """
        rows, capacity = self._allocate(process, "struct mematlas_stack_bytes")
        wanted = ffi.new("struct mematlas_cold_range[]", ranges)
        total = ffi.new("double *")
        got = check(
            lib.mematlas_collector_cold(
                self._handle, process, wanted, len(ranges), rows, capacity, total
            )
        )
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_stack_bytes"))), float(
            total[0]
        )

    def objects(self, process: int) -> tuple[list[str], bytes]:
        """Read the live Python objects of a process; return type names and rows (OBJECTS_DTYPE).

        Both are empty without a Python in the process. OSError: its memory may not be read.
        """
        rows = ffi.new("struct mematlas_object[]", _MOST_OBJECTS)
        names = ffi.new("char[][96]", _MOST_TYPES)
        got = check(
            lib.mematlas_collector_objects(
                self._handle, process, rows, _MOST_OBJECTS, names, _MOST_TYPES
            )
        )
        kept = [row.type for row in rows[0:got] if row.type < _MOST_TYPES]
        types = max(kept, default=-1) + 1
        return [_text(names[number]) for number in range(types)], bytes(
            ffi.buffer(rows, got * ffi.sizeof("struct mematlas_object"))
        )

    def _allocate(self, process: int, row: str) -> tuple[Any, int]:
        """Return an array with a row for each (stack, kind), and its length."""
        facts = ffi.new("struct mematlas_traced *")
        check(lib.mematlas_collector_process(self._handle, process, facts))
        return ffi.new(f"{row}[]", facts.totals + 1), facts.totals

    def _rows(self, count: int) -> bytes:
        rows = ffi.new("struct mematlas_snapshot_row[]", count + 1)
        got = check(lib.mematlas_collector_rows(self._handle, rows, count))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_snapshot_row")))
