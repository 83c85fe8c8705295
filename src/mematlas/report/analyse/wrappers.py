"""Allocation wrappers that owners look through, beyond the table of names.

Two sources: regular expressions of the user, and the recording itself. A program without symbols has
its `xmalloc` at an address only; but nearly all allocations of the module go through it, for many
callers, and in many sizes, which distinguishes it from a constructor of one type.

"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas._core.columns.trie import trie_climb
from mematlas.recording.model import KIND_BY_NUMBER, Kind
from mematlas.recording.ownership import is_native_runtime, is_unnamed
from mematlas.recording.wrapper_names import is_wrapper
from mematlas.report.analyse import sums
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.analyse.table import StackTable
from mematlas.report.analyse.word_frames import WordFrames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame, Module, RecordingData, Rows
    from mematlas.report.analyse.owner_patterns import Patterns
    from mematlas.report.model.report import Report

    Numbers = NDArray[np.int64]
    Indices = NDArray[np.uint32]
    Function = tuple[str, str | None]  # name, module

LEAST_CALLERS = 8  # functions that call a wrapper
LEAST_SIZES = 8  # mean block sizes, of its stacks
LEAST_SHARE = 0.1  # of the allocating stacks of its module
NEARLY_ALL = 0.9
LEAST_CALLERS_ABOVE = (
    12  # that a wrapper of few callers has through those, which are wrappers themselves
)
LEAST_STACKS = 20  # of a module, before it is judged
SMALL_CODE = (
    256  # bytes; a function this short that allocates blocks of several sizes passes its size on
)
LEAST_SIZES_SMALL = 3
WORTH_NAMING = 0.05  # of the memory
_ROUNDS = 5  # wrappers of wrappers
_ALLOCATIONS = (Kind.MALLOC, Kind.MMAP)


def mark_wrappers(recording: RecordingData, asked: Patterns) -> list[str]:
    """Mark the frames of a recording that owners look through; return notes on those found."""
    for index, frames in recording.frames.items():
        kept = _changed(frames, lambda frame: _kept(frame, asked)) if asked.keep else frames
        recording.frames[index] = _marked(kept, asked.marks) if asked.skip else kept
    found: dict[Function, _Wrapper] = {}
    for index in recording.frames:
        for wrapper in _find(recording, index):
            found.setdefault(wrapper.function, wrapper)
    if found:
        for index, frames in recording.frames.items():
            recording.frames[index] = _marked(frames, lambda frame: _key(frame) in found)
    return [_note(sorted(found.values(), key=lambda each: -each.stacks))] if found else []


def unnamed_modules(recording: RecordingData, report: Report) -> list[Module]:
    """Return the modules whose functions own a good part of the memory and have no names, largest first."""
    table, found = StackTable.of(report.stacks), dict[str, int]()
    if not len(table):
        return []
    which, frames = table.owners()
    by = "resident" if table.narrow("resident").any() else "live"
    sizes = table.narrow(by).add_up(which, len(frames)).tolist()
    whole = sum(sizes)
    for frame, size in zip(frames, sizes, strict=True):
        if frame and frame.module and is_unnamed(frame) and size >= WORTH_NAMING * whole > 0:
            found[frame.module] = found.get(frame.module, 0) + size
    modules = {each.path: each for known in recording.modules.values() for each in known}
    ordered = sorted(found, key=lambda path: -found[path])
    return [modules[path] for path in ordered if path in modules and path.startswith("/")]


def share_marks(*recordings: RecordingData) -> None:
    """Mark in all recordings what is marked in one, so that their owners can be compared."""
    found = {
        _key(frame)
        for recording in recordings
        for frames in recording.frames.values()
        for stack in frames.values()
        for frame in stack
        if frame.wrapper
    }
    for recording in recordings if found else ():
        for index, frames in recording.frames.items():
            recording.frames[index] = _marked(frames, lambda frame: _key(frame) in found)


def _marked(
    frames: dict[int, tuple[Frame, ...]], marks: Callable[[Frame], bool]
) -> dict[int, tuple[Frame, ...]]:
    def marked(frame: Frame) -> Frame:
        new = not (frame.wrapper or frame.kept) and marks(frame)
        return replace(frame, wrapper=True) if new else frame

    return _changed(frames, marked)


def _kept(frame: Frame, asked: Patterns) -> Frame:
    return replace(frame, kept=True) if asked.keeps(frame) else frame


def _changed(
    frames: dict[int, tuple[Frame, ...]], change: Callable[[Frame], Frame]
) -> dict[int, tuple[Frame, ...]]:
    """Return the stacks with each frame changed, once; the same stacks if no frame changes."""
    words = WordFrames([*frames.values()])
    new = [*map(change, words.frames)]
    differ = np.array([a is not b for a, b in zip(words.frames, new, strict=True)], bool)
    if not differ.any():
        return frames
    changed, keys = dict(frames), [*frames]
    starts, numbers = words.starts.tolist(), words.numbers.tolist()
    for at in np.flatnonzero(words.any(differ)).tolist():
        changed[keys[at]] = tuple(new[each] for each in numbers[starts[at] : starts[at + 1]])
    return changed


@dataclass(frozen=True, slots=True)
class _Wrapper:
    function: Function
    stacks: int
    callers: int


def _note(found: Sequence[_Wrapper]) -> str:
    names = ", ".join(each.function[0] for each in found[:4])
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    called = ", ".join(f"{each.callers}" for each in found[:4])
    return (
        f"owners look through {names}{more}: allocation wrappers, by their callers ({called}) "
        "and block sizes (--keep REGEX names them)"
    )


class _Calls:
    """Who allocates for whom in one process: functions by number, and the stacks in columns."""

    def __init__(self, recording: RecordingData, index: int) -> None:
        self.stacks, self.sizes = _allocating_stacks(recording.totals[index].rows)
        self.paths = Stacks.of(recording, index)
        self.functions: dict[Function, int] = {}
        self.lengths: dict[int, int] = {}  # by number, of functions without a name
        self.kept: set[int] = set()  # numbers of those that the user wants as owners
        words = self._words = self.paths.word_frames
        numbers = np.fromiter(map(self._number, words.frames), np.int64, len(words.frames))
        python = words.mark(lambda frame: frame.kind == "python")
        self._function, self._python = numbers[words.numbers], python[words.numbers]
        self._native = ~self._python & words.mark(lambda frame: bool(frame.module))[words.numbers]
        runtime = words.mark(is_native_runtime)
        self._runtime = runtime[words.numbers]
        # Below an unnamed function, a wrapper with a name tells what the function is.
        self._unnamed = np.append(words.first(words.mark(is_unnamed), none=False), False)
        self._innermost = np.append(words.first(numbers, none=-1), -1)

    def _number(self, frame: Frame) -> int:
        number = self.functions.setdefault(_key(frame), len(self.functions))
        if frame.code_bytes is not None:
            self.lengths[number] = frame.code_bytes
        if frame.kept:
            self.kept.add(number)
        return number

    def columns(self, skip: set[Function]) -> tuple[Numbers, Numbers, NDArray[np.bool_]]:
        """Return for each word its innermost function, the caller within the word, and whether it is looked through.

        -1: Python code or none, which no wrapper is.
        """
        count = len(self._function)
        skipped_functions = np.zeros(len(self.functions) + 1, bool)
        skipped_functions[[self.functions[each] for each in skip]] = True
        skipped = ~self._python & (self._runtime | skipped_functions[self._function])
        place = np.where(skipped, count, np.arange(count))
        first = self._words.least(place, count)
        shown = first[first < count]
        native = np.append(self._native, False)[first]
        place[shown] = count
        second = self._words.least(place, count)
        function = np.append(self._function, -1)
        inner = np.where(native, function[first], -1)
        outer = np.where(native, function[second], -1)
        through = (first == count) & (self._words.lengths > 0)
        return np.append(inner, -1), np.append(outer, -1), np.append(through, False)

    def is_wrapped(self, nodes: Indices) -> NDArray[np.bool_]:
        """Return for each node whether it has no name and was called by a wrapper that has one."""
        word_of = self.paths.word_of
        found: NDArray[np.bool_] = self._unnamed[word_of[nodes]]
        callers = self._innermost[word_of[self.paths.parents[nodes[found]]]]
        names = [*self.functions]
        named = [
            each for each in distinct(callers).tolist() if each >= 0 and is_wrapper(names[each][0])
        ]
        found[found] = np.isin(callers, named)
        return found

    def climb(self, nodes: Indices, skipped: NDArray[np.bool_]) -> Indices:
        """Return for each node the first one towards the root that is not looked through."""
        nodes = nodes.copy()
        trie_climb(self.paths.parents, self.paths.word_of, skipped, nodes)
        return nodes


def _allocating_stacks(rows: Rows) -> tuple[Indices, Numbers]:
    """Return the stacks that allocated, and the mean size of the blocks of each."""
    rows = sums.unpacked(rows)
    numbers = [number for number, kind in KIND_BY_NUMBER.items() if kind in _ALLOCATIONS]
    allocations, stacks = sums.column(rows, "allocations"), sums.column(rows, "stack")
    kept = sums.are_any(sums.column(rows, "kind"), numbers) & (allocations > 0) & (stacks > 0)
    sizes = np.rint(sums.column(rows, "allocated_bytes")[kept] / allocations[kept])
    return stacks[kept].astype(np.uint32), sizes.astype(np.int64)


def _find(recording: RecordingData, index: int) -> Iterator[_Wrapper]:
    """Yield the wrappers of one process, innermost first."""
    if index not in recording.totals:
        return
    calls = _Calls(recording, index)
    known: set[Function] = set()
    for _ in range(_ROUNDS):
        found = list(_find_innermost(calls, known))
        if not found:
            return
        known.update(each.function for each in found)
        yield from found


def _find_innermost(calls: _Calls, known: set[Function]) -> Iterator[_Wrapper]:
    inner, outer, skipped = calls.columns(known)
    nodes = calls.climb(calls.stacks, skipped)
    words = calls.paths.word_of
    function = np.where(nodes > 0, inner[words[nodes]], -1)
    above = calls.climb(calls.paths.parents[nodes], skipped)
    caller = np.where(above > 0, inner[words[above]], -1)
    top = calls.climb(calls.paths.parents[above], skipped)
    callers_caller = np.where(top > 0, inner[words[top]], -1)
    within = outer[words[nodes]]
    callers_caller = np.where(within >= 0, caller, callers_caller)
    caller = np.where(within >= 0, within, caller)
    inside = (nodes > 0) & calls.is_wrapped(nodes)
    names = list(calls.functions)
    modules = {name: number for number, name in enumerate({module for _, module in names})}
    module_of = np.array([modules[module] for _, module in names], np.int64)
    rows = function >= 0
    counts = _Counts(function[rows], len(names))
    stacks_of_module = np.bincount(module_of[function[rows]], minlength=len(modules))
    small = np.zeros(len(names), bool)
    small[[number for number, length in calls.lengths.items() if length <= SMALL_CODE]] = True
    figures = _Figures(
        stacks=counts.stacks,
        whole=stacks_of_module[module_of],
        callers=counts.others(caller[rows]),
        above=counts.others(callers_caller[rows]),
        recursive=counts.among(caller[rows] == function[rows]),
        sizes=counts.distinct(calls.sizes[rows]),
        inside=counts.among(inside[rows]),
        small=small,
    )
    numbers = np.flatnonzero(_are_wrappers(figures))
    for number in numbers.tolist():
        if number not in calls.kept and not _is_root(names[number]):
            yield _Wrapper(names[number], int(figures.stacks[number]), int(figures.callers[number]))


class _Counts:
    """Counts of rows by function. `functions` has the number of each row's, below `most`."""

    def __init__(self, functions: Numbers, most: int) -> None:
        self._functions, self._most = functions, most
        self.stacks = np.bincount(functions, minlength=most)

    def among(self, marks: NDArray[np.bool_]) -> Numbers:
        """Return how many rows of each function are marked."""
        return np.bincount(self._functions[marks], minlength=self._most)

    def distinct(self, values: Numbers, rows: NDArray[np.bool_] | None = None) -> Numbers:
        """Return how many distinct values each function has, of all rows or of those marked."""
        functions = self._functions
        if rows is not None:
            functions, values = functions[rows], values[rows]
        numbered = np.searchsorted(known := distinct(values), values)
        pairs = distinct(functions * max(len(known), 1) + numbered)
        return np.bincount(pairs // max(len(known), 1), minlength=self._most)

    def others(self, functions: Numbers) -> Numbers:
        """Return how many distinct functions, which the rows have besides, differ from the row's own; -1: none."""
        return self.distinct(functions, (functions != self._functions) & (functions >= 0))


@dataclass(frozen=True, slots=True)
class _Figures:
    """Figures of all functions, by number."""

    stacks: Numbers  # that allocate in the function
    whole: Numbers  # ... in its module
    callers: Numbers
    above: Numbers  # callers of its callers
    recursive: Numbers  # stacks in which it calls itself
    sizes: Numbers
    inside: Numbers  # stacks in which a wrapper with a name calls the function, which has none
    small: NDArray[np.bool_]


def _are_wrappers(each: _Figures) -> NDArray[np.bool_]:
    """Return for each function whether it allocates on behalf of its callers."""
    once = (each.recursive <= each.stacks * (1 - NEARLY_ALL)) & (each.callers >= 1)
    passes_size = each.small & (each.sizes >= LEAST_SIZES_SMALL)
    judged = (each.whole >= LEAST_STACKS) & (each.sizes >= LEAST_SIZES)
    judged &= each.stacks >= LEAST_SHARE * each.whole
    many = (each.callers >= LEAST_CALLERS) | (each.above >= LEAST_CALLERS_ABOVE)
    wrapped = each.inside >= NEARLY_ALL * each.stacks
    found: NDArray[np.bool_] = (each.stacks > 0) & (wrapped | once & (passes_size | judged & many))
    return found


def _is_root(function: Function) -> bool:
    return function[0] in {"main", "_start"}


def _key(frame: Frame) -> Function:
    return frame.function, frame.module
