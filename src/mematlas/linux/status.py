"""/proc/PID/status, limits, cmdline and other small files of a process: proc(5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mematlas.linux.process import ProcessDirectory


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread. The stack pointer is None while the thread runs, or if it is hidden."""

    tid: int
    name: str
    stack_pointer: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """Lines of /proc/PID/status by the kernel's name, as text, and those in kB as bytes."""

    lines: dict[str, str]
    sizes: dict[str, int]

    @property
    def uid(self) -> int:
        """The effective user ID."""
        return int(self.lines["Uid"].split()[1])

    @property
    def capabilities(self) -> int:
        """Effective capability set: bit N is capability N of <linux/capability.h>."""
        return int(self.lines.get("CapEff", "0"), 16)

    def has_capability(self, number: int) -> bool:
        """Return whether a capability is effective."""
        return bool(self.capabilities >> number & 1)

    @property
    def state(self) -> str:
        """The state as one letter: R, S, D, Z, ..."""
        return self.lines["State"][:1]

    @property
    def has_memory(self) -> bool:
        """Whether the process has an address space: False for kernel threads and zombies."""
        return "VmSize" in self.sizes


@dataclass(frozen=True, slots=True)
class Limit:
    """One resource limit. None: unlimited."""

    name: str
    soft: int | None
    hard: int | None
    unit: str


_LIMIT = re.compile(r"(Max [a-z ]+?) {2,}(unlimited|\d+) +(unlimited|\d+) *(\w*)")


def read_status(process: ProcessDirectory) -> Status:
    """Read the status of a process. Its name may contain any byte; the kernel escapes newlines."""
    return parse_status(process.read("status"))


def read_status_of(pid: int | Literal["self"] = "self", root: str = "/") -> Status:
    """Read the status of this process, or of another by its number."""
    return parse_status(Path(root, "proc", str(pid), "status").read_bytes())


def parse_status(text: bytes) -> Status:
    """Parse lines "Key: value". Values in kB are sizes."""
    lines: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for line in text.decode("utf-8", "surrogateescape").split("\n"):
        key, colon, value = line.partition(":")
        if not colon:
            continue
        lines[key] = value.strip()
        number, _, unit = value.strip().partition(" ")
        if unit == "kB" and number.isdigit():
            sizes[key] = int(number) * 1024
    return Status(lines, sizes)


def parse_limits(text: str) -> tuple[Limit, ...]:
    """Parse /proc/PID/limits."""

    def amount(word: str) -> int | None:
        return None if word == "unlimited" else int(word)

    return tuple(
        Limit(match[1], amount(match[2]), amount(match[3]), match[4])
        for match in map(_LIMIT.match, text.splitlines())
        if match
    )


def read_command(process: ProcessDirectory) -> tuple[str, ...]:
    """Read the command line; empty for kernel threads."""
    text = process.read("cmdline")
    words = text.removesuffix(b"\0").split(b"\0") if text else []
    return tuple(word.decode("utf-8", "surrogateescape") for word in words)


def read_number(process: ProcessDirectory, name: str) -> int | None:
    """Read a file of one number; None if it cannot be read."""
    try:
        return int(process.read(name))
    except (OSError, ValueError):
        return None


def read_threads(process: ProcessDirectory, tids: list[int]) -> tuple[Thread, ...]:
    """Read name and stack pointer of each thread."""
    threads = []
    for tid in tids:
        try:
            name = process.read(f"task/{tid}/comm").removesuffix(b"\n")
        except OSError:
            continue  # the thread has ended
        pointer = _stack_pointer(process, tid)
        threads.append(Thread(tid, name.decode("utf-8", "surrogateescape"), pointer))
    return tuple(threads)


def _stack_pointer(process: ProcessDirectory, tid: int) -> int | None:
    try:
        words = process.read(f"task/{tid}/syscall").split()
    except OSError:
        return None
    # "number six-arguments sp pc", "-1 sp pc" when stopped outside a call, or "running"
    return int(words[-2], 16) or None if len(words) in {3, 9} else None
