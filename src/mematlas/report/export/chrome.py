"""Chrome trace events: memory over time as counters, one group per process (Perfetto and others)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._version import __version__
from mematlas.present.printable import clean
from mematlas.report import run_facts, titles
from mematlas.report.export.source import commands, distinct_pids

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.recording.model import Snapshot
    from mematlas.report.export.source import ExportSource

_COUNTERS = {
    "rss_bytes": ("RSS (bytes)", "bytes"),
    "live_bytes": ("live (bytes)", "bytes"),
    "swap_bytes": ("swap (bytes)", "bytes"),
    "minor_faults": ("minor faults", "faults"),
    "major_faults": ("major faults", "faults"),
}


def render(sources: Sequence[ExportSource]) -> Iterator[bytes]:
    """Render process names, counters and instant events. Times are microseconds since the start of each run."""
    header = {
        "displayTimeUnit": "ms",
        "otherData": {
            "exporter": f"mematlas {__version__}",
            "command": commands(sources),
            "started": min(each.report.started for each in sources),
        },
    }
    yield json.dumps(header)[:-1].encode() + b', "traceEvents": [\n'
    separator = b""
    taken: set[int] = set()
    for source in sources:
        pids = distinct_pids(source, taken)
        for event in _events(source, pids):
            yield separator + json.dumps(event).encode()
            separator = b",\n"
    yield b"\n]}\n"


def _events(source: ExportSource, pids: dict[int, int]) -> Iterator[dict[str, Any]]:
    for line in source.report.processes:
        pid = pids[line.index]
        name = source.process_name(line.index)
        phrase = {"name": f"{source.title}: {name}" if source.title else name}
        yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": phrase}
        yield from _counters(source, line.index, pid)
        if line.end_s is not None:
            yield _instant(f"ended: {clean(line.ending)}", line.end_s, pid)
    account = source.report.account
    if account.parts and len(source.report.processes) == 1:
        pid = pids[source.report.processes[0].index]
        yield _instant(f"account {run_facts.account_time(account)}", account.time_s, pid)


def _counters(source: ExportSource, process: int, pid: int) -> Iterator[dict[str, Any]]:
    """Yield the samples of one process, and the parts of its memory at each snapshot."""
    rows = source.recording.timeline.get(process)
    for row in [] if rows is None else rows:
        for name, (title, unit) in _COUNTERS.items():
            if not np.isnan(row[name]):
                yield _counter(title, row["time_s"], pid, {unit: round(float(row[name]))})
    for snapshot in sorted(source.recording.snapshots, key=lambda each: each.time_s):
        if snapshot.process == process:
            yield _counter("resident by part (bytes)", snapshot.time_s, pid, _parts(snapshot))


def _parts(snapshot: Snapshot) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in snapshot.parts:
        title = titles.PART_TITLES[part.kind]
        sums[title] = sums.get(title, 0) + part.resident_bytes
    return sums


def _counter(name: str, time_s: float, pid: int, values: dict[str, int]) -> dict[str, Any]:
    return {
        "ph": "C", "name": name, "cat": "memory", "pid": pid, "tid": 0,
        "ts": round(float(time_s) * 1e6), "args": values,
    }  # fmt: skip


def _instant(name: str, time_s: float, pid: int) -> dict[str, Any]:
    return {
        "ph": "i", "name": name, "cat": "memory", "s": "p", "pid": pid, "tid": 0,
        "ts": round(time_s * 1e6),
    }  # fmt: skip
