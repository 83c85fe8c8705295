"""Resident memory of allocators inside programs and libraries, by the line that touched it first.

Such an allocator maps memory in large pieces and divides it unseen. The line that happened to need the next
piece did not ask for all of it, so its pages go to the lines that touched them, and what no sample says to the
allocator itself.

"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.model import NUMBER_OF_KIND, Frame, Kind, PartKind
from mematlas.recording.ownership import is_unnamed, owner
from mematlas.report.analyse import sums
from mematlas.report.analyse.table import StackTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mematlas.recording.model import Part, Rows, Touched
    from mematlas.report.analyse.stacks import Stacks

_DEEPEST = 16  # frames of an allocator above the system call
_MAPPED = [NUMBER_OF_KIND[Kind.MMAP], NUMBER_OF_KIND[Kind.COMMITTED]]
_TOUCHED = NUMBER_OF_KIND[Kind.TOUCHED]
_NO_MAKER = (0, 0)  # stack and kind of mappings that were made unseen
_UNSAID = (PartKind.ANON, "unnamed")  # the part of the account in which those mappings lie
_NAMES = (
    ("mimalloc", r"_?mi_[a-z]"),
    ("jemalloc", r"(_rjem_|[a-z]+_)?(je_|rjem_)[a-z]|jemalloc"),
    ("PartitionAlloc", r"partition_alloc::|base::internal::Partition|WTF::Partition"),
    ("tcmalloc", r"tcmalloc::|TCMalloc|tc_[a-z]+alloc"),
    ("rpmalloc", r"_?rp(m|c|re)alloc"),
    ("snmalloc", r"snmalloc::"),
    ("TBB malloc", r"rml::"),
)
_NAME = re.compile("|".join(f"(?P<n{number}>{names})" for number, (_, names) in enumerate(_NAMES)))


@dataclass(frozen=True, slots=True)
class Divided:
    """The mappings of allocators in one process, taken apart."""

    rows: StackTable | None = None  # by the stacks that touched; None: no sample
    less: Mapping[int, int] = field(default_factory=dict)  # bytes to take from each (stack, kind)


def allocator_of(
    frames: Sequence[Frame], private: Mapping[str, Sequence[str]] = {}
) -> Frame | None:
    """Return a frame that stands for the allocator which made a mapping; None if the program made it.

    `private`: names of the allocators that files contain, for those without symbols.
    """
    if not frames or frames[0].kind == "python":
        return None
    module = frames[0].module
    for frame in frames[:_DEEPEST]:
        if frame.module != module:
            break
        found = _NAME.match(frame.function)
        if found and found.lastgroup:
            return _stand_in(_NAMES[int(found.lastgroup[1:])][0], module)
    names = private.get(module or "", ())
    if names and is_unnamed(frames[0]):
        return _stand_in(" or ".join(names), module)
    return None


def _is_its_own(frames: Sequence[Frame]) -> bool:
    """Return whether an allocator touched memory for itself: no caller of it would own the stack."""
    inner = [
        number for number, frame in enumerate(frames[:_DEEPEST]) if _NAME.match(frame.function)
    ]
    owned = owner(tuple(frames))
    return bool(inner) and (owned is None or owned <= inner[-1])


def _stand_in(name: str, module: str | None) -> Frame:
    return Frame(f"{name} (no line known)", None, None, module, "native")


def divide(
    stacks: Stacks,
    process: int,
    tables: Sequence[Rows],
    touched: Sequence[Touched],
    private: Mapping[str, Sequence[str]],
    parts: Sequence[Part] = (),
) -> Divided:
    """Take the mappings of allocators apart, and name the stacks that made them after the allocator.

    `tables`: rows of totals and of the snapshot, the snapshot last. `parts`: the account of that snapshot.
    """
    made = _mapping_stacks(tables)
    for stack in made:
        stand_in = allocator_of(stacks.frames(stack), private)
        if stand_in:
            stacks.renamed[stack] = stand_in
    resident = _resident(tables[-1], set(stacks.renamed)) if tables else {}
    unsaid = sum(each.resident_bytes for each in parts if (each.kind, each.name) == _UNSAID)
    shares: dict[tuple[int, int], list[Touched]] = {}
    for each in touched:
        key = (each.owner, each.kind) if each.kind else _NO_MAKER
        if (key in resident or key == _NO_MAKER) and not _is_its_own(stacks.frames(each.stack)):
            shares.setdefault(key, []).append(each)
    by_stack: dict[int, tuple[float, float]] = {}
    less: dict[int, int] = {}
    for key, found in shares.items():
        whole = sum(each.bytes for each in found)
        most = unsaid if key == _NO_MAKER else resident[key]  # samples may estimate more
        scale = min(1.0, most / whole) if whole else 0.0
        for each in found:
            size, variance = by_stack.get(each.stack, (0.0, 0.0))
            by_stack[each.stack] = size + scale * each.bytes, variance + scale**2 * each.variance
        if key in resident:
            less[key[0] << 8 | key[1]] = round(scale * whole)
    return Divided(_rows(stacks, process, by_stack), less)


def _mapping_stacks(tables: Sequence[Rows]) -> set[int]:
    found: set[int] = set()
    for rows in tables:
        kinds = sums.column(rows, "kind")
        some = np.flatnonzero(sums.are_any(kinds, _MAPPED))
        if len(some):
            found |= set(sums.distinct(sums.column(rows, "stack")[some]).tolist())
    return found - {0}


def _resident(rows: Rows, wanted: set[int]) -> dict[tuple[int, int], float]:
    """Return the resident bytes of the mappings of some stacks, by stack and kind."""
    if not wanted or "resident_bytes" not in (rows.dtype.names or ()):
        return {}
    rows = sums.unpacked(rows)
    kinds, stacks = rows["kind"], rows["stack"]
    some = np.flatnonzero(np.isin(kinds, _MAPPED) & np.isin(stacks, list(wanted)))
    found: dict[tuple[int, int], float] = {}
    sizes = rows["resident_bytes"][some]
    for stack, kind, size in zip(stacks[some].tolist(), kinds[some].tolist(), sizes, strict=True):
        found[stack, kind] = found.get((stack, kind), 0.0) + float(size)
    return found


def _rows(
    stacks: Stacks, process: int, by_stack: Mapping[int, tuple[float, float]]
) -> StackTable | None:
    some = [stack for stack, (size, _) in by_stack.items() if size >= 1]
    if not some:
        return None
    sizes, variances = (np.array([by_stack[stack][column] for stack in some]) for column in (0, 1))
    return StackTable(
        process,
        np.array(some, np.uint32),
        np.full(len(some), _TOUCHED, np.uint8),
        {
            **dict.fromkeys(("resident_bytes", "pss_bytes", "uss_bytes"), sizes),
            "error_bytes": np.sqrt(variances),
        },
        {process: stacks},
    )
