"""Tracing all processes of a tree or a cgroup, and those that come, in one recording."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError, TargetError
from mematlas.tracing.attach import detach_all, enter_process
from mematlas.tracing.attachment import Attachment
from mematlas.tracing.entries import POLL_S, Entries
from mematlas.tracing.follow import Follower, open_collector
from mematlas.tracing.output import begun_recording
from mematlas.tracing.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas._core import Collector
    from mematlas.recording import Writer
    from mematlas.tracing.attach import StopSignals
    from mematlas.tracing.members import Members
    from mematlas.tracing.settings import TraceSettings


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds between two looks for processes that come, and without a process until a tree or cgroup is over."""

    poll_s: float = POLL_S
    alone_s: float = 1.0


def attach_group(  # noqa: PLR0913 - one argument a fact
    members: Members,
    settings: TraceSettings,
    path: str,
    stop: StopSignals,
    *,
    duration_s: float | None = None,
    on_attached: Callable[[Entries], None] = lambda _: None,
    on_look: Callable[[str], object] = lambda _: None,
    waits: Waits | None = None,
) -> Writer:
    """Trace the processes of a set until none is left, `duration_s` is over, or a signal asks for the end.

    Arguments, result and OSError as of attach(). A process that cannot be entered is named in the notes. `waits`:
    how often is looked for processes that come, and how long without one the recording goes on.

    Raises:
        TargetError: the set has no process.
        MematlasError: no process could be entered; no recording is written.
    """
    if not members.read():
        raise TargetError(f"{members.name}: there is no process")
    collector = open_collector(settings)
    try:
        entries = Entries(members, lambda pid: _enter(collector, pid))
        waits = waits or Waits()
        entries.poll_s = waits.poll_s
        with begun_recording(path, (members.name,), settings) as writer:
            follower = Follower(
                collector,
                writer,
                None,
                idle_s=settings.idle_s,
                when=settings.when,
                on_look=on_look,
            )
            entries.enter_all()
            _check_any(entries)
        on_attached(entries)
        hooked = _record(follower, entries, stop, duration_s, waits.alone_s)
        refused = entries.describe()
        writer.notes([*refused, *hooked], lossy=bool(refused))
    finally:
        collector.stop()
        collector.close()
    return writer


def _enter(collector: Collector, pid: int) -> None:
    """Enter a process, which may run as another user than all that joined before."""
    target = Target(pid)
    collector.admit(pid)
    enter_process(target, collector.session)


def _check_any(entries: Entries) -> None:
    if not entries.entered:
        reasons = "; ".join(entries.describe()) or "none is left"
        raise MematlasError(f"{entries.members.name}: {reasons}")


def _record(
    follower: Follower,
    entries: Entries,
    stop: StopSignals,
    duration_s: float | None,
    alone_s: float,
) -> list[str]:
    """Follow all processes, then detach; return a note per process that stays hooked."""
    end = float("inf") if duration_s is None else time.monotonic() + duration_s
    last = time.monotonic()

    def is_over() -> bool:
        nonlocal last
        entries.traced = frozenset(follower.running())
        if not entries.empty:
            last = time.monotonic()
        now = time.monotonic()
        return stop.received or now >= end or now >= last + alone_s

    with ExitStack() as announced:
        for pid in entries.entered:
            announced.enter_context(Attachment(pid))
        with entries:
            follower.follow(is_over, lambda: None)
        return detach_all(follower)
