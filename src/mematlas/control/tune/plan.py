"""From values asked for to the writes that make them so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mematlas.control.tune import knobs
from mematlas.control.tune.model import Change, Kind, Plan
from mematlas.errors import TargetError, UnsupportedError, UsageError

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


def parse(words: Iterable[str]) -> dict[str, str]:
    """Read KEY=VALUE words; an act needs no value."""
    wanted: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            if knobs.find(key).kind is not Kind.ONE_SHOT:
                raise UsageError(f"{word!r} has no value; write it as KEY=VALUE")
            value = "3" if key == "drop_caches" else "1"
        key = knobs.find(key.strip()).key
        if key in wanted:
            raise UsageError(f"{key} is given twice")
        wanted[key] = value.strip()
    return wanted


def make(root: Path, wanted: Mapping[str, str]) -> Plan:
    """Compare what is wanted with what is; the machine is not changed."""
    changes, unchanged, notes = [], [], []
    paths: dict[str, str] = {}
    for key, text in wanted.items():
        knob = knobs.find(key)
        reading = knobs.read(root, knob)
        if reading.value is None:
            error = TargetError if key.startswith("oom_score_adj.") else UnsupportedError
            raise error(f"{key}: /{knob.path}: {reading.reason}")
        if knob.twin and knob.twin in paths:
            raise UsageError(f"{key} and {paths[knob.twin]} are two forms of one value; give one")
        paths[knob.path] = key
        value = knobs.check_value(root, knob, text)
        if value == reading.value:
            unchanged.append(f"{key} is {value} already")
            continue
        changes.append(_change(root, knob, reading.value, value))
        notes += _owners(root, knob)
    if any(change.kind is not Kind.ONE_SHOT for change in changes):
        notes.append(
            "values last until the next restart; sysctl.d or a boot parameter makes them stay"
        )
    return Plan(tuple(changes), tuple(unchanged), tuple(notes))


def process_start(root: Path, path: str) -> int | None:
    """Start time of the process a path belongs to; None if it belongs to none."""
    match = re.match(r"proc/(\d+)/", path)
    if not match:
        return None
    try:
        text = (root / "proc" / match[1] / "stat").read_text(errors="replace")
    except OSError:
        return -1
    return int(text[text.rindex(")") + 2 :].split()[19])


def _change(root: Path, knob: Knob, before: str, after: str) -> Change:
    undo_path, undo_value = knob.path, before
    if knob.kind is Kind.PAIRED and before == "0":
        # Zero means that the twin rules. Writing 0 back is refused; the twin's value restores both.
        twin = knobs.value_of((root / knob.twin).read_text())
        if twin != "0":
            undo_path, undo_value = knob.twin, twin
    return Change(
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


def _owners(root: Path, knob: Knob) -> list[str]:
    """Name files of others that set this knob, and may set it again."""
    notes = []
    if knob.path.startswith("proc/sys/"):
        name = re.escape(knob.path.removeprefix("proc/sys/")).replace("/", "[./]")
        line = re.compile(rf"^\s*-?{name}\s*=", re.MULTILINE)
        for pattern in _SYSCTL:
            notes += [
                f"{knob.key} is also set in /{path.relative_to(root)}, which counts at the next start"
                for path in sorted(root.glob(pattern))
                if path.is_file() and line.search(path.read_text(errors="replace"))
            ]
    profile = root / "etc/tuned/active_profile"
    if profile.exists() and (name := profile.read_text().strip()):
        notes.append(f"tuned is in charge with profile {name}, and may set {knob.key} again")
    return notes
