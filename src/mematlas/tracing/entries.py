"""Entering the processes of a set one by one, and those that come while it is recorded."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mematlas.errors import MematlasError
from mematlas.linux.status import read_status_of
from mematlas.present.printable import clean
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.tracing.members import Members

_POLL_S = 0.2
_TRIES = 3  # of a process that a busy thread kept from being entered

_Key = tuple[int, int, str, int]  # PID, start time, program, stack address: a new one after exec


@dataclass
class _Refusal:
    """Why a process is not traced; its memory as the kernel counts it."""

    pid: int
    name: str
    reason: str
    resident_bytes: int | None
    tries: int = 1


@dataclass
class Entries:
    """The processes of a set that were entered, and those that were not.

    `enter` raises MematlasError if it cannot enter a process. `traced` are the PIDs of those that joined, some
    by themselves, as children do; the thread that follows the recording keeps the set up to date.
    """

    members: Members
    enter: Callable[[int], None]
    traced: frozenset[int] = frozenset()
    entered: dict[_Key, int] = field(default_factory=dict)
    refusals: dict[_Key, _Refusal] = field(default_factory=dict)
    empty: bool = False  # no process of the set is left
    _stop: threading.Event = field(default_factory=threading.Event)
    _seen: set[_Key] = field(default_factory=set)
    _thread: threading.Thread | None = None

    def enter_all(self) -> None:
        """Enter all processes of now, this one and its parents left out."""
        self._round(at_once=True)

    def __enter__(self) -> Self:
        """Enter processes that come, in a thread of its own: the recording must not wait."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def describe(self) -> list[str]:
        """Return a note per process that was not entered, with the memory it had."""
        notes = []
        for key, each in self.refusals.items():
            if key in self.entered:
                continue
            memory = (
                f", {format_bytes(each.resident_bytes)} resident" if each.resident_bytes else ""
            )
            notes.append(f"not traced: PID {each.pid} ({clean(each.name)}{memory}): {each.reason}")
        return notes

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_S):
            self._round(at_once=False)

    def _round(self, *, at_once: bool) -> None:
        """Enter the members that are new. A process has a poll's time to join by itself."""
        seen, ours = set(), _own_line()
        pids = [pid for pid in self.members.read() if pid not in ours]
        self.empty = not pids
        for pid in pids:
            key = _key(pid)
            if key is None or key in self.entered:
                continue
            seen.add(key)
            # One that was entered before this program began still counts as traced.
            joined = pid in self.traced and pid not in self.entered.values()
            if joined or not (at_once or key in self._seen):
                continue
            before = self.refusals.get(key)
            if before is None or before.tries < _TRIES:
                self._enter(key)
        self._seen = seen

    def _enter(self, key: _Key) -> None:
        pid = key[0]
        before = self.refusals.get(key)
        try:
            self.enter(pid)
        except (MematlasError, OSError) as error:
            if _key(pid) == key:  # it has neither ended nor begun another program
                reason = str(error).removeprefix(f"process {pid}").removeprefix(":").strip()
                tries = before.tries + 1 if before else 1
                self.refusals[key] = _Refusal(pid, Path(key[2]).name, reason, _resident(pid), tries)
        else:
            self.entered[key] = pid


def _own_line() -> set[int]:
    """Return the PIDs of this process and of its ancestors."""
    found, pid = set(), os.getpid()
    while pid > 1 and pid not in found:
        found.add(pid)
        try:
            pid = int(read_status_of(pid).lines["PPid"])
        except (OSError, KeyError, ValueError):
            break
    return found


def _key(pid: int) -> _Key | None:
    """Return what tells a process from others; None: it is a kernel thread, ended, or another user's."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        program = str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in {b"Z", b"X"} else (pid, int(fields[19]), program, int(fields[25]))


def _resident(pid: int) -> int | None:
    try:
        return int(read_status_of(pid).lines["VmRSS"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None
