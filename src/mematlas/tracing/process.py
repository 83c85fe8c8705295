"""One traced process, from the collector into the recording."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas._core import Faults
from mematlas.errors import MematlasError
from mematlas.linux import glibc_heap, idle_memory, smaps
from mematlas.linux.glibc_heap import Heaps
from mematlas.linux.process import open_process
from mematlas.recording.model import CodeObject, Module, Part, PartKind, Process
from mematlas.tracing import child

if TYPE_CHECKING:
    from mematlas._core import Collector, ResidencySnapshot, Traced
    from mematlas.recording import Writer

_PART_KINDS = tuple(PartKind)  # in the order of enum mematlas_part_kind
_TOTALS_GAP_S = 1.0
_MOST_HEAP = 4 << 30  # bytes whose chunks may be walked while a program waits to exit
_IDLE_BUDGET = 0.05  # share of the time that looking for cold pages may take
_TOTALS_BUDGET = 0.02  # share of the time that writing totals may take


class ProcessRecorder:
    """Writes what one process did. Whatever a chunk names is written before it."""

    def __init__(self, collector: Collector, writer: Writer, index: int) -> None:
        """Write that the process is there."""
        self._collector = collector
        self._writer = writer
        self._index = index
        self._nodes = self._codes = self._modules = 0
        self._places: list[tuple[PartKind, str]] = []
        self._next_totals = 0.0
        self._has_exited = False
        self._watch: idle_memory.IdleWatch | None = None
        self._idle_due = 0.0
        self.ended = False
        self.paths: set[str] = set()  # of the files whose code ran
        self._unread = ""
        facts = collector.process(index)
        self.pid = facts.pid
        self._process = Process(
            index=index,
            pid=facts.pid,
            parent_pid=facts.parent_pid,
            parent_index=facts.parent if facts.parent >= 0 else None,
            executable=_clean(facts.executable),
            command=tuple(_clean(word) for word in facts.command),
            start_s=facts.start_s,
            python_version=_version(facts),
        )
        writer.process(self._process)

    def snapshot(self, trigger: str) -> None:
        """Join residency and write it; a process that waits to exit goes on at once after that."""
        try:
            account = self._collector.snapshot(self._index)
        except OSError as error:  # the program's right to hide, and no reason to end the recording
            self._unread = f"its pages could not be read ({error.strerror}): residency is unknown"
            account = None
        objects = self._look_at_objects() if trigger == "exit" else None
        if trigger == "exit":
            self._write_heaps()
            self._collector.release(self._index)
        if objects:
            self._write_objects(*objects)
        if account is None:
            return
        self._write_account(account, trigger)
        if trigger in {"exit", "stopped"} or time.monotonic() >= self._next_totals:
            self._write_totals()
        self._has_exited = trigger == "exit"  # until it goes on, as after an exec that failed

    def sample_idle_pages(self, method: str, idle_s: float) -> None:
        """Tell what nobody used in the last seconds, once they are over, and begin anew.

        OSError and MematlasError where the process hides, or is gone.
        """
        now = time.monotonic()
        if now < self._idle_due:
            return
        if self._watch is None:
            self._watch, self._idle_due = idle_memory.begin(self.pid, method), now + idle_s
            return
        found, self._watch = idle_memory.end(self.pid, self._watch), None
        rows, cold_bytes = self._collector.idle(self._index, found.ranges)
        self._write_names()
        self._writer.idle(
            self._index,
            rows,
            time_s=self._collector.now_s(),
            seconds=found.seconds,
            method=method,
            whole=found.whole,
            idle_bytes=round(cold_bytes),
        )
        spent = time.monotonic() - now  # twice: to look, and to begin anew
        self._idle_due = now + max(0.0, 2 * spent / _IDLE_BUDGET - idle_s)

    def flush_timeline(self) -> None:
        """Write the timeline's rows since the last time."""
        rows = self._collector.timeline(self._index, 1 << 16)
        if rows:
            self._writer.timeline(self._index, rows)

    def end(self) -> None:
        """Write the last of a process that is gone."""
        self.ended = True
        facts = self._write_names()
        self._write_totals()
        self.flush_timeline()
        ending = "exec" if facts.execed else "ended"
        if facts.status is not None:
            ending = child.format_wait_status(facts.status)
        self._process = replace(
            self._process,
            end_s=facts.end_s,
            ending=ending,
            python_version=_version(facts),
            note=_note(facts, self._unread),
        )
        self._writer.process(self._process)
        self._collector.forget(self._index)

    def close(self, returncode: int | None) -> None:
        """Write how it ended, once the run is over; `returncode` if it was the program itself."""
        facts = self._collector.process(self._index)
        if not self.ended:
            if objects := self._look_at_objects():
                self._write_objects(*objects)
            self._write_heaps()
            self._write_names()
            self._write_totals()
            self.flush_timeline()
            process = replace(
                self._process,
                ending="detached" if facts.detached else "still running when recording ended",
                note=_note(facts, self._unread),
            )
        elif self._process.ending == "exec":
            return
        elif returncode is not None:
            status = returncode << 8 if returncode >= 0 else -returncode
            process = replace(self._process, ending=child.format_wait_status(status))
        elif facts.status is not None:
            process = replace(self._process, ending=child.format_wait_status(facts.status))
        else:
            return
        if process != self._process:
            self._process = process
            self._writer.process(process)

    def _look_at_objects(self) -> tuple[float, list[str], bytes] | None:
        try:
            names, rows = self._collector.objects(self._index)
        except OSError:  # gone, or the program's right to hide
            return None
        return (self._collector.now_s(), names, rows) if rows else None

    def _write_heaps(self) -> None:
        try:
            with open_process(self.pid) as process:
                mappings, _ = smaps.read_from(process, fields=False)
                if sum(each.size for each in mappings if each.name == b"[heap]") > _MOST_HEAP:
                    return
                found = glibc_heap.read_heaps(process, mappings)
        except (OSError, MematlasError):  # gone, or the program's right to hide
            return
        if isinstance(found, Heaps):
            self._writer.heaps(self._index, time_s=self._collector.now_s(), heaps=found.heaps)

    def _write_objects(self, time_s: float, names: list[str], rows: bytes) -> None:
        self._write_names()
        self._writer.objects(self._index, time_s=time_s, names=map(_clean, names), rows=rows)

    def _write_names(self) -> Traced:
        """Write the nodes, codes and modules that rows and words may now speak of."""
        facts = self._collector.process(self._index)
        if facts.modules > self._modules:
            found = list(self._collector.modules(self._index, self._modules, facts.modules))
            self._writer.modules(
                self._index,
                [
                    Module(_clean(path), build_id, bias, start, end)
                    for path, build_id, bias, start, end in found
                ],
            )
            self._modules = facts.modules
            self.paths |= {_clean(path) for path, *_ in found}
        if facts.codes > self._codes:
            codes = self._collector.codes(self._index, self._codes, facts.codes)
            self._writer.codes(self._index, [CodeObject(*code) for code in codes])
            self._codes = facts.codes
        if facts.nodes > self._nodes:
            rows = self._collector.nodes(self._index, self._nodes, facts.nodes - self._nodes)
            self._writer.nodes(self._index, rows)
            self._nodes = facts.nodes
        return facts

    def _write_account(self, account: ResidencySnapshot, trigger: str) -> None:
        self._write_names()
        self._writer.snapshot(
            self._index,
            time_s=account.time_s,
            trigger=trigger,
            rss_bytes=account.rss_bytes,
            huge_bytes=account.huge_bytes,
            parts=[
                Part(_PART_KINDS[kind], _clean(name), resident, round(error))
                for kind, name, resident, error in account.parts
            ],
            unexplained_bytes=account.unexplained_bytes,
            rows=account.rows,
        )
        if account.slack:
            self._writer.fragmentation(
                self._index,
                time_s=account.time_s,
                slack=[(_clean(name), free, pinned) for name, free, pinned in account.slack],
                rows=self._collector.fragmentation(self._index),
            )

    def _write_totals(self) -> None:
        start = time.monotonic()
        facts = self._write_names()
        self._writer.totals(
            self._index,
            time_s=facts.end_s if self.ended else self._collector.now_s(),
            peak_time_s=facts.peak_s,
            peak_live_bytes=facts.peak_bytes,
            rows=self._collector.totals(self._index),
        )
        self._write_ages()
        self._write_touches(facts)
        now = time.monotonic()
        self._next_totals = now + max(_TOTALS_GAP_S, (now - start) / _TOTALS_BUDGET)

    def _write_ages(self) -> None:
        self._writer.lifetimes(self._index, self._collector.lifetimes(self._index))
        if self._has_exited:  # what an interpreter frees on its way out was live at the end
            return
        now = self._collector.now_s()
        cell_s, rows = self._collector.age_matrix(self._index)
        if cell_s:
            self._writer.age_matrix(self._index, time_s=now, cell_s=cell_s, rows=rows)

    def _write_touches(self, facts: Traced) -> None:
        if facts.faults is Faults.OFF:
            return
        places = self._collector.fault_parts(self._index, len(self._places), facts.fault_parts)
        self._places += [(_PART_KINDS[kind], _clean(name)) for kind, name in places]
        self._writer.fault_sites(
            self._index,
            state=facts.faults.name.lower(),
            reason=_clean(facts.faults_reason),
            samples=facts.fault_samples,
            lost=facts.faults_lost,
            parts=self._places,
            rows=self._collector.fault_sites(self._index, facts.fault_sites),
        )


def _clean(text: str) -> str:
    """Text that UTF-8 can hold, whatever bytes it came from."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _version(facts: Traced) -> str | None:
    number, build = facts.python_version, "t" if facts.python_free_threaded else ""
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}{build}" if number else None


def _note(facts: Traced, unread: str) -> str:
    notes = [unread] if unread else []
    if facts.attached:
        notes.append(
            "traced from the moment it was attached to: what it had allocated before counts as "
            "allocator slack, or as other memory"
        )
    if facts.disabled and not facts.detached:
        notes.append(f"tracing ended early: {_clean(facts.reason)}")
    if facts.untraced_threads:
        notes.append(
            f"{facts.untraced_threads} of its threads not traced: no memory for records, or "
            "begun behind a seccomp filter"
        )
    if facts.own_malloc:
        notes.append(
            "it brings a malloc() of its own: what that allocates is not seen as allocations, "
            "only as the mappings that hold it"
        )
    if facts.left_behind:
        notes.append(
            f"{facts.left_behind} of the programs it started not traced: as another user or under "
            "another root directory they cannot reach the session"
        )
    if facts.broken_rings:
        notes.append(f"{facts.broken_rings} of its threads wrote what could not be read")
    return "; ".join(notes)
