"""Matching of the frames of two recordings, by function and relative path.

Two checkouts or environments lie in different folders, and an edit moves the lines below it. So a frame is
matched by what stays: of Python its function and the path within the program, site-packages or the standard
library, of native code its function and its library without version. Lines match by number. Where a
function has moved as a whole, they match by their distance from its first line; where that is not known and no
line is in both runs, all its lines are one.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from mematlas.report.analyse.short_paths import short_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mematlas.recording.model import Frame, RecordingData

    Function = tuple[str, str]  # name; path or library

_TAG = re.compile(
    r"\.(?:cpython-\w+|abi3|pypy\w+)(?:-[\w-]+)?(?=\.so)"
    r"|(?<=\.so)[.\d]+$"
    r"|(?:-[0-9a-f]{8})+(?:\.[\w.]+)?(?=\.so)"  # of a library that a wheel brings: libz-eb09ad1d.so.1.2.3
    r"|(?<=[A-Za-z_])-?\d+(?:\.\d+)+(?=\.so|$)"  # libc-2.31.so, libpython3.12.so, python3.12
)
_MOST_PAIRS = 200  # of files of one name
_WHOLE = 0  # the line of a function whose lines are one


def library_name(module: str) -> str:
    """Return the name of a library without folder, version and tag: "libfoo.so", "_json.so"."""
    return _TAG.sub("", PurePath(module.removesuffix(" (deleted)")).name)


def pair_paths(before: Iterable[str], after: Iterable[str]) -> dict[str, str]:
    """Return the path in `before` for each path in `after` that lies in another folder there.

    Folders that have most files in common are paired first: /ci/1/src with /home/me/src. A path that is in
    both is not paired.
    """
    known, later = set(before), set(after)
    olds, news = known - later, later - known
    by_name: dict[str, list[str]] = {}
    for path in olds:
        by_name.setdefault(PurePath(path).name, []).append(path)
    moves: Counter[tuple[str, str]] = Counter()
    candidates: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for new in news:
        for old in by_name.get(PurePath(new).name, ())[:_MOST_PAIRS]:
            folders = _without_common_end(old, new)
            moves[folders] += 1
            candidates.setdefault(folders, []).append((old, new))
    found: dict[str, str] = {}
    taken: set[str] = set()
    for folders, _ in sorted(
        moves.items(), key=lambda each: (-each[1], len(each[0][0]) + len(each[0][1]), each[0])
    ):
        for old, new in sorted(candidates[folders]):
            if new not in found and old not in taken:
                found[new] = old
                taken.add(old)
    return found


def _without_common_end(old: str, new: str) -> tuple[str, str]:
    a, b = PurePath(old).parts, PurePath(new).parts
    common = 0
    while common < min(len(a), len(b)) and a[-1 - common] == b[-1 - common]:
        common += 1
    return "/".join(a[: len(a) - common]), "/".join(b[: len(b) - common])


class FrameMatcher:
    """Keys of the frames of two recordings: frames that match have equal keys."""

    def __init__(
        self,
        recordings: tuple[RecordingData, RecordingData],
        frames: tuple[Sequence[Frame], Sequence[Frame]],
        *,
        ignore_lines: bool = False,
    ) -> None:
        """Match `frames`, all that occur in the stacks of each recording."""
        paths = [{_path(each) for each in side if _path(each)} for side in frames]
        self._moved = pair_paths(*paths)
        firsts = [_first_lines(each, self._place) for each in recordings]
        lines = [self._lines_of(side) for side in frames]
        self._shifts: dict[Function, int | None] = {}
        for function in {**lines[0], **lines[1]}:
            if ignore_lines:
                self._shifts[function] = None
                continue
            old, new = lines[0].get(function, set()), lines[1].get(function, set())
            shift = _shift(old, new, firsts[0].get(function), firsts[1].get(function))
            if shift != 0:
                self._shifts[function] = shift
        self._shown: dict[tuple[str, str, int | None], Frame] = {}

    def key(self, side: int, frame: Frame | None) -> tuple[str, str, int | None] | None:
        """Return the key of a frame of the first (0) or the second (1) recording."""
        if frame is None:
            return None
        function = self._function(frame)
        shift = self._shifts.get(function, 0)
        if shift is None:
            return (*function, _WHOLE)
        line = frame.line
        if shift and line is not None and side == 0:
            line += shift
        return (*function, line)

    def shown(self, side: int, frame: Frame) -> Frame:
        """Return one frame for all that match. Lines are those of the second recording."""
        key = self.key(side, frame)
        assert key is not None
        found = self._shown.get(key)
        if found is None:
            line = frame.line if key[2] == _WHOLE else key[2]
            found = self._shown[key] = replace(frame, line=line)
        return found

    def _function(self, frame: Frame) -> Function:
        if frame.kind != "python" and frame.module:
            return frame.function, library_name(frame.module)
        return frame.function, self._place(_path(frame))

    def _place(self, path: str) -> str:
        return self._moved.get(path, path)

    def _lines_of(self, frames: Iterable[Frame]) -> dict[Function, set[int]]:
        found: dict[Function, set[int]] = {}
        for each in frames:
            if each.line is not None:
                found.setdefault(self._function(each), set()).add(each.line)
        return found


def _path(frame: Frame) -> str:
    return short_path(frame.file or frame.module or "")


def _first_lines(recording: RecordingData, place: Callable[[str], str]) -> dict[Function, set[int]]:
    """Return the first lines of the code objects of each Python function."""
    found: dict[Function, set[int]] = {}
    for codes in recording.codes.values():
        for code in codes:
            function = code.name, place(short_path(code.file))
            found.setdefault(function, set()).add(code.first_line)
    return found


def _shift(
    old: set[int], new: set[int], old_first: set[int] | None, new_first: set[int] | None
) -> int | None:
    """Return how many lines a function moved down; None: unknown, and no line is in both."""
    if old_first and new_first and len(old_first) == len(new_first) == 1:
        return min(new_first) - min(old_first)
    if not old or not new or old & new or (old_first and old_first == new_first):
        return 0
    return None
