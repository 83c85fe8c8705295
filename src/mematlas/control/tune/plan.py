"""Requested values turned into planned writes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mematlas.control.tune import knobs
from mematlas.control.tune.model import KnobChange, KnobKind, Plan
from mematlas.errors import TargetError, UnsupportedError, UsageError
from mematlas.linux.hugepages import folder_size
from mematlas.linux.machine import parse_meminfo
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mematlas.control.tune.model import Knob

_SYSCTL = (
    "etc/sysctl.conf",
    "etc/sysctl.d/*.conf",
    "run/sysctl.d/*.conf",
    "usr/lib/sysctl.d/*.conf",
)

_RESERVE_SHARE = 4  # a quarter of memory: more was never right, and ends programs at once


def parse(words: Iterable[str]) -> dict[str, str]:
    """Parse KEY=VALUE words; a one-shot action needs no value.

    Raises:
        UsageError: a key is unknown or given twice, or a value is missing.
    """
    wanted: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            if knobs.find(key).kind is not KnobKind.ONE_SHOT:
                raise UsageError(f"{word!r} has no value; write it as KEY=VALUE")
            value = "3" if key == "drop_caches" else "1"
        key = knobs.find(key.strip()).key
        if key in wanted:
            raise UsageError(f"{key} is given twice")
        wanted[key] = value.strip()
    return wanted


def make(root: Path, wanted: Mapping[str, str]) -> Plan:
    """Compare requested values with the current ones and return the writes needed; nothing is written.

    Raises:
        UsageError: a value does not fit its knob or the machine's memory, or two knobs are forms of one value.
        UnsupportedError: this kernel lacks a knob.
        TargetError: there is no such process.
    """
    changes, unchanged, notes = [], [], []
    seen: dict[str, str] = {}
    for key, text in wanted.items():
        knob = knobs.find(key)
        reading = knobs.read(root, knob)
        if reading.value is None:
            error = TargetError if key.startswith("oom_score_adj.") else UnsupportedError
            raise error(f"{key}: /{knob.path}: {reading.reason}")
        if knob.counterpart and knob.counterpart in seen:
            raise UsageError(
                f"{key} and {seen[knob.counterpart]} are two forms of one value; give one of them"
            )
        seen[knob.path] = key
        value = knobs.check_value(root, knob, text)
        if value == reading.value:
            unchanged.append(f"{key} is {value} already")
            continue
        changes.append(_change(root, knob, reading.value, value))
        notes += _find_overrides(root, knob)
    _check_room(root, changes)
    if any(change.kind is not KnobKind.ONE_SHOT for change in changes):
        notes.append(
            "values last until the next reboot; make them permanent in sysctl.d or by boot parameters"
        )
    return Plan(tuple(changes), tuple(unchanged), tuple(notes))


def _check_room(root: Path, changes: Iterable[KnobChange]) -> None:
    """Refuse what takes so much memory that the machine would stop."""
    try:
        info = parse_meminfo((root / "proc/meminfo").read_text())
    except OSError:
        return
    added = 0
    for change in changes:
        if change.key == "vm.min_free_kbytes":
            _check_reserve(int(change.after) << 10, info.get("MemTotal"))
        elif change.kind is KnobKind.PARTIAL:
            folder = (root / change.path).parent  # of one size; or vm, of the default size
            size = info.get("Hugepagesize", 0) if folder.name == "vm" else folder_size(folder)
            added += (int(change.after) - int(change.before)) * size
    room = info.get("MemAvailable")
    if room is not None and added > room:
        raise UsageError(
            f"these pools take {format_bytes(added)} more, and {format_bytes(room)} are available: "
            "programs would be killed"
        )


def _check_reserve(size: int, total: int | None) -> None:
    if total is not None and size > total // _RESERVE_SHARE:
        raise UsageError(
            f"vm.min_free_kbytes: {format_bytes(size)} of {format_bytes(total)} of memory; more than a "
            "quarter leaves programs too little, and they would be killed"
        )


def process_start(root: Path, path: str) -> int | None:
    """Return the start time of the process in a path, in clock ticks since boot.

    None: no process is in the path. -1: the process is gone.
    """
    match = re.match(r"proc/(\d+)/", path)
    if not match:
        return None
    try:
        text = (root / "proc" / match[1] / "stat").read_text(errors="replace")
    except OSError:
        return -1
    return int(text[text.rindex(")") + 2 :].split()[19])


def _change(root: Path, knob: Knob, before: str, after: str) -> KnobChange:
    undo_path, undo_value = knob.path, before
    if knob.kind is KnobKind.PAIRED and before == "0":
        # Zero means that the counterpart is in force. The kernel refuses to write 0 back; writing the
        # counterpart's value restores both.
        counterpart = knobs.value_of((root / knob.counterpart).read_text())
        if counterpart != "0":
            undo_path, undo_value = knob.counterpart, counterpart
    return KnobChange(
        key=knob.key,
        path=knob.path,
        kind=knob.kind,
        before=before,
        after=after,
        undo_path=undo_path,
        undo_value=undo_value,
        meaning=knob.meaning,
        risk=knob.risk,
        process_start=process_start(root, knob.path),
    )


def _find_overrides(root: Path, knob: Knob) -> list[str]:
    """Return a note per configuration file that also sets a knob."""
    notes = []
    if knob.path.startswith("proc/sys/"):
        name = re.escape(knob.path.removeprefix("proc/sys/")).replace("/", "[./]")
        line = re.compile(rf"^\s*-?{name}\s*=", re.MULTILINE)
        for pattern in _SYSCTL:
            notes += [
                f"{knob.key} is also set in /{path.relative_to(root)}, which applies at the next boot"
                for path in sorted(root.glob(pattern))
                if path.is_file() and line.search(path.read_text(errors="replace"))
            ]
    profile = root / "etc/tuned/active_profile"
    if profile.exists() and (name := profile.read_text().strip()):
        notes.append(f"tuned is active with profile {name}, and may set {knob.key} again")
    return notes
