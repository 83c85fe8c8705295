"""Memory that a program gets past malloc(): committed, by brk(), shared, of files, by raw system calls."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from traced_runs import ask

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Build, Run
    from traced_runs import Traced

MB = 1 << 20
MODES = pytest.mark.parametrize("options", [(), ("--exact",)], ids=["sampled", "exact"])
COMMITTED = {"commit_by_mprotect": 7, "commit_by_pkey": 6, "commit_by_syscall": 5}


@MODES
def test_committed_memory_belongs_to_the_line_that_commits(
    build: Build, traced: Run, options: tuple[str, ...]
) -> None:
    """Reserved address space is live where it was made writable, to the byte, in sampled runs too."""
    run = traced(build("commits"), options=options)
    for function, size in COMMITTED.items():
        assert run.left("live_bytes", function) == size * MB, function
        assert run.sum("resident_bytes", function, kind="committed") == size * MB
    assert run.left("live_bytes", "commit_and_return") == 0
    assert run.left("live_bytes", "commit_and_close") == 3 * MB  # its pages are still there
    assert run.left("live_bytes", "reserve") == 0
    assert run.report["peak"]["live_bytes"] >= (7 + 6 + 5 + 3 + 8 + 12) * MB


@MODES
def test_mappings_by_syscall_and_break_have_a_line(
    build: Build, traced: Run, options: tuple[str, ...]
) -> None:
    """Neither syscall() nor brk() hides memory, and the break's memory is no slack of glibc."""
    run = traced(build("commits"), options=options)
    for function, size in {"raw_mmap": 8, "own_break": 12}.items():
        assert run.left("live_bytes", function) == size * MB
        assert run.sum("resident_bytes", function) == size * MB
    slack = [part for part in run.report["account"]["parts"] if part["kind"] == "slack"]
    assert sum(part["resident_bytes"] for part in slack) < MB


def test_a_heap_that_grows_until_its_runtime_ends_is_a_leak(traced: Run) -> None:
    """V8 frees its whole heap before node exits; the growth up to then is told."""
    node = shutil.which("node")
    if not node:
        pytest.skip("no node here")
    program = (
        "const kept = []; let n = 0; const t = setInterval(() => { for (let i = 0; i < 10000; i++)"
        " kept.push({a: i, s: 'q' + i, b: [i, i + 1]}); if (++n > 60) clearInterval(t); }, 30);"
    )
    run = traced(node, "-e", program)
    leaks = ask("leaks", str(run.file), "--json")
    assert leaks["likely_bytes"] > 30 * MB
    likely = [each for each in leaks["leaks"] if each["verdict"] in {"growing", "unfreed"}]
    heap = sum(each["live_bytes"] for each in likely if each["kind"] == "committed")
    assert heap > 30 * MB
    assert any("gave its committed memory back" in note for note in leaks["notes"])


def test_opening_and_closing_is_cheap_to_tell(build: Build, traced: Run) -> None:
    """A program that opens and closes memory all the time runs as bare, and holds nothing at its end."""
    run = traced(build("commits"), "churn", "20000")
    assert run.left("live_bytes", "churn") <= MB  # closed, and never dropped
    assert run.sum("allocations", "churn", kind="committed") == 1


def part_bytes(run: Traced, kind: str, name: str = "") -> int:
    """Return the resident bytes of the parts of one kind whose name contains `name`."""
    parts = run.report["account"]["parts"]
    found: int = sum(
        part["resident_bytes"] for part in parts if part["kind"] == kind and name in part["name"]
    )
    return found


@MODES
def test_memory_that_is_no_allocation_has_an_owner(
    build: Build, traced: Run, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Shared memory, written and unchanged file pages and thread stacks belong to a line."""
    run = traced(build("mapped"), str(tmp_path), options=options)
    owners = {
        ("make_memfd", "shared"): 20,
        ("make_shared", "shared"): 10,
        ("make_private", "copy"): 8,
        ("make_private", "filemap"): 8,
    }
    for (function, kind), size in owners.items():
        assert run.sum("resident_bytes", function, kind=kind) == size * MB, (function, kind)
        assert run.sum("live_bytes", function, kind=kind) == 0
    stacks = run.stacks("worker", kind="stack")
    assert sum(stack["live_count"] for stack in stacks) == 4
    assert 8 * MB <= sum(stack["resident_bytes"] for stack in stacks) < 9 * MB
    assert part_bytes(run, "copy", "mapped.bin") == 8 * MB
    assert part_bytes(run, "file", "mapped.bin") == 8 * MB
    assert 3 * MB <= part_bytes(run, "copy", str(build("mapped"))) < 3 * MB + (256 << 10)  # .bss
    assert part_bytes(run, "shared") == 30 * MB


def test_touches_of_shared_and_file_memory_have_bytes(
    build: Build, traced: Run, tmp_path: Path
) -> None:
    """Only clean pages of a file are no memory that a fault made resident."""
    run = traced(build("mapped"), str(tmp_path), options=("--faults", "1"))
    if not run.report["page_faults"]["samples"]:
        pytest.skip("page faults are not to be had here")
    for function, size in {"make_memfd": 20, "make_shared": 10, "make_private": 8}.items():
        touched = sum(site["bytes"] for site in run.fault_sites(function) if site["owner"])
        assert size * MB <= touched <= size * MB + MB, function
