"""Rows of one traced process, taken from the collector and written as chunks."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from mematlas._core import Faults
from mematlas.recording.jit_code import name_jit_code
from mematlas.recording.model import (
    BadFreeEvent,
    BadFreeReason,
    CodeObject,
    Module,
    Part,
    PartKind,
    SharedPart,
    Touched,
)
from mematlas.tracing.process_notes import clean_utf8
from mematlas.tracing.rolling import RollingWriter

if TYPE_CHECKING:
    from mematlas._core import Collector, ResidencySnapshot, Traced
    from mematlas.recording import Writer
    from mematlas.tracing.jit_files import JitFiles

_PART_KINDS = tuple(PartKind)  # in the order of enum mematlas_part_kind
_FAULT_SITE = struct.Struct("<4I5d")
_MOST_TOUCHES = 1000  # rows of one snapshot
_TOTALS_GAP_S = 1.0
_MAX_TIMELINE_ROWS = 1 << 16
_TOTALS_BUDGET = 0.02  # share of the time that writing totals may take


def _largest_touches(rows: bytes) -> list[Touched]:
    """Return the largest rows of memory by the stack that touched it first (FAULT_SITES_DTYPE)."""
    found = [
        Touched(stack, owner, kind, size, variance)
        for stack, owner, kind, _, _, _, _, size, variance in _FAULT_SITE.iter_unpack(rows)
    ]
    return sorted(found, key=lambda each: -each.bytes)[:_MOST_TOUCHES]


class ProcessRows:
    """The writer of the rows of one process.

    A chunk is written after the names, nodes and modules that it refers to. Rings are read while a large chunk is
    packed, so rows are taken before the names are written.
    """

    def __init__(self, collector: Collector, writer: Writer, index: int) -> None:
        """Write nothing yet."""
        self._collector = collector
        self._writer = writer
        self._rolls = isinstance(writer, RollingWriter)
        self._index = index
        self._nodes = self._codes = self._modules = 0
        self._fault_parts: list[tuple[PartKind, str]] = []
        self._bad_frees = 0
        self.faults: tuple[float, ...] = (0.0, 0.0)  # minor and major, until the last timeline
        self._next_totals = 0.0
        self._summed_events, self._summed_s = -1, 0.0  # events that all sums last written have
        self.has_exited = False  # the process took its last snapshot, and does not wait any more
        self.ended = False
        self.build_ids: dict[str, str] = {}  # of all modules, by path
        self._ranges: list[tuple[int, int]] = []  # of words that lie in a module

    def begin_segment(self) -> None:
        """Write names anew from now on: the collector has numbered stacks and code anew."""
        self._nodes = self._codes = self._modules = 0
        self._fault_parts = []
        self._ranges = []
        self._bad_frees = 0

    @property
    def is_due(self) -> bool:
        """Whether the totals have not been written for long enough."""
        return time.monotonic() >= self._next_totals

    def lack(self, info: Traced) -> bool:
        """Return whether the totals last written lack events, or are older than the end of the process."""
        return info.events != self._summed_events or info.end_s > self._summed_s + _TOTALS_GAP_S

    def write_names(self) -> Traced:
        """Write the nodes, code objects and modules that are new: rows may refer to them."""
        info = self._collector.process(self._index)
        if info.modules > self._modules:
            found = list(self._collector.modules(self._index, self._modules, info.modules))
            self._writer.modules(
                self._index,
                [
                    Module(clean_utf8(path), build_id, bias, start, end)
                    for path, build_id, bias, start, end in found
                ],
            )
            self._modules = info.modules
            self._ranges += [(start, end) for path, _, _, start, end in found if path]
            self.build_ids |= {clean_utf8(path): build_id for path, build_id, *_ in found}
        if info.codes > self._codes:
            codes = self._collector.codes(self._index, self._codes, info.codes)
            self._writer.codes(self._index, [CodeObject(*code) for code in codes])
            self._codes = info.codes
        if info.nodes > self._nodes:
            rows = self._collector.nodes(self._index, self._nodes, info.nodes - self._nodes)
            self._writer.nodes(self._index, rows)
            self._nodes = info.nodes
        return info

    def write_jit_names(self, files: JitFiles) -> None:
        """Write the names of code in no module, from the files of the process's JIT compiler."""
        info = self.write_names()
        if not files:
            return
        with files:
            rows = memoryview(self._collector.nodes(self._index, 0, info.nodes)).cast("B")
            words = set(rows.cast("Q")[1::2].tolist())
            if names := name_jit_code(words, self._ranges, files.entries()):
                self._writer.frames(self._index, names)

    def write_objects(self, time_s: float, names: list[str], rows: bytes) -> None:
        """Write the Python objects by stack and type, rows of OBJECTS_DTYPE."""
        self.write_names()
        self._writer.objects(self._index, time_s=time_s, names=map(clean_utf8, names), rows=rows)

    def write_residency(
        self, join: ResidencySnapshot, trigger: str, moment_s: float | None
    ) -> None:
        """Write a look at residency; `moment_s` as of ProcessRecorder.snapshot."""
        self.write_names()
        self._writer.snapshot(
            self._index,
            time_s=join.time_s,
            trigger=trigger,
            rss_bytes=join.rss_bytes,
            huge_bytes=join.huge_bytes,
            peak_rss_bytes=join.peak_rss_bytes,
            page_table_bytes=join.page_table_bytes or None,
            parts=[
                Part(_PART_KINDS[kind], clean_utf8(name), resident, round(error))
                for kind, name, resident, error in join.parts
            ],
            unexplained_bytes=join.unexplained_bytes,
            rows=join.rows,
            touched=_largest_touches(join.touched),
            moment_s=moment_s,
        )
        self._writer.sharing(
            self._index,
            time_s=join.time_s,
            pss_bytes=join.pss_bytes,
            uss_bytes=join.uss_bytes,
            parts=[
                SharedPart(_PART_KINDS[kind], clean_utf8(name), shared, share)
                for kind, name, shared, share in join.shared
            ],
            rows=self._collector.sharing(self._index),
        )
        if join.slack:
            self._writer.fragmentation(
                self._index,
                time_s=join.time_s,
                slack=[(clean_utf8(name), free, held) for name, free, held in join.slack],
                rows=self._collector.fragmentation(self._index),
            )

    def write_totals(self) -> None:
        """Write the sums of all stacks, their lifetimes, page faults and bad frees."""
        start = time.monotonic()
        if self._rolls:
            self.write_changes()
        else:
            # Rings are read while sums are written, so the later ones may have more.
            self._summed_events = self._collector.process(self._index).events
            self._summed_s = self._collector.now_s()
            rows = self._collector.totals(self._index)
            self._write_sums(self.write_names(), rows)
        self._write_lifetimes()
        self._write_fault_sites()
        self._write_bad_frees()
        now = time.monotonic()
        self._next_totals = now + max(_TOTALS_GAP_S, (now - start) / _TOTALS_BUDGET)

    def write_changes(self) -> None:
        """Write the sums that changed since the last time, for a rolling recording."""
        rows = self._collector.news(self._index)
        info = self.write_names()
        if rows:
            self._write_sums(info, rows)

    def _write_sums(self, info: Traced, rows: bytes) -> None:
        self._writer.totals(
            self._index,
            time_s=info.end_s if self.ended else self._collector.now_s(),
            peak_time_s=info.peak_s,
            peak_live_bytes=info.peak_bytes,
            rows=rows,
            changed=self._rolls,
        )

    def _write_lifetimes(self) -> None:
        rows = self._collector.lifetimes(self._index)
        self.write_names()
        self._writer.lifetimes(self._index, rows)
        if self.has_exited:  # the interpreter frees at exit what was live at the end
            return
        now = self._collector.now_s()
        cell_s, rows = self._collector.age_matrix(self._index)
        if cell_s:
            self.write_names()
            self._writer.age_matrix(self._index, time_s=now, cell_s=cell_s, rows=rows)

    def _write_bad_frees(self) -> None:
        found = self._collector.bad_frees(self._index)
        if len(found) > self._bad_frees:
            self._bad_frees = len(found)
            self.write_names()  # the frame of an earlier free is a node of its own
            reasons = list(BadFreeReason)
            self._writer.bad_frees(
                self._index,
                [BadFreeEvent(**{**row._asdict(), "reason": reasons[row.reason]}) for row in found],
            )

    def _write_fault_sites(self) -> None:
        info = self._collector.process(self._index)
        if info.faults is Faults.OFF:
            return
        rows = self._collector.fault_sites(self._index, info.fault_sites)
        self.write_names()
        parts = self._collector.fault_parts(self._index, len(self._fault_parts), info.fault_parts)
        self._fault_parts += [(_PART_KINDS[kind], clean_utf8(name)) for kind, name in parts]
        self._writer.fault_sites(
            self._index,
            state=info.faults.name.lower(),
            reason=clean_utf8(info.faults_reason),
            samples=info.fault_samples,
            lost=info.faults_lost,
            parts=self._fault_parts,
            rows=rows,
        )

    def write_timeline(self) -> None:
        """Write the timeline's rows since the last time."""
        rows = self._collector.timeline(self._index, _MAX_TIMELINE_ROWS)
        if rows:
            self._writer.timeline(self._index, rows)
            faults = struct.unpack_from("<2d", rows, len(rows) - 16)
            self.faults = tuple(max(pair) for pair in zip(self.faults, faults, strict=True))

    def add_past(self, faults: tuple[float, ...] = (0.0, 0.0)) -> None:
        """Add what the process has in this segment to the sums that the next one begins with."""
        if isinstance(self._writer, RollingWriter):
            self._writer.add_past(self._collector.totals(self._index), faults)
