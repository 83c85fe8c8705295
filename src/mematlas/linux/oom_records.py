"""What the kernel's log tells of OOM kills: the limit, the figures at that moment, every candidate, who was killed.

Source: dump_header(), dump_tasks() and __oom_kill_process() in mm/oom_kill.c, mem_cgroup_print_oom_meminfo().
Figures are of the moment of the kill: nobody else has them, since a process is gone a few milliseconds later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mematlas._core import PAGE
from mematlas.linux.kernel_log import parse_oom_kill

if TYPE_CHECKING:
    from collections.abc import Iterable

_KERNEL = 8  # priorities below are of the kernel; root may write others to the log
_UNLIMITED = 1 << 52  # KiB; version 1 writes no limit as the largest multiple of a page
_MOST_TASKS = 4096
_RECORD = re.compile(r"(\d+),(\d+),(\d+),[^;]*;(.*)")
_INVOKED = re.compile(r"(.*) invoked oom-killer: ")
_USAGE = re.compile(r"memory: usage (\d+)kB, limit (\d+)kB, failcnt (\d+)")
_KERNEL_MEMORY = re.compile(r"kmem: usage (\d+)kB, ")
_STATS = re.compile(r"Memory cgroup stats for (.*):$")
_FIGURE = re.compile(r"(\w+) (\d+)$")
_TOGETHER = re.compile(r"Tasks in .* are going to be killed due to memory\.oom\.group set")
_TASKS = "[  pid  ]"
_TASK = re.compile(r"\[ *(\d+)\] +(.*)$")
_KILLED = re.compile(
    r"(?:Memory cgroup out of memory|Out of memory(?: \(.*\))?): Killed process (\d+) \((.*)\)"
    r" total-vm:\d+kB, anon-rss:(\d+)kB, file-rss:(\d+)kB, shmem-rss:(\d+)kB"
    r"(?:, UID:(\d+))?(?: pgtables:(\d+)kB)?(?: oom_score_adj:(-?\d+))?"
)


@dataclass(frozen=True, slots=True)
class OomTask:
    """One candidate of the OOM killer, in bytes. None: this kernel does not tell."""

    pid: int
    uid: int
    name: str
    resident: int
    anonymous: int | None
    file: int | None
    shared: int | None
    page_tables: int | None
    swap: int
    oom_score_adj: int


@dataclass(frozen=True, slots=True)
class OomVictim:
    """A process that was killed, in bytes."""

    pid: int
    name: str
    anonymous: int
    file: int
    shared: int
    page_tables: int | None
    oom_score_adj: int | None


@dataclass(slots=True)
class OomRecord:
    """One call of the OOM killer. Sizes in bytes; None: not told."""

    time_s: float  # since boot, by the clock of the log
    invoked_by: str  # the program whose allocation failed
    constraint: str = ""  # CONSTRAINT_NONE, _MEMCG, _CPUSET or _MEMORY_POLICY
    group: str = ""  # the memory cgroup that ran out; "": none
    task_group: str = ""  # that of the victim
    usage: int | None = None  # of the group that ran out
    limit: int | None = None
    kernel: int | None = None  # memory of the kernel, of that group; version 1 alone
    stat: dict[str, int] = field(
        default_factory=dict
    )  # memory.stat of that group, as far as it was up to date
    tasks: list[OomTask] = field(default_factory=list)
    victims: list[OomVictim] = field(default_factory=list)


class OomLog:
    """Finds OOM kills in lines of the kernel's log as they come."""

    def __init__(self) -> None:
        """Begin without a line."""
        self._now: OomRecord | None = None
        self._section = ""  # "stat", "tasks"
        self._together = False  # more victims follow: memory.oom.group
        self._columns: list[str] = []
        self._last = -1  # number of the last line

    def add(self, lines: Iterable[str]) -> list[OomRecord]:
        """Return the kills that lines complete. More victims may come to one that was returned.

        Lines that were added before are left out, by the numbers that the kernel gives them.
        """
        found: list[OomRecord] = []
        for line in lines:
            whole = _RECORD.match(line)
            if whole is None or int(whole[2]) <= self._last:
                continue
            self._last = int(whole[2])
            if int(whole[1]) < _KERNEL:
                self._add_line(int(whole[3]) / 1e6, whole[4], found)
        return found

    def _add_line(self, time_s: float, text: str, found: list[OomRecord]) -> None:
        if invoked := _INVOKED.match(text):
            self._now, self._section, self._together = OomRecord(time_s, invoked[1]), "", False
        elif killed := _KILLED.match(text):
            self._add_victim(time_s, _victim(killed), found)
        elif _TOGETHER.match(text):
            self._together = True
        elif self._now is not None:
            self._add_detail(self._now, text)

    def _add_victim(self, time_s: float, victim: OomVictim, found: list[OomRecord]) -> None:
        """Add a victim to its record. The kernel writes ten records in five seconds, and of others this line alone."""
        if self._now is None or (self._now.victims and not self._together):
            self._now = OomRecord(time_s, "")
        self._now.victims.append(victim)
        if len(self._now.victims) == 1:
            found.append(self._now)

    def _add_detail(self, now: OomRecord, text: str) -> None:
        if text.startswith("oom-kill:") and (kill := parse_oom_kill(text)):
            self._section = ""
            now.constraint, now.group, now.task_group = kill.constraint, kill.group, kill.task_group
        else:
            self._add_figure(now, text)

    def _add_figure(self, now: OomRecord, text: str) -> None:
        if usage := _USAGE.match(text):
            now.usage = int(usage[1]) << 10
            now.limit = int(usage[2]) << 10 if int(usage[2]) < _UNLIMITED else None
        elif kernel := _KERNEL_MEMORY.match(text):
            now.kernel = int(kernel[1]) << 10
        elif _STATS.match(text):
            self._section = "stat"
        elif text.startswith(_TASKS):
            self._section, self._columns = "tasks", text.removeprefix(_TASKS).split()
        elif self._section == "stat" and (figure := _FIGURE.match(text)):
            now.stat[figure[1]] = int(figure[2])
        elif self._section == "tasks" and (task := _TASK.match(text)):
            words = task[2].split(maxsplit=len(self._columns) - 1)
            if len(words) == len(self._columns) and len(now.tasks) < _MOST_TASKS:
                now.tasks.append(_task(int(task[1]), dict(zip(self._columns, words, strict=True))))


def _victim(killed: re.Match[str]) -> OomVictim:
    anonymous, file, shared = (int(each) << 10 for each in killed.groups()[2:5])
    return OomVictim(
        pid=int(killed[1]),
        name=killed[2],
        anonymous=anonymous,
        file=file,
        shared=shared,
        page_tables=int(killed[7]) << 10 if killed[7] else None,
        oom_score_adj=int(killed[8]) if killed[8] else None,
    )


def _task(tid: int, words: dict[str, str]) -> OomTask:
    """Parse a line of the table. Its columns have changed: rss_anon and others came with Linux 6.9."""

    def number(name: str) -> int | None:
        return int(words[name]) if name in words else None

    def pages(name: str) -> int | None:
        count = number(name)
        return None if count is None else count * PAGE

    return OomTask(
        pid=number("tgid") or tid,
        uid=number("uid") or 0,
        name=words["name"],
        resident=pages("rss") or 0,
        anonymous=pages("rss_anon"),
        file=pages("rss_file"),
        shared=pages("rss_shmem"),
        page_tables=number("pgtables_bytes"),
        swap=pages("swapents") or 0,
        oom_score_adj=number("oom_score_adj") or 0,
    )
