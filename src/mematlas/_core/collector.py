"""The reading side of a tracing session."""

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
class TraceSettings:
    """How programs are to be traced; struct mematlas_trace_settings."""

    exact: bool
    ring_bytes: int
    sample_bytes: int
    seed: int
    interval_s: float
    budget: float
    fault_period: int


class Event(IntEnum):
    """What mematlas_collector_poll() tells; the numbers are those of enum mematlas_event_type."""

    NONE = lib.MEMATLAS_EVENT_NONE
    PROCESS = lib.MEMATLAS_EVENT_PROCESS
    INTERVAL = lib.MEMATLAS_EVENT_INTERVAL
    PEAK = lib.MEMATLAS_EVENT_PEAK
    STOPPED = lib.MEMATLAS_EVENT_STOPPED
    EXITING = lib.MEMATLAS_EVENT_EXITING
    ENDED = lib.MEMATLAS_EVENT_ENDED
    WATCHED = lib.MEMATLAS_EVENT_WATCHED


class Faults(IntEnum):
    """Whether page faults are sampled in a process; enum trace_faults of trace_format.h."""

    OFF = 0
    ON = 1
    REFUSED = 2
    ENDED = 3


@dataclass(frozen=True, slots=True)
class Traced:
    """One traced image as the collector knows it; struct mematlas_traced tells more."""

    pid: int
    parent_pid: int
    parent: int
    execed: bool
    status: int | None  # as from wait()
    python_version: int
    python_free_threaded: bool
    disabled: bool
    attached: bool  # joined while it ran
    detached: bool  # let go as it was asked
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
    sharing_threads: int  # beyond the rings there are
    own_malloc: int  # 1: it brings a malloc() that comes before the tracer's
    left_behind: int  # programs it started that cannot reach the session
    events: int
    unknown_frees: int
    broken_rings: int
    nodes: int
    codes: int
    modules: int
    timeline: int
    touches: int
    places: int
    fault_samples: int
    faults_lost: int
    faults: Faults
    faults_reason: str
    executable: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """The figures of one residency join, and its rows (SNAPSHOT_DTYPE)."""

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
    """The reading side of a session; see native/include/mematlas_api.h."""

    def __init__(self, directory: str, settings: TraceSettings) -> None:
        """Write the session's control page, from which programs can join it."""
        values = ffi.new("struct mematlas_trace_settings *", asdict(settings))
        out = ffi.new("struct mematlas_collector **")
        check(lib.mematlas_collector_create(os.fsencode(directory), values, out))
        self._handle = ffi.gc(out[0], lib.mematlas_collector_destroy)
        self._event = ffi.new("struct mematlas_event *")

    def close(self) -> None:
        """Unmap everything; the object is of no use afterwards."""
        ffi.release(self._handle)

    def watch(self, pid: int) -> None:
        """Tell WATCHED when this process has ended."""
        check(lib.mematlas_collector_watch(self._handle, pid))

    def poll(self, timeout_s: float) -> tuple[Event, int]:
        """Read rings until there is something to tell; NONE when the time is over."""
        check(lib.mematlas_collector_poll(self._handle, int(timeout_s * 1000), self._event))
        return Event(self._event.type), self._event.process

    def now_s(self) -> float:
        """Seconds since the collector was made."""
        return float(lib.mematlas_collector_now(self._handle))

    def release(self, process: int) -> None:
        """Let a process that waits for its last snapshot exit."""
        check(lib.mematlas_collector_release(self._handle, process))

    def forget(self, process: int) -> None:
        """Free all but the facts of a process that has ENDED."""
        check(lib.mematlas_collector_forget(self._handle, process))

    def stop(self) -> None:
        """Turn tracing off in every traced process."""
        check(lib.mematlas_collector_stop(self._handle))

    def process(self, process: int) -> Traced:
        """Give all that is known of a process."""
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
            touches=facts.fault_sites,
            places=facts.fault_parts,
            fault_samples=facts.fault_samples,
            faults_lost=facts.faults_lost,
            faults=Faults(facts.faults),
            faults_reason=_text(facts.faults_reason),
            executable=_text(facts.executable),
            command=tuple(word.decode("utf-8", "surrogateescape") for word in command.split(b"\0")),
        )

    def nodes(self, process: int, first: int, count: int) -> bytes:
        """`count` trie nodes from number `first` on (NODE_DTYPE)."""
        rows = ffi.new("struct mematlas_node[]", max(count, 1))
        got = check(lib.mematlas_collector_nodes(self._handle, process, first, rows, count))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_node")))

    def totals(self, process: int) -> bytes:
        """Give the sums of every (stack, kind) so far (TOTALS_DTYPE)."""
        rows, room = self._room(process, "struct mematlas_total")
        got = lib.mematlas_collector_totals(self._handle, process, rows, room)
        return bytes(ffi.buffer(rows, check(got) * ffi.sizeof("struct mematlas_total")))

    def lives(self, process: int) -> bytes:
        """Give how long freed blocks lived, of every (stack, kind) that has any (LIFETIMES_DTYPE)."""
        rows, room = self._room(process, "struct mematlas_lifetimes")
        got = check(lib.mematlas_collector_lifetimes(self._handle, process, rows, room))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_lifetimes")))

    def ages(self, process: int) -> tuple[float, bytes]:
        """Give the length of a cell of time, and when what outlived one was born and died (AGE_MATRIX_DTYPE).

        0 seconds, and no rows, where the tracer's clock tells no time.
        """
        cell_s, rows = ffi.new("double *"), ffi.new("struct mematlas_age_cell **")
        got = check(lib.mematlas_collector_age_matrix(self._handle, process, cell_s, rows))
        data = (
            bytes(ffi.buffer(rows[0], got * ffi.sizeof("struct mematlas_age_cell"))) if got else b""
        )
        return float(cell_s[0]), data

    def touches(self, process: int, count: int) -> bytes:
        """Give the page faults of every (stack, owner) so far (FAULT_SITES_DTYPE)."""
        rows = ffi.new("struct mematlas_fault_site[]", max(count, 1))
        got = check(lib.mematlas_collector_fault_sites(self._handle, process, rows, count))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_fault_site")))

    def places(self, process: int, first: int, end: int) -> Iterator[tuple[int, str]]:
        """Kind and name of places `first` to `end` that faults were taken in."""
        part = ffi.new("struct mematlas_part *")
        for number in range(first, end):
            check(lib.mematlas_collector_fault_part(self._handle, process, number, part))
            yield part.kind, _text(part.name)

    def modules(
        self, process: int, first: int, end: int
    ) -> Iterator[tuple[str, str, int, int, int]]:
        """Path, build ID, bias, start and end of modules `first` to `end`."""
        module = ffi.new("struct mematlas_module *")
        for number in range(first, end):
            check(lib.mematlas_collector_module(self._handle, process, number, module))
            yield _text(module.path), _text(module.build_id), module.bias, module.start, module.end

    def codes(
        self, process: int, first: int, end: int
    ) -> Iterator[tuple[str, str, int, bytes, int]]:
        """Name, file, first line, line table and its format of code objects."""
        code = ffi.new("struct mematlas_code *")
        for number in range(first, end):
            check(lib.mematlas_collector_code(self._handle, process, number, code))
            name = bytes(ffi.buffer(code.name, code.name_length)).decode("utf-8", "replace")
            file = bytes(ffi.buffer(code.file, code.file_length)).decode("utf-8", "replace")
            table = bytes(ffi.buffer(code.table, code.table_length))
            yield name, file, code.first_line, table, code.format

    def timeline(self, process: int, count: int) -> bytes:
        """Take up to `count` rows gathered since the last call (TIMELINE_DTYPE)."""
        rows = ffi.new("struct mematlas_sample[]", max(count, 1))
        got = check(lib.mematlas_collector_timeline(self._handle, process, rows, count))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_sample")))

    def snapshot(self, process: int) -> Account | None:
        """Join residency now; None if the process is gone."""
        account = ffi.new("struct mematlas_account *")
        result = lib.mematlas_collector_snapshot(self._handle, process, account)
        if result in {-errno.ESRCH, -errno.ENOENT}:
            return None
        check(result)
        parts = ffi.new("struct mematlas_part[]", account.parts + 1)
        found = check(lib.mematlas_collector_parts(self._handle, parts, account.parts))
        return Account(
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

    def pins(self, process: int) -> bytes:
        """Give what kept slack resident at the last snapshot of this process (FRAGMENTATION_DTYPE)."""
        rows, room = self._room(process, "struct mematlas_stack_bytes")
        got = check(lib.mematlas_collector_fragmentation(self._handle, process, rows, room))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_stack_bytes")))

    def cold(self, process: int, ranges: list[tuple[int, int, int]]) -> tuple[bytes, float]:
        """Find the owners of what was not used of sorted ranges: (start, end, bytes that were used).

        Gives rows (IDLE_DTYPE), where some of a range was used the least that each must have, and all
        bytes that were not used.
        """
        rows, room = self._room(process, "struct mematlas_stack_bytes")
        given = ffi.new("struct mematlas_cold_range[]", ranges)
        total = ffi.new("double *")
        got = check(
            lib.mematlas_collector_cold(
                self._handle, process, given, len(ranges), rows, room, total
            )
        )
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_stack_bytes"))), float(
            total[0]
        )

    def objects(self, process: int) -> tuple[list[str], bytes]:
        """Look at the live Python objects of a process: names of types, and rows (OBJECTS_DTYPE).

        Nothing where there is no Python in it; OSError where its memory may not be read.
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

    def _room(self, process: int, row: str) -> tuple[Any, int]:
        """Make room for a row of each sum: the rows, and how many."""
        facts = ffi.new("struct mematlas_traced *")
        check(lib.mematlas_collector_process(self._handle, process, facts))
        return ffi.new(f"{row}[]", facts.totals + 1), facts.totals

    def _rows(self, count: int) -> bytes:
        rows = ffi.new("struct mematlas_snapshot_row[]", count + 1)
        got = check(lib.mematlas_collector_rows(self._handle, rows, count))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_snapshot_row")))
