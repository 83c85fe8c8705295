"""Payload of a page: one gzip of a JSON header and binary columns, in base64.

Layout: u32 length of the header, the header, the columns in header order.

"""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

from mematlas.present.printable import clean, shorten
from mematlas.report import frame_names, titles
from mematlas.report.analyse.imports import module_name
from mematlas.report.analyse.lines import rank, tier
from mematlas.report.analyse.packages import package_of
from mematlas.report.analyse.short_paths import short_path
from mematlas.report.analyse.table import StackTable
from mematlas.report.html.source_lines import read_source_lines
from mematlas.report.html.trie import FOLD, Trie, TrieBuilder
from mematlas.report.model.report import METRICS
from mematlas.report.varints import varints

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.recording.model import Frame
    from mematlas.report.model.report import Report

    Head = Callable[["FrameTable"], dict[str, Any]]

LARGEST = 1_250_000
"""Limit of the base64 text in bytes; above, more is folded. The file stays below 1.5 MB."""
_QUICK = 6  # level of deflate; 9 takes four times as long
_SAVING = 0.1  # more than level 9 saves
_KINDS = {"python": 0, "native": 1, "inlined": 2}
_COLUMNS = (
    *("function", "file", "short", "line", "module", "kind", "tier", "rank"),
    *("package", "imported"),
)


def metrics() -> list[dict[str, str]]:
    """Return the metrics in the order of the trie's rows, with title and meaning."""
    return [
        {"name": name, "title": titles.METRIC_TITLES[name], "meaning": titles.METRIC_MEANINGS[name]}
        for name in METRICS
    ]


def roots_of(report: Report) -> dict[int, str]:
    """Return the names of the processes if there is more than one."""
    if len(StackTable.of(report.stacks).processes()) < 2:
        return {}
    return {
        line.index: f"{shorten(clean(line.command), 200)} ({line.pid})" for line in report.processes
    }


def pack(builder: TrieBuilder, head: Head, directory: str, report: Report | None = None) -> str:
    """Pack stacks and the header of a page. Fold more of the stacks if the payload is too large.

    `report` is of the run that the lines of source are shown for; without it there are none.
    """
    fold = FOLD
    while True:
        packed = _pack(builder.build(fold), fold, head, FrameTable(directory, report))
        if len(packed) <= LARGEST or fold > 0.1:
            return packed
        fold *= 2


def _pack(trie: Trie, fold: float, head: Head, table: FrameTable) -> str:
    for frame in trie.frames:
        table.number(frame)
    wide = "u4" if len(trie.frames) > 0xFFFF else "u2"
    columns = [
        trie.depth.astype("<u2").tobytes(),
        trie.frame.astype("<" + wide).tobytes(),
        *(varints(row) for row in trie.own),
        varints(trie.folded),
    ]
    phrase = {
        "nodes": len(trie.depth),
        "fold": fold,
        "frameType": wide,
        "columns": [len(column) for column in columns],
        "metrics": metrics(),
        **head(table),
        "frames": table.columns(),
    }
    text = json.dumps(phrase, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-(len(text) + 4) % 4)
    raw = b"".join([len(text).to_bytes(4, "little"), text, *columns])
    packed = gzip.compress(raw, compresslevel=_QUICK, mtime=0)
    if 0 <= 4 * len(packed) / 3 - LARGEST < _SAVING * LARGEST:
        packed = gzip.compress(raw, compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode()


class FrameTable:
    """Table of frames by number, with shared strings."""

    def __init__(self, directory: str, report: Report | None = None) -> None:
        """Create an empty table; see `pack`."""
        self._directory = directory
        self._report = report
        self._numbers: dict[Frame | str, int] = {}
        self._strings: dict[str, int] = {}
        self._rows: list[tuple[int, ...]] = []

    def number(self, frame: Frame | str) -> int:
        """Return the number of a frame, a new one for a new frame."""
        number = self._numbers.get(frame)
        if number is None:
            number = self._numbers[frame] = len(self._rows)
            self._rows.append(self._row(frame))
        return number

    def _row(self, frame: Frame | str) -> tuple[int, ...]:
        if isinstance(frame, str):
            return (self._text(clean(frame)), 0, 0, 0, 0, 3, 1, 0, 0, 0)
        is_module = frame.kind == "python" and frame.function == "<module>"
        return (
            self._text(frame_names.function_name(frame)),
            self._text(shorten(clean(frame.file or ""), 1000)),
            self._text(self._short(frame.file) if frame.file else ""),
            -1 if frame.line is None else frame.line,
            self._text(shorten(clean(frame.module or ""), 200)),
            _KINDS.get(frame.kind, 1),
            tier(frame),
            rank(frame),
            self._text(shorten(clean(package_of(frame, self._directory)), 80)),
            self._text(shorten(clean(module_name(frame.file)), 120))
            if is_module and frame.file
            else 0,
        )

    def _short(self, file: str) -> str:
        return shorten(short_path(file, self._directory), 120)

    def _text(self, text: str) -> int:
        if not self._strings:
            self._strings[""] = 0
        return self._strings.setdefault(text, len(self._strings))

    def columns(self) -> dict[str, Any]:
        """Return the table as one list per column."""
        rows = zip(*self._rows, strict=True) if self._rows else ((),) * len(_COLUMNS)
        found: dict[str, Any] = {key: list(row) for key, row in zip(_COLUMNS, rows, strict=True)}
        found["code"], found["changed"] = self._source()
        found["strings"] = list(self._strings)
        return found

    def _source(self) -> tuple[list[int], list[int]]:
        """Return each frame's line of source, and the frames whose file is newer than the run."""
        code: list[int] = [0] * len(self._rows)
        changed: list[int] = []
        if self._report is None:
            return code, changed
        read = read_source_lines(
            self._numbers, self._report.started, only_of_root=self._report.only_of_root
        )
        for frame, number in self._numbers.items():
            line = None if isinstance(frame, str) else read.get((frame.file or "", frame.line or 0))
            if line is not None:
                code[number] = self._text(line.text)
                if line.changed:
                    changed.append(number)
        return code, changed
