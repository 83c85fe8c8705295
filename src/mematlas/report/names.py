"""How views name things: places in code, parts of memory, moments, and the answer in one sentence."""

from __future__ import annotations

import os
import re
from itertools import accumulate
from typing import TYPE_CHECKING

from mematlas.present.printable import clean, shorten
from mematlas.recording.model import LIFETIME_LIMITS_S, PartKind
from mematlas.report import timeline
from mematlas.report.analyse.lines import OWN, owner, tier
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mematlas.recording.model import Frame, Sampling
    from mematlas.report.analyse.lines import Line
    from mematlas.report.model.report import Account, IdleSummary, ProcessLine, Report

PART_TITLES: dict[str, str] = {
    PartKind.LIVE: "live allocations",
    PartKind.SLACK: "allocator slack",
    PartKind.STACK: "thread stacks",
    PartKind.FILE: "files",
    PartKind.SHARED: "shared memory",
    PartKind.ANON: "other anonymous",
    PartKind.TRACER: "mematlas itself",
    "unexplained": "unexplained",
}
PART_MEANINGS: dict[str, str] = {
    PartKind.LIVE: "resident pages of blocks and mappings the program holds",
    PartKind.SLACK: "resident, kept by an allocator, in no live block",
    PartKind.STACK: "stacks of the program's threads",
    PartKind.FILE: "mapped files: programs, libraries, data",
    PartKind.SHARED: "shared anonymous memory, memfd, /dev/shm",
    PartKind.ANON: "anonymous mappings made before or beside the tracer",
    PartKind.TRACER: "what tracing itself keeps in the program",
    "unexplained": "changed between two readings of the kernel",
}
KIND_TITLES = {
    "malloc": "malloc blocks",
    "mmap": "mappings",
    "pyobject": "Python objects",
    "arena": "allocator arenas",
    "filemap": "file mappings",
}
METRIC_TITLES = {
    "resident": "resident",
    "live": "live",
    "peak": "live at peak",
    "allocated": "allocated",
    "huge": "in huge pages",
    "swapped": "swapped out",
    "faulted": "faulted in",
    "temporary": "temporary",
    "fragmented": "fragmented",
    "idle": "idle",
}
METRIC_MEANINGS = {
    "resident": "in RAM when the account was taken",
    "live": "allocated and not yet freed when the account was taken",
    "peak": "live when the program's live bytes were highest",
    "allocated": "allocated over the whole run, freed since or not",
    "huge": "resident in transparent huge pages",
    "swapped": "written out to swap",
    "faulted": "made resident by the page faults these lines took",
    "fragmented": "free bytes kept resident by these lines' blocks, on the same pages",
    "idle": "resident, and used by nobody for at least the time given by --idle",
    "temporary": "of blocks freed within a millisecond, over the whole run",
}
IDLE_METHODS = {
    "idle": "idle page tracking",
    "referenced": "referenced bits of mappings",
}
CUT_SHORT = "The run was cut short; figures are right up to its last record."
_LIBRARY_ROOTS = re.compile(
    r"^.*/(?:site|dist)-packages/|^.*/lib(?:64)?/python3[^/]*/|^.*/Python-3\.[^/]*/"
)


def short_path(path: str, directory: str = "") -> str:
    """Path from `directory`, or from site-packages or the standard library, where it is below one."""
    path = clean(path)
    base = directory.rstrip("/") + "/"
    if len(base) > 1 and path.startswith(base) and not _LIBRARY_ROOTS.match(path[len(base) - 1 :]):
        return path[len(base) :]
    return _LIBRARY_ROOTS.sub("", path)


def place(frame: Frame, directory: str = "") -> str:
    """`file:line`, or as much as is known of it; the module where there is no file."""
    if frame.file:
        path = short_path(frame.file, directory)
        return path if frame.line is None else f"{path}:{frame.line}"
    if frame.module:
        return clean(frame.module).rsplit("/", 1)[-1]
    return "unknown place"


def function(frame: Frame) -> str:
    """Name of a function, never empty."""
    return clean(frame.function).replace(".<locals>.", ".") or "unknown function"


def owner_text(line: Line, directory: str = "") -> str:
    """Write `function file:line`, or what it means that there is none."""
    if line.frame is None:
        return "stack not seen"
    where = shorten(place(line.frame, directory), 80)
    return f"{shorten(function(line.frame), 80)} {where}"


def count(number: int, noun: str) -> str:
    """Write "1 block", "2,000 blocks"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def lifetimes(blocks: Sequence[int]) -> str:
    """Write how long freed blocks lived: "2,000 freed: 98.5 % within 1 ms, half of them within 100 us"."""
    freed = sum(blocks)
    if not freed:
        return "none was freed"
    below = list(accumulate(blocks))
    said = f"{freed:,} freed: {percent(below[1], freed)} within a millisecond"
    half = next(number for number, blocks in enumerate(below) if 2 * blocks >= freed)
    if half == len(LIFETIME_LIMITS_S):
        return f"{said}, half of them lived {format_duration(LIFETIME_LIMITS_S[-1])} or longer"
    return f"{said}, half of them within {format_duration(LIFETIME_LIMITS_S[half])}"


def idle(idle: IdleSummary) -> str:
    """Write what a search for cold pages found, and how far it goes."""
    said = f"{format_bytes(idle.bytes)} used by nobody for {format_duration(idle.seconds)}"
    said += f" up to {format_duration(idle.time_s)}"
    least = "" if idle.whole else "; lines have at least so much of it"
    return f"{said}, by {IDLE_METHODS.get(idle.method, idle.method)}{least}"


def percent(part: float, whole: float) -> str:
    """Share of a whole with one digit: "43.7 %"."""
    if whole <= 0:
        return "unknown"
    share = 100 * part / whole
    return "<0.1 %" if 0 < share < 0.05 else f"{share:.1f} %"


def was_let_go(report: Report) -> bool:
    """Tell whether all that was traced was detached from, and ran on."""
    return bool(report.processes) and all(each.ending == "detached" for each in report.processes)


def moment(account: Account, *, let_go: bool = False) -> str:
    """When and why an account was taken."""
    why = {
        "peak": "near the highest RSS",
        "exit": "when it was detached from" if let_go else "at exit",
        "interval": "a regular look",
        "stopped": "program stopped",
    }.get(account.trigger, account.trigger)
    return f"at {format_duration(account.time_s)}, {why}" if why else "not seen"


def seen(account: Account) -> bool:
    """Tell an account that was taken from one that stands for "never seen"."""
    return bool(account.parts)


def part_totals(account: Account) -> list[tuple[str, int]]:
    """Bytes by kind of part, in the order of PART_TITLES, what is unexplained last."""
    sums: dict[str, int] = {}
    for part in account.parts:
        sums[part.kind] = sums.get(part.kind, 0) + part.resident_bytes
    if account.unexplained_bytes:
        sums["unexplained"] = account.unexplained_bytes
    return [(kind, sums[kind]) for kind in PART_TITLES if kind in sums]


def answer(report: Report, ranked: list[Line], directory: str) -> str:
    """Say where the memory is, in one or two sentences; lines ranked by resident bytes."""
    return "".join(text for text, _ in answer_spans(report, ranked, directory))


def answer_spans(report: Report, ranked: list[Line], directory: str) -> list[tuple[str, str]]:
    """Give the answer in pieces, each with its role: "figure", "code", or "" for plain words."""
    account = report.account
    if account.rss_bytes <= 0:
        return [("Resident memory is unknown: no look at the program's pages succeeded.", "")]
    if not seen(account):
        return [
            (format_bytes(account.rss_bytes), "figure"),
            (" resident; in what is unknown: no look at the program's pages succeeded.", ""),
        ]
    spans = [(format_bytes(account.rss_bytes), "figure"), (f" resident {_nearness(report)}: ", "")]
    for number, (kind, size) in enumerate(sorted(part_totals(account), key=_by_size)[:2]):
        held = "held by" if kind == PartKind.LIVE else "in"
        spans.append((" and " if number else "", ""))
        spans.append((f"{100 * size / account.rss_bytes:.0f} %", "figure"))
        spans.append((f" {held} {PART_TITLES[kind]}", ""))
    spans.append((".", ""))
    if ranked and ranked[0].bytes["resident"] > 0:
        spans.append((" The largest owner is ", ""))
        spans.append((owner_text(ranked[0], directory), "code"))
        spans.append((" with ", ""))
        spans.append((format_bytes(ranked[0].bytes["resident"]), "figure"))
        error = ranked[0].error_bytes
        spans.append((f" ± {format_bytes(error)}." if error else ".", ""))
    return spans


def _nearness(report: Report) -> str:
    """Tell "at the peak" from "near" it: residency is looked at now and then, RSS more often."""
    if len(report.processes) > 1:
        return f"at {format_duration(report.account.time_s)}, when they had most of their own"
    top = timeline.highest(timeline.summed(report, "rss_bytes"))
    if top is None or top[0] <= report.account.rss_bytes * 1.02:
        return "at the peak"
    return f"near the peak of {format_bytes(top[0])}"


def _by_size(pair: tuple[str, int]) -> int:
    return -pair[1]


def sampling_text(sampling: Sampling) -> str:
    """Say how the run was traced."""
    if sampling.mode == "exact":
        return "every allocation recorded"
    return f"sampled about every {format_bytes(sampling.sample_bytes)}, with standard errors"


def started(moment: str) -> str:
    """Say when a run began: "2026-11-23 09:14:07 UTC"."""
    return clean(moment).replace("T", " ").replace("Z", " UTC").replace("+00:00", " UTC")


def crowd(report: Report) -> str:
    """Count processes, and the programs that they ran one after the other; nothing of one alone."""
    images, processes = len(report.processes), len({each.pid for each in report.processes})
    if images < 2:
        return ""
    said = "1 process" if processes == 1 else f"{processes:,} processes"
    return said if images == processes else f"{said} that ran {images:,} programs"


def duration_s(report: Report) -> float | None:
    """Seconds from the start to the last thing known; None where nothing is."""
    ends = [line.end_s for line in report.processes if line.end_s is not None]
    ends += [series.time_s[-1] for series in report.series if series.time_s]
    ends += [each.time_s for each in (report.account, report.last) if each.parts]
    return max(ends, default=None)


def directory_of(report: Report, ranked: list[Line]) -> str:
    """Return the directory the program's own code shares; paths below it are shown from there."""
    told = report.machine.get("directory") or report.machine.get("cwd")
    return str(told) if told else _shared(line.frame for line in ranked)


def shared_directory(stacks: Iterable[tuple[Frame, ...]]) -> str:
    """Return the directory the owners of these stacks share."""
    owners = ((frames, owner(frames)) for frames in stacks)
    return _shared(frames[index] for frames, index in owners if index is not None)


def _shared(frames: Iterable[Frame | None]) -> str:
    files = {
        frame.file
        for frame in frames
        if frame and frame.file and frame.file.startswith("/") and tier(frame) == OWN
    }
    shared = os.path.commonpath([file.rpartition("/")[0] for file in files]) if files else ""
    return "" if shared.count("/") < 2 else shared


def process_tree(processes: tuple[ProcessLine, ...]) -> list[tuple[ProcessLine, int]]:
    """Return processes with their depth, each after its parent."""
    known = {line.index for line in processes}
    children: dict[int | None, list[ProcessLine]] = {}
    for line in processes:
        parent = line.parent_index if line.parent_index in known - {line.index} else None
        children.setdefault(parent, []).append(line)
    waiting = [(line, 0) for line in reversed(children.get(None, []))]
    found: list[tuple[ProcessLine, int]] = []
    while waiting:
        line, depth = waiting.pop()
        found.append((line, depth))
        waiting += [(child, depth + 1) for child in reversed(children.pop(line.index, []))]
    return found
