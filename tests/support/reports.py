"""Synthetic reports like those of real programs, and one with 100,000 stacks and hostile names."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import accumulate

from mematlas.recording.model import BadFreeReason, Frame, Part, PartKind, Sampling
from mematlas.report.analyse.lines import lines
from mematlas.report.html import render_html
from mematlas.report.model.diff import Diff, Moment, StackChange
from mematlas.report.model.leaks import Leak, Leaks, LeakVerdict, VerdictSum
from mematlas.report.model.report import (
    Account,
    BadFree,
    ObjectType,
    ProcessSummary,
    Report,
    Series,
    StackStats,
)
from mematlas.report.model.spans import Span, Spans

MIB = 1 << 20
KIB = 1 << 10
SITE = "/opt/app/.venv/lib/python3.11/site-packages"
STDLIB = "/usr/lib/python3.11"
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\u202egnp.exe\u2066 right to left",
    "\U0001f600 emoji & \"quotes\" 'and' \\backslash\n\ttab",
    "std::map<" + "std::vector<unsigned long, " * 400 + ">" * 400 + "::insert",
    "lone \udcff surrogate",
    "",
)


def page_of(report: Report, leaks: Leaks | None = None, spans: Spans | None = None) -> str:
    """Return the page of a report."""
    return render_html(report, lines(report.stacks, "resident"), leaks, spans)


def python(function: str, file: str, line: int) -> Frame:
    """Return a Python frame."""
    return Frame(function, file, line, None, "python")


def native(
    function: str, file: str | None = None, line: int | None = None, module: str = "libc.so.6"
) -> Frame:
    """Return a native frame."""
    return Frame(function, file, line, module, "native")


MODULE = python("<module>", "/srv/shop/orders.py", 142)
MAIN = python("main", "/srv/shop/orders.py", 131)
LOAD = python("load_orders", "/srv/shop/orders.py", 88)
JSON = (
    python("raw_decode", f"{STDLIB}/json/decoder.py", 353),
    python("decode", f"{STDLIB}/json/decoder.py", 337),
    python("loads", f"{STDLIB}/json/__init__.py", 346),
)
PYMALLOC = native("_PyObject_Malloc", "Objects/obmalloc.c", 1420, "/usr/bin/python3.11")
DICT = native("insertdict", "Objects/dictobject.c", 1230, "/usr/bin/python3.11")


def stack(  # noqa: PLR0913 - one argument a column
    frames: tuple[Frame, ...],
    live: float,
    *,
    resident: float | None = None,
    kind: str = "malloc",
    process: int = 0,
    blocks: int = 100,
    churn: float = 1.4,
    huge: float = 0,
    swapped: float = 0,
    error: float = 0,
) -> StackStats:
    """Return the stats of one stack, in MiB; `churn` is the ratio of allocated to live bytes."""
    return StackStats(
        frames=frames,
        kind=kind,
        process=process,
        live_bytes=round(live * MIB),
        live_count=blocks,
        peak_bytes=round(live * MIB * 1.08),
        allocated_bytes=round(max(live, 1) * churn * MIB),
        allocations=round(blocks * churn),
        resident_bytes=round((live if resident is None else resident) * MIB),
        huge_bytes=round(huge * MIB),
        swapped_bytes=round(swapped * MIB),
        error_bytes=round(error * MIB),
    )


def account(time_s: float, trigger: str, parts: tuple[Part, ...], unexplained: int = 0) -> Account:
    """Return an account whose RSS is the sum of its parts, at 98 % of the highest."""
    total = sum(part.resident_bytes for part in parts) + unexplained
    highest = round(total / 0.985)
    return Account(time_s, trigger, total, parts, unexplained, highest_rss_bytes=highest)


def wave(process: int, start: float, end: float, peak: float, swap: float = 0) -> Series:
    """Return a series that rises in steps to `peak` MiB at three quarters, then falls."""
    count = 120
    times = [start + (end - start) * i / (count - 1) for i in range(count)]
    shape = [
        min(1.0, 0.08 + 1.25 * i / count) - 0.18 * max(0.0, i / count - 0.75) / 0.25
        for i in range(count)
    ]
    rss = [round(peak * MIB * value) for value in shape]
    return Series(
        process,
        tuple(times),
        tuple(rss),
        tuple(round(v * (0.55 + 0.08 * math.sin(i / 5))) for i, v in enumerate(rss)),
        tuple(round(swap * MIB * max(0.0, v - 0.6)) for v in shape),
        tuple(4 * MIB if v > 0.5 else 0 for v in shape),
        tuple(round(5000 * v) for v in accumulate(shape)),
        tuple(range(count)),
        end_s=end,
    )


def python_service() -> Report:
    """Return the report of a sampled Python service with a worker, slack, huge pages and a bad free."""
    stacks = (
        stack((PYMALLOC, DICT, *JSON, LOAD, MAIN, MODULE), 118.4, resident=121.2, blocks=1_430_220,
              kind="pyobject", churn=2.2, error=1.9),
        stack((native("malloc"), *JSON, LOAD, MAIN, MODULE), 41.7, resident=40.9, blocks=61_031,
              error=0.8),
        stack((native("mmap"), python("reserve", "/srv/shop/buffers.py", 24),
               python("__init__", "/srv/shop/orders.py", 61), MAIN, MODULE),
              256, resident=25.6, kind="mmap", blocks=1, huge=24),
        stack((native("malloc"), native("PyArray_NewFromDescr", None, None,
               f"{SITE}/numpy/_core/_multiarray_umath.so"),
               python("concat", f"{SITE}/pandas/core/reshape/concat.py", 382),
               python("daily_totals", "/srv/shop/totals.py", 40), MAIN, MODULE),
              33.1, kind="malloc", blocks=12, swapped=2.5, error=0.3),
        stack((PYMALLOC, python("remember", "/srv/shop/cache.py", 17),
               python("handle", "/srv/shop/orders.py", 104), MAIN, MODULE),
              22.8, blocks=210_833, kind="pyobject", churn=1.0, error=0.6),
        stack((PYMALLOC, python("get_data", "<frozen importlib._bootstrap_external>", 1073),
               python("_find_and_load", "<frozen importlib._bootstrap>", 1176), MODULE),
              9.4, blocks=80_112, kind="pyobject", error=0.4),
        stack((native("malloc"), native("0x7f21a", None, None, "libssl.so.3")), 0.7, blocks=412,
              error=0.1),
        stack((native("malloc"), python("work", "/srv/shop/worker.py", 12),
               python("<module>", "/srv/shop/worker.py", 30)), 12.6, process=1, blocks=4_000,
              error=0.2),
    )  # fmt: skip
    parts = (
        Part(PartKind.LIVE, "malloc", round(124.2 * MIB), round(1.1 * MIB)),
        Part(PartKind.LIVE, "pyobject", round(128.1 * MIB), round(2.0 * MIB)),
        Part(PartKind.LIVE, "mmap", round(25.6 * MIB)),
        Part(PartKind.SLACK, "pymalloc arenas", round(52.5 * MIB)),
        Part(PartKind.SLACK, "[heap]", round(33.0 * MIB)),
        Part(PartKind.SLACK, "malloc arena 0x7f2a34000000", round(5.2 * MIB)),
        Part(PartKind.STACK, "[stack]", 144 * KIB),
        Part(PartKind.STACK, "thread stacks", 388 * KIB),
        Part(PartKind.FILE, "/usr/bin/python3.11", round(6.1 * MIB)),
        Part(PartKind.FILE, f"{SITE}/numpy/_core/_multiarray_umath.so", round(9.3 * MIB)),
        Part(PartKind.FILE, "/usr/lib/x86_64-linux-gnu/libc.so.6", round(1.9 * MIB)),
        *(
            Part(PartKind.FILE, f"{SITE}/pandas/_libs/part{i}.so", (400 - 9 * i) * KIB)
            for i in range(40)
        ),
        Part(PartKind.SHARED, "/dev/shm/psm_4f1c", 8 * MIB),
        Part(PartKind.ANON, "", round(2.2 * MIB)),
        Part(PartKind.TRACER, "", round(1.4 * MIB)),
    )
    peak = account(8.21, "peak", parts, 92 * KIB)
    last = account(12.4, "exit", tuple(
        replace(part, resident_bytes=part.resident_bytes * 4 // 5) for part in parts))  # fmt: skip
    return Report(
        command=("python3", "orders.py", "--days", "30"),
        started="2026-11-23T09:14:07Z",
        machine={"kernel": "6.18.0", "page_bytes": 4096, "cpus": 8, "memory_bytes": 24 << 30},
        sampling=Sampling("sampled", 64 * KIB, 1.0),
        complete=True,
        processes=(
            ProcessSummary(0, 4120, None, "python3 orders.py --days 30", 0.0, 12.4, "exited 0",
                        400 * MIB, ""),
            ProcessSummary(1, 4131, 0, "python3 worker.py", 2.5, 11.9, "killed by SIGKILL",
                        22 * MIB, ""),
            ProcessSummary(2, 4140, 0, "busybox gzip", 3.0, 3.4, "exited 0", 0,
                        "not traced: statically linked"),
        ),
        account=peak,
        last=last,
        peak_live_bytes=round(530 * MIB),
        peak_live_time_s=8.19,
        stacks=stacks,
        series=(wave(0, 0.0, 12.4, 400, swap=9), wave(1, 2.5, 11.9, 22)),
        bad_frees=(
            BadFree((native("free"), native("close_session", "/srv/shop/ext/session.c", 219,
                     "/srv/shop/ext/session.so"), MAIN, MODULE), 0, 3, BadFreeReason.TWICE,
                     0x55D0_3D0F_8CB0, 7.25, 0x55D0_3D0F_8CB0, 4096,
                     (native("open_session", "/srv/shop/ext/session.c", 88, "/srv/shop/ext/session.so"),),
                     (native("expire", "/srv/shop/ext/session.c", 240, "/srv/shop/ext/session.so"),), 7.0),
        ),
        notes=("busybox gzip (pid 4140) was not traced: it is statically linked",),
    )  # fmt: skip


def native_program() -> Report:
    """Return the report of an exact C++ program: templates, inlined frames, one process."""
    insert = "std::_Hashtable<std::__cxx11::basic_string<char>, std::pair<const std::__cxx11::basic_string<char>, Entry>>::_M_insert_unique_node"
    new = native("operator new(unsigned long)", None, None, "/usr/lib/libstdc++.so.6")
    node = Frame("std::allocator_traits<std::allocator<Node>>::allocate",
                 "/usr/include/c++/12/bits/alloc_traits.h", 464, "indexer", "inlined")  # fmt: skip
    build = native("index::Builder::add(std::string_view)", "/home/ada/indexer/src/builder.cpp", 211,
                   "/home/ada/indexer/build/indexer")  # fmt: skip
    run = native(
        "index::run(Options const&)", "/home/ada/indexer/src/run.cpp", 77, build.module or ""
    )
    main = native("main", "/home/ada/indexer/src/main.cpp", 19, build.module or "")
    stacks = (
        stack((native("malloc"), new, node, native(insert, "/usr/include/c++/12/bits/hashtable.h",
               1712, build.module or ""), build, run, main), 611.25, resident=580.5,
              blocks=9_100_231, churn=1.1),
        stack((native("mmap"), native("index::MapFile::open", "/home/ada/indexer/src/mapfile.cpp",
               33, build.module or ""), run, main), 96, resident=12.5, kind="filemap", blocks=3),
        stack((native("malloc"), new, native("index::Scratch::grow", None, None, build.module or ""),
               run, main), 40, blocks=9, churn=60),
    )  # fmt: skip
    parts = (
        Part(PartKind.LIVE, "malloc", round(620.5 * MIB)),
        Part(PartKind.SLACK, "[heap]", round(14.1 * MIB)),
        Part(PartKind.STACK, "[stack]", 132 * KIB),
        Part(PartKind.FILE, "/home/ada/indexer/build/indexer", round(3.3 * MIB)),
        Part(PartKind.FILE, "/home/ada/corpus/part-0001.txt", round(12.5 * MIB)),
    )
    return Report(
        command=("./build/indexer", "--threads", "4", "corpus"),
        started="2026-11-23T10:00:00Z",
        machine={"kernel": "6.18.0", "page_bytes": 4096},
        sampling=Sampling("exact", 1, 1.0),
        complete=True,
        processes=(
            ProcessSummary(0, 77, None, "./build/indexer --threads 4 corpus", 0.0, 3.0, "exited 0",
                        650 * MIB, ""),
        ),
        account=account(2.9, "peak", parts),
        last=account(3.0, "exit", parts),
        peak_live_bytes=747 * MIB,
        peak_live_time_s=2.8,
        stacks=stacks,
        series=(wave(0, 0, 3.0, 650),),
        bad_frees=(),
        notes=(),
    )  # fmt: skip


def unseen() -> Report:
    """Return the report of a program that ended before anything was recorded."""
    nothing = Account(0.0, "", 0, (), 0)
    return Report(
        command=("true",),
        started="2026-11-23T10:00:00Z",
        machine={},
        sampling=Sampling("sampled", 512 * KIB, 1.0),
        complete=False,
        processes=(ProcessSummary(0, 9, None, "true", 0.0, None, "lost sight of", 0, ""),),
        account=nothing,
        last=nothing,
        peak_live_bytes=0,
        peak_live_time_s=0.0,
        stacks=(),
        series=(),
        bad_frees=(),
        notes=("the program ended before its memory could be read",),
    )


def hostile() -> Report:
    """Return a report with names that try to break out of text, tables and scripts."""
    base = python_service()
    stacks = tuple(
        stack(
            (
                Frame(name, f"/srv/{name}.py", 7, None, "python"),
                Frame("main", name, None, name, "native"),
            ),
            10 + index,
        )
        for index, name in enumerate(HOSTILE)
    )
    parts = tuple(
        Part(PartKind.FILE, name, (index + 1) * MIB) for index, name in enumerate(HOSTILE)
    )
    return replace(
        base,
        command=("python3", *HOSTILE[:4]),
        stacks=stacks,
        account=account(1.0, "peak", parts),
        notes=HOSTILE,
        processes=tuple(replace(line, command=HOSTILE[0]) for line in base.processes),
        objects=tuple(
            ObjectType(name, 5 * MIB, 1000, 7 * KIB, each.frames[0], 3 * MIB)
            for name, each in zip(HOSTILE, stacks, strict=True)
        ),
    )


def many_stacks(count: int = 100_000) -> Report:
    """Return a report of `count` distinct stacks, as deep and skewed as those of a large service."""
    draw = random.Random(7)
    functions = [
        python(f"handle_{i}", f"/srv/big/module_{i % 300}.py", 10 + i % 900) for i in range(6000)
    ] + [native(f"ns::Worker<{i}>::step", f"/srv/big/src/step_{i % 90}.cpp", i % 800, "libbig.so")
         for i in range(3000)]  # fmt: skip
    stacks: list[StackStats] = []
    path: list[Frame] = [MAIN, MODULE]
    for _ in range(count):
        keep = draw.randint(2, len(path))
        path = path[len(path) - keep :]
        path = [draw.choice(functions) for _ in range(draw.randint(1, 4))] + path
        path = path[-40:]
        live = draw.paretovariate(0.9) * 3000
        stacks.append(
            StackStats(
                tuple(path),
                "malloc",
                0,
                round(live),
                draw.randint(1, 400),
                round(live * 1.1),
                round(live * draw.uniform(1, 9)),
                draw.randint(400, 900),
                round(live * draw.uniform(0.2, 1)),
                0,
                0,
                round(live / 50),
            )
        )
    return replace(python_service(), stacks=tuple(stacks))


def held(
    verdict: LeakVerdict, frames: tuple[Frame, ...], live: float, evidence: str, rate: float | None
) -> Leak:
    """Return a leak, in MiB."""
    size = round(live * MIB)
    return Leak(frames, "malloc", 0, verdict, evidence, size, 120, size // 20, 2 * size, 300, rate)


def leaky() -> Leaks:
    """Return the leaks of the Python service: one leak, a cache, imports."""
    report = python_service()
    frames = [stack.frames for stack in report.stacks]
    found = (
        held(LeakVerdict.GROWING, frames[4], 22.8, "grew in 9 of 10 snapshots", 1.9 * MIB),
        held(LeakVerdict.UNFREED, frames[3], 3.1, "none of 120 blocks freed", None),
        held(LeakVerdict.STEADY, frames[0], 18.4, "half of its blocks were freed", 0.0),
        held(LeakVerdict.SETUP, frames[5], 9.4, "allocated while importing", None),
    )
    return Leaks(
        report.command, report.started, report.sampling, True, 12.4,
        sum(leak.live_bytes for leak in found), sum(leak.live_bytes for leak in found[:2]),
        found, report.bad_frees, report.notes,
        {each.verdict: VerdictSum(1, each.live_bytes, each.error_bytes) for each in found},
        round(1.2 * MIB), 192 * 1024,
    )  # fmt: skip


def every_metric() -> Report:
    """Return a report whose stacks have bytes of every metric."""
    report = python_service()
    stacks = tuple(
        replace(
            each,
            huge_bytes=4 * MIB,
            swapped_bytes=5 * MIB,
            faulted_bytes=6 * MIB,
            temporary_bytes=700 * MIB,
            fragmented_bytes=8 * MIB,
            idle_bytes=9 * MIB,
        )
        for each in report.stacks
    )
    return replace(report, stacks=stacks)


def two_runs() -> Diff:
    """Return the diff to a run in which every second stack grew by half and the largest disappeared."""
    before = python_service()
    largest = max(before.stacks, key=lambda each: each.live_bytes)
    stacks = tuple(
        replace(each, live_bytes=each.live_bytes * (3 if number % 2 else 2) // 2)
        for number, each in enumerate(before.stacks)
        if each is not largest
    )
    after = replace(before, stacks=stacks, command=("python", HOSTILE[0]))
    was, now = (sum(each.live_bytes for each in report.stacks) for report in (before, after))
    commands = (" ".join(before.command), " ".join(after.command))
    lines = (
        StackChange(largest.frames[:1], largest.live_bytes, 0, 1000, certain=True),
        StackChange(stacks[0].frames[:1], 5 * MIB, 9 * MIB, None, certain=False),
        StackChange((), 2 * KIB, 1 * KIB, 4 * KIB, certain=False),
    )
    return Diff(
        by="live",
        at="end",
        moments=(Moment(1.0, "at exit, 1 s", 0), Moment(2.0, "at exit, 2 s", 0)),
        unlike="",
        reports=(before, after),
        ignore_lines=False,
        same=lambda _, frame: frame,
        commands=commands,
        total=StackChange((), was, now, 2000, certain=True),
        rest=StackChange((), 0, 0, 0, certain=False),
        lines=lines,
        stacks=lines,
        stack_count=3,
        notes=("a",),
    )


def spans() -> Spans:
    """Return the spans of three lines: live from the middle on, freed again, live from the start."""
    stacks = python_service().stacks
    lines = (*(each.frames[0] for each in stacks[:3]), None)
    return Spans(
        width_s=1.0,
        count=12,
        lines=lines,
        spans=(
            Span(0, 5, 12, True, 30 * MIB),
            Span(1, 5, 8, False, 7 * MIB),
            Span(2, 0, 12, True, 3 * MIB),
            Span(3, 4, 12, True, 1 * MIB),
        ),
    )
