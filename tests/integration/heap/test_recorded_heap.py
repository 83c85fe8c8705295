"""Heap graphs of recordings: who holds what each line allocated, against programs that know it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import jsonschema
import numpy as np
import pytest

import mematlas
from heap_programs import PROGRAMS, compile_program, waiting
from mematlas.errors import MematlasError, UsageError
from mematlas.heap.analyse.holders import find_holders
from mematlas.heap.analyse.lost import find_lost
from mematlas.heap.analyse.paths import find_why
from mematlas.heap.analyse.summary import summarise
from mematlas.heap.model.answers import PATH_MARK
from mematlas.heap.read.capture import capture
from mematlas.heap.read.heap import read_heap
from mematlas.heap.read.recorded import pack_graph, read_graph
from mematlas.present.json_schema import schema
from mematlas.recording import read
from mematlas.recording.model import HeapGraph
from mematlas.recording.row_types import GRAPH_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mematlas.heap import Look
    from mematlas.heap.model.answers import Holder, LinePart, LineRow

TIMEOUT_S = 120
TRIES = 10
MISSED = "of RSS; the highest was"
CACHE = f"module __main__{PATH_MARK}CACHE"
LIST, TABLE, LOST = (5000, 5000 * 104), (1000, 1000 * 301), (200, 200 * 264)


def _record(folder: Path, *command: str | Path, option: str = "--graph") -> Path:
    """Record until the graph is of the peak: a program waits a bounded time for it, on a busy machine too short."""
    path = folder / "recorded.atlas"
    for _ in range(TRIES):
        subprocess.run(
            [sys.executable, "-m", "mematlas", "run", option, "-o", path, "--", *command],
            check=True,
            timeout=TIMEOUT_S,
            capture_output=True,
        )
        if not any(MISSED in each for each in mematlas.open(path).report().notes):
            return path
    raise AssertionError(MISSED)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record the native program."""
    folder = tmp_path_factory.mktemp("native")
    return _record(folder, compile_program("heap_recorded.c", folder))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record the Python program."""
    return _record(tmp_path_factory.mktemp("python"), sys.executable, PROGRAMS / "heap_recorded.py")


def _line(heap: Look, function: str) -> LineRow:
    """Return the row of the line of a function that has most bytes."""
    rows = [each for each in heap.summary(top=1000).lines if each.function == function]
    return max(rows, key=lambda each: each.size)


def _part(row: LineRow, name: str) -> LinePart:
    return next(each for each in row.parts if each.type == name)


def test_lines_have_their_holders_byte_for_byte(native: Path) -> None:
    """Each line has the bytes that were asked for, and the variable that holds them."""
    heap = mematlas.open(native).heap(at="end")
    for function, known, holder in (
        ("fill_list", LIST, f"heap_recorded{PATH_MARK}g_list"),
        ("fill_table", TABLE, f"heap_recorded{PATH_MARK}g_table"),
    ):
        row = _line(heap, function)
        assert (row.count, row.size) == known
        assert row.retained == row.size
        assert [(each.holder, each.alone, each.lost) for each in row.parts] == [
            (holder, True, False)
        ]


def test_lost_blocks_have_the_line_that_allocated_them(native: Path) -> None:
    """What nothing holds is lost directly or by way of that, and a cycle is one of its blocks."""
    heap = mematlas.open(native).heap(at="end")
    rows = {(each.allocated.split()[0], each.cycle): each for each in heap.lost().rows}
    # A stale word of a register may lead to the last one.
    direct = rows["lose", False]
    assert LOST[0] - 1 <= direct.count == direct.indirect_count <= LOST[0]
    assert direct.size == direct.count * 64
    assert direct.indirect_size == direct.count * 200
    assert direct.allocated.startswith("lose heap_recorded.c:")
    cycle = rows["lose_cycle", True]
    assert (cycle.count, cycle.indirect_count) == (1, 1)


def test_why_finds_blocks_by_line_and_function(native: Path) -> None:
    """A function, file:line and a file mean the blocks that they allocated."""
    heap = mematlas.open(native).heap(at="end")
    line = _line(heap, "fill_table").line
    for question in ("fill_table", f"heap_recorded.c:{line}"):
        why = heap.why(question)
        assert (why.count, why.size) == TABLE
        assert why.paths[0].names[:2] == ("heap_recorded", "g_table")
    assert heap.why("main").count > LIST[0] + TABLE[0]  # with all that it calls
    with pytest.raises(UsageError, match="line or function"):
        heap.why("no_such_function")


def test_the_graph_at_the_peak_has_what_was_there_then(native: Path, python: Path) -> None:
    """The buffer that is freed before the exit is in the graph of the peak."""
    for path in (native, python):
        recording = mematlas.open(path)
        assert _line(recording.heap(at="peak"), "peak").size >= 24 << 20
        assert "peak" not in {each.function for each in recording.heap(at="end").summary().lines}


def test_python_objects_have_type_holder_and_line(python: Path) -> None:
    """The cache of a module holds the objects that a line made; cycles are lost."""
    heap = mematlas.open(python).heap(at="peak")
    orders = _part(_line(heap, "fill"), "__main__.Order")
    assert (orders.count, orders.holder, orders.alone) == (4000, CACHE, True)
    assert orders.retained > orders.size
    notes = _part(_line(heap, "Order.__init__"), "str")
    assert (notes.count, notes.holder) == (4000, CACHE)
    rings = next(each for each in heap.lost().rows if each.allocated.startswith("lose "))
    # Python reuses freed lists: some were allocated by other lines.
    assert 400 <= rings.count == rings.collectable <= 500


def test_commands_answer_from_the_recording(native: Path, tmp_path: Path) -> None:
    """The command has the answers of the library, fails on lost blocks, and exports lines."""
    command = [sys.executable, "-m", "mematlas", "heap", str(native)]
    found = subprocess.run(
        [*command, "--at", "end", "--json"],
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    document = json.loads(found.stdout)
    jsonschema.validate(document, schema("heap"))
    assert document["data"]["lines"][0]["function"] == "fill_list"
    lost = subprocess.run(
        [*command, "--at", "end", "--unreachable", "--fail-on", "lost"],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert lost.returncode == 1
    assert "lose heap_recorded.c:" in lost.stdout
    table = mematlas.open(native).heap(at="end").arrow()
    chosen = [each == "fill_table" for each in table["function"].to_pylist()]
    assert sum(chosen) == TABLE[0]


def without_second_roots(holders: Iterable[Holder]) -> tuple[Holder, ...]:
    """Return holders with their nearest root alone: a second one is found along edges."""
    return tuple(replace(each, also="", held=without_second_roots(each.held)) for each in holders)


def test_a_recorded_heap_answers_as_the_copy_did() -> None:
    """All answers from the columns of a recording, which has no edges, equal those from the memory."""
    with waiting([sys.executable, PROGRAMS / "heap_python.py", "/dev/null"]) as pid:
        heap = read_heap(capture(pid))
    facts, rows = pack_graph(heap, 0)
    graph = HeapGraph(
        0, "exit", 0.0, json.loads(json.dumps(facts)), np.frombuffer(rows, GRAPH_DTYPE)
    )
    again = read_graph(graph)
    recorded = find_holders(again, top=100, least=0.001)
    assert recorded == without_second_roots(find_holders(heap, top=100, least=0.001))
    assert find_lost(again) == find_lost(heap)
    for question in ("__main__.Order", "coroutine", hex(int(heap.address[100]))):
        assert find_why(again, question) == find_why(heap, question)
    assert again.content.waste(20) == heap.content.waste(20)
    before, after = summarise(heap), summarise(again)
    before = replace(before, holders=without_second_roots(before.holders))
    for each in fields(before):
        assert getattr(before, each.name) == getattr(after, each.name), each.name


@pytest.mark.parametrize("column", ["type", "dominator", "path", "state"])
def test_a_damaged_graph_is_refused(native: Path, column: str) -> None:
    """Numbers of nodes and types that are not there are an error, not a crash."""
    graph = read(native).graphs[0, "exit"]
    rows = np.array(graph.rows)
    rows[column][7] = 2**31 + 77
    damaged = HeapGraph(0, "exit", 0.0, graph.facts, rows)
    with pytest.raises(MematlasError, match="malformed"):
        read_graph(damaged)


def test_leaks_begin_with_what_is_definitely_lost(native: Path, tmp_path: Path) -> None:
    """The lost blocks of a line come first, fail a run on demand, and need a graph of the exit."""
    heap = mematlas.open(native).leaks().heap
    assert heap is not None
    lost = next(each for each in heap.lost if any(f.function == "lose" for f in each.frames))
    assert LOST[0] - 1 <= lost.count == lost.indirect_count <= LOST[0]
    assert heap.reachable_bytes >= LIST[1] + TABLE[1]
    found = _leaks(native)
    assert found.returncode == 1
    text = found.stdout
    assert "definitely lost" in text
    assert text.index("Definitely lost") < text.index("lose  ") < text.index("Other live memory")
    document = json.loads(_leaks(native, "--json").stdout)
    jsonschema.validate(document, schema("leaks"))
    assert document["data"]["heap"]["lost_bytes"] == heap.lost_bytes
    assert "| definitely lost |" in _leaks(native, "--markdown").stdout
    clean = _record(tmp_path, "true", option="--exact")
    assert _leaks(clean).returncode == 2


def _leaks(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mematlas", "leaks", str(path), "--fail-on", "lost", *options]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
