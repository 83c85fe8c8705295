"""The program itself, stopped at its entry point: the settings that it has after exec and the loader."""

from __future__ import annotations

import os
import resource
import signal
import struct
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.errors import MematlasError
from mematlas.linux import smaps, status
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIMITS = {
    "memlock": resource.RLIMIT_MEMLOCK,
    "stack": resource.RLIMIT_STACK,
    "as": resource.RLIMIT_AS,
}
_LIMIT_TITLES = {
    "memlock": "Max locked memory",
    "stack": "Max stack size",
    "as": "Max address space",
}
NO_ASLR = 0x0040000  # ADDR_NO_RANDOMIZE of <sys/personality.h>
_POLICY_NAMES = {"bind": "membind", "prefer": "preferred"}  # numa_maps has its own words
_AT_ENTRY, _AT_SECURE = 9, 23
_PATIENCE_S = 30.0  # for the loader and the constructors of libraries
# What mlock(2) leaves out: VM_IO, VM_PFNMAP, VM_DONTEXPAND, VM_MIXEDMAP and hugetlb.
_NEVER_LOCKED = frozenset({"io", "pf", "de", "mm", "ht"})


class NotReachedError(MematlasError):
    """The program did not get to its entry point."""


def look(program: str, command: Sequence[str], apply: Callable[[], None]) -> dict[str, str]:
    """Execute a program in a child, read its settings at its entry point, and kill the child.

    The loader and the constructors of the program's libraries run; the program itself does not.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _become(program, command, apply, writer)
    os.close(writer)
    handle = _handle(child)
    timer = Timer(_PATIENCE_S, _kill, (child, handle))
    timer.start()
    try:
        _, ended = os.waitpid(child, 0)
        with os.fdopen(reader) as pipe:
            reason = pipe.read() if not os.WIFSTOPPED(ended) else ""
        if reason or not os.WIFSTOPPED(ended):
            raise NotReachedError(reason or "the child ended before it executed the program")
        return _read_at_entry(child)
    except OSError as error:  # as of a program that may be executed, but not read
        raise NotReachedError(f"the program cannot be looked at: {error.strerror}") from None
    finally:
        timer.cancel()
        timer.join()
        _kill(child, handle)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)
        if handle >= 0:
            os.close(handle)


def _become(program: str, command: Sequence[str], apply: Callable[[], None], writer: int) -> None:
    """Execute the program, in the child. What goes wrong before that is written to the pipe."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        _core.trace_me()
        apply()
        os.execv(program, list(command))  # noqa: S606 - no shell wanted
    except BaseException as error:  # noqa: BLE001 - nothing may leave the child
        os.write(writer, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(127)


def _handle(child: int) -> int:
    """Return a pidfd of a child that was not waited for; -1 before Linux 5.3."""
    try:
        return os.pidfd_open(child)
    except OSError:
        return -1


def _kill(child: int, handle: int) -> None:
    """Kill a child. If it was waited for, its PID may be another process's by now; its pidfd is not."""
    with suppress(ProcessLookupError):
        if handle >= 0:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        else:
            os.kill(child, signal.SIGKILL)


def _read_at_entry(pid: int) -> dict[str, str]:
    auxv = Path(f"/proc/{pid}/auxv").read_bytes()
    values = dict(struct.iter_unpack("<QQ", auxv[: len(auxv) // 16 * 16]))
    try:
        _core.trace_run_to(pid, values[_AT_ENTRY])
    except (KeyError, OSError):
        raise NotReachedError(
            "the program ended, or ran for too long, before its entry point"
        ) from None
    return {**read(pid), "malloc": _malloc(pid, secure=bool(values.get(_AT_SECURE)))}


def read(pid: int) -> dict[str, str]:
    """Read the settings of a process from outside, by step name, in the format of Step.wanted."""
    own = status.read_status_of(pid)
    return {
        "policy": _policy(pid),
        "cpus": list_numbers(sorted(os.sched_getaffinity(pid))),
        "thp": "on" if own.lines.get("THP_enabled") != "0" else "off",
        "aslr": "off" if int(_proc(pid, "personality"), 16) & NO_ASLR else "on",
        "oom-score": _proc(pid, "oom_score_adj").strip(),
        "locked": _locked(pid),
        **_limits(pid),
    }


def _limits(pid: int) -> dict[str, str]:
    """Read the soft limits from a file, since prlimit(2) refuses processes of other users."""
    soft = {each.name: each.soft for each in status.parse_limits(_proc(pid, "limits"))}
    unlimited = resource.RLIM_INFINITY
    return {
        name: format_limit(unlimited if (value := soft[title]) is None else value)
        for name, title in _LIMIT_TITLES.items()
    }


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _policy(pid: int) -> str:
    """Return the policy of a process, which numa_maps shows for mappings without one of their own."""
    try:
        _, _, text = _proc(pid, "numa_maps").partition(" ")
    except FileNotFoundError:
        return "unknown: this kernel was built without NUMA"
    words = text.split(maxsplit=2)
    weighted = words[0] == "weighted"
    name, _, nodes = words[1 if weighted else 0].partition(":")
    name = "weighted" if weighted else _POLICY_NAMES.get(name, name)
    return f"{name} {nodes}" if nodes else name


def _locked(pid: int) -> str:
    locked = unlocked = 0
    for mapping in smaps.read(pid)[0]:
        if mapping.flags & _NEVER_LOCKED or mapping.name == b"[vsyscall]":
            continue
        if "lo" in mapping.flags:
            locked += mapping.size
        else:
            unlocked += mapping.size
    if not locked:
        return "nothing"
    return "all" if not unlocked else f"{format_bytes(locked)} of {format_bytes(locked + unlocked)}"


def _malloc(pid: int, *, secure: bool) -> str:
    """Return why the program's malloc may not read the tunable; "": it has the C library of this process."""
    if secure:
        return "unknown: the program gains privileges, and its C library ignores GLIBC_TUNABLES"
    own, other = _libc(os.getpid()), _libc(pid)
    if other is None:
        return "unknown: the program does not load glibc"
    return "" if own == other else "unknown: the program loads another glibc than this process"


def _libc(pid: int) -> tuple[tuple[int, int], int] | None:
    for mapping in smaps.read(pid, fields=False)[0]:
        if mapping.name.rpartition(b"/")[2] == b"libc.so.6":
            return mapping.device, mapping.inode
    return None


def list_numbers(numbers: list[int]) -> str:
    """Format numbers as the kernel does: 0-3,8."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def format_limit(value: int) -> str:
    """Format a resource limit as Step.wanted does."""
    return "unlimited" if value == resource.RLIM_INFINITY else format_bytes(value)
