"""Tracing a program that runs, from a moment on, until another or its end."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError
from mematlas.tracing.child import library
from mematlas.tracing.follow import Follower, open_collector
from mematlas.tracing.inject import Target, enter, leave
from mematlas.tracing.loop import ROOM
from mematlas.tracing.output import open_recording
from mematlas.tracing.recorder import command_of
from mematlas.tracing.session import attached_to, note_target, remove_abandoned, session_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from mematlas.recording import Writer
    from mematlas.tracing.settings import Settings

_JOIN_S = 5.0
_DRAIN_S = 0.3  # for what threads were about to record when the hooks came out


class Stop:
    """Set by SIGINT, SIGTERM or SIGHUP: the recording ends, the program goes on."""

    def __init__(self) -> None:
        """Listen."""
        self.told = False
        self._before = {
            number: signal.signal(number, self._hear)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.told = True

    def close(self) -> None:
        """Listen no more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


def attach(
    pid: int,
    settings: Settings,
    path: str,
    *,
    duration_s: float | None = None,
    begun: Callable[[], None] = lambda: None,
) -> Writer:
    """Trace a process from now on; the writer comes back open, for the names to follow.

    It ends when the process does, after `duration_s`, or at a SIGINT or SIGTERM. `begun` is called once the
    process is traced. Raises as mematlas.tracing.inject does; the process is then as before.
    """
    target, stop = Target(pid), Stop()
    try:
        with session_directory(ROOM * settings.ring_bytes) as session:
            collector = open_collector(session, settings)
            writer = open_recording(path, command_of(pid), settings)
            try:
                _let_in(session, target)
                # Watched from before: it may end as soon as it is entered.
                follower = Follower(collector, writer, session, pid, cold_s=settings.cold_s)
                enter(target, library(), str(session))
                note_target(session, pid)
                begun()
                writer.notes(_follow(follower, stop, duration_s))
            finally:
                collector.stop()
                collector.close()
    finally:
        stop.close()
    return writer


def detach(pid: int) -> bool:
    """End what `attach` began: by its own hand, or, where it was killed, in its stead. False: nothing to end."""
    owner = attached_to(pid)
    if owner is None:
        try:
            return leave(pid, library())
        finally:
            remove_abandoned()
    os.kill(owner, signal.SIGINT)
    while attached_to(pid) is not None:
        time.sleep(0.02)
    return True


def _follow(follower: Follower, stop: Stop, duration_s: float | None) -> list[str]:
    """Follow it to the end, and let go; says what could not be let go of."""
    end = float("inf") if duration_s is None else time.monotonic() + duration_s
    follower.follow(lambda: stop.told or time.monotonic() >= end, lambda: None)
    follower.look_once_more()
    held = []
    for pid in follower.running():
        try:
            leave(pid, library())
        except MematlasError as error:
            held.append(f"{error}; hooks that only pass calls on stay in it: mematlas detach {pid}")
    drained = time.monotonic() + _DRAIN_S
    follower.follow(lambda: time.monotonic() >= drained, lambda: None)
    follower.finish(None)
    return held


def _let_in(session: Path, target: Target) -> None:
    """Give the session to the process's user, where that is another and we may."""
    uid, gid = (int(target.status[name].split()[1]) for name in ("Uid", "Gid"))
    if uid == os.geteuid():
        return
    for path in (session, *session.iterdir()):
        os.chown(path, uid, gid)
