"""Rule about a recording: free memory that allocators kept, by process and allocator."""

from __future__ import annotations

import shlex
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.doctor.model import Found, RecordingState, Rule, Severity, Unknown
from mematlas.doctor.rules.allocators import FreeMemory, fixes_of, why_kept
from mematlas.doctor.rules.fixes import command_line, inspect, percent
from mematlas.linux.allocators import Allocator, allocator_of_file, c_library_of_file
from mematlas.recording.model import PartKind
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.doctor.model import Answer
    from mematlas.recording.model import Process, RecordingData, Snapshot

_MIB = 1 << 20
_ENOUGH = 32 * _MIB
_HEAPS = ("glibc heap", "glibc arena")  # names of parts: the heap by brk, and arenas
_PYMALLOC = "pymalloc arena"
_MAPPING = "mapping of an allocator"
NO_RESIDENCY = Unknown("the recording has no residency snapshot")


@dataclass(frozen=True, slots=True)
class _Kept:
    """Free memory of one allocator in one process at its last snapshot."""

    process: Process
    snapshot: Snapshot
    allocator: Allocator
    bytes: int


def _check(state: RecordingState) -> Answer:
    recording = state.recording
    last = _last(recording)
    if not any(each.parts for each in last.values()):
        return NO_RESIDENCY
    kept = sorted(_all_kept(recording, last), key=lambda each: -each.bytes)
    if not kept or kept[0].bytes < _ENOUGH:
        return None
    most = kept[0]
    if most.bytes < most.snapshot.rss_bytes * 3 // 10:
        return None
    free = _free_memory(state, most)
    fixes = fixes_of(most.allocator.name, most.allocator.version, free)
    name = str(most.allocator)
    whose = f" of process {most.process.pid}" if len(recording.processes) > 1 else ""
    return Found(
        Severity.WARNING if fixes else Severity.INFO,
        f"at the end {name}{whose} kept {format_bytes(most.bytes)} without live blocks",
        (
            (
                f"{percent(most.bytes, most.snapshot.rss_bytes)} of the RSS at "
                f"{most.snapshot.time_s:.1f} s ({most.snapshot.trigger})"
            ),
            *_trimmable(free),
            *(() if fixes else (why_kept(most.allocator.name, free),)),
            *(
                f"{format_bytes(each.bytes)} kept by {each.allocator} of process {each.process.pid}"
                for each in kept[1:4]
                if each.bytes >= _ENOUGH
            ),
        ),
        (
            *fixes,
            inspect(
                f"mematlas report --by fragmented {shlex.quote(state.path)}",
                "which lines keep it"
                + ("" if recording.sampling.mode == "exact" else ", after mematlas run --exact"),
            ),
        ),
        most.bytes,
    )


def _trimmable(free: FreeMemory) -> tuple[str, ...]:
    if free.heaps is None:
        return ()
    size = sum(each.trimmable for each in free.heaps)
    return (f"malloc_trim() would return {format_bytes(size)} of it (chunk headers)",)


def _last(recording: RecordingData) -> dict[int, Snapshot]:
    """Return the last snapshot of each process that has one."""
    ordered = sorted(recording.snapshots, key=lambda each: each.time_s)
    return {each.process: each for each in ordered}


def _all_kept(recording: RecordingData, last: dict[int, Snapshot]) -> Iterator[_Kept]:
    for process in recording.processes:
        snapshot = last.get(process.index)
        if snapshot is None:
            continue
        sums: defaultdict[Allocator, int] = defaultdict(int)
        for part in snapshot.parts:
            if part.kind is PartKind.SLACK:
                found = _allocator(recording, process.index, part.name)
                if found:
                    sums[found] += part.resident_bytes
        for allocator, size in sums.items():
            yield _Kept(process, snapshot, allocator, size)


def _allocator(recording: RecordingData, process: int, part: str) -> Allocator | None:
    """Return the allocator of a part of the slack: by its name, and by the modules of the process."""
    if part == _PYMALLOC:
        return Allocator("pymalloc", "", "")
    paths = [each.path for each in recording.modules.get(process, ())]
    malloc = _malloc(paths)
    if part in _HEAPS or (part == _MAPPING and malloc.name not in {"glibc", "musl"}):
        return malloc
    if part != _MAPPING:
        return None  # around mapped blocks: padding to whole pages
    inside = {name for path in paths for name in recording.allocators.get(path, ())}
    return Allocator(" or ".join(sorted(inside)) or "an allocator of its own", "", "")


def _malloc(paths: Sequence[str]) -> Allocator:
    """Return the allocator behind malloc(): a library that replaces it, else the C library's."""
    for path in paths:
        if name := allocator_of_file(path):
            return Allocator(name, _version(path), path)
    return next((Allocator(name, "", p) for p in paths if (name := c_library_of_file(p))),
                Allocator("glibc", "", ""))  # fmt: skip


def _version(path: str) -> str:
    """Return the version in a file name: that of mimalloc is its own, others count interfaces."""
    name = path.rpartition("/")[2]
    return name.partition(".so.")[2] if name.startswith("libmimalloc") else ""


def _free_memory(state: RecordingState, kept: _Kept) -> FreeMemory:
    recording, index = state.recording, kept.process.index
    heaps = recording.heaps.get(index) if kept.allocator.name == "glibc" else None
    totals = recording.totals.get(index)
    blocks = [each.live_count for each in state.leaks.leaks if each.process == index]
    is_exact = (
        recording.sampling.mode == "exact"
    )  # else small blocks without a sample keep pages, too
    return FreeMemory(
        bytes=kept.bytes,
        live_blocks=round(sum(blocks)) if is_exact else None,
        command=command_line(recording.command),
        is_python=bool(kept.process.python_version),
        heaps=heaps.heaps if heaps else None,
        peak_live=round(totals.peak_live_bytes) if totals else None,
        whole_pages=_whole_pages(recording, kept),
    )


def _whole_pages(recording: RecordingData, kept: _Kept) -> int | None:
    """Return the kept bytes on pages without a live byte; None where the recording is sampled."""
    found = recording.fragmentation.get((kept.process.index, kept.snapshot.time_s))
    if found is None:
        return None
    return sum(
        each.held_free_bytes
        for each in found.slack
        if _allocator(recording, kept.process.index, each.name) == kept.allocator
    )


RULES: tuple[Rule[RecordingState], ...] = (
    Rule("malloc.slack", "allocators keep little freed memory",
         "It counts against the program's limit, and no other program can use it.", _check),
)  # fmt: skip
