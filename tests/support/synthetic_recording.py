"""Small synthetic recordings with all chunk types and simple figures."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core import AllocatorSums, GlibcSums
from mematlas.linux.glibc_heap import HeapUse
from mematlas.recording import Writer
from mematlas.recording.model import (
    CodeObject,
    Frame,
    Module,
    Part,
    PartKind,
    Process,
    Sampling,
    SharedPart,
)
from mematlas.recording.row_types import (
    AGE_MATRIX_DTYPE,
    FAULT_SITES_DTYPE,
    FRAGMENTATION_DTYPE,
    GRAPH_DTYPE,
    IDLE_DTYPE,
    LIFETIMES_DTYPE,
    NODE_DTYPE,
    OBJECTS_DTYPE,
    SHARING_DTYPE,
    SNAPSHOT_DTYPE,
    TIMELINE_DTYPE,
    TOTALS_DTYPE,
)

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = 1 << 63
PARENT = Process(
    index=0,
    pid=100,
    parent_pid=1,
    parent_index=None,
    executable="/usr/bin/python3",
    command=("python3", "orders.py"),
    start_s=0.0,
    python_version="3.11.7",
)
CHILD = Process(
    index=1,
    pid=101,
    parent_pid=100,
    parent_index=0,
    executable="/usr/bin/sort",
    command=("sort", "--odd-name=\udcff"),
    start_s=0.5,
    python_version=None,
    end_s=1.5,
    ending="exited 0",
)
CODES = [
    CodeObject("<module>", "/srv/orders.py", 1, b"\x80\x00", 2),
    CodeObject("load", "/srv/orders.py", 10, b"\x80\x01\xd8\x04\x0b", 2),
]
MODULES = [Module("/usr/lib/libc.so.6", "ab" * 20, 0x7F0000000000, 0x7F0000000000, 0x7F0000200000)]
WORDS = [0, PYTHON | 1 << 32 | 2, PYTHON | 2 << 32 | 4, 0x7F0000001234, 0x7F0000005678]
PARENTS = [0, 0, 1, 2, 1]
FRAMES = {
    WORDS[3]: (
        Frame("fill", "/src/fill.h", 7, "libc.so.6", "inlined"),
        Frame("strdup", "/src/strdup.c", 42, "libc.so.6", "native"),
    ),
    WORDS[4]: (Frame("libc.so.6+0x5678", None, None, "libc.so.6", "native"),),
    WORDS[1]: (Frame("<module>", "/srv/orders.py", 3, None, "python"),),
}


def nodes(parents: list[int], words: list[int]) -> bytes:
    """Return NODE_DTYPE rows."""
    rows = np.zeros(len(words), NODE_DTYPE)
    rows["parent"], rows["word"] = parents, np.array(words, np.uint64)
    return rows.tobytes()


def snapshot_rows(*rows: tuple[float, ...]) -> bytes:
    """Return SNAPSHOT_DTYPE rows: stack, kind, live bytes, count, variance, resident, huge, swapped."""
    return np.array(list(rows), SNAPSHOT_DTYPE).tobytes()


def totals_rows(*rows: dict[str, float]) -> bytes:
    """Return TOTALS_DTYPE rows from their nonzero fields."""
    table = np.zeros(len(rows), TOTALS_DTYPE)
    for index, row in enumerate(rows):
        for name, value in row.items():
            table[index][name] = value
    return table.tobytes()


def timeline_rows(*rows: tuple[float, ...]) -> bytes:
    """Return TIMELINE_DTYPE rows."""
    return np.array(list(rows), TIMELINE_DTYPE).tobytes()


def write(path: Path, *, end: bool = True) -> None:
    """Write a recording of a parent that grows and a child, chunk by chunk as a run would."""
    nan = float("nan")
    writer = Writer(
        path,
        command=("python3", "orders.py"),
        started="2026-01-02T03:04:05Z",
        machine={"kernel": "6.1.0", "page_bytes": 4096},
        sampling=Sampling("sampled", 65536, 1.0),
    )
    writer.process(PARENT)
    writer.modules(0, MODULES)
    writer.codes(0, CODES[:1])
    writer.nodes(0, nodes(PARENTS[:3], WORDS[:3]))
    writer.timeline(0, timeline_rows((0.0, 8e6, 0, 0, 100, 0), (0.5, 9e6, 5e5, nan, 120, 0)))
    writer.snapshot(
        0,
        time_s=0.5,
        trigger="interval",
        rss_bytes=9_000_000,
        parts=[
            Part(PartKind.LIVE, "", 400_000, 1_000),
            Part(PartKind.FILE, "/usr/lib/libc.so.6", 8_600_000),
        ],
        unexplained_bytes=0,
        rows=snapshot_rows((2, 1, 500_000, 100, 1e6, 400_000, 0, 0)),
    )
    writer.process(CHILD)
    writer.codes(0, CODES[1:])
    writer.nodes(0, nodes(PARENTS[3:], WORDS[3:]))
    writer.nodes(1, nodes([0], [0]))
    writer.totals(1, time_s=1.5, peak_time_s=1.0, peak_live_bytes=0.0, rows=b"")
    writer.timeline(0, timeline_rows((1.0, 1e7, 2e6, 4096, 200, 1)))
    writer.snapshot(
        0,
        time_s=1.0,
        trigger="exit",
        rss_bytes=10_000_000,
        parts=[
            Part(PartKind.LIVE, "", 1_500_000),
            Part(PartKind.SLACK, "heap", 100_000),
            Part(PartKind.FILE, "/usr/lib/libc.so.6", 8_300_000),
        ],
        unexplained_bytes=100_000,
        rows=snapshot_rows(
            (3, 1, 1_600_000, 300, 4e6, 1_200_000, 0, 8192),
            (4, 1, 400_000, 2, 0, 300_000, 0, 0),
        ),
    )
    writer.totals(
        0,
        time_s=1.0,
        peak_time_s=0.9,
        peak_live_bytes=2_100_000.0,
        rows=totals_rows(
            {
                "stack": 3,
                "kind": 1,
                "allocated_bytes": 3e6,
                "allocations": 600,
                "freed_bytes": 1.4e6,
                "peak_bytes": 1.7e6,
                "peak_count": 320,
                "live_bytes": 1.6e6,
                "live_count": 300,
                "live_variance": 4e6,
            },
            {
                "stack": 4,
                "kind": 1,
                "allocated_bytes": 4e5,
                "allocations": 2,
                "peak_bytes": 4e5,
                "peak_count": 2,
                "live_bytes": 4e5,
                "live_count": 2,
            },
            {"stack": 2, "kind": 1, "bad_frees": 3},
        ),
    )
    writer.notes(["one thread was not traced"])
    writer.frames(0, FRAMES)
    if end:
        writer.end()
    else:
        writer.close()


GRAPH_FACTS = {
    "size": 4096,
    "strong": 1,
    "types": ["node", "page"],
    "groups": [["server", "file", 0, "STRONG"]],
    "items": [[0, 12]],
    "glibc": {each.name: 0 for each in fields(GlibcSums)},
    "allocators": {"jemalloc": {each.name: 0 for each in fields(AllocatorSums)}},
    "findings": [["the blocks at 0x10 and 0x18 overlap", 24]],
    "findings_total": 1,
    "edges": 1,
    "seconds": 0.5,
    "source": {
        "pid": 100,
        "name": "server",
        "moment": 1.75e9,
        "way": "stop",
        "pause_s": 0.001,
        "page_size": 4096,
        "notes": ["a mapping is left out"],
        "knows_resident": True,
    },
    "waste": {
        "rows": [{"kind": "empty", "name": "dict", "count": 2, "size": 128}],
        "totals": {"empty": 128},
        "size": 4096,
    },
    "rss_bytes": 9_000_000,
}


def graph_rows() -> bytes:
    """Return the nodes of a heap: all memory, a root, a block that it holds, a lost block, what is lost."""
    none = 0xFFFFFFFF
    nodes = [
        (0, 0, 0, 4096, 4096, 2, 0, 0, 0, none, 0),
        (0, 0, 0, 3072, 3072, 1, 0, 0, 0, 0, 0),
        (0x5010, 3072, 3072, 0, 0, 0, 1, 3, 1, 1, 0),
        (0x1000, 1024, 1024, 0, 0, 0, 0, 3, 4, none, 2),
        (0, 0, 0, 1024, 1024, 1, 0, 0, 0, none, 0),
    ]
    return np.array(nodes, GRAPH_DTYPE).tobytes()


def write_every_chunk(path: Path) -> None:
    """Write a recording of one process with one chunk of each type."""
    heap = HeapUse(
        start=0x5000,
        size=1 << 20,
        in_use=600_000,
        free=400_000,
        trimmable=300_000,
        main=True,
        top=9,
    )
    with Writer(
        path,
        command=("python3", "orders.py"),
        started="2026-01-02T03:04:05Z",
        machine={"kernel": "6.1.0", "page_bytes": 4096},
        sampling=Sampling("exact", 1, 1.0, 61),
    ) as writer:
        writer.process(PARENT)
        writer.modules(0, MODULES)
        writer.codes(0, CODES)
        writer.nodes(0, nodes(PARENTS, WORDS))
        writer.timeline(0, timeline_rows((0.0, 8e6, 0, 0, 100, 0), (1.0, 9e6, 5e5, 0, 120, 1)))
        writer.snapshot(
            0,
            time_s=1.0,
            trigger="exit",
            rss_bytes=9_000_000,
            parts=[Part(PartKind.LIVE, "malloc", 8_000_000), Part(PartKind.SLACK, "glibc heap", 9)],
            unexplained_bytes=999_991,
            huge_bytes=0,
            rows=snapshot_rows((3, 1, 500_000, 100, 0, 400_000, 0, 0)),
        )
        writer.sharing(
            0,
            time_s=1.0,
            pss_bytes=8_000_000,
            uss_bytes=7_000_000,
            parts=[SharedPart(PartKind.FILE, "/lib/libc.so.6", 300_000, 20_000.5)],
            rows=np.array([(3, 1, 200_000, 100_000)], SHARING_DTYPE).tobytes(),
        )
        writer.fragmentation(
            0,
            time_s=1.0,
            slack=[("glibc heap", 8192, 4096)],
            rows=np.array([(3, 1, 4096)], FRAGMENTATION_DTYPE).tobytes(),
        )
        writer.totals(
            0,
            time_s=1.0,
            peak_time_s=0.9,
            peak_live_bytes=600_000.0,
            rows=totals_rows({"stack": 3, "kind": 1, "allocations": 130, "live_bytes": 500_000}),
        )
        writer.lifetimes(
            0, np.array([(3, 1, 20, 5, 3, 1, 1, 0, 0, 9000)], LIFETIMES_DTYPE).tobytes()
        )
        matrix = np.array([(3, 1, 0, 0xFFFFFFFF, 5e5, 100, 0)], AGE_MATRIX_DTYPE)
        writer.age_matrix(0, time_s=1.0, cell_s=0.5, rows=matrix.tobytes())
        writer.idle(
            0,
            np.array([(3, 1, 65536)], IDLE_DTYPE).tobytes(),
            time_s=0.9,
            seconds=0.5,
            method="referenced",
            whole=False,
            idle_bytes=81920,
        )
        faults = [(3, 4, 1, 0, 61, 0, 3600, 249_856, 6e10), (3, 0, 0, 0, 122, 1, 7200, 4096, 1e7)]
        writer.fault_sites(
            0,
            state="on",
            reason="",
            samples=3,
            lost=1,
            parts=[(PartKind.SLACK, "glibc heap")],
            rows=np.array(faults, FAULT_SITES_DTYPE).tobytes(),
        )
        writer.heaps(0, time_s=1.0, heaps=[heap])
        objects = np.array([(3, 1, 4000, 50, 0)], OBJECTS_DTYPE)
        writer.objects(0, time_s=1.0, names=["dict", "Order"], rows=objects.tobytes())
        writer.graph(0, moment="exit", time_s=1.0, facts=GRAPH_FACTS, rows=graph_rows())
        writer.notes(["one thread was not traced"])
        writer.frames(0, FRAMES)
        writer.end()
