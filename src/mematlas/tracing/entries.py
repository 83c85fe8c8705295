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
from mematlas.tracing.target import has_ended
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.tracing.members import Members

POLL_S = 0.2
_FLAGS, _KERNEL_THREAD = 6, 0x00200000  # of /proc/PID/stat; PF_KTHREAD
_TRIES = 3  # of a process that a busy thread kept from being entered
_MOST_TOLD = 100  # refused processes that have ended, in the notes

# PID, start time, addresses of the stack and of the program's code: a new one after exec. No name: the file of a
# running program may be renamed or deleted.
_Key = tuple[int, int, int, int, int]
_STARTED = 1


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
    by themselves, as children do; the thread that follows the recording keeps the set up to date. `entered` and
    `refusals` are of processes that run, though they left the set: what has ended is forgotten, or both would grow for as
    long as the set is recorded.
    """

    members: Members
    enter: Callable[[int], None]
    traced: frozenset[int] = frozenset()
    entered: dict[int, _Key] = field(default_factory=dict)  # by PID
    refusals: dict[_Key, _Refusal] = field(default_factory=dict)
    empty: bool = False  # no process of the set is left
    poll_s: float = POLL_S  # between two looks for processes that come
    _stop: threading.Event = field(default_factory=threading.Event)
    _seen: set[_Key] = field(default_factory=set)
    _ended: list[_Refusal] = field(default_factory=list)
    _untold: int = 0  # refused processes that have ended, beyond those
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
        for each in (*self._ended, *self.refusals.values()):
            memory = (
                f", {format_bytes(each.resident_bytes)} resident" if each.resident_bytes else ""
            )
            notes.append(f"not traced: PID {each.pid} ({clean(each.name)}{memory}): {each.reason}")
        if self._untold:
            notes.append(f"not traced: {self._untold:,} more processes, which have ended")
        return notes

    def _watch(self) -> None:
        while not self._stop.wait(self.poll_s):
            self._round(at_once=False)

    def _round(self, *, at_once: bool) -> None:
        """Enter the members that are new. A process has a poll's time to join by itself."""
        seen, ours = set(), _own_line()
        pids = [pid for pid in self.members.read() if pid not in ours]
        self.empty = all(has_ended(pid) for pid in pids)  # zombies wait for their parent
        for pid in pids:
            key = _key(pid)
            before = self.entered.get(pid)
            if key is None or key == before:
                continue
            seen.add(key)
            # One that was entered before this program began still counts as traced.
            joined = pid in self.traced and not (before and before[_STARTED] == key[_STARTED])
            if joined or not (at_once or key in self._seen):
                continue
            refused = self.refusals.get(key)
            if refused is None or refused.tries < _TRIES:
                self._enter(key)
        self._seen = seen
        self._forget(self.traced.union(pids))

    def _forget(self, present: frozenset[int]) -> None:
        """Forget the processes that have ended, but for the notes on those that were refused."""
        for pid in self.entered.keys() - present:
            if _is_gone(self.entered[pid]):
                del self.entered[pid]
        for key in [key for key in self.refusals if key[0] not in present and _is_gone(key)]:
            refused = self.refusals.pop(key)
            if len(self._ended) < _MOST_TOLD:
                self._ended.append(refused)
            else:
                self._untold += 1

    def _enter(self, key: _Key) -> None:
        pid = key[0]
        before = self.refusals.get(key)
        try:
            self.enter(pid)
        except (MematlasError, OSError) as error:
            if _key(pid) == key:  # it has neither ended nor begun another program
                text = error.strerror if isinstance(error, OSError) else None
                reason = (text or str(error)).removeprefix(f"process {pid}").removeprefix(":")
                tries = before.tries + 1 if before else 1
                self.refusals[key] = _Refusal(
                    pid, _program(pid), reason.strip(), _resident(pid), tries
                )
        else:
            self.entered[pid] = key
            self.refusals.pop(key, None)


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
    """Return what tells a process from others; None: it is a kernel thread, or ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in {b"Z", b"X"} or int(fields[_FLAGS]) & _KERNEL_THREAD:
        return None
    # The addresses read as 0 without the right to read the process.
    return pid, int(fields[19]), int(fields[25]), int(fields[23]), int(fields[24])


def _is_gone(key: _Key) -> bool:
    """Return whether a process has ended; one that left its set may run, and return."""
    pid = key[0]
    now = _key(pid)
    return has_ended(pid) or (now is not None and now[_STARTED] != key[_STARTED])


def _program(pid: int) -> str:
    """Return the name of a process's program; of its thread, where the program may not be read."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.removesuffix(" (deleted)")
    except OSError:
        try:
            return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        except OSError:
            return "gone"


def _resident(pid: int) -> int | None:
    try:
        return int(read_status_of(pid).lines["VmRSS"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None
