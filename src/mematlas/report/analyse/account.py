"""Accounts of resident memory, of one or several processes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from mematlas.recording.model import Part, PartKind
from mematlas.report.analyse import sums
from mematlas.report.analyse.inherited import families, inherited_bytes
from mematlas.report.model.report import Account

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from mematlas.recording.model import Process, RecordingData, Sharing, Snapshot, Totals

_MUCH_HIGHER = 1.1
_MUCH_SHARED = 1 << 20  # bytes
_LARGE = 8 << 20  # RSS; smaller processes have little to share
_ORDER = {kind: number for number, kind in enumerate(PartKind)}


def at_peak(
    snapshots: Sequence[Snapshot],
    processes: Sequence[Process],
    sharing: Mapping[tuple[int, float], Sharing] | None = None,
) -> list[Snapshot]:
    """Return the snapshots, one per process, current at the last time their sum was highest.

    For several processes the sum is of memory other than files and tracer: with shared libraries counted
    once per process, many shells would outweigh the program they start. It is of PSS where that is known.
    PSS of processes that share memory must be of one moment, or a page may count twice.
    """
    known = sharing or {}
    several = len({each.process for each in snapshots}) > 1
    family_of = families(processes)
    best: dict[bool, tuple[int, list[Snapshot]]] = {}
    seen = list(_seen(snapshots, processes))
    following = [*(snapshot for snapshot, _ in seen[1:]), None]
    for (snapshot, current), later in zip(seen, following, strict=False):
        if later and later.moment_s is not None and later.moment_s == snapshot.moment_s:
            continue  # others of this moment follow
        weight = sum(
            (_own(each, known) if several else each.rss_bytes) for each in current.values()
        )
        fresh = not several or _is_of_one_moment(current.values(), family_of)
        if weight >= best.get(fresh, (0, []))[0]:
            best[fresh] = weight, list(current.values())
    return _choose(best.get(True), best.get(False))


def _choose(
    fresh: tuple[int, list[Snapshot]] | None, others: tuple[int, list[Snapshot]] | None
) -> list[Snapshot]:
    """Prefer a sum of one moment, unless RSS was much higher at the highest other one."""
    if fresh is None or others is None:
        return (fresh or others or (0, []))[1]
    is_close = _rss(fresh[1]) * _MUCH_HIGHER >= _rss(others[1])
    return fresh[1] if is_close else others[1]


def highest_seen(snapshots: Sequence[Snapshot], processes: Sequence[Process]) -> int:
    """Return the highest sum of the RSS that the last snapshots of running processes have."""
    return max((_rss(current.values()) for _, current in _seen(snapshots, processes)), default=0)


def _seen(
    snapshots: Sequence[Snapshot], processes: Sequence[Process]
) -> Iterator[tuple[Snapshot, dict[int, Snapshot]]]:
    """Yield each snapshot in the order of time, with the last one of each process that runs then."""
    ends = {process.index: process.end_s for process in processes}
    current: dict[int, Snapshot] = {}
    for snapshot in sorted(snapshots, key=lambda each: each.time_s):
        current = {
            index: each
            for index, each in current.items()
            if (end := ends.get(index)) is None or end >= snapshot.time_s
        }
        current[snapshot.process] = snapshot
        yield snapshot, current


def _is_of_one_moment(snapshots: Collection[Snapshot], family_of: Mapping[int, int]) -> bool:
    """Return whether the processes of a family that share much memory were read together."""
    members: dict[int, list[Snapshot]] = {}
    for each in snapshots:
        members.setdefault(family_of.get(each.process, each.process), []).append(each)
    for family in members.values():
        large = [each for each in family if each.rss_bytes >= _LARGE]
        moments = {each.time_s if each.moment_s is None else each.moment_s for each in large}
        if len(moments) > 1 and any(_copy_on_write(each) >= _MUCH_SHARED for each in large):
            return False
    return True


def _copy_on_write(snapshot: Snapshot) -> int:
    return sum(part.resident_bytes for part in snapshot.parts if part.kind == PartKind.COW)


def at_end(snapshots: Sequence[Snapshot], processes: Iterable[Process]) -> list[Snapshot]:
    """Return the last snapshot, and the last one of each other process that was still running."""
    if not snapshots:
        return []
    last = {each.process: each for each in sorted(snapshots, key=lambda each: each.time_s)}
    latest = max(each.time_s for each in last.values())
    gone = {p.index for p in processes if p.end_s is not None and p.end_s < latest}
    return [each for each in last.values() if each.process not in gone or each.time_s == latest]


def exit_of(
    recording: RecordingData, process: int, mine: Sequence[Snapshot] | None = None
) -> Snapshot | Totals | None:
    """Return the rows that were live at the end of a process; of Python, before finalization.

    `mine` are its snapshots, if the caller has them: a recording can be of thousands of processes.
    """
    found = recording.snapshots if mine is None else mine
    exits = [each for each in found if each.process == process and each.trigger == "exit"]
    return exits[-1] if exits else recording.totals.get(process)


def account(snapshots: Sequence[Snapshot], recording: RecordingData, wanted: set[int]) -> Account:
    """Sum snapshots to an account. Without snapshots only the highest RSS of the samples is known."""
    if not snapshots:
        return _from_timeline(recording, wanted)
    latest = max(snapshots, key=lambda each: each.time_s)
    sharing = [recording.sharing.get((each.process, each.time_s)) for each in snapshots]
    known = [each for each in sharing if each]
    pss = sum(each.pss_bytes for each in known) if len(known) == len(snapshots) else None
    once = pss is not None and len(snapshots) > 1
    family_of = families(recording.processes)
    parts = _add(
        (_Errors.of(each, recording, family_of), part)
        for each, shared in zip(snapshots, sharing, strict=True)
        for part in (_proportional(each.parts, shared) if once and shared else each.parts)
    )
    total = pss if once and pss is not None else _rss(snapshots)
    return Account(
        time_s=latest.time_s,
        trigger=latest.trigger,
        rss_bytes=_rss(snapshots),
        parts=parts,
        unexplained_bytes=total - sum(part.resident_bytes for part in parts),
        pss_bytes=pss,
        counted_once=once,
        processes=len(snapshots),
    )


def _proportional(parts: Iterable[Part], sharing: Sharing) -> Iterator[Part]:
    """Yield parts with the process's own share of the pages that others map, too."""
    less = {(each.kind, each.name): each.shared_bytes - each.share_bytes for each in sharing.parts}
    for part in parts:
        yield replace(
            part,
            resident_bytes=part.resident_bytes - round(less.get((part.kind, part.name), 0.0)),
        )


def _rss(snapshots: Iterable[Snapshot]) -> int:
    return sum(each.rss_bytes for each in snapshots)


def _own(snapshot: Snapshot, sharing: Mapping[tuple[int, float], Sharing]) -> int:
    """Return the memory other than files and tracer: PSS, or RSS where PSS is not known."""
    shared = sharing.get((snapshot.process, snapshot.time_s))
    parts = tuple(_proportional(snapshot.parts, shared)) if shared else snapshot.parts
    total = shared.pss_bytes if shared else snapshot.rss_bytes
    others = (PartKind.FILE, PartKind.TRACER)
    return total - sum(part.resident_bytes for part in parts if part.kind in others)


@dataclass(frozen=True, slots=True)
class _Errors:
    """How the errors of a process add up: those of `copied`, a part of its variances, with those of its family."""

    family: int
    copied: float

    @classmethod
    def of(cls, snapshot: Snapshot, recording: RecordingData, family_of: Mapping[int, int]) -> Self:
        """Return those of a snapshot. Of the first process of a family, all that others inherited is copied."""
        family = family_of.get(snapshot.process, snapshot.process)
        totals = recording.totals.get(snapshot.process)
        if family == snapshot.process or totals is None or not len(snapshot.rows):
            return cls(family, 1.0)
        rows = sums.owning(sums.unpacked(snapshot.rows))
        keys, place = np.unique(sums.keys(rows), return_inverse=True)
        before, live = inherited_bytes(totals.rows, keys)[place], rows["live_bytes"]
        share = np.minimum(np.divide(before, live, out=np.ones(len(rows)), where=live > 0), 1)
        whole = float(rows["live_variance"].sum())
        return cls(family, float((share * rows["live_variance"]).sum()) / whole if whole else 0.0)


@dataclass(slots=True)
class _Sum:
    """The resident bytes of a part, the variance of its own blocks, and the errors of copies by family."""

    resident: int = 0
    variance: float = 0.0
    copies: dict[int, float] = field(default_factory=dict)

    def add(self, errors: _Errors, part: Part) -> None:
        """Add the part of one process."""
        self.resident += part.resident_bytes
        self.variance += part.error_bytes**2 * (1 - errors.copied)
        copied = part.error_bytes * math.sqrt(errors.copied)
        self.copies[errors.family] = self.copies.get(errors.family, 0.0) + copied

    @property
    def error(self) -> int:
        """One standard error."""
        return round(math.sqrt(self.variance + sum(each**2 for each in self.copies.values())))


def _add(parts: Iterable[tuple[_Errors, Part]]) -> tuple[Part, ...]:
    found: dict[tuple[PartKind, str], _Sum] = {}
    for errors, part in parts:
        found.setdefault((part.kind, part.name), _Sum()).add(errors, part)
    added = (Part(kind, name, each.resident, each.error) for (kind, name), each in found.items())
    return tuple(sorted(added, key=lambda part: (_ORDER[part.kind], -part.resident_bytes)))


def _from_timeline(recording: RecordingData, wanted: set[int]) -> Account:
    best, time_s = 0, 0.0
    for index in wanted & set(recording.timeline):
        rows = recording.timeline[index]
        for row in rows[rows["rss_bytes"] > best]:
            if row["rss_bytes"] > best:
                best, time_s = int(row["rss_bytes"]), float(row["time_s"])
    return Account(time_s, "timeline", best, (), best)
