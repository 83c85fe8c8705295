"""Following a session: events of the collector are written to the recording as they come."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from mematlas._core import Collector, Event, SessionSettings
from mematlas.errors import MematlasError, UnsupportedError
from mematlas.present.printable import clean
from mematlas.tracing.child import library
from mematlas.tracing.oom import OomWatch
from mematlas.tracing.private_allocators import (
    describe_private_allocators,
    find_private_allocators,
)
from mematlas.tracing.process import ProcessRecorder
from mematlas.tracing.rolling import RollingWriter
from mematlas.tracing.rotation import Rotation, describe_look

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.recording import Writer
    from mematlas.tracing.conditions import Conditions
    from mematlas.tracing.graphs import GraphTaker
    from mematlas.tracing.settings import GraphMoment, TraceSettings
    from mematlas.tracing.untraced import UntracedWatch

_POLL_S = 0.1
_FLUSH_S = 0.5
_GRACE_S = 0.5  # for the program's children to end after it
_TOGETHER_BUDGET = 0.05  # share of one CPU that snapshots of companions may take,
_TOGETHER_FREE_S = 0.2  # CPU seconds that they may take in any run
_TOGETHER_MOST_S = 1.0  # in which a process may wait for those of its companions
_TOGETHER_BYTES = 8 << 20  # of smaller processes little can be shared
_NAMED_PIDS = 5  # of processes that share a reason
# Of the stacks of a process that is recorded for ever: 50 MB, and the sums of these stacks.
_MOST_NODES = 1 << 20
_TRIGGERS = {
    Event.INTERVAL: "interval",
    Event.PEAK: "peak",
    Event.STOPPED: "stopped",
    Event.EXITING: "exit",
}


def open_collector(settings: TraceSettings) -> Collector:
    """Create the collector of a session. OSError if its memory or sockets cannot be created."""
    return Collector(
        SessionSettings(
            exact=settings.exact,
            ring_bytes=settings.ring_bytes,
            sample_bytes=settings.sample_bytes,
            seed=settings.seed,
            interval_s=settings.interval_s,
            budget=settings.budget,
            fault_period=settings.fault_period,
            most_nodes=_MOST_NODES if settings.rolls else 0,
        ),
        library(),
    )


class Follower:
    """The recording of one session: of the process `pid` and of all processes it starts.

    `pid` None: of all that join, until it is stopped.
    """

    def __init__(  # noqa: PLR0913 - one argument a fact
        self,
        collector: Collector,
        writer: Writer,
        pid: int | None,
        *,
        idle_s: float = 0.0,
        untraced: UntracedWatch | None = None,
        when: str = "",
        on_look: Callable[[str], object] = lambda _: None,
        graphs: tuple[GraphMoment, ...] = (),
    ) -> None:
        """Watch the process for its end.

        `graphs`: moments at which heap graphs are taken. `idle_s`: seconds after which pages count as idle; 0: not
        sampled. `untraced`: the watch of programs that do not join, begun before the process. `when`: conditions for
        looks at all processes that are kept; `on_look` is called with a line that tells of each, and of a full disk.
        """
        self._collector = collector
        self._writer = writer
        self._pid = pid
        self._untraced = untraced
        self._clock_base_s = time.monotonic() - collector.now_s()
        self._joined: list[tuple[int, float]] = []  # not yet told to `untraced`
        self._traced = 0  # processes, also those that are forgotten
        self._recorders: dict[int, ProcessRecorder] = {}
        self._oom = OomWatch()
        self._families: dict[
            int, int
        ] = {}  # the process from which others were forked without exec
        self._together_s = 0.0  # spent on snapshots of processes beside the one that was due
        self._deadline: float | None = None
        self._next_flush = 0.0
        self._conditions = _parse_conditions(when) if when else None
        self._on_look = on_look
        self._idle_s = idle_s
        self._idle_method, self._notes = _choose_idle_method() if idle_s else ("", [])
        writer.meanwhile = collector.read_rings  # or a program that goes on allocating would wait
        self._rotation: Rotation | None = None
        if isinstance(writer, RollingWriter):
            self._rotation = Rotation(collector, writer, self._recorders, self._families, keep=pid)
        self._graphs = _graph_taker(collector, graphs) if graphs else None
        if pid is not None:
            collector.watch(pid)

    def follow(self, stop: Callable[[], bool], reap: Callable[[], object]) -> None:
        """Record until `stop` returns true, or the process and its children have ended.

        Children get half a second after the process. `reap` is called when the process has ended.
        """
        while not (stop() or self._is_over()):
            event, index = self._collector.poll(_POLL_S)
            if event is Event.WATCHED:
                reap()
                self._deadline = time.monotonic() + _GRACE_S
            self._handle(event, index)
            if self._graphs:
                self._graphs.relieve()
            if self._untraced:
                self._untraced.look(self._take_joined())
            if time.monotonic() >= self._next_flush:
                self._flush()

    def snapshot_all(self) -> None:
        """Write a last snapshot of all processes that are traced, as at their exit."""
        moment_s = self._collector.now_s()
        for index, recorder in self._recorders.items():
            if not recorder.ended and not self._collector.process(index).disabled:
                if self._graphs:
                    self._graphs.before_snapshot(index, "exit", is_named=True)
                recorder.snapshot("exit", moment_s)

    def finish(self, returncode: int | None, peak_rss_bytes: int | None = None) -> None:
        """Stop tracing and write the ends and notes.

        `returncode`: of the process; None if not known. `peak_rss_bytes`: the highest RSS of the process and of
        those that it waited for.
        """
        for _ in range(len(self._recorders) + 1):  # one ENDED event each may be pending
            self._handle(*self._collector.poll(0))
        self._collector.stop()
        if (
            peak_rss_bytes
            and self._traced == 1
            and self._recorders
            and not self._may_have_untraced()
        ):
            next(iter(self._recorders.values())).ended_at(peak_rss_bytes)
        for recorder in self._recorders.values():
            recorder.close(returncode if recorder.pid == self._pid else None)
        if self._graphs:
            self._notes += self._graphs.write(
                self._writer, lambda index: self._recorders[index].peak_rss_bytes
            )
        losses = [loss for recorder in self._recorders.values() for loss in recorder.losses]
        losses += self._rotation_losses()
        refusals = self._collector.refusals()
        losses += self._finish_untraced({pid for pid, _ in refusals})
        losses += _describe_refusals(refusals)
        if not self._traced and not losses:
            losses.append("the program was not traced: it did not load the tracer")
        if losses:
            self._writer.notes(losses, lossy=True)
        modules = {item for each in self._recorders.values() for item in each.build_ids.items()}
        modules |= self._rotation.modules if self._rotation else set()
        allocators = find_private_allocators(modules)
        notes = [
            *describe_private_allocators(allocators),
            *self._notes,
        ]
        if notes:
            self._writer.notes(notes, allocators)

    def _may_have_untraced(self) -> bool:
        """Return whether a program may have run that did not join."""
        watch = self._untraced
        return watch is None or bool(watch.refused) or watch.has_some(self._take_joined())

    def _finish_untraced(self, refused: set[int]) -> list[str]:
        if not self._untraced:
            return []
        if self._untraced.refused:
            self._notes.append(
                "programs that ran untraced are counted, but not named: " + self._untraced.refused
            )
        return self._untraced.finish(self._take_joined(), refused)

    def _take_joined(self) -> list[tuple[int, float]]:
        taken, self._joined = self._joined, []
        return taken

    def running(self) -> list[int]:
        """Return the PIDs of the processes that are traced now."""
        return [
            recorder.pid
            for index, recorder in self._recorders.items()
            if not recorder.ended and not self._collector.process(index).disabled
        ]

    def _is_over(self) -> bool:
        if self._deadline is None:
            return False
        alive = any(not recorder.ended for recorder in self._recorders.values())
        return not alive or time.monotonic() >= self._deadline

    def _flush(self) -> None:
        for recorder in self._recorders.values():
            if recorder.ended:  # a build leaves thousands of those
                continue
            recorder.write_timeline()
            if self._idle_method:
                with suppress(OSError, MematlasError):  # the process ended, or is not dumpable
                    recorder.sample_idle_pages(self._idle_method, self._idle_s)
        if self._rotation:
            self._rotation.look()
            self._tell(self._rotation)
        if self._conditions:
            self._look_if_due(self._conditions)
        self._next_flush = time.monotonic() + _FLUSH_S

    def _rotation_losses(self) -> list[str]:
        if not self._rotation:
            return []
        self._tell(self._rotation)
        return self._rotation.all_losses

    def _tell(self, rotation: Rotation) -> None:
        for line in rotation.new_messages():
            self._on_look(line)

    def _look_if_due(self, conditions: Conditions) -> None:
        """Take a look at all processes if a condition has become true."""
        running = [
            self._collector.process(index)
            for index, each in self._recorders.items()
            if not each.ended
        ]
        name = conditions.became_true(
            time.monotonic(),
            rss_bytes=sum(each.rss_bytes for each in running),
            live_bytes=sum(each.live_bytes for each in running),
            pid=self._pid if self._pid is not None else running[0].pid if running else None,
        )
        if name is None:
            return
        for recorder in self._recorders.values():
            if not recorder.ended:
                recorder.look(name)
        self._on_look(describe_look(name, self._writer, self._rotation))

    def _handle(self, event: Event, index: int) -> None:
        if event is Event.PROCESS:
            self._recorders[index] = ProcessRecorder(self._collector, self._writer, index)
            self._oom.see(self._recorders[index].pid)
            info = self._collector.process(index)
            shares = info.forked or (info.attached and info.parent >= 0)
            self._families[index] = self._families.get(info.parent, index) if shares else index
            self._traced += 1
            if self._untraced and not info.forked:  # by exec; a forked child joins without one
                self._joined.append((info.pid, self._clock_base_s + info.start_s))
        elif event is Event.ENDED:
            self._recorders[index].end(self._oom)
        elif event is Event.MARK:
            self._recorders[index].marks()
        elif event in _TRIGGERS:
            self._snapshot(index, _TRIGGERS[event])
            if event is not Event.EXITING:  # killed is who is not seen to exit
                self._oom.see(self._recorders[index].pid)

    def _snapshot(self, index: int, trigger: str) -> None:
        """Snapshot a process and those that share memory with it: PSS holds for one moment only.

        A process that exits comes last. It waits meanwhile, so that its part of the shared memory is still its
        own. At a peak it comes first, since it waits for a short time only.
        """
        if self._graphs:
            is_named = self._pid in {None, self._recorders[index].pid}
            self._graphs.before_snapshot(index, trigger, is_named=is_named)
        companions = self._companions(index, trigger)
        moment_s = self._collector.now_s() if companions else None
        if trigger != "exit":
            self._recorders[index].snapshot(trigger, moment_s)
        began_s = time.monotonic()
        for each in companions:
            if time.monotonic() - began_s > _TOGETHER_MOST_S or not self._may_look(trigger):
                break
            start = time.thread_time()
            self._recorders[each].snapshot("interval", moment_s)
            self._together_s += time.thread_time() - start
        if trigger == "exit":
            self._recorders[index].snapshot(trigger, moment_s)

    def _companions(self, index: int, trigger: str) -> list[int]:
        """Return the running processes of the same family of forks; none if little is shared or the cost too high."""
        if self._collector.process(index).rss_bytes < _TOGETHER_BYTES:
            return []
        if not self._may_look(trigger):
            return []
        family = self._families.get(index)
        return [
            each
            for each, recorder in self._recorders.items()
            if each != index
            and self._families.get(each) == family
            and not recorder.ended
            and not recorder.has_exited
            and not self._collector.process(each).disabled
        ]

    def _may_look(self, trigger: str) -> bool:
        """Return whether one more snapshot of a companion is within the budget."""
        allowed_s = _TOGETHER_FREE_S + _TOGETHER_BUDGET * self._collector.now_s()
        return trigger == "stopped" or self._together_s <= allowed_s


def _parse_conditions(text: str) -> Conditions:
    from mematlas.tracing.conditions import Conditions

    return Conditions(text)


def _graph_taker(collector: Collector, moments: tuple[GraphMoment, ...]) -> GraphTaker:
    from mematlas.tracing.graphs import GraphTaker

    return GraphTaker(collector, moments)


def _choose_idle_method() -> tuple[str, list[str]]:
    """Choose how idle pages are found; if no method works, return "" and a note that says why."""
    from mematlas.linux import idle_memory

    try:
        return idle_memory.choose(), []
    except UnsupportedError as error:
        return "", [str(error)]


def _describe_refusals(refusals: list[tuple[int, str]]) -> list[str]:
    """Return a note per reason why processes were not traced."""
    reasons: dict[str, list[str]] = {}
    for pid, reason in refusals:
        reasons.setdefault(clean(reason), []).append(str(pid))
    return [
        f"not traced: PID {', '.join(pids[:_NAMED_PIDS])}"
        f"{' and others' * (len(pids) > _NAMED_PIDS)}: {reason}"
        for reason, pids in reasons.items()
    ]
