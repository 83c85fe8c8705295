"""The collector: reads the rings of a tracing session and sums up what they record."""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from mematlas._core.binding import check, ffi, lib
from mematlas._core.collector_model import (
    BadFreeRow,
    Event,
    Faults,
    ResidencySnapshot,
    SessionSettings,
    SetMark,
    Sums,
    Traced,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


_MAX_OBJECT_ROWS, _MAX_TYPES = 1 << 16, 1 << 14
_MAX_BAD_FREES = 1000


def _text(chars: Any) -> str:
    return bytes(ffi.string(chars)).decode("utf-8", "surrogateescape")


def _bytes(rows: Any, count: int) -> bytes:
    """Copy the first rows of a C array."""
    return bytes(ffi.buffer(rows, count * ffi.sizeof(rows[0])))


_REFUSALS = 4096  # the collector keeps no more


class Collector:
    """The collector of one session.

    Rows are returned as bytes of the dtypes in mematlas.recording.model; `process` is an index in order of
    appearance. Methods raise OSError with the errno of the C call; native/include/mematlas_collector.h.
    """

    def __init__(self, settings: SessionSettings, library: str | None = None) -> None:
        """Create a session that programs can join.

        `library`: path of the tracer's library, for programs that cannot reach it.
        """
        values = ffi.new("struct mematlas_trace_settings *", asdict(settings))
        out = ffi.new("struct mematlas_collector **")
        path = ffi.NULL if library is None else os.fsencode(library)
        check(lib.mematlas_collector_create(values, path, out))
        self._handle = ffi.gc(out[0], lib.mematlas_collector_destroy)
        self._event = ffi.new("struct mematlas_event *")

    @property
    def session(self) -> str:
        """The text by which a program joins: the value of MEMATLAS_SESSION."""
        return bytes(ffi.string(lib.mematlas_collector_session(self._handle))).decode()

    def adopt(self, descriptor: int) -> None:
        """Serve a process over a socket whose other end that process has. The descriptor is taken over."""
        check(lib.mematlas_collector_adopt(self._handle, descriptor))

    def refusals(self) -> list[tuple[int, str]]:
        """Return the PIDs of processes that could not be traced, each with the reason."""
        rows = ffi.new("struct mematlas_refusal[]", _REFUSALS)
        count = check(lib.mematlas_collector_refusals(self._handle, 0, rows, _REFUSALS))
        return [(rows[i].pid, _text(rows[i].reason)) for i in range(count)]

    def close(self) -> None:
        """Unmap the session. No method may be called after that."""
        ffi.release(self._handle)

    def watch(self, pid: int) -> None:
        """Make poll() return WATCHED when a process, traced or not, has ended."""
        check(lib.mematlas_collector_watch(self._handle, pid))

    def admit(self, pid: int) -> None:
        """Allow a process to join as any user, until the next call.

        The processes of the collector's own user and the descendants of the watched one may join anyway.
        """
        lib.mematlas_collector_admit(self._handle, pid)

    def poll(self, timeout_s: float) -> tuple[Event, int]:
        """Read rings until there is an event; return it with its process, or NONE after the timeout."""
        check(lib.mematlas_collector_poll(self._handle, int(timeout_s * 1000), self._event))
        return Event(self._event.type), self._event.process

    def read_rings(self) -> None:
        """Read what programs have recorded, so that none waits; events come with the next poll()."""
        check(lib.mematlas_collector_read_rings(self._handle))

    def wake_by(self, descriptor: int) -> None:
        """Make poll() return, without an event, when a descriptor can be read. The caller keeps it open."""
        lib.mematlas_collector_wake_by(self._handle, descriptor)

    def restart(self, process: int, *, looks: bool) -> None:
        """Forget what a process has recorded until now, as if tracing began here.

        `looks`: a peak of RSS from here on is worth a snapshot; else no peak is.
        """
        check(lib.mematlas_collector_restart(self._handle, process, looks))

    def sums(self, process: int) -> Sums:
        """Return the sums of a process, of all that it has recorded until now."""
        found = ffi.new("struct mematlas_sums *")
        check(lib.mematlas_collector_sums(self._handle, process, found))
        return Sums(**{each.name: float(getattr(found, each.name)) for each in fields(Sums)})

    def now_s(self) -> float:
        """Return the seconds since the collector was created."""
        return float(lib.mematlas_collector_now(self._handle))

    def release(self, process: int) -> None:
        """Release a process that waits at its exit for the last snapshot."""
        check(lib.mematlas_collector_release(self._handle, process))

    def forget(self, process: int) -> None:
        """Free everything but the description of a process that has ENDED."""
        check(lib.mematlas_collector_forget(self._handle, process))

    def remove(self, process: int) -> None:
        """Remove a process that was forgotten: its number is unknown from then on, and never used again."""
        check(lib.mematlas_collector_remove(self._handle, process))

    def stop(self) -> None:
        """Stop tracing in all processes, for good."""
        check(lib.mematlas_collector_stop(self._handle))

    def process(self, process: int) -> Traced:
        """Return the description and counters of a process."""
        info = ffi.new("struct mematlas_traced *")
        check(lib.mematlas_collector_process(self._handle, process, info))
        command = bytes(ffi.buffer(info.command)).split(b"\0\0", 1)[0].rstrip(b"\0")
        return Traced(
            pid=info.pid,
            parent_pid=info.parent_pid,
            parent=info.parent,
            execed=info.ending == lib.MEMATLAS_EXECED,
            status=info.status if info.status >= 0 else None,
            python_version=info.python_version,
            python_free_threaded=bool(info.python_free_threaded),
            disabled=bool(info.disabled),
            attached=bool(info.attached),
            detached=bool(info.detached),
            reason=_text(info.reason),
            inherited=bool(info.inherited),
            forked=bool(info.forked),
            start_s=info.start_s,
            end_s=info.end_s,
            live_bytes=info.live_bytes,
            peak_bytes=info.peak_bytes,
            peak_s=info.peak_s,
            rss_bytes=info.rss_bytes,
            peak_rss_bytes=info.peak_rss_bytes,
            looks_missed=info.looks_missed,
            stalls=info.stalls,
            untraced_threads=info.untraced_threads,
            sharing_threads=info.sharing_threads,
            own_malloc=info.own_malloc,
            left=tuple(info.left),
            events=info.events,
            unknown_frees=info.unknown_frees,
            cut_stacks=info.cut_stacks,
            has_cut=bool(info.has_cut),
            broken_rings=info.broken_rings,
            marks_lost=info.marks_lost,
            lost_events=info.lost_events,
            exits_missed=info.exits_missed,
            nodes=info.nodes,
            codes=info.codes,
            modules=info.modules,
            totals=info.totals,
            timeline=info.timeline,
            fault_sites=info.fault_sites,
            fault_parts=info.fault_parts,
            fault_samples=info.fault_samples,
            faults_lost=info.faults_lost,
            faults=Faults(info.faults),
            faults_reason=_text(info.faults_reason),
            executable=_text(info.executable),
            command=tuple(word.decode("utf-8", "surrogateescape") for word in command.split(b"\0")),
        )

    def nodes(self, process: int, first: int, count: int) -> bytes:
        """Return up to `count` nodes of the stack trie from number `first` on (NODE_DTYPE)."""
        rows = ffi.new("struct mematlas_node[]", max(count, 1))
        got = check(lib.mematlas_collector_nodes(self._handle, process, first, rows, count))
        return _bytes(rows, got)

    def totals(self, process: int) -> bytes:
        """Return the statistics of every (stack, kind) so far (TOTALS_DTYPE)."""
        rows, capacity = self._allocate(process, "struct mematlas_total")
        got = check(lib.mematlas_collector_totals(self._handle, process, rows, capacity))
        return _bytes(rows, got)

    def news(self, process: int) -> bytes:
        """Return the statistics that changed since the last call or the begin of the segment (TOTALS_DTYPE).

        Shares of the peak of the other rows are what is live, if a new peak has come.
        """
        rows, capacity = self._allocate(process, "struct mematlas_total")
        got = check(lib.mematlas_collector_news(self._handle, process, rows, capacity))
        return _bytes(rows, got)

    def begin_segment(self, process: int) -> None:
        """Forget stacks that hold nothing, number the others anew, and count from here on."""
        check(lib.mematlas_collector_begin_segment(self._handle, process))

    def lifetimes(self, process: int) -> bytes:
        """Return the lifetimes of freed blocks by (stack, kind) (LIFETIMES_DTYPE)."""
        rows, capacity = self._allocate(process, "struct mematlas_lifetimes")
        got = check(lib.mematlas_collector_lifetimes(self._handle, process, rows, capacity))
        return _bytes(rows, got)

    def live_blocks(self, process: int) -> bytes:
        """Return the live blocks as of now, in no order (LIVE_BLOCK_FORMAT); of an exact session only."""
        capacity = 0
        while True:
            rows = ffi.new("struct mematlas_live_block[]", max(capacity, 1))
            got = check(lib.mematlas_collector_live_blocks(self._handle, process, rows, capacity))
            if got <= capacity:
                return _bytes(rows, got)
            capacity = got + got // 4  # more may come meanwhile

    def age_matrix(self, process: int) -> tuple[float, bytes]:
        """Return the length of a cell in seconds, and bytes by cell of birth and death (AGE_MATRIX_DTYPE).

        The length is 0, and there are no rows, if the tracer's clock has no rate.
        """
        cell_s, rows = ffi.new("double *"), ffi.new("struct mematlas_age_cell **")
        got = check(lib.mematlas_collector_age_matrix(self._handle, process, cell_s, rows))
        data = _bytes(rows[0], got) if got else b""
        return float(cell_s[0]), data

    def fault_sites(self, process: int, count: int) -> bytes:
        """Return the page faults of every (stack, owner) so far (FAULT_SITES_DTYPE)."""
        rows = ffi.new("struct mematlas_fault_site[]", max(count, 1))
        got = check(lib.mematlas_collector_fault_sites(self._handle, process, rows, count))
        return _bytes(rows, got)

    def fault_parts(self, process: int, first: int, end: int) -> Iterator[tuple[int, str]]:
        """Return kind and name of fault parts `first` to `end`: owners of faults that are no allocation."""
        part = ffi.new("struct mematlas_part *")
        for number in range(first, end):
            check(lib.mematlas_collector_fault_part(self._handle, process, number, part))
            yield part.kind, _text(part.name)

    def modules(
        self, process: int, first: int, end: int
    ) -> Iterator[tuple[str, str, int, int, int]]:
        """Return path, build ID, bias, start and end of modules `first` to `end`."""
        module = ffi.new("struct mematlas_module *")
        for number in range(first, end):
            check(lib.mematlas_collector_module(self._handle, process, number, module))
            yield _text(module.path), _text(module.build_id), module.bias, module.start, module.end

    def codes(
        self, process: int, first: int, end: int
    ) -> Iterator[tuple[str, str, int, bytes, int]]:
        """Return name, file, first line, line table and its format of code objects `first` to `end`."""
        code = ffi.new("struct mematlas_code *")
        for number in range(first, end):
            check(lib.mematlas_collector_code(self._handle, process, number, code))
            name = bytes(ffi.buffer(code.name, code.name_length)).decode("utf-8", "replace")
            file = bytes(ffi.buffer(code.file, code.file_length)).decode("utf-8", "replace")
            table = bytes(ffi.buffer(code.table, code.table_length))
            yield name, file, code.first_line, table, code.format

    def timeline(self, process: int, count: int) -> bytes:
        """Remove up to `count` timeline rows and return them (TIMELINE_DTYPE)."""
        info = ffi.new("struct mematlas_traced *")
        check(lib.mematlas_collector_process(self._handle, process, info))
        count = min(count, info.timeline)
        rows = ffi.new("struct mematlas_sample[]", max(count, 1))
        got = check(lib.mematlas_collector_timeline(self._handle, process, rows, count))
        return _bytes(rows, got)

    def snapshot(self, process: int) -> ResidencySnapshot | None:
        """Join the residency of a process now; None if it has ended.

        BlockingIOError if its pages moved each time they were read.
        """
        found = ffi.new("struct mematlas_account *")
        result = lib.mematlas_collector_snapshot(self._handle, process, found)
        if result in {-errno.ESRCH, -errno.ENOENT}:
            return None
        check(result)
        rows = ffi.new("struct mematlas_part[]", found.parts + 1)
        parts = rows[0 : check(lib.mematlas_collector_parts(self._handle, rows, found.parts))]
        return ResidencySnapshot(
            time_s=found.time_s,
            cost_s=found.cost_s,
            rss_bytes=found.rss_bytes,
            pss_bytes=found.pss_bytes,
            uss_bytes=found.uss_bytes,
            huge_bytes=found.huge_bytes,
            statm_rss_bytes=found.statm_rss_bytes,
            peak_rss_bytes=found.peak_rss_bytes,
            page_table_bytes=found.page_table_bytes,
            unexplained_bytes=found.unexplained_bytes,
            parts=[
                (part.kind, _text(part.name), part.resident_bytes, part.error_bytes)
                for part in parts
            ],
            slack=[
                (_text(part.name), part.free_page_bytes, part.held_free_bytes)
                for part in parts
                if part.free_page_bytes or part.held_free_bytes
            ],
            shared=[
                (part.kind, _text(part.name), part.shared_bytes, part.share_bytes)
                for part in parts
                if part.shared_bytes
            ],
            rows=self._snapshot_rows(found.rows),
            touched=self._touched_rows(found.touched),
        )

    def marks(self, process: int) -> Iterator[SetMark]:
        """Take the marks that a process has set, oldest first. Each has to be answered."""
        mark = ffi.new("struct mematlas_mark *")
        while check(lib.mematlas_collector_mark(self._handle, process, mark)):
            yield SetMark(_text(mark.name), mark.time_s, mark.ring, mark.serial)

    def answer(self, process: int, mark: SetMark) -> None:
        """Release the thread that set a mark."""
        found = {"ring": mark.ring, "serial": mark.serial}
        values = ffi.new("struct mematlas_mark *", found)
        check(lib.mematlas_collector_answer(self._handle, process, values))

    def fragmentation(self, process: int) -> bytes:
        """Return the free bytes on pages that each stack's blocks keep resident (FRAGMENTATION_DTYPE).

        As of the process's last snapshot; exact mode only.
        """
        rows, capacity = self._allocate(process, "struct mematlas_stack_bytes")
        got = check(lib.mematlas_collector_fragmentation(self._handle, process, rows, capacity))
        return _bytes(rows, got)

    def sharing(self, process: int) -> bytes:
        """Return each stack's bytes on pages that other processes map (SHARING_DTYPE), as of the last snapshot."""
        rows, capacity = self._allocate(process, "struct mematlas_sharing")
        got = check(lib.mematlas_collector_sharing(self._handle, process, rows, capacity))
        return _bytes(rows, got)

    def idle(self, process: int, ranges: list[tuple[int, int, int]]) -> tuple[bytes, float]:
        """Attribute idle memory to stacks: rows (IDLE_DTYPE), and the idle bytes of all ranges.

        `ranges` are sorted and disjoint: (start, end, resident bytes that were used). In a range that was
        used in part, a stack's row is a lower bound.
        """
        rows, capacity = self._allocate(process, "struct mematlas_stack_bytes")
        given = ffi.new("struct mematlas_cold_range[]", ranges)
        total = ffi.new("double *")
        got = check(
            lib.mematlas_collector_cold(
                self._handle, process, given, len(ranges), rows, capacity, total
            )
        )
        return _bytes(rows, got), float(total[0])

    def objects(self, process: int) -> tuple[list[str], bytes]:
        """Read the types of a process's live Python objects: type names, and rows (OBJECTS_DTYPE).

        Both are empty if the process runs no Python. OSError if its memory cannot be read.
        """
        rows = ffi.new("struct mematlas_object[]", _MAX_OBJECT_ROWS)
        names = ffi.new("char[][96]", _MAX_TYPES)
        got = check(
            lib.mematlas_collector_objects(
                self._handle, process, rows, _MAX_OBJECT_ROWS, names, _MAX_TYPES
            )
        )
        named = [row.type for row in rows[0:got] if row.type < _MAX_TYPES]
        types = max(named, default=-1) + 1
        return [_text(names[number]) for number in range(types)], _bytes(rows, got)

    def bad_frees(self, process: int) -> list[BadFreeRow]:
        """Return the frees of pointers that were no live blocks, in order; exact mode only."""
        rows = ffi.new("struct mematlas_bad_free[]", _MAX_BAD_FREES)
        got = check(lib.mematlas_collector_bad_frees(self._handle, process, rows, _MAX_BAD_FREES))
        return [
            BadFreeRow(
                time_s=row.time_s,
                stack=row.node,
                address=row.address,
                reason=row.reason,
                block_stack=row.block_node,
                freed_stack=row.freed_node,
                block_address=row.block_address,
                block_bytes=row.block_bytes,
                freed_s=row.freed_s if row.freed_s >= 0 else None,
            )
            for row in rows[0:got]
        ]

    def _allocate(self, process: int, row: str) -> tuple[Any, int]:
        """Allocate an array with a row per (stack, kind) of a process; return it and its capacity."""
        info = ffi.new("struct mematlas_traced *")
        check(lib.mematlas_collector_process(self._handle, process, info))
        return ffi.new(f"{row}[]", info.totals + 1), info.totals

    def _touched_rows(self, count: int) -> bytes:
        rows = ffi.new("struct mematlas_fault_site[]", count + 1)
        got = check(lib.mematlas_collector_touched(self._handle, rows, count))
        return _bytes(rows, got)

    def _snapshot_rows(self, count: int) -> bytes:
        rows = ffi.new("struct mematlas_snapshot_row[]", count + 1)
        got = check(lib.mematlas_collector_rows(self._handle, rows, count))
        return _bytes(rows, got)
