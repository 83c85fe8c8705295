"""The list of processes: a tree in which short-lived helpers of one parent are folded into one row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.present.printable import clean, shorten
from mematlas.report import quantities
from mematlas.report.run_facts import process_tree
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.report.model.report import ProcessSummary, Report

_SMALL = 0.25  # of the highest RSS of any process
_BRIEF_S = 1.0
_BRIEF = 0.05  # of the run
_FEW = 3  # so many helpers are listed
_NAMED = 4
_PROGRAM = 30  # letters


@dataclass(frozen=True, slots=True)
class Helpers:
    """Small processes that lived briefly and ended well, with all that they started."""

    processes: tuple[ProcessSummary, ...]

    @property
    def peak_rss_bytes(self) -> int:
        """The highest RSS of one of them."""
        return max(each.peak_rss_bytes for each in self.processes)

    def describe(self, width: int = _PROGRAM) -> str:
        """Return their number and their programs: "23 short-lived processes: cut x6, sh x5, ..."."""
        names = Counter(_program(each, width) for each in self.processes)
        some = [
            name if count == 1 else f"{name} x{count}" for name, count in names.most_common(_NAMED)
        ]
        more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
        known = self.peak_rss_bytes
        size = f", {format_bytes(known)} at most" if known else ""
        count = quantities.count(len(self.processes), "short-lived program")
        return f"{count}{size}: {', '.join([*some, *more])}"


def _program(process: ProcessSummary, width: int) -> str:
    words = clean(process.command).split()
    return shorten(words[0].rsplit("/", 1)[-1] if words else "unknown", width)


def process_rows(report: Report) -> list[tuple[ProcessSummary | Helpers, int]]:
    """Return processes with their depth, each after its parent; the helpers of a parent come last, in one row."""
    tree = process_tree(report.processes)
    brief_s = max(_BRIEF_S, _BRIEF * max((each.end_s or 0.0 for each, _ in tree), default=0.0))
    small = _SMALL * max((each.peak_rss_bytes for each, _ in tree), default=0)
    shown = {peak for each in report.own_peaks for peak in each.processes}
    ends = _subtrees([depth for _, depth in tree])
    helpers = [
        all(
            _is_helper(each, brief_s, small) and each.index not in shown
            for each, _ in tree[number : ends[number]]
        )
        for number in range(len(tree))
    ]
    return _fold(tree, ends, helpers)


def _fold(
    tree: list[tuple[ProcessSummary, int]], ends: list[int], helpers: list[bool]
) -> list[tuple[ProcessSummary | Helpers, int]]:
    rows: list[tuple[ProcessSummary | Helpers, int]] = []
    number = 0
    while number < len(tree):
        line, depth = tree[number]
        if not helpers[number]:
            rows.append((line, depth))
            number += 1
            continue
        end = number
        while end < len(tree) and tree[end][1] == depth and helpers[end]:
            end = ends[end]
        some = [each for each, _ in tree[number:end]]
        if len(some) >= _FEW:
            rows.append((Helpers(tuple(some)), depth))
        else:
            rows += tree[number:end]
        number = end
    return rows


def _subtrees(depths: list[int]) -> list[int]:
    """Return where the subtree of each row ends."""
    ends = [len(depths)] * len(depths)
    open_rows: list[int] = []
    for number, depth in enumerate(depths):
        while open_rows and depths[open_rows[-1]] >= depth:
            ends[open_rows.pop()] = number
        open_rows.append(number)
    return ends


def _is_helper(process: ProcessSummary, brief_s: float, small: float) -> bool:
    """Return whether a process was small, brief, and ended well."""
    return (
        process.end_s is not None
        and process.end_s - process.start_s <= brief_s
        and process.peak_rss_bytes <= small
        and process.ending in {"exec", "exited 0", "exited 1"}
        and not process.note
    )
