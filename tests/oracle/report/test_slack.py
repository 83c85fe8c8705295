"""Slack compared with the program's own counts and with malloc_trim()."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from traced_runs import ask, trace, trace_stopping

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Build

PAGE = 4096
KEPT, SIZE = 1000, 240

PYTHON = f"""
import json, os, signal
def fill():
    return [bytes(200) for _ in range(100_000)]
def thin(blocks):
    return blocks[::64]
kept = thin(fill())
pages = {{}}
for block in kept:
    start, end = id(block), id(block) + block.__sizeof__()
    for page in range(start // {PAGE}, (end - 1) // {PAGE} + 1):
        low, high = max(start, page * {PAGE}), min(end, (page + 1) * {PAGE})
        pages[page] = pages.get(page, 0) + high - low
more = bytearray(b"x") * (8 << 20)  # so that the peak is not before the blocks are freed
print(json.dumps([len(kept), len(pages) * {PAGE} - sum(pages.values())]), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_pinning_lines_are_named_with_their_bytes(build: Build, tmp_path: Path) -> None:
    """One live block of 16 on every fourth page: fragmented bytes are exact, and trimming returns the others."""
    run = trace_stopping(tmp_path / "a.atlas", (build("fragments"),), "--exact")
    before, after = map(int, run.outcome.stdout.split())
    report = ask("report", str(run.file), "--json", "--by", "fragmented")
    (heap,) = [each for each in report["slack"] if each["name"] == "glibc heap"]
    fragmented = run.sum("fragmented_bytes", "fill")
    assert fragmented == KEPT * (PAGE - SIZE)
    assert heap["fragmented_bytes"] == fragmented
    given = before - after
    assert abs(heap["held_free_bytes"] - given) <= 0.02 * given
    slack = sum(
        part["resident_bytes"]
        for part in report["account"]["parts"]
        if part["kind"] == "slack" and part["name"] == "glibc heap"
    )
    assert heap["held_free_bytes"] + heap["fragmented_bytes"] == slack


def test_python_objects_pin_pages(tmp_path: Path) -> None:
    """Live objects in pymalloc pools account for the free bytes on their pages."""
    command = (sys.executable, "-I", "-S", "-c", PYTHON)
    run = trace_stopping(tmp_path / "a.atlas", command, "--exact")
    kept, expected = json.loads(run.outcome.stdout)
    assert kept > 1500
    fragmented = run.sum("fragmented_bytes", "fill", kind="pyobject")
    assert (
        abs(fragmented - expected) <= 0.05 * expected
    )  # others' objects lie on some of those pages


@pytest.mark.parametrize("options", [(), ("--exact",)])
def test_heaps_are_what_the_c_library_says(
    build: Build, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """In sampled runs, too, used and free bytes of both heaps equal mallinfo2(), except for thread caches."""
    run = trace(tmp_path / "a.atlas", (build("heap_holes"),), *options)
    used, free = map(int, run.outcome.stdout.split())
    heaps = run.report["heaps"]
    assert sorted(each["main"] for each in heaps) == [False, True]
    cached = 2 * 7 * 64 * 1040  # tcache: seven blocks of each size
    assert abs(sum(each["in_use"] for each in heaps) - used) < cached
    assert abs(sum(each["free"] for each in heaps) - free) < cached
    assert 0.7 * free < sum(each["trimmable"] for each in heaps) <= free


def test_sampled_runs_do_not_guess(build: Build, tmp_path: Path) -> None:
    """Fragmentation is unknown in sampled runs: null, not 0."""
    run = trace_stopping(tmp_path / "a.atlas", (build("fragments"),))
    assert run.report["slack"] is None
