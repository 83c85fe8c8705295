"""Source text of the lines that a page shows, read from the files when the page is made.

A recording names any path it likes, and pages are passed on. So a file is read only if it is a regular
file with the suffix of source code, after all links are followed, and only as far as the limits allow. Root reads for
programs of other users only what everybody may read.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mematlas.present.printable import clean
from mematlas.report.analyse.lines import tier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.recording.model import Frame

_SOURCE = re.compile(
    r"\.(py[xi]?|px[di]|[chs]|cc|cpp|cxx|c\+\+|hh|hpp|hxx|h\+\+|inc|inl|ipp|tcc|asm|rs|go|[cm]?js|tsx?|jsx"
    r"|java|kt|scala|rb|p[lm]|lua|php|f(or|90|95|03)?|d|zig|nim|swift|cu|mm?|cs|jl|r|hs|ml|exs?|erl)$",
    re.IGNORECASE,
)
_MOST_FILES = 400
_MOST_LINES = 3000
_LARGEST_FILE = 4 << 20
_LETTERS = 160


class SourceLine(NamedTuple):
    """Text of a line; `changed` if the file was written to after the run began."""

    text: str
    changed: bool


def read_source_lines(
    frames: Iterable[Frame | str], started: str, *, only_of_root: bool
) -> dict[tuple[str, int], SourceLine]:
    """Return the text of the frames' lines by file and line, the program's own code first.

    `started` is the start of the run in ISO 8601. A line that cannot be read is left out.
    `only_of_root`: all programs of the run were root's.
    """
    began, wanted = _seconds(started), _lines_by_file(frames)
    is_public = os.geteuid() == 0 and not only_of_root
    found: dict[tuple[str, int], SourceLine] = {}
    for file, numbers in wanted.items():
        read = _read(file, is_public=is_public)
        if read is None:
            continue
        text, written = read
        lines = text.split("\n")
        changed = began is None or written >= began + 1  # a start is told in whole seconds
        for number in numbers:
            line = clean(lines[number - 1].strip()) if number <= len(lines) else ""
            if line:
                cut = f"{line[: _LETTERS - 1]}…" if len(line) > _LETTERS else line
                found[file, number] = SourceLine(cut, changed)
    return found


def _lines_by_file(frames: Iterable[Frame | str]) -> dict[str, set[int]]:
    """Group lines by file; stop at the limits."""
    located = [
        (tier(frame), frame.file, frame.line)
        for frame in frames
        if not isinstance(frame, str)
        and frame.file
        and frame.file.startswith("/")
        and frame.line is not None
        and frame.line > 0
    ]
    found: dict[str, set[int]] = {}
    for _, file, line in sorted(located, key=lambda each: each[0])[:_MOST_LINES]:
        if file in found or len(found) < _MOST_FILES:
            found.setdefault(file, set()).add(line)
    return found


def _read(path: str, *, is_public: bool) -> tuple[str, float] | None:
    """Return the text of a source file and the time it was written; None if it is no such file."""
    if "\0" in path or not _SOURCE.search(path):
        return None
    with suppress(OSError, UnicodeDecodeError):
        # O_NONBLOCK: opening a FIFO must not wait for a writer. Opening a device has effects.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            real = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LARGEST_FILE:
                return None
            if not _SOURCE.search(real) or (is_public and not _is_public(real, facts)):
                return None
            return file.read(_LARGEST_FILE).decode(), facts.st_mtime
    return None


def _is_public(real: str, facts: os.stat_result) -> bool:
    """Return whether everybody may read a file, by its mode and those of the folders on its path."""
    folders = (folder.stat().st_mode for folder in Path(real).parents)
    return bool(facts.st_mode & stat.S_IROTH) and all(mode & stat.S_IXOTH for mode in folders)


def _seconds(started: str) -> float | None:
    try:
        return datetime.fromisoformat(started).timestamp()
    except ValueError:
        return None
