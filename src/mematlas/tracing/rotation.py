"""When the segments of a rolling recording turn, and what is forgotten then."""

from __future__ import annotations

import datetime as dt
import shlex
from collections import deque
from typing import TYPE_CHECKING

from mematlas.tracing.process_notes import STACKS_CUT

if TYPE_CHECKING:
    from pathlib import Path

    from mematlas._core import Collector
    from mematlas.recording import Writer
    from mematlas.tracing.process import ProcessRecorder
    from mematlas.tracing.rolling import RollingWriter

_MOST_NEW_NODES = 1 << 19  # of the stack trie of a process, new in one segment
_MOST_NEW_STACKS = 1 << 16  # likewise
_MOST_LOSSES = 100
_MOST_TOLD = 100  # processes, of those whose stacks were cut
_MOST_MODULES = 10_000
_STATUS_S = 2.0  # in which a parent reads the exit status of its child
# Children that a process forked shortly before its end have joined by then, or their memory is unknown anyway.
_REMOVE_S = 15.0
_MOST_ENDED = 1024  # that the collector knows


class Rotation:
    """Writes what has changed, twice a second, and begins segments.

    A segment ends at its time, at its size, or when very many stacks came. Then the collector forgets those that
    hold nothing any more. Processes that have ended are forgotten as soon as nothing more of them is to come. So memory
    is bounded, however long the program runs, and however many children it starts.
    """

    def __init__(
        self,
        collector: Collector,
        writer: RollingWriter,
        recorders: dict[int, ProcessRecorder],
        families: dict[int, int],
        *,
        keep: int | None,
    ) -> None:
        """Begin with the first segment. `recorders` and `families` lose ended processes, but that of PID `keep`, whose status comes at the end."""
        self._collector = collector
        self._writer = writer
        self._recorders = recorders
        self._families = families
        self._gone: deque[tuple[int, float]] = deque()  # known to the collector: index and end
        self._keep = keep
        self._told = 0  # messages of the writer
        self._began: dict[int, tuple[int, int]] = {}  # nodes and stacks at the begin of the segment
        self._noted: set[int] = set()  # processes whose cut stacks the segment has a note on
        self._told_of: set[int] = set()  # PIDs of those of the run that the user was told of
        self.losses: list[str] = []
        self.modules: set[tuple[str, str]] = (
            set()
        )  # path and build ID, of processes that are forgotten

    def look(self) -> None:
        """Write what has changed, and begin a segment if it is time."""
        for recorder in self._running():
            recorder.write_changes()
        self._tell_cut_stacks()
        self._forget_ended(self._collector.now_s() - _STATUS_S)
        self._remove()
        if self._writer.is_due(self._collector.now_s()) or self._have_many_come():
            self.begin_segment()
        else:
            self._writer.trim_if_due()

    def new_messages(self) -> list[str]:
        """Return what the writer has for the user since the last call."""
        found = self._writer.messages[self._told :]
        self._told += len(found)
        return found

    @property
    def all_losses(self) -> list[str]:
        """What is missing in the recording: of processes that are forgotten, and for lack of space."""
        return [*self.losses, *self._writer.losses]

    def begin_segment(self) -> Path:
        """End the segment, forget what is gone, and begin the next; return the path of the one that ended."""
        # What came after the sums are written would be in neither segment, so no ring is read until all count anew.
        meanwhile, self._writer.meanwhile = self._writer.meanwhile, None
        for recorder in self._running():
            recorder.end_segment()
        self._forget_ended(self._collector.now_s())
        ended = self._writer.begin_segment(self._collector.now_s())
        self._noted.clear()
        for index, recorder in self._recorders.items():
            if recorder.ended:
                continue
            self._collector.begin_segment(index)
            info = self._collector.process(index)
            self._began[index] = (info.nodes, info.totals)
            recorder.begin_segment()
        self._writer.meanwhile = meanwhile
        return ended

    def keep_look(self) -> Path:
        """End the segment and keep it beyond its time; return the path of what is kept."""
        stamp = dt.datetime.now().astimezone().strftime("%Y%m%dT%H%M%S")
        return self._writer.keep_look(self.begin_segment(), stamp)

    def _tell_cut_stacks(self) -> None:
        """Note, once in each segment, that stacks count at a caller: an ID defined in an earlier one still does."""
        for index, recorder in self._recorders.items():
            if recorder.ended or index in self._noted:
                continue
            if self._collector.process(index).has_cut:
                self._noted.add(index)
                text = f"process {recorder.pid}: some stacks {STACKS_CUT}"
                self._writer.notes([text])
                if len(self._told_of) < _MOST_TOLD:
                    self._told_of.add(recorder.pid)
                    self._writer.tell(text)

    def _running(self) -> list[ProcessRecorder]:
        return [each for each in self._recorders.values() if not each.ended]

    def _have_many_come(self) -> bool:
        for index, recorder in self._recorders.items():
            if recorder.ended:
                continue
            info, (nodes, stacks) = self._collector.process(index), self._began.get(index, (0, 0))
            # What is gone makes room for stacks that were cut.
            most = _MOST_NEW_NODES // 2 if info.cut_stacks else _MOST_NEW_NODES
            if info.nodes - nodes > most or info.totals - stacks > _MOST_NEW_STACKS:
                return True
        return False

    def _forget_ended(self, until_s: float) -> None:
        """Forget the processes that ended until a time. Their exit status is written, if it is known by now."""
        for index, recorder in list(self._recorders.items()):
            end_s = recorder.end_s
            if end_s is None or end_s > until_s:
                continue
            if recorder.pid != self._keep or recorder.execed:
                recorder.close(None)
                self._gone.append((index, end_s))
                self.losses = (self.losses + recorder.losses)[:_MOST_LOSSES]
                if len(self.modules) < _MOST_MODULES:
                    self.modules |= recorder.build_ids.items()
                del self._recorders[index]
                self._began.pop(index, None)

    def _remove(self) -> None:
        """Remove from the collector what has been forgotten for long enough, and the oldest of too many."""
        until_s = self._collector.now_s() - _REMOVE_S
        while self._gone and (self._gone[0][1] <= until_s or len(self._gone) > _MOST_ENDED):
            index, _ = self._gone.popleft()
            self._collector.remove(index)
            self._families.pop(index, None)


def describe_look(name: str, writer: Writer, rotation: Rotation | None) -> str:
    """Keep a look that was written, and return a line that says how to open it."""
    if rotation:
        path = shlex.quote(str(rotation.keep_look()))
        return f"{name}: a look is kept: mematlas report {path} --at end"
    return f"{name}: a look is kept: mematlas report {shlex.quote(writer.name)} --at {shlex.quote(name)}"
