"""JSON writer of report models. Long lists are streamed.

Each document is {"schema": "mematlas/COMMAND/1", "data": ...}; mematlas.present has the JSON Schemas.

"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from mematlas.present.printable import LONGEST
from mematlas.report import leaks as words
from mematlas.report.analyse.table import StackTable
from mematlas.report.model.leaks import LeakVerdict
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from mematlas.recording.model import Frame
    from mematlas.report.analyse.packages import PackageStats
    from mematlas.report.model.call_tree import CallTree
    from mematlas.report.model.leaks import HeapAtExit, Leak, Leaks
    from mematlas.report.model.report import (
        Account,
        BadFree,
        LastLook,
        ObjectType,
        OwnPeak,
        PageFaults,
        ProcessSummary,
        Report,
        StackFaults,
        StackStats,
    )
    from mematlas.report.model.window import Window

_BATCH = 1000
_MOST_LOST = 1000  # rows of lost memory
_SITES = 1000


def render_report(report: Report, *, by: str, top: int | None = None) -> Iterator[str]:
    """Render the report with the first `top` stacks by a metric."""
    table = StackTable.of(report.stacks)
    shown = table.first(by, len(table) if top is None else top)
    items = list(shown) if len(shown) < len(table) else shown
    texts = FrameTexts()
    unknown = {f"{metric}_bytes" for metric in METRICS if report.why_unknown(metric)}
    yield from _answer(
        "report",
        {
            "command": list(report.command),
            "started": report.started,
            "machine": report.machine,
            "runs": [{**asdict(each), "labels": dict(each.labels)} for each in report.runs],
            "sampling": asdict(report.sampling),
            "complete": report.complete,
            "account": _account(report.account),
            "last": _account(report.last),
            "at": report.at,
            "marks": [asdict(each) for each in report.marks],
            "peak": {"live_bytes": report.peak_live_bytes, "time_s": report.peak_live_time_s},
            "processes": [_process(each) for each in report.processes],
            "timeline": [asdict(each) for each in report.series],
            "bad_frees": [_bad_free(each) for each in report.bad_frees],
            "notes": list(report.notes),
            "idle": report.idle and asdict(report.idle),
            "slack": report.slack and [asdict(each) for each in report.slack],
            "page_faults": _page_faults(report.page_faults, texts),
            "heaps": report.heaps and [asdict(each) for each in report.heaps],
            "objects": report.objects and [_object_type(each) for each in report.objects],
            "own_peaks": [_own_peak(each) for each in report.own_peaks],
            "last_looks": [_last_look(each) for each in report.last_looks],
            "imports": [asdict(each) for each in report.imports],
            "by": by,
            "stacks_total": len(table),
            "rest": _rest(table, items, unknown),
        },
        {"stacks": _Items(items, texts, unknown)},
    )


def render_leaks(leaks: Leaks, *, top: int | None = None) -> Iterator[str]:
    """Render the leaks, the first `top` of them."""
    yield from _answer(
        "leaks",
        {
            "command": list(leaks.command),
            "started": leaks.started,
            "sampling": asdict(leaks.sampling),
            "complete": leaks.complete,
            "time_s": leaks.time_s,
            "live_bytes": leaks.live_bytes,
            "likely_bytes": leaks.likely_bytes,
            "likely_error_bytes": leaks.likely_error_bytes,
            "resolution_bytes": leaks.resolution_bytes,
            "verdicts": {str(each): leaks.sum_of(each)._asdict() for each in LeakVerdict},
            "headline": words.sentence(leaks, 0, "", LONGEST).strip(),
            "least_bytes": leaks.least_bytes,
            "most_bytes": leaks.most_bytes,
            "growth_known": leaks.growth_known,
            "growth_unknown_processes": leaks.growth_unknown,
            "heap": _heap_at_exit(leaks.heap),
            "growth": [{**asdict(each), "bytes_per_s": each.bytes_per_s} for each in leaks.growth],
            "bad_frees": [_bad_free(each) for each in leaks.bad_frees],
            "notes": list(leaks.notes),
            "leaks_total": len(leaks.leaks),
        },
        {"leaks": _Items(leaks.leaks[:top], FrameTexts())},
    )


def _heap_at_exit(heap: HeapAtExit | None) -> dict[str, Any] | None:
    if heap is None:
        return None
    return {
        **{name: getattr(heap, name) for name in ("lost_bytes", "lost_count", "reachable_bytes")},
        "lost": [asdict(each) for each in heap.lost[:_MOST_LOST]],
        "doubts": list(heap.doubts),
    }


def render_window(window: Window, *, top: int | None = None) -> Iterator[str]:
    """Render a window with its first `top` stacks."""
    table = StackTable.of(window.stacks)
    shown = table.first("live", len(table) if top is None else top)
    values = ("command", "started", "complete", "start_s", "end_s", "to_the_end", "cell_s")
    yield from _answer(
        "window",
        {
            **{name: getattr(window, name) for name in values},
            "sampling": asdict(window.sampling),
            **{name: getattr(window, name) for name in ("bytes", "count", "error_bytes")},
            "rss_bytes": list(window.rss_bytes),
            "notes": list(window.notes),
            "stacks_total": len(table),
            "rest_bytes": window.bytes - shown.sum("live"),
        },
        {"stacks": _Items(map(WindowStack.of, shown), FrameTexts())},
    )


def render_packages(packages: Sequence[PackageStats], by: str, *, known: bool) -> Iterator[str]:
    """Render sums by package; empty if the metric is not known."""
    rows = [
        {
            "name": each.name,
            "bytes": each.bytes[by],
            "error_bytes": round(math.sqrt(each.variance)),
            "lines": each.lines,
            "largest": each.largest.frame and frame_fields(each.largest.frame),
        }
        for each in packages
        if known and each.bytes[by] > 0
    ]
    yield from _answer("packages", {"by": by, "known": known, "packages": rows}, {})


def render_call_tree(
    tree: CallTree, depth: int | None, least: float, *, known: bool
) -> Iterator[str]:
    """Render the nodes of a call tree in preorder, largest first; `least` is a fraction of the total."""
    nodes = []
    waiting = [(tree.root, 0)] if known else []
    while waiting:
        node, level = waiting.pop()
        label = node.label
        nodes.append(
            {
                "depth": level,
                "name": label if isinstance(label, str) else None,
                "frame": None if isinstance(label, str) else frame_fields(label),
                "bytes": node.bytes,
                "own_bytes": node.own_bytes,
                "error_bytes": round(math.sqrt(node.variance)),
            }
        )
        if depth is None or level < depth:
            children = [
                each for each in node.children.values() if each.bytes >= least * tree.root.bytes
            ]
            waiting += ((each, level + 1) for each in reversed(children))
    values = {
        "by": tree.by,
        "known": known,
        "inverted": tree.inverted,
        "by_package": tree.by_package,
        "total_bytes": tree.root.bytes if known else None,
        "nodes": nodes,
    }
    yield from _answer("tree", values, {})


@dataclass(frozen=True, slots=True)
class WindowStack:
    """The stack stats that a window has."""

    frames: tuple[Frame, ...]
    kind: str
    process: int
    bytes: int
    count: int
    error_bytes: int

    @classmethod
    def of(cls, stack: StackStats) -> WindowStack:
        """Copy them from StackStats."""
        stats = stack.live_bytes, stack.live_count, stack.error_bytes
        return cls(stack.frames, stack.kind, stack.process, *stats)


class FrameTexts:
    """Cache of frames as JSON: stacks share frames."""

    def __init__(self) -> None:
        """Start empty."""
        self._texts: dict[int, tuple[Frame, str]] = {}

    def of(self, frames: tuple[Frame, ...]) -> str:
        """Format a list of frames."""
        texts = self._texts
        found = []
        for frame in frames:
            known = texts.get(id(frame))
            if known is None:
                known = texts[id(frame)] = (frame, json.dumps(frame_fields(frame)))
            found.append(known[1])
        return f"[{', '.join(found)}]"


class _Items:
    """Dataclasses with frames, formatted one by one."""

    def __init__(
        self,
        items: Iterable[StackStats | Leak | WindowStack],
        texts: FrameTexts,
        unknown: Collection[str] = (),
    ) -> None:
        self._items = items
        self._texts = texts
        self._unknown = unknown

    def __iter__(self) -> Iterator[str]:
        for item in self._items:
            names = [field.name for field in fields(item) if field.name != "frames"]
            known = {name: None if name in self._unknown else getattr(item, name) for name in names}
            values = json.dumps(known)
            yield f'{{"frames": {self._texts.of(item.frames)}, {values[1:]}'


def _answer(command: str, values: dict[str, Any], lists: dict[str, _Items]) -> Iterator[str]:
    """Yield the small fields at once and the long lists in batches."""
    yield f'{{"schema": "mematlas/{command}/1", "data": {_object(values)[:-1]}'
    for name, items in lists.items():
        yield f', "{name}": ['
        batch: list[str] = []
        separator = "\n"
        for text in items:
            batch.append(text)
            if len(batch) == _BATCH:
                yield separator + ",\n".join(batch)
                batch, separator = [], ",\n"
        yield (separator + ",\n".join(batch) if batch else "") + "]"
    yield "}}\n"


class _RawJson(str):
    """Text that is JSON already."""

    __slots__ = ()


def _object(values: dict[str, Any]) -> _RawJson:
    """Format an object; values may be JSON already."""
    pairs = (
        f"{json.dumps(name)}: {each if isinstance(each, _RawJson) else json.dumps(each)}"
        for name, each in values.items()
    )
    return _RawJson(f"{{{', '.join(pairs)}}}")


def _account(account: Account) -> dict[str, Any]:
    return {
        **{name: getattr(account, name) for name in ("time_s", "trigger", "rss_bytes")},
        "highest_rss_bytes": account.highest_rss_bytes or None,
        "highest_time_s": account.highest_time_s,
        "missed_peak": account.missed_peak,
        "pss_bytes": account.pss_bytes,
        "sum": "pss" if account.counted_once else "rss",
        "processes": account.processes,
        "parts": [asdict(part) for part in account.parts],
        "unexplained_bytes": account.unexplained_bytes,
    }


def _process(process: ProcessSummary) -> dict[str, Any]:
    """Return a process as a dict; an unknown RSS is null."""
    return {**asdict(process), "peak_rss_bytes": process.peak_rss_bytes or None}


def _rest(
    table: StackTable, shown: Sequence[StackStats], unknown: Collection[str]
) -> dict[str, int | None]:
    """Sum the stacks that are not listed."""
    sums = dict.fromkeys((f"{name}_bytes" for name in METRICS), 0)
    if len(shown) < len(table):
        sums = {n: table.columns.sum(n) - sum(getattr(each, n) for each in shown) for n in sums}
    return {"stacks": len(table) - len(shown), **sums, **dict.fromkeys(unknown)}


def _page_faults(found: PageFaults | None, texts: FrameTexts) -> _RawJson | None:
    if found is None:
        return None
    values = {each.name: getattr(found, each.name) for each in fields(found)}
    values["refused"] = list(found.refused)
    values["sites_total"] = len(found.sites)
    sites = (_fault_site(each, texts) for each in found.sites[:_SITES])
    values["sites"] = _RawJson(f"[{', '.join(sites)}]")
    return _object(values)


def _fault_site(site: StackFaults, texts: FrameTexts) -> _RawJson:
    values = {each.name: getattr(site, each.name) for each in fields(site)}
    values["frames"] = _RawJson(texts.of(site.frames))
    values["owner"] = None if site.owner is None else _RawJson(texts.of(site.owner))
    return _object(values)


def _object_type(each: ObjectType) -> dict[str, Any]:
    frame = each.frame and frame_fields(each.frame)
    return {**asdict(replace(each, frame=None)), "frame": frame}


def _own_peak(each: OwnPeak) -> dict[str, Any]:
    frame = each.frame and frame_fields(each.frame)
    return {**asdict(replace(each, frame=None)), "frame": frame}


def _last_look(each: LastLook) -> dict[str, Any]:
    frame = each.grown_frame and frame_fields(each.grown_frame)
    return {**asdict(replace(each, grown_frame=None)), "grown_frame": frame}


def _bad_free(bad: BadFree) -> dict[str, Any]:
    """Return a bad free as a dict; what is unknown is null, unknown stacks have no frames."""
    stacks = ("frames", "block_frames", "freed_frames")
    return {
        each.name: [frame_fields(frame) for frame in getattr(bad, each.name)]
        if each.name in stacks
        else getattr(bad, each.name)
        for each in fields(bad)
    }


def frame_fields(frame: Frame) -> dict[str, Any]:
    """Return the fields of a frame; `wrapper` only if the frame was marked as one."""
    found: dict[str, Any] = {
        "function": frame.function,
        "file": frame.file,
        "line": frame.line,
        "module": frame.module,
        "kind": frame.kind,
    }
    if frame.wrapper:
        found["wrapper"] = True
    return found
