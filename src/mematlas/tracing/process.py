"""The recording of one traced process: what the collector knows of it, written as chunks."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError
from mematlas.linux import glibc_heap, room, smaps
from mematlas.linux.glibc_heap import Heaps
from mematlas.linux.process import open_process
from mematlas.linux.status import read_command
from mematlas.recording.model import (
    Mark,
    Process,
)
from mematlas.tracing import child
from mematlas.tracing.jit_files import JitFiles
from mematlas.tracing.process_notes import (
    MOST_MARKS,
    clean_utf8,
    losses_of,
    note_of,
    version_of,
)
from mematlas.tracing.process_rows import ProcessRows
from mematlas.tracing.process_user import user_of
from mematlas.tracing.program_file import read_build_id

if TYPE_CHECKING:
    from mematlas._core import Collector, ResidencySnapshot, Traced
    from mematlas.linux.idle_memory import IdleWatch
    from mematlas.linux.mappings import Mappings
    from mematlas.linux.process import ProcessDirectory
    from mematlas.recording import Writer
    from mematlas.tracing.oom import OomWatch

_MAX_HEAP_BYTES = 4 << 30  # larger heaps are not walked: the program waits for that at its exit
_MOST_TITLE = 1024
_MOST_ACCOUNTS = 256  # of its marks; the tracer waits for no more
_KILLED = "killed by SIGKILL"
_IDLE_BUDGET = 0.05  # share of the time that sampling idle pages may take
_ROOM_GAP_S = 0.9  # less than between snapshots at intervals
_ROOM_BUDGET = 0.01  # share of the time that reading limits and mounts may take


def _read_heaps(process: ProcessDirectory, mappings: Mappings) -> Heaps | None:
    if sum(end - start for start, end in glibc_heap.find_main_heap(mappings)) > _MAX_HEAP_BYTES:
        return None
    found = glibc_heap.read_heaps(process, mappings)
    return found if isinstance(found, Heaps) else None


class ProcessRecorder:
    """The writer of one process: its description, its moments and its ending."""

    def __init__(self, collector: Collector, writer: Writer, index: int) -> None:
        """Write the process's description."""
        self._collector = collector
        self._writer = writer
        self._index = index
        self._rows = ProcessRows(collector, writer, index)
        self._room, self._room_due = room.Room(), 0.0
        self._watch: IdleWatch | None = None
        self._idle_due = 0.0
        self.losses: list[str] = []  # known at the end
        self._marks_set = 0
        self._mark_accounts = 0
        self._unread = ""  # why pages could not be read
        self._cause = ""  # why the OOM killer killed it, if it did
        info = collector.process(index)
        self.pid = info.pid
        self._process = Process(
            index=index,
            pid=info.pid,
            parent_pid=info.parent_pid,
            parent_index=info.parent if info.parent >= 0 else None,
            executable=clean_utf8(info.executable),
            command=tuple(clean_utf8(word) for word in info.command),
            start_s=info.start_s,
            python_version=version_of(info),
            attached=info.attached,
            forked=True if info.forked else None if info.attached else False,
            uid=user_of(info.pid),
            earlier_peak_rss_bytes=(info.peak_rss_bytes or None) if info.attached else None,
            build_id=read_build_id(info.pid, info.executable),
        )
        writer.process(self._process)

    def begin_segment(self) -> None:
        """Write into a new segment what holds on: the process, and the sums of what is live."""
        self._rows.begin_segment()
        self._marks_set = self._mark_accounts = 0
        self._writer.process(self._process)
        self._rows.write_changes()

    def end_segment(self) -> None:
        """Write what the segment is to hold at its end."""
        self._rows.write_jit_names(JitFiles(self.pid))
        self._rows.write_totals()
        self._rows.write_timeline()
        self._rows.add_past()

    def write_changes(self) -> None:
        """Write the sums that changed since the last time, for a rolling recording."""
        self._rows.write_changes()

    def write_timeline(self) -> None:
        """Write the timeline's rows since the last time."""
        self._rows.write_timeline()

    def look(self, name: str) -> float | None:
        """Write all that can be read of the process now, as a mark of this name; return its time, None without pages."""
        now_s = self._collector.now_s()
        join = self._join_residency()
        if objects := self._read_objects():
            self._rows.write_objects(*objects)
        if found := self._read_room(is_last=True, huge=False, heaps=True):
            self._write_room(*found)
        if join is not None:
            self._rows.write_residency(join, "mark", None)
            self._writer.mark(Mark(self._index, name, now_s, join.time_s))
        self._rows.write_totals()
        self._rows.write_timeline()
        return None if join is None else join.time_s

    def snapshot(self, trigger: str, moment_s: float | None = None) -> None:
        """Join residency and write it; `moment_s` is common to snapshots that are taken together.

        At the exit of the process, release it before anything is written.
        """
        join = self._join_residency()
        objects = files = None
        self._read_title()
        is_last = trigger in {"exit", "stopped"}
        has_huge = join is not None and join.huge_bytes > 0
        found = self._read_room(is_last=is_last, huge=has_huge, heaps=trigger == "exit")
        if trigger == "exit":
            objects = self._read_objects()
            files = JitFiles(self.pid)
            self._collector.release(self._index)
        if found:
            self._write_room(*found)
        if objects:
            self._rows.write_objects(*objects)
        if files is not None:
            self._rows.write_jit_names(files)
        if join is None:
            return
        self._rows.write_residency(join, trigger, moment_s)
        if trigger in {"exit", "stopped"} or self._rows.is_due:
            self._rows.write_totals()
        # Reset if the process goes on, as after a failed exec.
        self._rows.has_exited = trigger == "exit"

    def marks(self) -> None:
        """Write the marks that the program has set, each with a snapshot of its moment.

        The program waits for the first few of each name only, so that it stays fast. The limits here keep the
        recording of a program small that breaks that rule.
        """
        for mark in self._collector.marks(self._index):
            self._marks_set += 1
            join = None
            if mark.waits and self._mark_accounts < _MOST_ACCOUNTS:
                self._mark_accounts += 1
                join = self._join_residency()
            self._collector.answer(self._index, mark)
            if join is not None:
                self._rows.write_residency(join, "mark", None)
            if self._marks_set <= MOST_MARKS or join is not None:
                account_s = None if join is None else join.time_s
                self._writer.mark(Mark(self._index, clean_utf8(mark.name), mark.time_s, account_s))

    def sample_idle_pages(self, method: str, idle_s: float) -> None:
        """Write which pages were idle since the last sample, if `idle_s` seconds are over, and begin the next.

        OSError or MematlasError if the process is gone or not dumpable.
        """
        from mematlas.linux import idle_memory

        now = time.monotonic()
        if now < self._idle_due:
            return
        if self._watch is None:
            self._watch, self._idle_due = idle_memory.begin(self.pid, method), now + idle_s
            return
        found, self._watch = idle_memory.end(self.pid, self._watch), None
        rows, idle_bytes = self._collector.idle(self._index, found.ranges)
        self._rows.write_names()
        self._writer.idle(
            self._index,
            rows,
            time_s=self._collector.now_s(),
            seconds=found.seconds,
            method=method,
            whole=found.whole,
            idle_bytes=round(idle_bytes),
        )
        spent = time.monotonic() - now  # the beginning of the next sample takes as long again
        self._idle_due = now + max(0.0, 2 * spent / _IDLE_BUDGET - idle_s)

    def end(self, oom: OomWatch) -> None:
        """Write the totals and the ending of a process that is gone; `oom` knows whether it was killed for memory."""
        self._rows.ended = True
        # Files of a program that was killed may be deleted any moment: read before anything is written.
        full = None if self.has_exited else room.read_full(self._room)
        info = self._rows.write_names()
        if full and not info.execed:
            self._writer.room(self._index, time_s=self._collector.now_s(), room=full)
        # A process that waited for its last snapshot was not killed: its cgroups need not be read.
        if not info.execed:
            self._cause = oom.forget(self.pid, is_suspected=not self.has_exited)
        self.losses = losses_of(info)
        # Many programs do nothing after their last snapshot. The time of sums is the end for leaks.
        if self._rows.lack(info):
            self._rows.write_totals()
        self._rows.write_timeline()
        self._rows.add_past(self._rows.faults)
        ending = "exec" if info.execed else "ended"
        if info.status is not None and not info.execed:  # the status is of the last program
            ending = child.format_wait_status(info.status)
        self._process = replace(
            self._process,
            end_s=info.end_s,
            ending=ending,
            cause=self._cause if ending == _KILLED else "",
            python_version=version_of(info),
            note=note_of(info, self._unread, self._marks_set),
            peak_rss_bytes=info.peak_rss_bytes or None,
        )
        self._writer.process(self._process)
        self._collector.forget(self._index)

    def close(self, returncode: int | None) -> None:
        """Write the ending at the end of the recording.

        `returncode`: of the program itself; None: not known.
        """
        info = self._collector.process(self._index)
        if not self.ended:
            process = self._close_running(info)
        elif self._process.ending == "exec":
            return
        elif returncode is not None:
            status = returncode << 8 if returncode >= 0 else -returncode
            process = self._ended_by(status)
        elif info.status is not None:
            process = self._ended_by(info.status)
        else:
            return
        if process != self._process:
            self._process = process
            self._writer.process(process)

    def ended_at(self, peak_rss_bytes: int) -> None:
        """Write the highest RSS by the kernel's account at the end: of a killed process nobody read the last one."""
        if peak_rss_bytes > (self._process.peak_rss_bytes or 0):
            self._process = replace(self._process, peak_rss_bytes=peak_rss_bytes)
            self._writer.process(self._process)

    @property
    def ended(self) -> bool:
        """Whether the process is gone, and its ending is written."""
        return self._rows.ended

    @property
    def has_exited(self) -> bool:
        """Whether the process took its last snapshot, and does not wait any more."""
        return self._rows.has_exited

    @property
    def build_ids(self) -> dict[str, str]:
        """The build IDs of all modules, by path."""
        return self._rows.build_ids

    @property
    def end_s(self) -> float | None:
        """The end of the process; None: it runs."""
        return self._process.end_s

    @property
    def execed(self) -> bool:
        """Whether the process goes on with another program, which has a recorder of its own."""
        return self._process.ending == "exec"

    @property
    def peak_rss_bytes(self) -> int | None:
        """The highest RSS of the process, as far as it is known."""
        return self._process.peak_rss_bytes

    def close_without_pages(self) -> None:
        """Write what was allocated until now, and the ending of a recording whose pages are not read."""
        self._rows.write_totals()
        self._rows.write_timeline()
        info = self._collector.process(self._index)
        self._writer.process(
            replace(
                self._process,
                ending="still running when recording ended",
                note=note_of(
                    info, "its pages were not read; residency is unknown", self._marks_set
                ),
                peak_rss_bytes=info.peak_rss_bytes or None,
            )
        )

    def _ended_by(self, status: int) -> Process:
        ending = child.format_wait_status(status)
        return replace(self._process, ending=ending, cause=self._cause if ending == _KILLED else "")

    def _close_running(self, info: Traced) -> Process:
        """Write what a running process holds, and return its description with an ending."""
        self._read_title()
        self.losses = losses_of(info)
        if objects := self._read_objects():
            self._rows.write_objects(*objects)
        if found := self._read_room(is_last=True, huge=False, heaps=True):
            self._write_room(*found)
        self._rows.write_jit_names(JitFiles(self.pid))
        self._rows.write_totals()
        self._rows.write_timeline()
        return replace(
            self._process,
            ending="detached" if info.detached else "still running when recording ended",
            note=note_of(info, self._unread, self._marks_set),
            peak_rss_bytes=info.peak_rss_bytes or None,
        )

    def _join_residency(self) -> ResidencySnapshot | None:
        """Join residency; None if the process is gone, or its pages cannot be read, which ends no recording.

        The note tells why the last look that was tried has no pages.
        """
        try:
            join = self._collector.snapshot(self._index)
        except BlockingIOError:
            self._unread = (
                "its pages moved each time they were read at its last look; what was resident then "
                "is unknown"
            )
            return None
        except OSError as error:
            self._unread = f"its pages cannot be read ({error.strerror}); residency is unknown"
            return None
        if join is not None:
            self._unread = ""
        return join

    def _read_objects(self) -> tuple[float, list[str], bytes] | None:
        try:
            names, rows = self._collector.objects(self._index)
        except OSError:  # the process is gone or not dumpable
            return None
        return (self._collector.now_s(), names, rows) if rows else None

    def _read_room(
        self, *, is_last: bool, huge: bool, heaps: bool
    ) -> tuple[float, room.Room, Heaps | None] | None:
        """Read the room of the process, with its `heaps`; at the last time with samples of its `huge` pages.

        Earlier reads have a budget, together.

        A program waits for that at its exit, and walking page tables takes longest: smaps is read if it has huge
        pages only.
        """
        now, now_s = time.monotonic(), self._collector.now_s()
        if not is_last and now < self._room_due:
            return None
        try:
            with open_process(self.pid) as process:
                mappings, _ = smaps.read_from(process, fields=is_last and huge)
                found = _read_heaps(process, mappings) if heaps else None
                self._room = room.read(process, mappings)
        except (OSError, MematlasError, ValueError):  # the process is gone or not dumpable
            return None
        spent = time.monotonic() - now
        self._room_due = now + max(_ROOM_GAP_S, spent / _ROOM_BUDGET)
        return now_s, self._room, found

    def _write_room(self, time_s: float, found: room.Room, heaps: Heaps | None) -> None:
        self._writer.room(self._index, time_s=time_s, room=found)
        if heaps:
            self._writer.heaps(self._index, time_s=time_s, heaps=heaps.heaps)

    def _read_title(self) -> None:
        """Keep the command line as it is now: servers write the role of a process there. Keep its user, too."""
        if self._process.uid == 0:
            self._process = replace(self._process, uid=user_of(self.pid))
        try:
            with open_process(self.pid) as process:
                title = clean_utf8(" ".join(filter(None, read_command(process))))
            # After an exec the command line is that of the next program.
            executable = str(Path(f"/proc/{self.pid}/exe").readlink()).removesuffix(" (deleted)")
        except (OSError, MematlasError):  # the process is gone
            return
        if clean_utf8(executable) != self._process.executable.removesuffix(" (deleted)"):
            return
        start = " ".join(filter(None, self._process.command))
        if title and not title.startswith(start):  # the tracer records the first 2 KiB
            self._process = replace(self._process, title=title[:_MOST_TITLE].rstrip())
