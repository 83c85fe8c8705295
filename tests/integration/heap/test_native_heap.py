"""The heap graph of a native program against what the program knows of its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest

import mematlas
from heap_programs import compile_program, waiting
from mematlas.errors import UsageError
from mematlas.heap import look
from mematlas.heap.analyse.difference import compare
from mematlas.heap.read.saved import read_summary
from mematlas.present.json_schema import schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mematlas.heap import Look
    from mematlas.heap.model.answers import Holder

ORDERS, CUSTOMER_ORDERS, NAMES, ITEMS, HIDDEN = 20000, 3000, 5000, 100_000, 1000
CYCLES, TEXTS, TABLE = 300, 100, 50


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the program without symbols of debuggers."""
    return compile_program("heap_owners.cpp", tmp_path_factory.mktemp("heap"))


@pytest.fixture(scope="module")
def pid(program: Path) -> Iterator[int]:
    """Run the program."""
    with waiting([program]) as number:
        yield number


@pytest.fixture(scope="module")
def heap(pid: int) -> Look:
    """Return the program's heap."""
    found: Look = mematlas.heap(pid)  # type: ignore[operator] # a module that is a function, too
    return found


def _row(holders: tuple[Holder, ...], *names: str) -> Holder:
    """Return the row of a tree under these names."""
    for each in holders:
        if each.name == names[0]:
            return each if len(names) == 1 else _row(each.held, *names[1:])
    raise AssertionError((names, [each.name for each in holders]))


def test_holders_are_named_and_retain_what_they_own(heap: Look, program: Path) -> None:
    """Each variable retains what the program hung on it, within 1 %."""
    rows = heap.dominators(top=30, least=0.0001)
    sessions = _row(rows, program.name, "g_sessions")
    assert sessions.retained_count == pytest.approx(3 * ORDERS + 1, rel=0.01)
    orders = _row(sessions.held, "block of 24 bytes", "Order")
    assert orders.count == pytest.approx(ORDERS, rel=0.01)
    assert orders.retained == pytest.approx(ORDERS * (88 + 56), rel=0.01)
    assert _row(orders.held, "text").count == pytest.approx(ORDERS, rel=0.01)
    items = _row(rows, program.name, "g_list", "block of 40 bytes")
    assert items.count == pytest.approx(ITEMS, rel=0.01)
    names = _row(rows, program.name, "g_names")
    assert names.retained_count == pytest.approx(2 * NAMES, rel=0.01)
    customer = _row(rows, program.name, "g_customer", "shop::Customer")
    assert customer.count == 1
    assert customer.retained_count == pytest.approx(2 + 2 * CUSTOMER_ORDERS, rel=0.01)


def test_sums_agree(heap: Look) -> None:
    """The dominator tree accounts for all blocks, and resident bytes do not exceed bytes."""
    assert int(heap.retained[0]) == int(heap.size.sum())
    assert int(heap.retained_count[0]) == len(heap)
    assert (heap.resident <= heap.size).all()
    assert (heap.address[1:] >= heap.address[:-1] + heap.size[:-1]).all()
    assert heap.findings_total == 0, heap.findings


def test_classes_are_told_by_rtti(heap: Look) -> None:
    """Objects with a vtable have the name of their class, those of an anonymous namespace too."""
    counts = {row.name: row.count for row in heap.summary().types}
    assert counts["Order"] == ORDERS + CUSTOMER_ORDERS
    assert counts["shop::Customer"] == 1
    assert counts["(anonymous namespace)::Hidden"] == HIDDEN


def test_lost_blocks(heap: Look) -> None:
    """Cycles, texts and a table that the program dropped are lost, and nothing else."""
    lost = heap.lost()
    cycles = [row for row in lost.rows if row.cycle]
    assert sum(row.count for row in cycles) in {CYCLES, CYCLES - 1}  # one may be left in a register
    assert all("Node" in row.name for row in cycles)
    direct = {row.name: row for row in lost.rows if not row.cycle}
    assert direct["text"].count in {TEXTS, TEXTS - 1}
    assert direct["block of 408 bytes"].count == 1
    assert direct["block of 408 bytes"].indirect_count == TABLE
    assert set(direct) == {"text", "block of 408 bytes"}


def _path(heap: Look, least: int) -> tuple[str, ...]:
    """Return the shortest path to the block that has at least this size, and at most 100 bytes more."""
    (block,) = [index for index, size in enumerate(heap.size.tolist()) if 0 <= size - least < 100]
    why = heap.why(f"{int(heap.address[block]):#x}")
    assert why.lost == 0
    return why.paths[0].names


def test_thread_local_memory_is_held_by_its_variable(heap: Look) -> None:
    """A block that only a thread-local variable holds is not lost, and the variable has its name."""
    names = _path(heap, 70000)
    assert names[0].startswith("thread-local storage of heap_owners")
    assert names[1] == "t_buffer"


def test_thread_local_variables_of_libraries_that_come_and_go(tmp_path: Path) -> None:
    """The fourth library has the number of the second, which was unloaded."""
    static = "-ftls-model=initial-exec"  # the variables of the others are in blocks of the loader
    libraries = [tmp_path / f"lib{letter}.so" for letter in "abcd"]
    for each in libraries:
        made = compile_program(
            "heap_libraries.c", tmp_path, ["-shared", "-fPIC", static, f"-DNAME=t_{each.stem}"]
        )
        made.rename(each)
    program = compile_program("heap_libraries.c", tmp_path)
    with waiting([program, *libraries]) as pid:
        heap: Look = mematlas.heap(pid)  # type: ignore[operator]
    held = {size: _path(heap, size)[1] for size in (70000, 72000, 73000)}
    assert held == {70000: "t_liba", 72000: "t_libc", 73000: "t_libd"}


def test_the_frame_of_a_function_holds_what_its_local_points_to(heap: Look) -> None:
    """A stack is told apart by the functions that run."""
    names = _path(heap, 90000)
    assert names[0].startswith("stack of heap_owners")
    assert names[1] == "serve_requests()"


def test_what_variables_and_a_stack_hold_is_the_variables(heap: Look, program: Path) -> None:
    """A stack counts for what no variable holds; of several variables two are named."""
    assert _path(heap, 110_000)[:2][0] == program.name
    variables = _row(heap.dominators(top=30, least=0.0001), program.name)
    (row,) = [each for each in variables.held if each.size - 110_000 in range(100)]
    assert {row.nearest, row.also} == {
        f"{program.name} \u203a g_first",
        f"{program.name} \u203a g_second",
    }


def test_why_shows_the_paths(heap: Look, program: Path) -> None:
    """The shortest paths to a type are grouped by what is on the way."""
    why = heap.why("Order")
    assert why.count == ORDERS + CUSTOMER_ORDERS
    assert why.paths[0].names[:2] == (program.name, "g_sessions")
    assert why.paths[0].count == pytest.approx(ORDERS, rel=0.01)
    assert sum(path.count for path in why.paths) <= why.count
    customers = next(path for path in why.paths if "shop::Customer" in path.names)
    assert customers.count == pytest.approx(CUSTOMER_ORDERS, rel=0.01)
    inner = heap.why(f"{int(heap.address[heap.type == heap.type_names.index('Order')][0]) + 17:#x}")
    assert inner.count == 1
    with pytest.raises(UsageError, match="no live block has a type"):
        heap.why("NoSuchClass")
    with pytest.raises(UsageError, match="no live block holds"):
        heap.why("0x10")


def test_a_stripped_program_keeps_its_classes(program: Path, tmp_path: Path) -> None:
    """Without symbols the classes and retained sizes are the same; variables have no names."""
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-s", "-o", stripped, program], check=True, timeout=60)
    with waiting([stripped]) as number:
        found = look(number)
    counts = {row.name: row.count for row in found.summary().types}
    assert counts["Order"] == ORDERS + CUSTOMER_ORDERS
    whole = _row(found.dominators(), "stripped")
    assert whole.retained > 0.95 * int(found.size.sum())


def _mematlas(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mematlas", "heap", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((), "heap"),
        (("--why", "Order"), "heap-why"),
        (("--unreachable",), "heap-lost"),
    ],
)
def test_json_follows_the_schema(pid: int, arguments: tuple[str, ...], name: str) -> None:
    """Each answer is valid by its schema."""
    done = _mematlas(str(pid), "--json", *arguments)
    assert done.returncode == 0, done.stderr
    jsonschema.validate(json.loads(done.stdout), schema(name))


def test_saved_looks_are_compared(pid: int, tmp_path: Path) -> None:
    """A look is saved, shown again, and compared with the next."""
    file = tmp_path / "before.json"
    assert _mematlas(str(pid), "-o", str(file)).returncode == 0
    shown = _mematlas(str(file))
    assert "g_sessions" in shown.stdout
    done = _mematlas(str(pid), "--diff", str(file), "--json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema("heap-diff"))
    assert document["data"]["size_before"] == document["data"]["size_after"]
    assert document["data"]["types"] == []
    saved = read_summary(file)
    assert compare(saved, saved).paths == ()
    file.write_text("{}")
    assert "not a look" in _mematlas(str(file)).stderr


def test_fail_on_lost(pid: int) -> None:
    """A program that lost blocks gives exit code 1."""
    assert _mematlas(str(pid), "--fail-on", "lost").returncode == 1
    with waiting(
        [sys.executable, "-S", "-c", "print(__import__('os').getpid(), flush=True); input()"]
    ) as number:
        assert look(number).findings_total == 0


def test_exports(pid: int, heap: Look, tmp_path: Path) -> None:
    """Parquet has a row for each block; DOT is read by its own rules."""
    parquet = pytest.importorskip("pyarrow.parquet")
    done = _mematlas(str(pid), "--export", str(tmp_path / "heap.parquet"))
    assert done.returncode == 0, done.stderr
    table = parquet.read_table(tmp_path / "heap.parquet")
    assert table.num_rows == len(heap)
    assert sum(table["size"].to_pylist()) == int(heap.size.sum())
    assert _mematlas(str(pid), "--export", str(tmp_path / "heap.dot")).returncode == 0
    dot = (tmp_path / "heap.dot").read_text()
    assert dot.startswith("digraph heap {")
    assert "g_sessions" in dot
    assert "must end in" in _mematlas(str(pid), "--export", str(tmp_path / "heap.x")).stderr
