"""DHAT JSON, version 2: valgrind's heap profile (dh_view.html, Firefox Profiler).

valgrind's dhat/dh_main.c defines the fields. Times are microseconds.

"""

from __future__ import annotations

import json
from operator import add
from typing import TYPE_CHECKING, Any

from mematlas.present.printable import clean
from mematlas.report import frame_names, run_facts
from mematlas.report.export.source import Numbers, commands, frame_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.recording.model import Frame
    from mematlas.report.export.source import ExportSource

_COLUMNS = {
    "tb": "allocated_bytes",
    "tbk": "allocations",
    "tl": "lifetime_us",
    "mb": "max_bytes",
    "mbk": "max_count",
    "gb": "peak_bytes",
    "gbk": "peak_count",
    "eb": "end_bytes",
    "ebk": "end_count",
}
_SHORT_US = 1000


def render(sources: Sequence[ExportSource]) -> Iterator[bytes]:
    """Render the program points that allocated, and their frames. Times are those of the longest run."""
    report = max(
        (each.report for each in sources), key=lambda each: run_facts.duration_s(each) or 0.0
    )
    header = {
        "dhatFileVersion": 2,
        "mode": "heap",
        "verb": "Allocated",
        "bklt": True,
        "bkacc": False,
        "tu": "µs",
        "Mtu": "s",
        "tuth": _SHORT_US,
        "cmd": commands(sources),
        "pid": report.processes[0].pid if report.processes else 0,
        "tg": round(report.peak_live_time_s * 1e6),
        "te": round((run_facts.duration_s(report) or 0.0) * 1e6),
    }
    yield json.dumps(header, ensure_ascii=False)[:-1].encode() + b', "pps": [\n'
    numbers, separator = Numbers(first=1), b""
    for source in sources:
        for point in _points(source, numbers):
            yield separator + json.dumps(point, separators=(",", ":")).encode()
            separator = b",\n"
    texts = ["[root]", *(_text(number, frame) for number, frame in enumerate(numbers, 1))]
    ftbl = ",\n".join(json.dumps(each, ensure_ascii=False) for each in texts)
    yield f'\n],\n"ftbl": [\n{ftbl}\n]}}\n'.encode()


def _points(source: ExportSource, numbers: Numbers) -> Iterator[dict[str, Any]]:
    """Yield one point per list of frames: DHAT has no kinds of memory and takes no list twice."""
    table, roots = source.table, source.roots()
    rows = table.columns.narrow("allocations").nonzero()[0]
    sums: dict[tuple[int, ...], list[int]] = {}
    columns = [table.columns.narrow(name).at(rows).tolist() for name in _COLUMNS.values()]
    keys = zip(table.process[rows].tolist(), table.stack[rows].tolist(), strict=True)
    for (process, stack), values in zip(keys, zip(*columns, strict=True), strict=True):
        key = tuple([numbers.of(frame) for frame in source.path(process, stack, roots)])
        known = sums.get(key)
        sums[key] = [*values] if known is None else [*map(add, known, values)]
    for key, added in sums.items():
        yield {**dict(zip(_COLUMNS, added, strict=True)), "fs": key}


def _text(number: int, frame: Frame | str) -> str:
    """Format a frame like valgrind, `0x1: name (file:line)`; the address is a number only."""
    if isinstance(frame, str):
        return f"{number:#x}: {frame} (in ???)"
    if frame.file and frame.line is not None:
        return f"{number:#x}: {frame_text(frame)}"
    location = clean(frame.file or frame.module or "???")
    return f"{number:#x}: {frame_names.function_name(frame)} (in {location})"
