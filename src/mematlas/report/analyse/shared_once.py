"""Memory that forked processes have in common, counted once although their accounts are of different moments.

PSS divides a page by the processes that map it at the time, so sums of PSS over accounts of different moments count a
page more than once, or less. Here a page that a process inherited and has not written counts in its parent alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.recording.model import PartKind
from mematlas.report.analyse.inherited import forked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mematlas.recording.model import RecordingData, Snapshot

_OTHERS = (PartKind.FILE, PartKind.TRACER)


def own_bytes(snapshot: Snapshot) -> int:
    """Return the RSS without pages of files, which other runs may have left in memory, and the tracer's."""
    others = sum(part.resident_bytes for part in snapshot.parts if part.kind in _OTHERS)
    return snapshot.rss_bytes - others


def shared_bytes(snapshot: Snapshot) -> int:
    """Return the private memory that forked processes share until one of them writes to it."""
    return sum(part.resident_bytes for part in snapshot.parts if part.kind == PartKind.COW)


def counted_elsewhere(
    snapshots: Sequence[Snapshot], recording: RecordingData, *, at_own_peaks: bool
) -> Mapping[int, int]:
    """Return of each process the bytes that the account of another one has: those it inherited.

    `snapshots` are one of each process. A process shares no more with its parent than that has. Where the parent has
    no account, the child that shares most counts for it. Accounts `at_own_peaks` are of moments at which a child
    may yet write to what it shares, so each child shares no more than the one of its siblings that shared least.
    """
    known = {each.process: each for each in snapshots}
    children = forked(recording.processes)
    shared = {index: shared_bytes(each) for index, each in known.items()}
    least = _least_shared(recording, children) if at_own_peaks else {}
    orphans: dict[int | None, list[int]] = {}
    found: dict[int, int] = {}
    for each in recording.processes:
        if each.index not in known or each.index not in children:
            continue
        parent = known.get(each.parent_index) if each.parent_index is not None else None
        if parent is None:
            orphans.setdefault(each.parent_index, []).append(each.index)
        else:
            most = min(shared[each.index], own_bytes(parent))
            found[each.index] = min(most, least.get(each.parent_index, most))
    for siblings in orphans.values():
        siblings.sort(key=lambda index: shared[index])
        for index in siblings[:-1]:
            found[index] = shared[index]
    return found


def _least_shared(recording: RecordingData, children: set[int]) -> dict[int | None, int]:
    """Return by parent the least that a snapshot of a child shared, if it shared anything."""
    parents = {each.index: each.parent_index for each in recording.processes}
    found: dict[int | None, int] = {}
    for each in recording.snapshots:
        shared = shared_bytes(each) if each.process in children else 0
        if shared:
            parent = parents[each.process]
            found[parent] = min(found.get(parent, shared), shared)
    return found
