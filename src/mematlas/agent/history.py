"""What the agent saw last, on disk: a kill of the agent, or of the machine's processes, loses a second at most.

Two files of JSON lines, of which the older is dropped. A line is written at once; one that was cut short is skipped.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.agent.watch.groups import Groups
    from mematlas.agent.watch.processes import Process

MOST_BYTES = 4 << 20  # of each of the two files
_MOST_PROCESSES = 256
_NAMES = ("history.1.jsonl", "history.jsonl")


@dataclass(frozen=True, slots=True)
class LastSeen:
    """What an earlier agent saw last in this boot of the machine. `time_s` is Unix time."""

    time_s: float
    kills: int | None  # of the machine
    groups: dict[str, list[int | None]] = field(default_factory=dict)
    """Usage, reclaimable, limit, kills, failures and peak of each group."""
    processes: list[list[Any]] = field(default_factory=list)
    """PID, start time, user, name, command, group, RSS and PSS of the largest processes."""
    ooms: dict[str, list[int | None]] = field(default_factory=dict)
    """`oom` of each group, below it included, and its own."""


class History:
    """Writes lines to the newer file."""

    def __init__(self, state: str, most_bytes: int = MOST_BYTES) -> None:
        """Open the newer file for appending. OSError as of open()."""
        self._paths = [Path(state, name) for name in _NAMES]
        self._most = min(most_bytes, MOST_BYTES)
        self._file = self._open()
        self.failures = 0

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._paths[1], flags, 0o600)

    def write_all(self, kills: int | None, groups: Groups, processes: Iterable[Process]) -> None:
        """Write all groups and the largest processes."""
        largest = sorted(processes, key=lambda each: -each.rss)[:_MOST_PROCESSES]
        self._write(
            {
                "t": round(time.time(), 3),
                "boot": read_boot(),
                "kills": kills,
                "groups": {
                    each.path: [
                        each.usage,
                        each.reclaimable,
                        each.limit,
                        each.level.events.get("oom_kill"),
                        each.level.failures,
                        each.level.peak,
                    ]
                    for each in groups
                },
                # Apart: an agent of an earlier version takes rows of six.
                "ooms": {
                    each.path: [each.level.events.get("oom"), each.level.ooms] for each in groups
                },
                "processes": [
                    [x.pid, x.started, x.uid, x.name, x.command[:100], x.cgroup, x.rss, x.pss]
                    for x in largest
                ],
            }
        )

    def write_near(self, near: dict[str, tuple[int, dict[int, int]]]) -> None:
        """Write groups near their limit: usage, and RSS by process."""
        self._write({"t": round(time.time(), 3), "near": near})

    def _write(self, line: dict[str, Any]) -> None:
        """Append a line. A full disk must not end the agent: failures are counted."""
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            if os.fstat(self._file).st_size + len(text) > self._most:
                os.close(self._file)
                self._file = -1
                os.replace(self._paths[1], self._paths[0])  # noqa: PTH105
                self._file = self._open()
            os.write(self._file, text)
        except OSError:
            self.failures += 1
            if self._file < 0:
                with suppress(OSError):
                    self._file = self._open()

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def read_last(state: str) -> LastSeen | None:
    """Read what an agent saw last in this boot; None if there is nothing."""
    boot, last = read_boot(), None
    for name in _NAMES:
        try:
            lines = Path(state, name).read_bytes().split(b"\n")
        except OSError:
            continue
        for text in lines[:-1]:
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                last = _read_line(json.loads(text), boot, last)
    return last


def _read_line(line: dict[str, Any], boot: str, last: LastSeen | None) -> LastSeen | None:
    if "near" not in line:
        if line["boot"] != boot:
            return None
        return LastSeen(
            float(line["t"]),
            line["kills"],
            dict(line["groups"]),
            list(line["processes"]),
            dict(line.get("ooms", {})),
        )
    if last is None:
        return None
    groups, sizes = dict(last.groups), {}
    for path, (usage, processes) in line["near"].items():
        if path in groups:
            groups[path] = [int(usage), *groups[path][1:]]
        sizes.update({int(pid): int(rss) for pid, rss in processes.items()})
    processes = [[*each[:6], sizes.get(each[0], each[6]), *each[7:]] for each in last.processes]
    return LastSeen(float(line["t"]), last.kills, groups, processes, last.ooms)


def read_boot() -> str:
    """Return the ID of this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
