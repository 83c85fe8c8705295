"""Resolves words of a stack trie to frames: native addresses and Python instructions."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._core.columns.trie import number_words
from mematlas.recording import debuginfod, linetable, symbols
from mematlas.recording.model import ADDRESS, PYTHON, Frame

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import CodeObject, Module, RecordingData, Rows

    Words = NDArray[np.uint64]

_CUT = (Frame("[deeper frames not seen]", None, None, None, "native"),)


class Resolver:
    """Resolver of words. Opens the symbols of each file once for all processes."""

    def __init__(self) -> None:
        """Start without open symbols."""
        self._tables: dict[tuple[str, str], symbols.Table] = {}

    @property
    def notes(self) -> list[str]:
        """What could not be resolved, and why: a line per file, or one for all."""
        notes = dict.fromkeys(table.note for table in self._tables.values() if table.note)
        return [*notes, *debuginfod.failures()]

    def resolve(
        self,
        words: Iterable[int] | Words,
        modules: Sequence[Module],
        codes: Sequence[CodeObject],
        known: Container[int] = (),
    ) -> dict[int, tuple[Frame, ...]]:
        """Return the frames of each distinct word that is not in `known`, leaf (inlined) first."""
        distinct, _ = number_words(np.ascontiguousarray(words, np.uint64))
        owners = modules_of(distinct, modules)
        unknown = [
            pair
            for pair in zip(distinct.tolist(), owners.tolist(), strict=True)
            if pair[0] not in known
        ]
        found: dict[int, tuple[Frame, ...]] = {}
        for owner, group in groupby(unknown, key=lambda pair: _source(*pair)):
            those = [word for word, _ in group]
            if those[0] & PYTHON:
                found.update(zip(those, _python(those, codes), strict=True))
            elif those[0] == 0:
                found[0] = _CUT
            elif owner < 0 or not modules[owner].path:
                for word in those:
                    address = word & ADDRESS
                    found[word] = (Frame(f"{address:#x}", None, None, None, "native"),)
            else:
                module = modules[owner]
                frames = self._table(module).all_frames([word - module.bias for word in those])
                found.update(zip(those, frames, strict=True))
        return found

    def _table(self, module: Module) -> symbols.Table:
        key = (module.path, module.build_id)
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = symbols.open_table(module)
        return table


class FrameCache:
    """Frames of a growing recording. Each word is resolved once."""

    def __init__(self) -> None:
        """Start with an empty cache."""
        self._resolver = Resolver()
        self._known: dict[int, dict[int, tuple[Frame, ...]]] = {}

    def add_frames(self, recording: RecordingData) -> None:
        """Add frames to a recording that was read before its run wrote them."""
        for index, rows in recording.nodes.items():
            known = self._known.setdefault(index, {})
            known.update(recording.frames.get(index, {}))  # of JIT compilers
            modules, codes = recording.modules.get(index, []), recording.codes.get(index, [])
            known.update(self._resolver.resolve(used_words(rows), modules, codes, known))
            recording.frames.setdefault(index, {}).update(known)


def resolve_missing(recording: RecordingData) -> list[str]:
    """Resolve the words of a recording that was cut short; return notes."""
    resolver = Resolver()
    for index, rows in recording.nodes.items():
        frames = recording.frames.setdefault(index, {})
        missing = resolver.resolve(
            used_words(rows),
            recording.modules.get(index, []),
            recording.codes.get(index, []),
            frames,
        )
        frames.update(missing)
    return resolver.notes


def used_words(nodes: Rows) -> Words:
    """Return the words of all nodes but the root. Some may occur more than once."""
    packed: Any = nodes
    words: Words = packed.distinct("word", 1) if hasattr(packed, "distinct") else nodes["word"][1:]
    return words


def modules_of(words: Words, modules: Sequence[Module]) -> NDArray[np.int64]:
    """Return the index of the module of each word, -1 for none; words ascend.

    Of overlapping modules the last holds. A word is a return address: the end belongs to a module, its start does not.
    """
    owners = np.full(len(words), -1, np.int64)
    for index, module in enumerate(modules):
        first, last = np.searchsorted(
            words, np.array([module.start, module.end], np.uint64), "right"
        )
        owners[first:last] = index
    return owners


def _source(word: int, owner: int) -> int:
    """Return where the name of a word comes from: the module, a code object, -1 of what has neither, or -2 of word 0."""
    if word & PYTHON:
        return word >> 32
    return owner if word else -2


def _python(words: Sequence[int], codes: Sequence[CodeObject]) -> list[tuple[Frame, ...]]:
    """Return the frames of ascending words of one code object. A line has one frame."""
    number = words[0] >> 32 & 0x7FFFFFFF
    if not 1 <= number <= len(codes):
        return [(Frame("[unknown Python code]", None, None, None, "python"),)] * len(words)
    code = codes[number - 1]
    offsets = [word & 0x7FFFFFFF for word in words]
    places = sorted(set(offsets))  # of a damaged word the offset need not ascend
    lines = linetable.decode_all(code.linetable_format, code.linetable, code.first_line, places)
    by_line = {line: (Frame(code.name, code.file, line, None, "python"),) for line in set(lines)}
    line_at = dict(zip(places, lines, strict=True))
    return [by_line[line_at[offset]] for offset in offsets]
